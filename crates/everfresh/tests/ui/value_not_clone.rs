use everfresh::cache_data;

struct Connection;

#[cache_data]
fn connect(url: &str) -> Connection {
    assert!(!url.is_empty());
    Connection
}

fn main() {}
