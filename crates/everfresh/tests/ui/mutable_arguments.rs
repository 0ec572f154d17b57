use everfresh::cache_data;

#[cache_data]
fn count(words: &mut Vec<String>) -> usize {
    words.len()
}

struct Counter(u32);

impl Counter {
    #[cache_data]
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0
    }
}

fn main() {}
