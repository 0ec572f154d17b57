use everfresh::cache_data;

#[cache_data]
fn first(text: &str) -> &str {
    &text[..1]
}

#[cache_data]
fn first_named<'a>(text: &'a str) -> Option<std::borrow::Cow<'a, str>> {
    text.get(..1).map(Into::into)
}

fn main() {}
