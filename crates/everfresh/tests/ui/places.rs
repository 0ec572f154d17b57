use everfresh::cache_data;

#[cache_data]
struct Nothing;

#[cache_data]
const fn constant(id: u32) -> u32 {
    id
}

#[cache_data]
unsafe fn dangerous(id: u32) -> u32 {
    id
}

#[cache_data]
extern "C" fn foreign(id: u32) -> u32 {
    id
}

#[cache_data(include(self))]
fn free(id: u32) -> u32 {
    id
}

#[cache_data]
fn never(id: u32) -> ! {
    panic!("{id}")
}

#[cache_data]
fn sometimes(id: u32, #[cfg(unix)] more: u32) -> u32 {
    id + more
}

#[cache_data]
#[everfresh::cache_data(ttl = "1m")]
fn twice(id: u32) -> u32 {
    id
}

fn main() {}
