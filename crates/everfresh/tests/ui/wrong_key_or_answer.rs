//! A key that is not the cache's, and a loader that does not load its values: each is told with what would do.

use everfresh::Cache;

fn looked_up_by_text(cache: &Cache<u64, u32>) {
    cache.get("seven");
}

fn another_value(cache: &Cache<String, u32>) {
    let _ = cache.get_or_load("AAPL", || "187");
}

fn a_future_for_a_thread(cache: &Cache<String, u32>) {
    let _ = cache.get_or_load("AAPL", || std::future::ready(187_u32));
}

fn main() {}
