use everfresh::resilient;

#[resilient(retry(3))]
fn without_a_name() -> Result<u32, String> {
    Ok(1)
}

#[resilient(cache(ttl = "1m", refresh = "background"))]
fn as_elsewhere() -> Result<u32, String> {
    Ok(1)
}

#[resilient(timeot = "1s")]
fn mistyped() -> Result<u32, String> {
    Ok(1)
}

fn main() {}
