use everfresh::cache_data;

struct Connection;

#[cache_data(ttl = "1m", refresh = "background", skip(connection))]
fn row(connection: &Connection, id: u32) -> u32 {
    let Connection = connection;
    id
}

#[cache_data(ttl = "1m", refresh = "background", skip(connection))]
fn used_up(connection: Connection, id: u32) -> u32 {
    let Connection = connection;
    id
}

fn main() {}
