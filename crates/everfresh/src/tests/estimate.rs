//! What an estimate of the time tells of an entry.

use std::time::Duration;

use crate::cache::Cache;
use crate::clock::{Clock, Estimate, Glimpse, ManualClock};
use crate::engine::Engine;
use crate::entry::Attempt;
use crate::event::{Outcome, RefreshStatus};
use crate::lifetime::{Freshness, Lifetime};
use crate::moment::Moment;
use crate::ticks::{GUARD, exact_nanos};

const MILLI: Duration = Duration::from_millis(1);

/// What is told of the only entry of a cache, by the exact time or an estimate of it, is what holds.
fn check(engine: &Engine<u32, u64, ahash::RandomState>, now: Moment, late: Option<Duration>) -> bool {
    let Some(found) = engine.store.peek(engine.store.hash(&1_u32), &1_u32) else { panic!("it was put") };
    let late = late.map(|late| now.nanos() - late.as_nanos() as u64);
    let glimpse = late.map_or(Glimpse::NONE, Glimpse::of);
    let told = engine.judge_closely(&found, glimpse);
    let loaded_at = found.plainly_loaded_at().filter(|_| glimpse.is_known());
    let told_plainly = loaded_at.and_then(|loaded_at| engine.is_plainly_stale(&found, glimpse.age_of(loaded_at)));
    let by_tick = late.filter(|&nanos| now.nanos() - nanos <= GUARD.as_nanos() as u64).map(Estimate::OfTick);
    let told_by_tick = by_tick.and_then(|estimate| engine.judge_by(&found, engine.fresh_until(&found), estimate));
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
    for told in [told, told_by_tick, told_plainly.map(|status| (Outcome::Stale, status))].into_iter().flatten() {
        assert_eq!(Some(told), expected, "{now:?}, late by {late:?}");
    }
    told.is_some()
}

/// By how much an estimate may be late.
fn latenesses() -> impl Iterator<Item = Duration> {
    (0..=10).flat_map(|tenths| [GUARD * tenths / 10, Glimpse::LATE * tenths / 10])
}

fn what_is_told_holds(unit: Duration, ahead: Option<f64>, jitter: f64) {
    let clock = ManualClock::new();
    let lifetime = Lifetime::ttl(1_000 * unit).stale_while_revalidate(300 * unit).stale_if_error(600 * unit);
    let lifetime = lifetime.jitter(jitter);
    let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(lifetime).clock(clock.clone());
    let cache = ahead.into_iter().fold(builder, |builder, ahead| builder.refresh_ahead(ahead)).build().unwrap();
    let start = Glimpse::LATE + 1_000 * unit;
    clock.advance(start);
    cache.insert(1, 1);
    let mut told = 0;
    // A life that jitter has shortened as much as it may ends earlier, and the entry with it.
    let end = start + unit.mul_f64(if jitter > 0.0 { 1_590.0 - 1_000.0 * jitter } else { 1_700.0 });
    while clock.now() < end {
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
                let late = latenesses().map(Some).chain([None]);
                told += late.filter(|&late| check(&cache.engine, now, late)).count();
            }
        }
    }
    assert!(told > 100_000, "told {told} times");
}

#[test]
fn t1_what_an_estimate_tells_of_an_entry_holds_however_late_it_is() {
    for (ahead, jitter) in [(None, 0.0), (Some(0.9), 0.0), (None, 0.2)] {
        what_is_told_holds(MILLI, ahead, jitter);
        // Long enough that the worst estimate tells something, too.
        what_is_told_holds(20 * MILLI, ahead, jitter);
    }
}

#[test]
fn t4_a_deadline_inside_the_guard_is_left_to_the_exact_clock() {
    let now = Moment::from(Duration::from_secs(10_000));
    let hour = Duration::from_secs(3_600);
    let glimpse = Glimpse::of(now.nanos());
    // What lives for so long is fresh only at a lesser age than that.
    let is_before =
        |glimpse: Glimpse, loaded_at: Moment, life: Duration| u128::from(glimpse.age_of(loaded_at)) < life.as_nanos();
    let age = Duration::from_secs(60);
    let loaded_at = Moment::from_nanos(now.nanos() - age.as_nanos() as u64);
    assert!(!is_before(glimpse, loaded_at, age) && !is_before(glimpse, loaded_at, age + Glimpse::LATE));
    assert!(is_before(glimpse, loaded_at, age + Glimpse::LATE + MILLI) && is_before(glimpse, loaded_at, hour));
    assert!(!is_before(glimpse, now.after(hour), hour), "nothing is said of what was loaded later");
    // Of the system's own clock, too.
    let system = Moment::from_nanos(exact_nanos());
    if let Some(glimpse) = Glimpse::of_system() {
        assert!(!is_before(glimpse, system, Duration::ZERO) && is_before(glimpse, system, hour));
    }
}
