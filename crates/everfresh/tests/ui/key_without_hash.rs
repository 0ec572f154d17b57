use everfresh::cache_data;

#[cache_data]
fn root(x: f64) -> f64 {
    x.sqrt()
}

fn main() {}
