//! R1-R9: renewing a value behind its readers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh::{
    Cache, Ending, Event, Lifetime, Load, Loaded, ManualClock, Outcome, Previous, RefreshPool, RefreshStatus,
};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, within_a_minute};
use crate::support::{self, Bench};

/// Fresh for a minute, stale for ten more; work runs when the hand is told.
fn bench(change: impl FnOnce(everfresh::Builder<u32, u64>) -> everfresh::Builder<u32, u64>) -> Bench {
    support::bench(|it| change(it.lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(10 * MINUTE))))
}

fn fails() -> Result<u64, &'static str> {
    Err("down")
}

fn read(cache: &Cache<u32, u64>, key: u32) -> (u64, Outcome, RefreshStatus) {
    let answer = cache.lookup(&key).load(|| 2_u64).unwrap();
    (answer.value, answer.outcome, answer.refresh)
}

#[test]
fn r1_a_stale_hit_answers_at_once_and_starts_one_refresh() {
    let Bench { clock, hand, cache } = bench(|builder| builder);
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::Started));
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::AlreadyRunning));
    assert_eq!(hand.waiting(), 1);
    hand.run();
    assert_eq!(read(&cache, 1), (2, Outcome::Hit, RefreshStatus::NotNeeded));
}

#[test]
fn r2_a_full_pool_skips_counts_and_tries_again() {
    let Bench { clock, hand, cache } = bench(|builder| builder.max_refreshes(2));
    (0..3).for_each(|key| cache.insert(key, 1));
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 0).2, RefreshStatus::Started);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Started);
    assert_eq!(read(&cache, 2), (1, Outcome::Stale, RefreshStatus::Saturated));
    assert_eq!((hand.waiting(), cache.stats().refreshes_skipped.saturated), (2, 1));
    hand.run();
    assert_eq!(read(&cache, 2).2, RefreshStatus::Started);
    hand.run();
    assert_eq!(read(&cache, 2).0, 2);
}

#[test]
fn r2_the_default_is_four_at_once() {
    let Bench { clock, hand, cache } = bench(|builder| builder);
    (0..6).for_each(|key| cache.insert(key, 1));
    clock.advance(MINUTE);
    let started = (0..6).filter(|key| read(&cache, *key).2 == RefreshStatus::Started).count();
    assert_eq!((started, hand.waiting()), (4, 4));
}

#[test]
fn r2_a_pool_of_zero_never_refreshes_and_serves_stale_until_the_window_ends() {
    let Bench { clock, hand, cache } = bench(|builder| builder.max_refreshes(0));
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::Saturated));
    clock.advance(10 * MINUTE);
    assert_eq!(read(&cache, 1), (2, Outcome::Loaded, RefreshStatus::NotNeeded));
    assert_eq!(hand.asked(), 0);
}

#[test]
fn r2_where_no_thread_can_be_had_it_is_told_once_and_tried_again_after_a_pause() {
    let Bench { clock, hand, cache } = bench(|builder| builder);
    let told = Count::default();
    let counted = told.clone();
    cache
        .subscribe(move |event| {
            if let Event::RefreshUnavailable { reason, .. } = event {
                assert!(reason.contains("closed"), "{reason}");
                counted.add();
            }
        })
        .forever();
    cache.insert(1, 1);
    clock.advance(MINUTE);
    hand.refuse(true);
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::Unavailable));
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::Unavailable));
    assert_eq!((hand.asked(), told.get()), (1, 1), "in the pause nobody is asked");
    clock.advance(5 * SECOND);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Unavailable);
    assert_eq!((hand.asked(), told.get()), (2, 1), "told once");
    hand.refuse(false);
    clock.advance(5 * SECOND);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Started);
    hand.run();
    assert_eq!(read(&cache, 1), (2, Outcome::Hit, RefreshStatus::NotNeeded));
    assert_eq!(cache.stats().refreshes_skipped.unavailable, 3);
    hand.refuse(true);
    clock.advance(MINUTE);
    assert_eq!((read(&cache, 1).2, told.get()), (RefreshStatus::Unavailable, 2), "the next outage is told again");
}

#[test]
fn r3_a_refresh_that_was_overtaken_and_hung_is_a_failure_of_its_entry_too() {
    let Bench { clock, hand, cache } = bench(|it| it.refresh_timeout(SECOND).backoff(SECOND, SECOND));
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Started);
    // It strikes nothing, but what runs is not to be stored.
    cache.invalidate_matching(|_, _| false);
    clock.advance(2 * SECOND);
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::BackingOff));
    clock.advance(SECOND);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Started, "it does not hang for ever");
    hand.run();
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn r2_work_that_is_dropped_unrun_frees_the_key_and_the_place() {
    let Bench { clock, hand, cache } = bench(|builder| builder.max_refreshes(1));
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 1).2, RefreshStatus::Started);
    hand.drop_all();
    assert_eq!(cache.stats().refreshes.abandoned, 1);
    clock.advance(5 * SECOND);
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::Started));
    hand.run();
    assert_eq!(read(&cache, 1).0, 2);
}

#[test]
fn r2_refreshes_that_hang_give_their_place_away_up_to_four_times_the_bound() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let pool = RefreshPool::with_spawner(1, hand.clone());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(10 * MINUTE))
        .refresh_timeout(SECOND)
        .refresh_pool(pool.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    (0..10).for_each(|key| cache.insert(key, 1));
    clock.advance(MINUTE);
    for key in 0..5 {
        assert_eq!(read(&cache, key).2, RefreshStatus::Started);
        assert_eq!(read(&cache, key + 1).2, RefreshStatus::Saturated, "the last one does not hang yet");
        clock.advance(SECOND);
    }
    assert_eq!((read(&cache, 5).2, pool.running()), (RefreshStatus::Saturated, 5), "too many hang");
    hand.run();
    assert_eq!((read(&cache, 5).2, pool.running()), (RefreshStatus::Started, 1));
}

#[test]
fn r2_one_pool_can_serve_many_caches() {
    let hand = Hand::default();
    let pool = RefreshPool::with_spawner(1, hand.clone());
    let clock = ManualClock::new();
    let make = || -> Cache<u32, u64> {
        Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
            .clock(clock.clone())
            .refresh_pool(pool.clone())
            .build()
            .unwrap()
    };
    let (one, two) = (make(), make());
    one.insert(1, 1);
    two.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(read(&one, 1).2, RefreshStatus::Started);
    assert_eq!(read(&two, 1).2, RefreshStatus::Saturated);
    hand.run();
    assert_eq!(pool.running(), 0);
    assert_eq!(read(&two, 1).2, RefreshStatus::Started);
}

#[test]
fn r3_a_failure_keeps_the_old_value_and_leaves_the_key_alone_longer_each_time() {
    let Bench { clock, hand, cache } = bench(|builder| {
        builder.lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(10_000 * MINUTE)).backoff(SECOND, 16 * SECOND)
    });
    cache.insert(1, 1);
    clock.advance(MINUTE);
    for expected in [1, 2, 4, 8, 16, 16] {
        let answer = cache.lookup(&1).load(fails).unwrap();
        assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::Started));
        hand.run();
        // A random part of up to a half is taken off the pause.
        let longest = expected * SECOND;
        clock.advance(longest / 2 - Duration::from_millis(10));
        assert_eq!(cache.lookup(&1).load(fails).unwrap().refresh, RefreshStatus::BackingOff, "{expected} s");
        clock.advance(longest / 2 + Duration::from_millis(20));
    }
    assert_eq!(cache.stats().refreshes.failed, 6);
}

#[test]
fn r3_a_pause_is_never_longer_than_a_quarter_of_what_is_left_of_the_window() {
    for left in [SECOND, 4 * SECOND, 40 * SECOND] {
        let Bench { clock, hand, cache } = bench(|builder| builder.backoff(MINUTE, 60 * MINUTE));
        cache.insert(1, 1);
        clock.advance(11 * MINUTE - left);
        assert_eq!(cache.lookup(&1).load(fails).unwrap().refresh, RefreshStatus::Started);
        hand.run();
        assert_eq!(cache.lookup(&1).load(fails).unwrap().refresh, RefreshStatus::BackingOff);
        clock.advance(left / 4);
        assert_eq!(cache.lookup(&1).load(fails).unwrap().refresh, RefreshStatus::Started, "{left:?} were left");
    }
}

#[test]
fn r3_success_clears_the_pause_and_so_does_a_load_in_the_foreground() {
    let Bench { clock, hand, cache } = bench(|builder| builder.backoff(60 * MINUTE, 60 * MINUTE));
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(cache.get_or_load(&1, fails).unwrap(), 1);
    hand.run();
    assert_eq!(read(&cache, 1).2, RefreshStatus::BackingOff);
    let answer = cache.lookup(&1).bypass().load(|| 5_u64).unwrap();
    assert_eq!((answer.value, answer.outcome), (5, Outcome::Bypass));
    clock.advance(MINUTE);
    assert_eq!(read(&cache, 1), (5, Outcome::Stale, RefreshStatus::Started));
}

#[test]
fn r3_a_panic_and_a_deadline_back_off_too() {
    let Bench { clock, hand, cache } = bench(|builder| builder.refresh_timeout(SECOND));
    cache.insert(1, 1);
    cache.insert(2, 1);
    clock.advance(MINUTE);
    assert_eq!(cache.get_or_load(&1, || -> u64 { panic!("told to") }).unwrap(), 1);
    hand.run();
    assert_eq!(read(&cache, 1), (1, Outcome::Stale, RefreshStatus::BackingOff));
    assert_eq!(cache.stats().refreshes.panicked, 1);
    // Nobody runs this one: its deadline passes, and the next reader notices.
    assert_eq!(read(&cache, 2).2, RefreshStatus::Started);
    clock.advance(SECOND - Duration::from_nanos(1));
    assert_eq!(read(&cache, 2), (1, Outcome::Stale, RefreshStatus::AlreadyRunning));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(read(&cache, 2), (1, Outcome::Stale, RefreshStatus::BackingOff));
    assert_eq!(cache.stats().refreshes.timed_out, 1);
    hand.run();
    assert_eq!(cache.peek(&2), Some(1), "the late result is fenced");
}

#[test]
fn r3_l4_deadlines_and_pauses_of_a_value_that_is_years_old_are_as_those_of_a_new_one() {
    let day = 24 * 60 * MINUTE;
    for age in [MINUTE, day, 7 * day, 30 * day, 1_000 * day] {
        let Bench { clock, hand, cache } = bench(|it| {
            it.lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(10_000 * day)).refresh_timeout(30 * SECOND)
        });
        (1..=2).for_each(|key| cache.insert(key, 1));
        clock.advance(age);
        assert_eq!(read(&cache, 1).2, RefreshStatus::Started);
        clock.advance(30 * SECOND - Duration::from_nanos(1));
        assert_eq!(read(&cache, 1).2, RefreshStatus::AlreadyRunning, "{age:?} old");
        clock.advance(Duration::from_nanos(1));
        assert_eq!(read(&cache, 1).2, RefreshStatus::BackingOff, "{age:?} old");
        assert_eq!(cache.stats().refreshes.timed_out, 1, "{age:?} old");
        hand.run();
        assert_eq!(cache.lookup(&2).load(fails).unwrap().refresh, RefreshStatus::Started);
        hand.run();
        assert_eq!(cache.lookup(&2).load(fails).unwrap().refresh, RefreshStatus::BackingOff, "{age:?} old");
    }
}

#[test]
fn r3_in_an_outage_readers_within_the_error_window_do_not_each_pay_for_a_failing_load() {
    let Bench { clock, cache, .. } = bench(|builder| {
        builder.lifetime(Lifetime::ttl(MINUTE).stale_if_error(60 * MINUTE)).backoff(10 * SECOND, 10 * SECOND)
    });
    cache.insert(1, 1);
    clock.advance(2 * MINUTE);
    let loads = Count::default();
    for _ in 0..100 {
        let loads = loads.clone();
        let answer = cache.lookup(&1).load(move || {
            loads.add();
            Err::<u64, _>("down")
        });
        let answer = answer.unwrap();
        assert_eq!((answer.value, answer.outcome), (1, Outcome::Fallback));
    }
    assert_eq!(loads.get(), 1);
    assert_eq!((cache.stats().fallback, cache.stats().refreshes_skipped.backing_off), (100, 99));
    clock.advance(10 * SECOND);
    assert_eq!(read(&cache, 1), (2, Outcome::Loaded, RefreshStatus::NotNeeded));
}

#[test]
fn r5_a_refresh_outlives_its_caller_and_does_not_inherit_its_thread() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        clock.advance(MINUTE);
        let (gate, ran_on) = (Gate::default(), Arc::new(Mutex::new(None)));
        let (held, noted, own) = (gate.clone(), Arc::clone(&ran_on), cache.clone());
        let caller = std::thread::spawn(move || {
            let load = move || {
                held.pass();
                *noted.lock().unwrap() = Some(std::thread::current().id());
                2_u64
            };
            assert_eq!(own.get_or_load(&1, load).unwrap(), 1);
            std::thread::current().id()
        });
        let caller = caller.join().unwrap();
        gate.open();
        assert_eq!(cache.close(MINUTE), 0);
        assert_eq!(cache.get(&1), Some(2));
        assert_ne!(ran_on.lock().unwrap().unwrap(), caller);
    });
}

#[test]
fn r6_refresh_ahead_renews_on_access_before_the_value_is_stale() {
    let Bench { clock, hand, cache } = bench(|builder| builder.refresh_ahead(0.8));
    cache.insert(1, 1);
    cache.insert(2, 1);
    clock.advance(48 * SECOND - Duration::from_nanos(1));
    assert_eq!(read(&cache, 1), (1, Outcome::Hit, RefreshStatus::NotNeeded));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(read(&cache, 1), (1, Outcome::Hit, RefreshStatus::Started));
    hand.run();
    clock.advance(30 * SECOND);
    assert_eq!(read(&cache, 1), (2, Outcome::Hit, RefreshStatus::NotNeeded));
    assert_eq!(hand.asked(), 1, "an idle key costs nothing");
}

#[test]
fn r6_by_lot_the_nearer_the_end_the_likelier_a_refresh() {
    let started = |left: Duration| {
        let mut started = 0;
        for _ in 0..200 {
            let Bench { clock, cache, .. } = bench(|builder| builder.early_refresh(1.0));
            let slow = clock.clone();
            let load = move || {
                slow.advance(SECOND);
                1_u64
            };
            cache.get_or_load(&1, load).unwrap();
            clock.advance(MINUTE - left);
            started += usize::from(read(&cache, 1).2 == RefreshStatus::Started);
        }
        started
    };
    // The chance is e^(-left/took): 0.98, 0.37 and 10^-13.
    assert!(started(SECOND / 50) > 180);
    assert!((40..110).contains(&started(SECOND)));
    assert_eq!(started(30 * SECOND), 0);
}

#[test]
fn r7_a_refresh_on_demand_says_what_became_of_it_and_can_be_waited_for() {
    let failing = Arc::new(Mutex::new(false));
    let fail = Arc::clone(&failing);
    let Bench { clock, hand, cache } = bench(|builder| {
        builder.max_refreshes(1).loader(move |key| match *fail.lock().unwrap() {
            true => Err("down"),
            false => Ok(u64::from(*key) * 10),
        })
    });
    let missing = cache.refresh(&1);
    assert_eq!(missing.status(), RefreshStatus::Started);
    assert_eq!(cache.refresh(&1).status(), RefreshStatus::AlreadyRunning);
    assert_eq!(cache.refresh(&2).status(), RefreshStatus::Saturated);
    hand.run();
    assert_eq!(missing.wait(), Some(Ending::Stored));
    assert_eq!(cache.peek(&1), Some(10));
    // Fresh or not, it is refreshed.
    *failing.lock().unwrap() = true;
    let again = cache.refresh(&1);
    assert_eq!(again.status(), RefreshStatus::Started);
    hand.run();
    assert_eq!(again.wait(), Some(Ending::Failed));
    assert_eq!(cache.refresh(&1).status(), RefreshStatus::BackingOff);
    clock.advance(MINUTE);
    hand.refuse(true);
    assert_eq!(cache.refresh(&1).status(), RefreshStatus::Unavailable);
    assert_eq!(cache.refresh(&1).wait(), None);
    let bare: Cache<u32, u64> = Cache::builder().capacity(1).build().unwrap();
    assert_eq!(bare.refresh(&1).status(), RefreshStatus::NoLoader);
    assert_eq!(bare.refresh_with(&1, || 5_u64).wait(), Some(Ending::Stored));
}

#[test]
fn r7_two_who_watch_one_refresh_are_both_told_its_end() {
    let Bench { hand, cache, .. } = bench(|builder| builder.loader(|_| 5_u64));
    let (first, second) = (cache.refresh(&1), cache.refresh(&1));
    assert_eq!((first.status(), second.status()), (RefreshStatus::Started, RefreshStatus::AlreadyRunning));
    hand.run();
    assert_eq!((first.wait(), second.wait()), (Some(Ending::Stored), Some(Ending::Stored)));
}

#[test]
fn r8_close_starts_no_more_waits_and_says_what_it_left() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(10 * MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        cache.insert(2, 1);
        clock.advance(MINUTE);
        let (gate, inside) = (Gate::default(), Count::default());
        let (held, entered) = (gate.clone(), inside.clone());
        let load = move || {
            entered.add();
            held.pass();
            2_u64
        };
        assert_eq!(cache.get_or_load(&1, load).unwrap(), 1);
        inside.reach(1);
        assert_eq!(cache.close(Duration::ZERO), 1, "one is left running");
        assert_eq!(read(&cache, 2), (1, Outcome::Stale, RefreshStatus::Unavailable));
        gate.open();
        assert_eq!(cache.close(MINUTE), 0);
        assert_eq!(cache.get(&1), Some(2), "lookups go on");
        assert_eq!(cache.get_or_load(&3, || 3_u64).unwrap(), 3);
    });
}

#[test]
fn r8_dropping_the_last_handle_does_not_wait_for_a_refresh() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        clock.advance(MINUTE);
        let (gate, inside, done) = (Gate::default(), Count::default(), Count::default());
        let (held, entered, ended) = (gate.clone(), inside.clone(), done.clone());
        let load = move || {
            entered.add();
            held.pass();
            ended.add();
            2_u64
        };
        assert_eq!(cache.get_or_load(&1, load).unwrap(), 1);
        inside.reach(1);
        drop(cache);
        assert_eq!(done.get(), 0);
        gate.open();
        done.reach(1);
    });
}

#[test]
fn r9_the_loader_is_told_what_there_is_and_may_say_that_it_still_holds() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let Bench { clock, hand, cache } = bench(|builder| {
        builder.loader_with(move |_, previous: Option<Previous<u64>>| {
            let token = previous.as_ref().and_then(|previous| previous.token.clone());
            noted.lock().unwrap().push(previous.as_ref().map(|previous| (previous.value, previous.age)));
            match token.as_deref() {
                Some("v1") => Load::NotModified,
                _ => Load::Loaded(Loaded::new(7).token("v1")),
            }
        })
    });
    assert_eq!(cache.get(&1), Some(7));
    clock.advance(MINUTE);
    assert_eq!(cache.get(&1), Some(7));
    hand.run();
    assert_eq!(cache.stats().refreshes.not_modified, 1);
    let answer = cache.lookup(&1).peek().unwrap();
    assert_eq!((answer.value, answer.outcome, answer.age), (7, Outcome::Hit, Duration::ZERO), "its life starts anew");
    assert_eq!(*seen.lock().unwrap(), [None, Some((7, MINUTE))]);
    assert_eq!(cache.stats().left.replaced, 0, "the same value lives on");
    // And again: the token is kept.
    clock.advance(MINUTE);
    cache.get(&1);
    hand.run();
    assert_eq!(cache.stats().refreshes.not_modified, 2);
}

#[test]
fn r9_what_still_holds_keeps_the_lifetime_and_the_weight_of_its_own() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> =
        Cache::builder().weight_capacity(100).clock(clock.clone()).spawner(hand.clone()).build().unwrap();
    let own = Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE);
    cache.insert_with(1, 1, everfresh::Traits::new().lifetime(own).weight(7));
    for _ in 0..2 {
        clock.advance(SECOND);
        let answer = cache.lookup(&1).load_with(|_| Load::<u64>::NotModified).unwrap();
        assert_eq!((answer.outcome, answer.refresh), (Outcome::Stale, RefreshStatus::Started));
        hand.run();
        assert_eq!((cache.lookup(&1).peek().unwrap().outcome, cache.weight()), (Outcome::Hit, 7));
    }
}

#[test]
fn r9_absent_removes_what_there_is() {
    let Bench { clock, hand, cache } = bench(|builder| builder);
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(cache.get_or_load(&1, || None::<u64>).unwrap(), 1);
    hand.run();
    assert!(!cache.contains(&1));
    assert_eq!((cache.stats().refreshes.absent, cache.stats().left.removed), (1, 1));
}

#[test]
fn r3_without_a_stale_window_a_pause_is_never_longer_than_a_quarter_of_what_is_left_of_freshness() {
    let milli = Duration::from_millis(1);
    for windows in [Lifetime::ttl(100 * SECOND), Lifetime::ttl(100 * SECOND).stale_if_error(1_000 * MINUTE)] {
        let Bench { clock, hand, cache } =
            bench(|builder| builder.lifetime(windows).refresh_ahead(0.5).backoff(60 * MINUTE, 60 * MINUTE));
        cache.insert(1, 1);
        clock.advance(60 * SECOND);
        let read = |cache: &Cache<u32, u64>| {
            let answer = cache.lookup(&1).load(fails).unwrap();
            (answer.value, answer.outcome, answer.refresh)
        };
        assert_eq!(read(&cache), (1, Outcome::Hit, RefreshStatus::Started));
        hand.run();
        clock.advance(10 * SECOND - milli);
        assert_eq!(read(&cache), (1, Outcome::Hit, RefreshStatus::BackingOff));
        clock.advance(milli);
        assert_eq!(read(&cache), (1, Outcome::Hit, RefreshStatus::Started), "a quarter of 40 seconds");
        hand.run();
        clock.advance(30 * SECOND);
        if windows.error_window() > Duration::ZERO {
            assert_eq!(
                read(&cache),
                (1, Outcome::Fallback, RefreshStatus::NotNeeded),
                "its pause was over, and it was loaded"
            );
            assert_eq!(read(&cache), (1, Outcome::Fallback, RefreshStatus::BackingOff));
            clock.advance(29 * MINUTE);
            assert_eq!(read(&cache), (1, Outcome::Fallback, RefreshStatus::BackingOff), "at least half of an hour");
            clock.advance(31 * MINUTE);
            assert_eq!(read(&cache), (1, Outcome::Fallback, RefreshStatus::NotNeeded), "and an hour at most");
        } else {
            assert!(cache.lookup(&1).load(fails).is_err());
        }
    }
}

#[test]
fn r9_what_is_gone_is_not_shown_to_a_loader_and_what_is_merely_too_old_is() {
    type Strike = fn(&Bench);
    let strikes: [(&str, Strike, bool); 10] = [
        ("remove", |it| assert!(it.cache.remove(&1).is_some()), false),
        ("invalidate", |it| it.cache.invalidate(&1), false),
        ("invalidate_tag", |it| it.cache.invalidate_tag("tag"), false),
        ("invalidate_matching", |it| it.cache.invalidate_matching(|_, _| true), false),
        ("clear", |it| it.cache.clear(), false),
        ("nothing", |_| (), true),
        ("age", |it| [9, 1].into_iter().for_each(|seconds| it.clock.advance(seconds * SECOND)), true),
        ("expire", |it| it.cache.expire(&1), true),
        ("expire_tag", |it| it.cache.expire_tag("tag"), true),
        ("expire_all", |it| it.cache.expire_all(), true),
    ];
    for (name, strike, shown) in strikes {
        for behind in [false, true] {
            // What is gone is still in its place: room is given back every two and a half seconds, or when the clock is moved.
            let bench = bench(|builder| builder.lifetime(Lifetime::ttl(10 * SECOND).time_to_idle(60 * MINUTE)));
            bench.cache.insert_with(1, 1, everfresh::Traits::new().tag("tag").token("v1"));
            strike(&bench);
            let seen = Arc::new(Mutex::new(None));
            let noted = Arc::clone(&seen);
            let load = move |previous: Option<Previous<u64>>| {
                let value = previous.as_ref().map(|previous| previous.value);
                *noted.lock().unwrap() = Some(value);
                Load::<u64>::NotModified
            };
            let lookup = bench.cache.lookup(&1).bypass();
            let got = match behind {
                false => lookup.load_with(load),
                true => {
                    let mut caller = Box::pin(lookup.load_timeout(MINUTE).load_async_with(move |previous| {
                        let load = load(previous);
                        async move { load }
                    }));
                    assert!(crate::kit::poll_once(caller.as_mut()).is_pending());
                    bench.hand.run();
                    match crate::kit::poll_once(caller.as_mut()) {
                        std::task::Poll::Ready(got) => got,
                        std::task::Poll::Pending => panic!("it waits on"),
                    }
                }
            };
            assert_eq!(*seen.lock().unwrap(), Some(shown.then_some(1)), "{name}, behind: {behind}");
            assert_eq!(got.ok().map(|answer| answer.value), shown.then_some(1), "{name}, behind: {behind}");
            assert_eq!(
                bench.cache.peek(&1),
                shown.then_some(1),
                "{name}: what still holds lives anew, what is gone stays gone"
            );
        }
    }
}
