use everfresh::cache_data;

#[derive(Clone)]
struct Money(f64);

#[cache_data]
fn root(x: Money) -> f64 {
    x.0.sqrt()
}

fn main() {}
