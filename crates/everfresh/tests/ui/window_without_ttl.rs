use everfresh::cache_data;

#[cache_data(stale_while_revalidate = "1h")]
fn stale(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(stale_if_error = "1h")]
fn on_error(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(refresh_ahead = 0.8)]
fn ahead(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "1h", refresh = "foreground", stale_while_revalidate = "1h")]
fn at_odds(symbol: &str) -> usize {
    symbol.len()
}

fn main() {}
