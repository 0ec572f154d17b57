use everfresh::cache_data;

#[derive(Debug)]
struct Broken;

#[cache_data]
fn fails(id: u32) -> Result<u32, Broken> {
    if id > 0 { Ok(id) } else { Err(Broken) }
}

fn main() {}
