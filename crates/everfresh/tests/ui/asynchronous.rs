use everfresh::cache_data;

struct Connection;

#[cache_data]
async fn connect(url: &str) -> Connection {
    assert!(!url.is_empty());
    Connection
}

#[cache_data]
async fn half(of: f64) -> u32 {
    (of / 2.0) as u32
}

#[cache_data(ttl = "1m", refresh = "background")]
async fn name(id: u32, _connection: &Connection) -> String {
    id.to_string()
}

fn main() {}
