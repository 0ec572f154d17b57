use everfresh::resilient;

#[derive(Clone)]
struct Money(f64);

#[resilient(cache(ttl = "1m"))]
fn root(x: Money) -> Result<f64, String> {
    Ok(x.0.sqrt())
}

fn main() {}
