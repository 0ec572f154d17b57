use everfresh::resilient;

#[resilient(cache(ttl = "1m"))]
fn root(x: f64) -> Result<f64, String> {
    Ok(x.sqrt())
}

fn main() {}
