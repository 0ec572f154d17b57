//! What befell everything stays so, however many times everything is struck afterwards: entries note only a part of their epoch.

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
