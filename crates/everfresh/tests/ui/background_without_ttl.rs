use everfresh::cache_data;

#[cache_data(refresh = "background")]
fn price(symbol: &str) -> usize {
    symbol.len()
}

fn main() {}
