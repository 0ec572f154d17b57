use everfresh::cache_data;

#[cache_data(ttl = "1h", refresh = "eager")]
fn mode(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(tll = "1h")]
fn misspelt(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(colour = "red")]
fn no_argument(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(eviction = "random")]
fn policy(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(ttl = "1h", ttl = "2h")]
fn twice(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(skip(simbol))]
fn skipped(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(validate = usize::is_power_of_two)]
fn of_the_other_kind(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(retry(max_attempts = 3))]
fn of_another_attribute(symbol: &str) -> usize {
    symbol.len()
}

#[cache_data(swr = "1h")]
fn abbreviated(symbol: &str) -> usize {
    symbol.len()
}

fn main() {}
