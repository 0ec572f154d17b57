//! T1-T6: which life a value is in, to the nanosecond.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use everfresh::{Cache, Clock, Event, Lifetime, Loaded, ManualClock, Outcome, RefreshStatus, Traits};

use crate::kit::{Count, Hand, MINUTE, SECOND, within_a_minute};

const NANO: Duration = Duration::from_nanos(1);
const MILLI: Duration = Duration::from_millis(1);

fn cache(clock: &ManualClock, lifetime: Lifetime) -> Cache<u32, u64> {
    Cache::builder().capacity(10).lifetime(lifetime).max_refreshes(0).clock(clock.clone()).build().unwrap()
}

/// What a lookup with a failing loader gets at that age: an outcome, or nothing.
fn at_age(lifetime: Lifetime, age: Duration) -> Option<Outcome> {
    let clock = ManualClock::new();
    let cache = cache(&clock, lifetime);
    cache.insert(1, 10);
    clock.advance(age);
    cache.lookup(&1).load(|| Err::<u64, _>("down")).ok().map(|answer| {
        assert_eq!((answer.value, answer.age), (10, age));
        answer.outcome
    })
}

#[test]
fn t1_each_life_begins_and_ends_at_its_boundary() {
    let lifetime = Lifetime::ttl(MINUTE).stale_while_revalidate(5 * MINUTE).stale_if_error(60 * MINUTE);
    for (age, outcome) in [
        (Duration::ZERO, Some(Outcome::Hit)),
        (MINUTE - NANO, Some(Outcome::Hit)),
        (MINUTE, Some(Outcome::Stale)),
        (6 * MINUTE - NANO, Some(Outcome::Stale)),
        (6 * MINUTE, Some(Outcome::Fallback)),
        (61 * MINUTE - NANO, Some(Outcome::Fallback)),
        (61 * MINUTE, None),
    ] {
        assert_eq!(at_age(lifetime, age), outcome, "at {age:?}");
    }
}

#[test]
fn t1_without_windows_a_value_expires_where_it_would_become_stale() {
    assert_eq!(at_age(Lifetime::ttl(MINUTE), MINUTE - NANO), Some(Outcome::Hit));
    assert_eq!(at_age(Lifetime::ttl(MINUTE), MINUTE), None);
}

#[test]
fn t2_age_counts_from_the_end_of_the_load_and_reads_do_not_lengthen_a_life() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(MINUTE));
    let slow = clock.clone();
    let loaded = cache.get_or_load(&1, move || {
        slow.advance(10 * MINUTE);
        5_u64
    });
    assert_eq!(loaded.unwrap(), 5);
    for _ in 0..59 {
        clock.advance(SECOND);
        assert_eq!(cache.get(&1), Some(5));
    }
    clock.advance(SECOND);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn t2_by_the_systems_clock_a_value_is_never_younger_than_it_is_and_older_by_a_tick_at_most() {
    for ttl in [20 * SECOND, 60 * MINUTE] {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).lifetime(Lifetime::ttl(ttl)).build().unwrap();
        for key in 0..10 {
            let before = Instant::now();
            cache.insert(key, 1);
            let at_least = Instant::now();
            let least = at_least.elapsed();
            let answer = cache.lookup(&key).load(|| Err::<u64, _>("down")).unwrap();
            let most = before.elapsed() + if ttl < MINUTE { Duration::ZERO } else { 25 * MILLI };
            assert!(answer.age >= least && answer.age <= most, "{:?} is not from {least:?} to {most:?}", answer.age);
        }
    }
}

#[test]
fn t2_time_to_idle_ends_what_nobody_reads_and_spares_what_is_read() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(60 * MINUTE).time_to_idle(MINUTE));
    cache.insert(1, 10);
    cache.insert(2, 20);
    for _ in 0..5 {
        clock.advance(30 * SECOND);
        assert_eq!(cache.get(&1), Some(10));
    }
    assert_eq!(cache.get(&2), None, "nobody read it for more than a minute");
    clock.advance(MINUTE - NANO);
    assert!(cache.contains(&1));
    clock.advance(NANO);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn t2_what_is_served_because_a_load_failed_was_read() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(10 * SECOND).stale_if_error(60 * MINUTE).time_to_idle(MINUTE));
    cache.insert(1, 10);
    cache.insert(2, 20);
    for _ in 0..5 {
        clock.advance(50 * SECOND);
        assert_eq!(cache.get_or_load(&1, || Err::<u64, _>("down")).ok(), Some(10));
        let many = cache.get_many_or_load([2], |_| Err::<Vec<_>, _>("down"));
        assert_eq!(many.ok().and_then(|found| found.get(&2).copied()), Some(20));
    }
    clock.advance(MINUTE);
    assert!(cache.get_or_load(&1, || Err::<u64, _>("down")).is_err(), "nobody read it for a minute");
}

#[test]
fn t3_no_ttl_is_never_stale_and_extremes_saturate() {
    let years = Duration::from_secs(1_000_000_000 * 365 * 86_400);
    assert_eq!(at_age(Lifetime::forever(), 500 * 365 * 24 * 60 * MINUTE), Some(Outcome::Hit));
    assert_eq!(at_age(Lifetime::ttl(years), 500 * 365 * 24 * 60 * MINUTE), Some(Outcome::Hit));
    assert_eq!(at_age(Lifetime::ttl(NANO), Duration::ZERO), Some(Outcome::Hit));
    assert_eq!(at_age(Lifetime::ttl(NANO), NANO), None);
    let windows = Lifetime::ttl(NANO).stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX);
    assert_eq!(at_age(windows, MINUTE), Some(Outcome::Stale));
}

#[test]
fn t3_a_clock_near_the_end_of_its_range_does_not_overflow() {
    let clock = ManualClock::new();
    clock.advance(Duration::from_nanos(u64::MAX - 1_000));
    let cache = cache(&clock, Lifetime::ttl(MINUTE).stale_while_revalidate(Duration::MAX));
    cache.insert(1, 10);
    clock.advance(Duration::MAX);
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn t4_time_in_memory_never_goes_back() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(MINUTE));
    clock.advance(MINUTE);
    cache.insert(1, 10);
    clock.advance_to(SECOND);
    assert_eq!(clock.now(), MINUTE);
    clock.advance(MINUTE);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn t5_a_lifetime_can_be_the_entrys_own_or_the_loaders() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(MINUTE));
    cache.insert(1, 10);
    cache.insert_with(2, 20, Lifetime::ttl(2 * MINUTE));
    let loaded = || Loaded::new(30_u64).lifetime(Lifetime::ttl(3 * MINUTE));
    assert_eq!(cache.get_or_load(&3, loaded).unwrap(), 30);
    let alive = || [1, 2, 3].map(|key| cache.contains(&key));
    assert_eq!(alive(), [true, true, true]);
    clock.advance(MINUTE);
    assert_eq!(alive(), [false, true, true]);
    clock.advance(MINUTE);
    assert_eq!(alive(), [false, false, true]);
    clock.advance(MINUTE);
    assert_eq!(alive(), [false, false, false]);
}

#[test]
fn t5_a_single_value_may_be_stale_from_birth() {
    let clock = ManualClock::new();
    let cache = cache(&clock, Lifetime::ttl(MINUTE));
    cache.insert_with(1, 10, Lifetime::ttl(Duration::ZERO).stale_while_revalidate(MINUTE));
    assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Stale);
    cache.insert_with(2, 20, Traits::new().lifetime(Lifetime::ttl(Duration::ZERO)));
    assert!(!cache.contains(&2));
    assert_eq!(cache.stats().not_stored.not_servable, 1);
}

#[test]
fn t5_jitter_spreads_the_ends_and_lengthens_none() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(1_000)
        .lifetime(Lifetime::ttl(100 * SECOND).jitter(0.5))
        .clock(clock.clone())
        .build()
        .unwrap();
    (0..1_000).for_each(|key| cache.insert(key, 0));
    let alive = || (0..1_000).filter(|key| cache.contains(key)).count();
    clock.advance(50 * SECOND - NANO);
    assert_eq!(alive(), 1_000);
    clock.advance(25 * SECOND);
    assert!((300..700).contains(&alive()), "half of them should have ended, {} are alive", alive());
    // A lot may be nothing: the full life, and no more.
    clock.advance(25 * SECOND + NANO);
    assert_eq!(alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn t6_the_time_of_a_runtime_can_be_the_caches() {
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE))
        .clock(everfresh::TokioClock::new())
        .build()
        .unwrap();
    cache.insert(1, 10);
    tokio::time::advance(MINUTE - NANO).await;
    assert_eq!(cache.get(&1), Some(10));
    tokio::time::advance(NANO).await;
    assert_eq!(cache.get(&1), None);
}

#[test]
fn t6_on_the_systems_clock_a_value_ends_too() {
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).lifetime(Lifetime::ttl(Duration::from_millis(30))).build().unwrap();
    cache.insert(1, 10);
    let began = std::time::Instant::now();
    while cache.get(&1).is_some() {
        assert!(began.elapsed() < 20 * SECOND, "it never ends");
        std::hint::spin_loop();
    }
    assert!(began.elapsed() >= Duration::from_millis(29), "it ended after {:?}", began.elapsed());
}

#[test]
fn t5_a_seed_decides_every_chance() {
    let ends = |seed: Option<u64>| {
        let clock = ManualClock::new();
        let builder = Cache::builder()
            .capacity(100)
            .lifetime(Lifetime::ttl(1_000 * SECOND).stale_if_error(1_000 * SECOND).jitter(0.5))
            .clock(clock.clone());
        let builder = if let Some(seed) = seed { builder.seed(seed) } else { builder };
        let cache: Cache<u32, u64> = builder.build().unwrap();
        (0..20).for_each(|key| cache.insert(key, 1));
        let mut lives = Vec::new();
        for second in 0..1_000 {
            clock.advance(SECOND);
            let fresh = |key: &u32| cache.lookup(key).peek().is_some_and(|answer| answer.outcome == Outcome::Hit);
            lives.push((second, (0..20).filter(fresh).collect::<Vec<u32>>()));
        }
        // A pause after a failure is by chance, too.
        assert_eq!(cache.get_or_load(&1, || Err::<u64, _>("bad")).unwrap(), 1);
        let mut pause = 0;
        while cache.lookup(&1).load(|| Err::<u64, _>("bad")).unwrap().refresh == RefreshStatus::BackingOff {
            clock.advance(SECOND / 1_000);
            pause += 1;
        }
        (lives, pause)
    };
    assert_eq!(ends(Some(1)), ends(Some(1)));
    assert_ne!(ends(Some(1)), ends(Some(2)));
    assert_ne!(ends(None), ends(None));
}

#[test]
fn t6_what_is_due_on_a_clock_moved_by_hand_is_done_by_whoever_moves_it() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(100).lifetime(Lifetime::ttl(10 * SECOND)).clock(clock.clone()).build().unwrap();
    let here = std::thread::current().id();
    let left = Count::default();
    let counted = left.clone();
    cache
        .subscribe(move |event: &Event<'_, u32, u64>| {
            if let Event::Left { .. } = event {
                assert_eq!(std::thread::current().id(), here);
                counted.add();
            }
        })
        .forever();
    (0..10).for_each(|key| cache.insert(key, 1));
    clock.advance(9 * SECOND);
    assert_eq!((left.get(), cache.len()), (0, 10));
    clock.advance(4 * SECOND);
    assert_eq!((left.get(), cache.len()), (10, 0), "reclaimed by the time that the clock stands again");
    assert_eq!(clock.next_wake(), None, "an empty cache wants nothing");
    (0..10).for_each(|key| cache.insert(key, 1));
    cache.clear();
    assert_eq!((left.get(), cache.len()), (10, 0), "nothing is swept at the call");
    clock.advance(SECOND);
    assert_eq!(left.get(), 20);
    cache.insert(1, 1);
    assert!(clock.next_wake().is_some());
    drop(cache);
    assert_eq!(clock.next_wake(), None, "no chore outlives its cache");
}

#[test]
fn t6_a_schedule_on_a_clock_moved_by_hand_goes_with_it() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .loader(|key| u64::from(*key))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let schedule = cache.refresh_every(10 * SECOND, [1, 2]);
    assert_eq!(hand.asked(), 2);
    hand.run();
    for round in 2..5 {
        clock.advance(9 * SECOND);
        assert_eq!(hand.asked(), 2 * (round - 1));
        clock.advance(SECOND);
        assert_eq!(hand.asked(), 2 * round);
        hand.run();
    }
    drop(schedule);
    clock.advance(10 * SECOND);
    assert_eq!((hand.asked(), cache.stats().loads.stored + cache.stats().refreshes.stored), (8, 8));
}

/// A task that looks at the clock when the last waker of it is gone.
struct Leaves(ManualClock, Count);

impl Wake for Leaves {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let _next = self.0.next_wake();
        self.1.add();
    }
}

#[test]
fn t6_a_task_that_ends_with_its_last_waker_may_look_at_the_clock_that_it_slept_by() {
    within_a_minute(|| {
        let (clock, left) = (ManualClock::new(), Count::default());
        let waker = || Waker::from(Arc::new(Leaves(clock.clone(), left.clone())));
        let mut sleep = clock.sleep_until(SECOND);
        for slept in 0..2 {
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
            assert_eq!(left.get(), slept, "another task's waker has taken its place");
        }
        drop(sleep);
        assert_eq!((left.get(), clock.next_wake()), (2, None));
    });
}
