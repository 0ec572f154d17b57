use everfresh::cache_data;

#[cache_data(capacity = 0)]
fn nothing(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(capacity = -1)]
fn less_than_nothing(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(capacity = 10, unbounded)]
fn both(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(weight_capacity = 10)]
fn unweighed(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(weigher = weigh)]
fn weighed_for_nothing(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "1m", jitter = 1.5)]
fn jitter(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(unbounded, eviction = "lru")]
fn evicts_nothing(symbol: &str) -> usize {
    symbol.len()
}

fn main() {}
