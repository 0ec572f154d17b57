//! What an estimate of the time tells of an entry.

use std::time::Duration;

use crate::cache::Cache;
use crate::clock::{Clock, Estimate, ManualClock};
use crate::engine::Engine;
use crate::entry::Attempt;
use crate::event::{Outcome, RefreshStatus};
use crate::lifetime::{Freshness, Lifetime};
use crate::moment::Moment;

const MILLI: Duration = Duration::from_millis(1);
const TICK: u32 = 10;

/// What is told of the only entry of a cache, by the exact time or an estimate that is late by so much, is what holds.
fn check(engine: &Engine<u32, u64, ahash::RandomState>, now: Moment, late: Option<Duration>) -> bool {
    let Some(found) = engine.store.peek(engine.store.hash(&1_u32), &1_u32) else { panic!("it was put") };
    let estimate = late.map(|late| Estimate::of(Moment::default().after(now.since(Moment::default()) - late)));
    let told = engine.judge_closely(&found, estimate);
    let told_plainly = estimate.and_then(|estimate| engine.is_plainly_stale(&found, estimate));
    let stage = engine.stage(&found, now);
    let attempt = found.attempt();
    let expected = match stage.freshness {
        Freshness::Fresh if !engine.wants_early_refresh(&found, stage, now) => {
            Some((Outcome::Hit, RefreshStatus::NotNeeded))
        }
        Freshness::Stale if attempt.until > now && attempt.running => {
            Some((Outcome::Stale, RefreshStatus::AlreadyRunning))
        }
        Freshness::Stale if attempt.until > now && attempt.failures > 0 => {
            Some((Outcome::Stale, RefreshStatus::BackingOff))
        }
        _ => None,
    };
    for told in [told, told_plainly.map(|status| (Outcome::Stale, status))].into_iter().flatten() {
        assert_eq!(Some(told), expected, "{now:?}, late by {late:?}");
    }
    told.is_some()
}

#[test]
fn t1_what_an_estimate_tells_of_an_entry_holds_however_late_it_is() {
    let lifetime = Lifetime::ttl(1_000 * MILLI).stale_while_revalidate(300 * MILLI).stale_if_error(600 * MILLI);
    for ahead in [None, Some(0.9)] {
        let clock = ManualClock::new();
        let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(lifetime).clock(clock.clone());
        let cache = ahead.into_iter().fold(builder, |builder, ahead| builder.refresh_ahead(ahead)).build().unwrap();
        clock.advance(1_000 * MILLI);
        cache.insert(1, 1);
        let mut told = 0;
        while clock.now() < 2_700 * MILLI {
            clock.advance(MILLI);
            let now = Moment::from(clock.now());
            for ends in [1_950, 2_150, 2_600] {
                let until = Moment::from(ends * MILLI);
                for attempt in
                    [Attempt::running(0, until, 1), Attempt::failed(0, Moment::default()), Attempt::failed(2, until)]
                {
                    if let Some(found) = cache.engine.store.peek(cache.hash(&1), &1) {
                        found.set_attempt(attempt);
                    }
                    told += u32::from(check(&cache.engine, now, None));
                    told +=
                        (0..=TICK).map(|late| u32::from(check(&cache.engine, now, Some(late * MILLI)))).sum::<u32>();
                }
            }
        }
        assert!(told > 50_000, "told {told} times");
    }
}
