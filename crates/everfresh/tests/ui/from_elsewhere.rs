use everfresh::cache_data;

#[cache_data(persist = "disk")]
fn persist(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(scope = "session")]
fn scope(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(show_spinner = false)]
fn show_spinner(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(hash_funcs = hash)]
fn hash_funcs(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(max_entries = 10)]
fn max_entries(symbol: &str) -> usize {
    symbol.len()
}

fn main() {}
