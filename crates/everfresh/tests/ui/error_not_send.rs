use std::error::Error;

use everfresh::cache_data;

#[cache_data]
fn length(path: &str) -> Result<usize, Box<dyn Error>> {
    Ok(std::fs::read(path)?.len())
}

#[cache_data]
async fn number(text: &str) -> Result<u32, Box<dyn Error>> {
    Ok(text.parse()?)
}

fn main() {}
