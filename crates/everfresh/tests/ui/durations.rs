use everfresh::cache_data;

#[cache_data(ttl = "0s")]
fn zero(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "10")]
fn without_a_unit(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = 10)]
fn a_number(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "soon")]
fn no_duration(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "-5s")]
fn negative(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "1h", timeout = "0s")]
fn no_time_at_all(symbol: &str) -> Result<usize, std::io::Error> {
    Ok(symbol.len())
}

fn main() {}
