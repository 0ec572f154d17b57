use everfresh::cache_data;

#[cache_data]
fn numbers(upto: u32) -> impl Iterator<Item = u32> {
    0..upto
}

#[cache_data]
fn boxed(upto: u32) -> Box<dyn Iterator<Item = u32> + Send + Sync> {
    Box::new(0..upto)
}

#[cache_data]
fn later(upto: u32) -> std::pin::Pin<Box<dyn Future<Output = u32>>> {
    Box::pin(async move { upto })
}

#[cache_data]
fn shown(what: impl ToString) -> String {
    what.to_string()
}

#[cache_data]
fn nothing(upto: u32) {
    drop(upto);
}

fn main() {}
