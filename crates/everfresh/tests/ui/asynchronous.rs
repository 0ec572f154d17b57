use everfresh::cache_data;

struct Connection;

#[cache_data]
async fn connect(url: &str) -> Connection {
    assert!(!url.is_empty());
    Connection
}

#[derive(Clone)]
struct Money(f64);

#[cache_data]
async fn half(of: Money) -> u32 {
    (of.0 / 2.0) as u32
}

#[cache_data(ttl = "1m", refresh = "background")]
async fn name(id: u32, _connection: &Connection) -> String {
    id.to_string()
}

fn main() {}
