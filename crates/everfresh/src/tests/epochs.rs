//! What befell everything stays so, however many times everything is struck afterwards: entries note only a part of their epoch.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::cache::Cache;
use crate::clock::ManualClock;
use crate::history::EPOCH_BITS;
use crate::lifetime::Lifetime;

/// After so many epochs entries of the first look like those of the current one.
const ROUND: u64 = 1 << EPOCH_BITS;

/// Its chores are done when the clock is moved, which nobody does.
fn cache() -> Cache<u32, u64> {
    let lifetime = Lifetime::forever().stale_while_revalidate(Duration::MAX);
    Cache::builder().capacity(10).lifetime(lifetime).clock(ManualClock::new()).build().unwrap()
}

fn is_stale(cache: &Cache<u32, u64>) -> Option<bool> {
    cache.lookup(&1).peek().map(|answer| answer.outcome == crate::event::Outcome::Stale)
}

#[test]
fn i2_what_was_expired_is_stale_for_ever_however_often_everything_is_expired_afterwards() {
    for strike in [Cache::expire_all, Cache::clear] {
        let cache = cache();
        cache.insert(1, 1);
        cache.expire_all();
        assert_eq!(is_stale(&cache), Some(true));
        let cleared = {
            // Half a round of strikes.
            cache.engine.history.skip_to(ROUND / 2 - 1);
            strike(&cache);
            is_stale(&cache).is_none()
        };
        cache.engine.history.skip_to(ROUND - 1);
        cache.expire_all();
        assert_eq!(is_stale(&cache), (!cleared).then_some(true), "it looks as young as what is loaded now");
        cache.insert(1, 2);
        assert_eq!(is_stale(&cache), Some(false));
    }
}

#[test]
fn i3_what_was_cleared_is_gone_for_ever_however_often_everything_is_cleared_afterwards() {
    for strike in [Cache::expire_all, Cache::clear] {
        let cache = cache();
        cache.insert(1, 1);
        cache.clear();
        assert_eq!((is_stale(&cache), cache.engine.store.len()), (None, 1));
        cache.engine.history.skip_to(ROUND / 2 - 1);
        strike(&cache);
        assert_eq!(cache.engine.store.len(), 0, "given back at once, for it would come to look good");
        cache.engine.history.skip_to(ROUND - 1);
        strike(&cache);
        assert_eq!(is_stale(&cache), None);
    }
}

#[test]
fn i2_i3_nothing_looks_young_again_while_everything_is_struck_in_turns() {
    let cache = cache();
    cache.insert(1, 1);
    cache.expire_all();
    for strike in 0..2 * ROUND {
        assert_eq!(is_stale(&cache), Some(true), "expired {strike} times more");
        cache.expire_all();
    }
    cache.insert(1, 1);
    cache.clear();
    for strike in 0..2 * ROUND {
        assert_eq!(is_stale(&cache), None, "struck {strike} times more");
        if strike % 3 == 0 { cache.clear() } else { cache.expire_all() }
    }
}

#[test]
fn i2_what_is_left_where_it_is_while_it_is_young_has_nothing_apart() {
    let cache = cache();
    cache.insert(1, 1);
    cache.expire_all();
    cache.engine.sweep(crate::moment::Moment::NEVER);
    let found = cache.engine.store.peek(cache.hash(&1), &1).unwrap();
    assert!(!found.has_something_apart(), "the history tells");
    assert_eq!(is_stale(&cache), Some(true));
    drop(found);
    cache.insert(1, 2);
    cache.expire(&1);
    let found = cache.engine.store.peek(cache.hash(&1), &1).unwrap();
    assert!(found.has_something_apart() && is_stale(&cache) == Some(true));
}

#[test]
fn i1_a_load_that_was_overtaken_by_a_whole_round_of_strikes_is_overtaken() {
    for strike in [Cache::expire_all, Cache::clear] {
        for strikes in [1, ROUND / 2, ROUND] {
            let cache = cache();
            let (begun, has_begun) = mpsc::channel();
            let (may_end, end) = mpsc::channel::<()>();
            thread::scope(|scope| {
                let loading = scope.spawn(|| {
                    cache.get_or_load(&1, move || {
                        let _ = begun.send(());
                        let _ = end.recv();
                        7
                    })
                });
                has_begun.recv().unwrap();
                cache.engine.history.skip_to(strikes - 1);
                strike(&cache);
                drop(may_end);
                assert_eq!(loading.join().unwrap().unwrap(), 7);
            });
            // It began before all of that: stale, or not there at all.
            assert_ne!(is_stale(&cache), Some(false), "after {strikes} strikes");
        }
    }
}

#[test]
fn l7_a_failure_that_was_overtaken_by_a_whole_round_of_strikes_is_not_remembered() {
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).negative_ttl(Duration::MAX).clock(ManualClock::new()).build().unwrap();
    let handle = cache.clone();
    let failed = cache.get_or_load(&1, move || {
        handle.engine.history.skip_to(ROUND - 1);
        handle.expire_all();
        Err::<u64, &str>("down")
    });
    assert!(failed.is_err());
    assert_eq!(cache.get_or_load(&1, || Ok::<u64, &str>(3)).ok(), Some(3), "asked again");
}

#[test]
fn i3_what_was_kept_through_a_whole_round_of_expiries_is_gone_when_everything_is_cleared() {
    let cache = cache();
    cache.insert(1, 1);
    (1..ROUND).for_each(|_| cache.expire_all());
    assert_eq!(is_stale(&cache), Some(true));
    cache.clear();
    assert_eq!(is_stale(&cache), None, "the epoch of its load looks like this one");
}

#[test]
fn i3_what_was_loaded_through_a_whole_round_of_expiries_is_gone_when_everything_is_cleared() {
    let cache = cache();
    let handle = cache.clone();
    let loaded = cache.get_or_load(&1, move || {
        (1..ROUND).for_each(|_| handle.expire_all());
        7
    });
    assert_eq!((loaded.unwrap(), is_stale(&cache)), (7, Some(true)));
    cache.clear();
    assert_eq!(is_stale(&cache), None, "the epoch of its load looks like this one");
}
