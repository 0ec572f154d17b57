//! M, I and O: what is kept of a function's values, by how much, and how it is watched.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use everfresh::{Event, Kind, ManualClock, Outcome, cache_data, registry};

use crate::kit::SECOND;

#[test]
fn m1_a_capacity_of_two_keeps_two_and_the_least_recently_used_goes() {
    #[cache_data(capacity = 2, eviction = "lru")]
    fn echo(id: u32) -> u32 {
        id
    }
    (echo(1), echo(2), echo(1), echo(3));
    assert_eq!((echo::peek(1), echo::peek(2), echo::peek(3)), (Some(1), None, Some(3)));
    assert_eq!((echo::stats().left.evicted, echo::stats().capacity), (1, Some(2)));
}

#[test]
fn m1_a_bound_on_weight_asks_the_weigher() {
    #[cache_data(weight_capacity = 10, weigher = |text: &String| text.len() as u64)]
    fn dots(length: usize) -> String {
        ".".repeat(length)
    }
    (dots(4), dots(5), dots(11));
    assert_eq!((dots::stats().weight <= 10, dots::peek(11), dots::stats().not_stored.too_heavy), (true, None, 1));
    #[cache_data(unbounded)]
    fn all(id: u32) -> u32 {
        id
    }
    (0..3000).for_each(|id| assert_eq!(all(id), id));
    assert_eq!((all::stats().entries, all::stats().capacity), (3000, None));
}

#[test]
fn the_bound_is_1024_entries_unless_told_otherwise() {
    #[cache_data]
    fn echo(id: u32) -> u32 {
        id
    }
    (0..2000).for_each(|id| assert_eq!(echo(id), id));
    assert_eq!((echo::stats().entries, echo::stats().capacity), (1024, Some(1024)));
}

#[test]
fn l7_what_store_if_refuses_reaches_its_caller_and_is_forgotten() {
    struct Report;
    impl Report {
        fn is_complete(text: &String) -> bool {
            text.ends_with('.')
        }
    }
    #[cache_data(store_if = Report::is_complete)]
    fn report(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
    #[cache_data(store_if = |found| found.is_some())]
    fn found(id: u32) -> Option<u32> {
        (id > 0).then_some(id)
    }
    assert_eq!((report("half"), report("whole.")), (Ok("half".to_owned()), Ok("whole.".to_owned())));
    assert_eq!((report::peek("half"), report::peek("whole.")), (None, Some("whole.".to_owned())));
    assert_eq!((found(0), found(1), found::stats().entries), (None, Some(1), 1));
}

#[test]
fn i3_tags_are_forgotten_across_functions() {
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data(tags("tests/prices", format!("tests/{symbol}")))]
    fn price(symbol: &str) -> u32 {
        RUN.fetch_add(1, Ordering::SeqCst)
    }
    #[cache_data(tags(symbol))]
    async fn name(symbol: String) -> u32 {
        RUN.fetch_add(1, Ordering::SeqCst)
    }
    let name = |symbol: &str| pollster(name(symbol.to_owned()));
    (price("A"), price("B"), name("tests/A"), name("tests/B"));
    everfresh::data::invalidate_tag("tests/A");
    assert_eq!((price::peek("A"), price::peek("B")), (None, Some(1)));
    assert_eq!((name("tests/A"), name("tests/B"), price("A"), price("B")), (4, 3, 5, 1));
    everfresh::data::expire_tag("tests/prices");
    assert_eq!((price::answer("B").outcome, name("tests/B")), (Outcome::Loaded, 3));
}

fn pollster<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn o1_counters_and_events_tell_what_calls_were() {
    static SEEN: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());
    #[cache_data]
    fn echo(id: u32, text: &str) -> String {
        format!("{id}{text}")
    }
    let subscription = echo::subscribe(|event: &Event<'_, (u32, String), String>| {
        if let Event::Lookup { outcome, .. } = event {
            SEEN.lock().unwrap().push(*outcome);
        }
    });
    (echo(1, "a"), echo(1, "a"));
    drop(subscription);
    echo(1, "a");
    let stats = echo::stats();
    assert_eq!((stats.loaded, stats.hits, stats.lookups()), (1, 2, 3));
    assert_eq!(*SEEN.lock().unwrap(), [Outcome::Loaded, Outcome::Hit]);
}

#[test]
fn the_registry_knows_functions_by_name_and_keeps_nothing_alive() {
    #[cache_data(name = "tests/named")]
    fn named(id: u32) -> Arc<u32> {
        Arc::new(id)
    }
    #[cache_data]
    fn unnamed() -> u32 {
        1
    }
    assert!(registry().get("tests/named").is_none(), "a function enters with its first call");
    let kept = named(1);
    unnamed();
    let entry = registry().get("tests/named").unwrap();
    assert_eq!((entry.kind(), entry.stats().unwrap().loaded, named::handle().name()), (Kind::Data, 1, "tests/named"));
    assert_eq!(unnamed::handle().name(), concat!(module_path!(), "::unnamed"));
    assert!(registry().names().contains(&unnamed::handle().name()));
    entry.clear();
    assert_eq!((named::peek(1), *kept), (None, 1));

    let cache: everfresh::Cache<u32, u32> = everfresh::Cache::builder().capacity(1).build().unwrap();
    registry().register("tests/by hand", &cache);
    let entry = registry().get("tests/by hand").unwrap();
    assert_eq!((entry.kind(), entry.stats().map(|stats| stats.entries)), (Kind::Cache, Some(0)));
    drop(cache);
    assert!(entry.stats().is_none() && registry().get("tests/by hand").is_none());
}

#[test]
fn two_functions_with_different_lives_do_not_meddle() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    #[cache_data(ttl = "1s", clock = CLOCK.clone())]
    fn short(id: u32) -> u32 {
        id
    }
    #[cache_data(ttl = "3s", clock = CLOCK.clone())]
    fn long(id: u32) -> u32 {
        id
    }
    (short(1), long(1));
    CLOCK.advance(2 * SECOND);
    assert_eq!((short::answer(1).outcome, long::answer(1).outcome), (Outcome::Loaded, Outcome::Hit));
}

#[test]
fn m1_a_capacity_of_one_keeps_the_last() {
    #[cache_data(capacity = 1)]
    fn echo(id: u32) -> u32 {
        id
    }
    for id in [1, 2, 2, 3] {
        assert_eq!(echo(id), id);
        assert_eq!((echo::stats().entries, echo::peek(id)), (1, Some(id)));
    }
    assert_eq!((echo::stats().loads.stored, echo::stats().hits), (3, 1));
}
