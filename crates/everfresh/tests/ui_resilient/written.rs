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

#[resilient(preset = web)]
fn no_preset() -> Result<u32, String> {
    Ok(1)
}

#[resilient(circuit_breaker(failure_rate = 50, window = 100))]
fn no_fraction() -> Result<u32, String> {
    Ok(1)
}

#[resilient(retry(max_attempts = 0))]
fn never_tried() -> Result<u32, String> {
    Ok(1)
}

#[resilient(rate_limit(max_calls = 10, per = "1s"))]
fn as_it_is_called_elsewhere() -> Result<u32, String> {
    Ok(1)
}

#[resilient(timeout = "1s", fallback)]
fn ends_too_early() -> Result<u32, String> {
    Ok(1)
}

fn main() {}
