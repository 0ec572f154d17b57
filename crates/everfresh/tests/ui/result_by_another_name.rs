use everfresh::cache_data;

type Found = Result<u32, String>;

#[cache_data]
fn found(id: u32) -> Found {
    Ok(id)
}

fn main() {}
