use everfresh::cache_data;

#[cache_data]
fn joined(parts: &[&str]) -> String {
    parts.concat()
}

#[cache_data(ttl = "1m", refresh = "background", skip(parts))]
fn counted(parts: Option<&str>, id: u32) -> u32 {
    parts.map_or(id, |_| id)
}

fn main() {}
