use everfresh::cache_data;

#[cache_data("1h")]
fn no_name(id: u32) -> u32 {
    id
}

#[cache_data(ttl "1h")]
fn no_sign(id: u32) -> u32 {
    id
}

#[cache_data(ttl = )]
fn nothing(id: u32) -> u32 {
    id
}

#[cache_data(refresh = background)]
fn no_text(id: u32) -> u32 {
    id
}

#[cache_data(capacity = "1024")]
fn no_number(id: u32) -> u32 {
    id
}

#[cache_data(skip = id)]
fn no_parentheses(id: u32) -> u32 {
    id
}

#[cache_data(include(id))]
fn not_self(id: u32) -> u32 {
    id
}

#[cache_data(unbounded = true)]
fn no_flag(id: u32) -> u32 {
    id
}

#[cache_data(key = "id")]
fn one_for_all(id: u32) -> u32 {
    id
}

fn main() {}
