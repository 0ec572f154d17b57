//! O1-O3: every lookup has one outcome, every "no" a name, and listeners hear of everything.

use std::sync::{Arc, Mutex};
use std::thread;

use everfresh::{Cache, Cause, Ending, Event, Lifetime, Load, ManualClock, Outcome, RefreshStatus, Traits};

use crate::kit::{Hand, MINUTE, SECOND};

#[test]
fn o1_the_outcomes_of_all_lookups_add_up() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(50)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE).stale_if_error(10 * MINUTE))
        .negative_ttl(SECOND)
        .clock(clock.clone())
        .build()
        .unwrap();
    const EACH: u64 = 5_000;
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (cache, clock) = (&cache, &clock);
            scope.spawn(move || {
                let mut dice = fastrand::Rng::with_seed(thread);
                for _ in 0..EACH {
                    let key = dice.u32(0..100);
                    match dice.u32(0..12) {
                        0..=3 => assert!(cache.get(&key).is_none_or(|value| value > 0)),
                        4..=6 => drop(cache.get_or_load(&key, || 1_u64)),
                        7 => drop(cache.get_or_load(&key, || Err::<u64, _>("down"))),
                        8 => drop(cache.get_or_load(&key, || None::<u64>)),
                        9 => drop(cache.lookup(&key).bypass().load(|| 2_u64)),
                        10 => drop(cache.lookup(&key).max_stale(SECOND).load(|| 3_u64)),
                        _ => {
                            cache.expire(&key);
                            clock.advance(SECOND);
                            assert!(cache.get(&key).is_none_or(|value| value > 0));
                        }
                    }
                }
            });
        }
    });
    cache.close(MINUTE);
    let stats = cache.stats();
    assert_eq!(stats.lookups(), 4 * EACH);
    for (outcome, count) in [
        ("hits", stats.hits),
        ("stale", stats.stale),
        ("loaded", stats.loaded),
        ("fallback", stats.fallback),
        ("bypass", stats.bypass),
        ("negative", stats.negative),
        ("misses", stats.misses),
        ("failed", stats.failed),
    ] {
        assert!(count > 0, "no lookup was {outcome}: {stats:?}");
    }
    assert!(stats.hit_rate() > 0.0 && stats.hit_rate() < 1.0);
    let ended = stats.refreshes;
    let all = ended.stored + ended.discarded + ended.absent + ended.failed + ended.timed_out + ended.abandoned;
    assert_eq!(all, stats.refreshes_started, "every refresh that was started ended once");
}

#[test]
fn o1_what_is_begun_of_a_key_without_a_value_is_counted_as_the_load_that_it_is() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).loader(|_: &u32| 1_u64).build().unwrap();
    assert_eq!((cache.warm([1, 2, 3]), cache.refresh(&4).wait()), (3, Some(Ending::Stored)));
    cache.settle();
    let stats = cache.stats();
    assert_eq!((stats.loads.stored, stats.refreshes_started, stats.refreshes.stored), (4, 0, 0));
    assert_eq!(cache.refresh(&4).wait(), Some(Ending::Stored));
    cache.settle();
    let stats = cache.stats();
    assert_eq!((stats.loads.stored, stats.refreshes_started, stats.refreshes.stored), (4, 1, 1));
}

#[test]
fn o1_an_answer_says_what_the_lookup_was() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let ask = || {
        let answer = cache.lookup(&1).load(|| 1_u64).unwrap();
        (answer.outcome, answer.age, answer.refresh)
    };
    assert_eq!(ask(), (Outcome::Loaded, std::time::Duration::ZERO, RefreshStatus::NotNeeded));
    clock.advance(SECOND);
    assert_eq!(ask(), (Outcome::Hit, SECOND, RefreshStatus::NotNeeded));
    clock.advance(MINUTE);
    assert_eq!(ask(), (Outcome::Stale, MINUTE + SECOND, RefreshStatus::Started));
}

#[test]
fn o1_a_value_that_still_holds_is_called_revalidated_wherever_its_loader_runs() {
    for bound in [None, Some(MINUTE)] {
        let clock = ManualClock::new();
        let mut builder = Cache::<u32, u64>::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE).stale_if_error(10 * MINUTE))
            .clock(clock.clone());
        if let Some(bound) = bound {
            builder = builder.load_timeout(bound);
        }
        let cache = builder.build().unwrap();
        cache.insert(1, 1);
        clock.advance(2 * MINUTE);
        let answer = cache.lookup(&1).load_with(|_| Load::<u64>::NotModified).unwrap();
        assert_eq!((answer.value, answer.outcome), (1, Outcome::Revalidated), "with the bound {bound:?}");
    }
}

#[test]
fn o3_listeners_hear_how_old_each_value_is_that_many_are_given() {
    for bound in [None, Some(MINUTE)] {
        let mut builder = Cache::<u32, u64>::builder().capacity(10).clock(ManualClock::new());
        if let Some(bound) = bound {
            builder = builder.wait_at_most(bound);
        }
        let cache = builder.build().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let listener = move |event: &Event<'_, u32, u64>| {
            if let Event::Lookup { outcome, age, .. } = event {
                hears.lock().unwrap().push((*outcome, *age));
            }
        };
        cache.subscribe(listener).forever();
        let found = cache.get_many_or_load([1], |_| Ok::<_, ()>([(1, 1)]));
        assert_eq!(found.unwrap().len(), 1);
        let expected = vec![(Outcome::Loaded, Some(std::time::Duration::ZERO))];
        assert_eq!(*heard.lock().unwrap(), expected, "with the bound {bound:?}");
    }
}

/// Everything that is told, as one line each.
fn record(cache: &Cache<u32, u64>) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&lines);
    cache
        .subscribe(move |event| {
            let line = match event {
                Event::Lookup { outcome, age, .. } => format!("lookup {} {}", outcome.name(), age.is_some()),
                Event::Load { key, ending, waiters, .. } => format!("load {key} {} {waiters}", ending.name()),
                Event::RefreshStarted { key, .. } => format!("refresh {key}"),
                Event::Refresh { key, ending, .. } => format!("refreshed {key} {}", ending.name()),
                Event::Left { key, value, cause, .. } => format!("left {key} {value} {}", cause.name()),
                Event::NotStored { key, why, .. } => format!("not stored {key} {}", why.name()),
                other => format!("{other:?}"),
            };
            written.lock().unwrap().push(line);
        })
        .forever();
    lines
}

#[test]
fn o2_o3_listeners_hear_of_everything_with_its_reason() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(2)
        .eviction(everfresh::Eviction::Lru)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
        .store_if(|value| *value != 13)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let lines = record(&cache);
    let told = || std::mem::take(&mut *lines.lock().unwrap());
    cache.get(&1);
    assert_eq!(told(), ["lookup miss false"]);
    cache.get_or_load(&1, || 10_u64).unwrap();
    assert_eq!(told(), ["load 1 stored 0", "lookup loaded true"]);
    cache.get(&1);
    assert_eq!(told(), ["lookup hit true"]);
    cache.get_or_load(&2, || Err::<u64, _>("down")).unwrap_err();
    assert_eq!(told(), ["load 2 failed 0", "lookup failed false"]);
    cache.get_or_load(&2, || 13_u64).unwrap();
    assert_eq!(told(), ["not stored 2 rejected", "load 2 rejected 0", "lookup loaded true"]);
    cache.insert(1, 11);
    assert_eq!(told(), ["left 1 10 replaced"]);
    cache.insert(2, 20);
    cache.insert(3, 30);
    assert_eq!(told(), ["left 1 11 evicted"]);
    clock.advance(MINUTE);
    cache.get_or_load(&2, || 21_u64).unwrap();
    assert_eq!(told(), ["refresh 2", "lookup stale true"]);
    hand.run();
    assert_eq!(told(), ["left 2 20 replaced", "refreshed 2 stored"]);
    assert_eq!(cache.remove(&3), Some(30), "stale, and still to be served");
    assert_eq!(told(), ["left 3 30 removed"]);
    clock.advance(MINUTE);
    let _waits = cache.refresh_with(&2, || 22_u64);
    cache.invalidate(&2);
    hand.run();
    assert_eq!(told(), ["refresh 2", "left 2 21 invalidated", "not stored 2 overtaken", "refreshed 2 overtaken"]);
    cache.insert(2, 23);
    clock.advance(MINUTE);
    cache.get_or_load(&2, || 24_u64).unwrap();
    cache.invalidate(&2);
    hand.run();
    let begun_for_nobody = ["refresh 2", "lookup stale true", "left 2 23 invalidated", "refreshed 2 overtaken"];
    assert_eq!(told(), begun_for_nobody, "nothing was made");
}

#[test]
fn o3_a_subscription_ends_with_its_guard_and_a_listeners_panic_harms_nobody() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(2).build().unwrap();
    let lines = record(&cache);
    let heard = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&heard);
    let subscription = cache.subscribe(move |_| *counted.lock().unwrap() += 1);
    cache.subscribe(|_| panic!("a bad listener")).forever();
    cache.get(&1);
    drop(subscription);
    cache.get(&1);
    assert_eq!((*heard.lock().unwrap(), lines.lock().unwrap().len()), (1, 2));
    cache.insert_with(1, 1, Traits::new());
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn o2_every_word_that_is_told_has_a_name_of_its_own() {
    let names =
        [Outcome::Hit, Outcome::Stale, Outcome::Loaded, Outcome::Coalesced, Outcome::Fallback].map(Outcome::name);
    assert_eq!(names, ["hit", "stale", "loaded", "coalesced", "fallback"]);
    let causes = [Cause::Evicted, Cause::Expired, Cause::Replaced, Cause::Removed, Cause::Invalidated].map(Cause::name);
    assert_eq!(causes, ["evicted", "expired", "replaced", "removed", "invalidated"]);
}

#[cfg(feature = "metrics")]
#[test]
fn o3_the_metrics_adapter_counts_and_measures() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let cache: Cache<u32, u64> = Cache::builder().capacity(2).build().unwrap();
        cache.subscribe(everfresh::metrics_listener("prices")).forever();
        cache.get(&1);
        cache.get_or_load(&1, || 1_u64).unwrap();
    });
    let mut names: Vec<String> =
        snapshotter.snapshot().into_vec().into_iter().map(|(key, ..)| key.key().name().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(
        names,
        [
            "everfresh_age_at_serve_seconds",
            "everfresh_load_seconds",
            "everfresh_load_waiters",
            "everfresh_lookups_total"
        ]
    );
}
