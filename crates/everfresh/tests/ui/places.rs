use everfresh::cache_data;

#[cache_data]
struct Nothing;

#[cache_data]
const fn constant(id: u32) -> u32 {
    id
}

struct Shop;

impl Shop {
    #[cache_data(key = item % 2)]
    fn rate(&self, item: u32) -> u32 {
        item
    }
}

#[cache_data(include(self))]
fn free(id: u32) -> u32 {
    id
}

fn main() {}
