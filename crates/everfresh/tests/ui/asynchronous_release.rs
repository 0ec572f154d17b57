use everfresh::cache_resource;

#[cache_resource(on_release = close)]
fn closed(id: u32) -> u32 {
    id
}

async fn close(id: u32) {
    drop(id);
}

fn main() {}
