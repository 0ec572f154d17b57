use everfresh::cache_data;

struct Connection;

#[cache_data(skip(connection))]
fn row(connection: &Connection, id: u32) -> u32 {
    let Connection = connection;
    id
}

#[cache_data(skip(connection))]
fn used_up(connection: Connection, id: u32) -> u32 {
    let Connection = connection;
    id
}

fn main() {
    row(&Connection, 1);
    used_up(Connection, 1);
    row::warm(&Connection, [1, 2]);
    let _ = used_up::refresh(Connection, 1);
}
