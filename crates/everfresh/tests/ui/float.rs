use everfresh::cache_data;

#[cache_data]
fn root(x: f64) -> f64 {
    x.sqrt()
}

#[cache_data(ttl = "1m", refresh = "background")]
async fn mean(label: &str, of: Vec<Option<f32>>) -> u32 {
    label.len() as u32 + of.len() as u32
}

fn main() {}
