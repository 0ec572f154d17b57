//! Which hits are plain ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::cache::Cache;
use crate::clock::ManualClock;
use crate::event::{Event, Outcome};
use crate::lifetime::Lifetime;

const HOUR: Duration = Duration::from_secs(3600);

/// Not by chance: one key in 256 has a hash by whose tag it is not found at the first look, and its hits are never plain ones.
fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

#[test]
fn o3_who_listens_hears_every_hit_and_when_nobody_does_hits_are_plain_again() {
    for lifetime in [Lifetime::forever(), Lifetime::ttl(HOUR)] {
        let cache = Cache::<u32, u64>::builder().capacity(10).lifetime(lifetime).hasher(hasher()).build().unwrap();
        cache.insert(1, 1);
        let heard = Arc::new(AtomicU32::new(0));
        for round in 0..3 {
            assert_eq!(cache.get(&1), Some(1));
            assert!(!cache.engine.history.looks_closer());
            let subscribe = || {
                let heard = Arc::clone(&heard);
                cache.subscribe(move |event| {
                    if let Event::Lookup { .. } = event {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                })
            };
            let (first, second) = (subscribe(), subscribe());
            assert_eq!((cache.get(&1), heard.swap(0, Ordering::Relaxed)), (Some(1), 2), "{round}");
            drop(first);
            assert_eq!((cache.get(&1), heard.swap(0, Ordering::Relaxed)), (Some(1), 1), "{round}");
            assert!(cache.engine.history.looks_closer());
            drop(second);
            assert_eq!((cache.get(&1), heard.swap(0, Ordering::Relaxed)), (Some(1), 0), "{round}");
        }
        assert_eq!(cache.stats().hits, 12);
    }
}

#[test]
fn t6_no_hit_is_plain_on_a_clock_that_somebody_else_moves() {
    let clock = ManualClock::new();
    let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(Lifetime::ttl(HOUR)).clock(clock.clone());
    let cache = builder.build().unwrap();
    cache.insert(1, 1);
    drop(cache.subscribe(|_| {}));
    clock.advance(HOUR - Duration::from_nanos(1));
    assert_eq!(cache.get(&1), Some(1));
    assert!(cache.engine.history.looks_closer());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.get(&1), None);
}

#[test]
fn o3_a_lookup_takes_back_what_a_listener_asked_for_who_has_left() {
    let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(Lifetime::ttl(HOUR));
    let cache = builder.hasher(hasher()).build().unwrap();
    cache.insert(1, 1);
    drop(cache.subscribe(|_| {}));
    assert!(cache.engine.history.looks_closer());
    let answer = cache.lookup(&1).load(|| -> u64 { panic!("it is there") }).unwrap();
    assert_eq!((answer.value, answer.outcome), (1, Outcome::Hit));
    assert!(!cache.engine.history.looks_closer());
}
