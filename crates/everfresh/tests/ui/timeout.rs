use everfresh::cache_data;

#[cache_data(timeout = "1s")]
fn cannot_fail(id: u32) -> u32 {
    id
}

#[cache_data(timeout = "1s")]
fn cannot_tell(id: u32) -> Result<u32, String> {
    if id > 0 { Ok(id) } else { Err("none".to_owned()) }
}

#[cache_data(negative_ttl = "1s")]
fn always_there(id: u32) -> u32 {
    id
}

fn main() {}
