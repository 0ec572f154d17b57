//! What an estimate of the time tells of an entry.

use std::time::Duration;

use crate::cache::Cache;
use crate::clock::{Clock, Estimate, Grade, ManualClock};
use crate::engine::Engine;
use crate::entry::Attempt;
use crate::event::{Outcome, RefreshStatus};
use crate::lifetime::{Freshness, Lifetime};
use crate::moment::Moment;
use crate::second::LATE;
use crate::ticks::GUARD;

const MILLI: Duration = Duration::from_millis(1);

/// What is told of the only entry of a cache, by the exact time or an estimate of it, is what holds.
fn check(engine: &Engine<u32, u64, ahash::RandomState>, now: Moment, estimate: Estimate) -> bool {
    let Some(found) = engine.store.peek(engine.store.hash(&1_u32), &1_u32) else { panic!("it was put") };
    let told = engine.judge_closely(&found, estimate);
    let told_plainly = if estimate.is_known() { engine.is_plainly_stale(&found, estimate) } else { None };
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
        assert_eq!(Some(told), expected, "{now:?}, {estimate:?}");
    }
    told.is_some()
}

/// All that it may be said to be at that moment.
fn estimates(now: Moment) -> impl Iterator<Item = Estimate> {
    let steps = |grade: Grade, latest: Duration| {
        (0..=10).map(move |late| Estimate::new(now.nanos() - late * latest.as_nanos() as u64 / 10, grade))
    };
    let exact = Estimate::new(now.nanos(), Grade::Exact);
    steps(Grade::OfTick, GUARD).chain(steps(Grade::OfSecond, LATE)).chain([exact, Estimate::UNKNOWN])
}

fn what_is_told_holds(unit: Duration, ahead: Option<f64>) {
    let clock = ManualClock::new();
    let lifetime = Lifetime::ttl(1_000 * unit).stale_while_revalidate(300 * unit).stale_if_error(600 * unit);
    let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(lifetime).clock(clock.clone());
    let cache = ahead.into_iter().fold(builder, |builder, ahead| builder.refresh_ahead(ahead)).build().unwrap();
    let start = LATE + 1_000 * unit;
    clock.advance(start);
    cache.insert(1, 1);
    let mut told = 0;
    while clock.now() < start + 1_700 * unit {
        clock.advance(unit);
        let now = Moment::from(clock.now());
        for ends in [950, 1_150, 1_600] {
            let until = Moment::from(start + ends * unit);
            for attempt in
                [Attempt::running(0, until, 1), Attempt::failed(0, Moment::default()), Attempt::failed(2, until)]
            {
                if let Some(found) = cache.engine.store.peek(cache.hash(&1), &1) {
                    found.set_attempt(attempt);
                }
                told += estimates(now).filter(|&estimate| check(&cache.engine, now, estimate)).count();
            }
        }
    }
    assert!(told > 100_000, "told {told} times");
}

#[test]
fn t1_what_an_estimate_tells_of_an_entry_holds_however_late_it_is() {
    for ahead in [None, Some(0.9)] {
        what_is_told_holds(MILLI, ahead);
        // Long enough that the worst estimate tells something, too.
        what_is_told_holds(20 * MILLI, ahead);
    }
}
