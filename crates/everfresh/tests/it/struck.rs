//! What an invalidation strikes, and when: values being loaded, tags forgotten meanwhile, entries pushed out.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    Cache, Cause, Ending, Event, Eviction, Lifetime, Load, Loaded, ManualClock, NotStored, Outcome, RefreshStatus,
    Traits,
};

use crate::kit::{Count, MINUTE, SECOND, poll_once, within_a_minute};
use crate::support::{Bench, Log, Told, bench};

#[test]
fn m1_a_value_that_still_holds_but_became_too_heavy_leaves_and_is_told() {
    let heavy = Arc::new(AtomicU64::new(10));
    let weight = Arc::clone(&heavy);
    let clock = ManualClock::new();
    let builder = Cache::builder().weight_capacity(100).weigher(move |_, _| weight.load(Ordering::Relaxed));
    let lifetime = Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE);
    let cache: Cache<u32, u64> = builder.lifetime(lifetime).clock(clock.clone()).build().unwrap();
    cache.insert(1, 1);
    clock.advance(20 * SECOND);
    heavy.store(101, Ordering::Relaxed);
    assert_eq!(cache.get_or_load(&1, || Load::<u64>::NotModified).unwrap(), 1, "the caller gets it");
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.weight, stats.left.replaced), (0, 0, 1));
    assert_eq!((stats.not_stored.too_heavy, stats.loads.discarded, stats.loads.not_modified), (1, 1, 0));
}

#[test]
fn i1_an_insert_too_heavy_to_be_kept_takes_the_old_value_with_it() {
    let cache: Cache<u32, u64> = Cache::builder().weight_capacity(100).weigher(|_, value| *value).build().unwrap();
    let log = Log::of(&cache);
    cache.insert(1, 10);
    cache.insert(1, 101);
    assert_eq!(cache.get(&1), None, "10 is older than what was inserted after it");
    assert_eq!((cache.weight(), log.count(&Told::Left(Cause::Replaced))), (0, 1));
    cache.insert(1, 100);
    assert_eq!((cache.get(&1), cache.weight()), (Some(100), 100));
}

#[test]
fn i1_who_comes_after_an_invalidation_does_not_join_the_load_that_began_before() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 5] = [
        ("remove", |cache| assert_eq!(cache.remove(&1), None)),
        ("invalidate", |cache| cache.invalidate(&1)),
        ("clear", |cache| cache.clear()),
        ("tag", |cache| cache.invalidate_tag("tag")),
        ("predicate", |cache| cache.invalidate_matching(|_, _| true)),
    ];
    for (name, befall) in befalls {
        let Bench { cache, .. } = bench(|it| it);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut before = Box::pin(cache.get_or_load_async(&1, move || async move {
            opened.notified().await;
            Loaded::new(1_u64).tag("tag")
        }));
        let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { 0_u64 }));
        assert!(poll_once(before.as_mut()).is_pending() && poll_once(waiter.as_mut()).is_pending());
        befall(&cache);
        let mut after = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
        // A tag is known only when the value is there: then whoever came later starts over.
        let early = poll_once(after.as_mut());
        assert_eq!(early.is_ready(), name != "tag", "{name}");
        gate.notify_one();
        assert!(matches!(poll_once(before.as_mut()), Poll::Ready(Ok(1))), "{name}");
        assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(1))), "{name}: who waited before gets it");
        let late = if early.is_ready() { early } else { poll_once(after.as_mut()) };
        assert!(matches!(late, Poll::Ready(Ok(2))), "{name}");
        assert_eq!(cache.get(&1), Some(2), "{name}");
    }
}

#[test]
fn i2_invalidate_and_expire_by_key_tag_predicate_and_all() {
    type Strike = fn(&Cache<u32, u64>);
    // Key 1 bears tag a, 2 bears b, 3 both, 4 none. Which of them are struck, and are they gone or merely stale?
    let strikes: [(&str, Strike, [bool; 4], bool); 8] = [
        ("invalidate", |cache| cache.invalidate(&2), [false, true, false, false], true),
        ("invalidate_tag", |cache| cache.invalidate_tag("a"), [true, false, true, false], true),
        (
            "invalidate_matching",
            |cache| cache.invalidate_matching(|key, value| key + *value as u32 > 15),
            [false, false, false, true],
            true,
        ),
        ("clear", |cache| cache.clear(), [true; 4], true),
        ("expire", |cache| cache.expire(&2), [false, true, false, false], false),
        ("expire_tag", |cache| cache.expire_tag("b"), [false, true, true, false], false),
        ("expire_matching", |cache| cache.expire_matching(|key, _| key % 2 == 0), [false, true, false, true], false),
        ("expire_all", |cache| cache.expire_all(), [true; 4], false),
    ];
    for (name, strike, struck, gone) in strikes {
        for window in [false, true] {
            let lifetime = Lifetime::forever();
            let lifetime = if window { lifetime.stale_while_revalidate(MINUTE) } else { lifetime };
            let Bench { cache, hand, .. } = bench(|it| it.lifetime(lifetime));
            cache.insert_with(1, 1, Traits::new().tag("a"));
            cache.insert_with(2, 2, Traits::new().tag("b"));
            cache.insert_with(3, 3, Traits::new().tags(["a", "b"]));
            cache.insert(4, 12);
            strike(&cache);
            for (key, struck) in (1..5).zip(struck) {
                let old = if key == 4 { 12 } else { u64::from(key) };
                let answer = cache.lookup(&key).load(|| 99_u64).unwrap();
                let expected = match (struck, gone || !window) {
                    (false, _) => (old, Outcome::Hit, RefreshStatus::NotNeeded),
                    (true, true) => (99, Outcome::Loaded, RefreshStatus::NotNeeded),
                    (true, false) => (old, Outcome::Stale, RefreshStatus::Started),
                };
                assert_eq!(
                    (answer.value, answer.outcome, answer.refresh),
                    expected,
                    "{name}, key {key}, window {window}"
                );
            }
            hand.run();
            for (key, struck) in (1..5).zip(struck) {
                let answer = cache.lookup(&key).peek().unwrap();
                assert_eq!((answer.outcome, answer.value == 99), (Outcome::Hit, struck), "{name}, key {key}");
            }
        }
    }
}

#[test]
fn i2_a_value_that_still_holds_is_stale_if_it_was_expired_meanwhile() {
    let Bench { clock, hand, cache } = bench(|it| it);
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    let _ = cache.lookup(&1).load_with(|_| Load::<u64>::NotModified).unwrap();
    cache.expire(&1);
    hand.run();
    assert_eq!(cache.stats().refreshes.not_modified, 1);
    let after = cache.lookup(&1).peek().map(|answer| (answer.outcome, answer.age));
    assert_eq!(after, Some((Outcome::Stale, Duration::ZERO)));
}

#[test]
fn i3_who_comes_after_a_tag_was_struck_and_forgotten_is_not_given_what_bears_it() {
    let Bench { cache, .. } = bench(|it| it);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut leads = Box::pin(cache.get_or_load_async(&1, move || async move {
        opened.notified().await;
        Loaded::new(1_u64).tag("tag 7")
    }));
    let mut before = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
    assert!(poll_once(leads.as_mut()).is_pending() && poll_once(before.as_mut()).is_pending());
    (0..1_000).for_each(|number| cache.invalidate_tag(&format!("tag {number}")));
    let mut waits = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
    assert!(poll_once(waits.as_mut()).is_pending());
    gate.notify_one();
    assert!(matches!(poll_once(leads.as_mut()), Poll::Ready(Ok(1))));
    assert!(matches!(poll_once(before.as_mut()), Poll::Ready(Ok(1))), "it came before the strike");
    assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Ok(2))), "it came after the strike");
}

#[test]
fn i3_who_comes_between_two_strikes_of_a_tag_is_not_given_what_began_before_the_first() {
    let Bench { cache, clock, hand } = bench(|it| it);
    // Its loader says that the old value still holds, or makes a new one; both bear the tag.
    for answer in [|| Load::NotModified, || Loaded::new(1_u64).tag("struck").into()] as [fn() -> Load<u64>; 2] {
        cache.insert_with(1, 1, Traits::new().tag("struck"));
        clock.advance(11 * SECOND);
        let (go, told) = tokio::sync::oneshot::channel::<()>();
        let load = move |_| async move {
            let _ = told.await;
            answer()
        };
        let mut first = Box::pin(cache.lookup(&1).bypass().load_async_with(load));
        assert!(poll_once(first.as_mut()).is_pending());
        cache.invalidate_tag("struck");
        let mut between = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
        assert!(poll_once(between.as_mut()).is_pending(), "it may bring something else");
        cache.invalidate_tag("struck");
        go.send(()).unwrap();
        assert!(matches!(poll_once(first.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 1));
        assert!(matches!(poll_once(between.as_mut()), Poll::Ready(Ok(2))), "that was struck before it came");
        assert_eq!(cache.get(&1), Some(2));
    }
    assert_eq!(hand.waiting(), 0);
}

#[test]
fn i3_what_is_made_after_a_strike_is_not_touched_by_it() {
    let Bench { cache, .. } = bench(|it| it);
    for _ in 0..300 {
        cache.invalidate_tag("tag");
        cache.clear();
        cache.insert_with(1, 1, Traits::new().tag("tag"));
        assert_eq!(cache.get(&1), Some(1));
        cache.expire_tag("tag");
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Stale);
        cache.insert_with(1, 2, Traits::new().tag("tag"));
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Hit);
    }
}

#[test]
fn i3_a_cleared_cache_is_empty_also_to_those_who_watch_it_being_swept() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(1_000).build().unwrap();
        (0..1_000).for_each(|key| cache.insert(key, 1));
        let (seen, gone) = (Arc::new(Mutex::new(Vec::new())), Count::default());
        let (lens, left, watched) = (Arc::clone(&seen), gone.clone(), cache.clone());
        cache
            .subscribe(move |event: &Event<'_, u32, u64>| {
                if let Event::Left { .. } = event {
                    lens.lock().unwrap().push(watched.len());
                    left.add();
                }
            })
            .forever();
        cache.clear();
        assert_eq!((cache.len(), cache.is_empty(), cache.stats().entries), (0, true, 0));
        gone.reach(1_000);
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|len| *len == 0), "as many as {:?} while it was swept", seen.iter().max());
    });
}

#[test]
fn t2_reading_many_at_once_is_a_read_too() {
    let Bench { clock, cache, .. } = bench(|it| it.lifetime(Lifetime::forever().time_to_idle(10 * SECOND)));
    cache.insert(1, 1);
    for _ in 0..3 {
        clock.advance(9 * SECOND);
        let found = cache.get_many_or_load([1], |_| Ok::<[(u32, u64); 0], &str>([])).unwrap();
        assert_eq!(found.get(&1), Some(&1));
    }
}

#[test]
fn t5_what_a_loader_brings_and_nobody_may_serve_is_not_stored_and_told() {
    let Bench { cache, .. } = bench(|it| it);
    let log = Log::of(&cache);
    let stale_from_birth = || Loaded::new(1_u64).lifetime(Lifetime::ttl(Duration::ZERO));
    assert_eq!(cache.get_or_load(&1, stale_from_birth).unwrap(), 1, "the caller gets it");
    assert_eq!((cache.stats().entries, cache.stats().not_stored.not_servable), (0, 1));
    assert_eq!(log.count(&Told::Load(Ending::Discarded(everfresh::NotStored::NotServable))), 1);
}

#[test]
fn t5_what_nobody_may_serve_takes_the_older_value_with_it() {
    let unservable = || Loaded::new(2_u64).lifetime(Lifetime::ttl(Duration::ZERO));
    let Bench { cache, clock, hand } = bench(|it| it);
    let log = Log::of(&cache);
    cache.insert(1, 1);
    assert_eq!(cache.lookup(&1).bypass().load(unservable).unwrap().value, 2);
    assert_eq!(cache.get(&1), None, "the older value was given to who came after the newer");
    assert_eq!(log.count(&Told::Left(Cause::Replaced)), 1);

    cache.insert(1, 1);
    clock.advance(11 * SECOND);
    assert_eq!(cache.get_or_load(&1, unservable).unwrap(), 1);
    hand.run();
    assert_eq!(log.count(&Told::Refresh(Ending::Discarded(NotStored::NotServable))), 1);
    assert_eq!(cache.get(&1), None, "the stale value would be refreshed by each reader, and stay");

    cache.insert(1, 1);
    clock.advance(11 * SECOND);
    assert_eq!(cache.get_or_load(&1, unservable).unwrap(), 1);
    cache.insert(1, 3);
    hand.run();
    assert_eq!(cache.get(&1), Some(3), "that is newer (contract R4)");
}

#[test]
fn i1_what_was_struck_while_it_was_loaded_takes_no_room_and_is_told_to_be_overtaken() {
    type Strike = fn(&Cache<u32, u64>);
    let strikes: [(&str, Strike); 2] = [("clear", |cache| cache.clear()), ("tag", |cache| cache.invalidate_tag("tag"))];
    for (name, strike) in strikes {
        let Bench { cache, .. } = bench(|it| it);
        let inner = cache.clone();
        let load = move || {
            strike(&inner);
            Loaded::new(1_u64).tag("tag")
        };
        assert_eq!(cache.get_or_load(&1, load).unwrap(), 1);
        let stats = cache.stats();
        assert_eq!((stats.weight, stats.loads.stored, stats.not_stored.overtaken), (0, 0, 1), "{name}");
    }
}

#[test]
fn i1_an_absence_that_was_overtaken_takes_nothing_newer_away() {
    let Bench { cache, .. } = bench(|it| it.negative_ttl(MINUTE));
    cache.insert(1, 1);
    let inner = cache.clone();
    let load = move || {
        inner.insert(1, 2);
        None::<u64>
    };
    assert!(cache.lookup(&1).bypass().load(load).unwrap_err().is_absent());
    assert_eq!((cache.get(&1), cache.stats().loads.discarded), (Some(2), 1));
}

#[test]
fn m4_a_remembered_absence_is_reclaimed_though_nobody_touches_it() {
    let clock = ManualClock::new();
    let cache: Cache<Arc<u32>, u64> =
        Cache::builder().capacity(10).negative_ttl(MINUTE).clock(clock.clone()).build().unwrap();
    let key = Arc::new(1);
    assert!(cache.get_or_load(&key, || None::<u64>).is_err());
    assert_eq!(Arc::strong_count(&key), 2, "it is remembered");
    (0..20).for_each(|_| clock.advance(MINUTE / 10));
    assert_eq!(Arc::strong_count(&key), 1);
}

#[test]
fn i1_what_still_holds_is_not_stored_if_it_is_struck_or_pushed_out_while_it_is_weighed() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 3] = [
        ("clear", |cache| cache.clear()),
        ("insert", |cache| cache.insert_with(1, 2, Traits::new().weight(1))),
        ("eviction", |cache| cache.insert_with(2, 2, Traits::new().weight(10))),
    ];
    for (name, befall) in befalls {
        let befalls_now = Arc::new(Mutex::new(None::<Cache<u32, u64>>));
        let told = Arc::clone(&befalls_now);
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .weight_capacity(10)
            .eviction(Eviction::Lru)
            .weigher(move |_, _| {
                let cache = told.lock().unwrap().take();
                cache.iter().for_each(befall);
                1
            })
            .lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        clock.advance(10 * SECOND);
        *befalls_now.lock().unwrap() = Some(cache.clone());
        assert_eq!(cache.get_or_load(&1, || Load::<u64>::NotModified).unwrap(), 1, "{name}: the caller gets it");
        assert_eq!(cache.peek(&1), (name == "insert").then_some(2), "{name}");
        let stats = cache.stats();
        assert_eq!((stats.loads.not_modified, stats.loads.discarded), (0, 1), "{name}");
        assert_eq!(
            (stats.not_stored.overtaken, stats.not_stored.entry_gone),
            if name == "eviction" { (0, 1) } else { (1, 0) }
        );
    }
}

#[test]
fn i3_who_joins_after_the_tag_was_struck_while_what_still_holds_is_weighed_asks_anew() {
    type Joining = Pin<Box<dyn Future<Output = u64> + Send>>;
    let told = Arc::new(Mutex::new((None::<Cache<u32, u64>>, None::<Joining>)));
    let in_weigher = Arc::clone(&told);
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(10)
        .weigher(move |_, _| {
            let cache = in_weigher.lock().unwrap().0.take();
            if let Some(cache) = cache {
                cache.invalidate_tag("struck");
                // In another thread: this one is within the load.
                let joins = std::thread::spawn(|| {
                    let mut joins: Joining =
                        Box::pin(async move { cache.get_or_load_async(&1, || async { 2_u64 }).await.unwrap() });
                    assert!(poll_once(joins.as_mut()).is_pending());
                    joins
                });
                let joins = joins.join().unwrap();
                in_weigher.lock().unwrap().1 = Some(joins);
            }
            1
        })
        .lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE))
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert_with(1, 1, Traits::new().tag("struck"));
    clock.advance(10 * SECOND);
    told.lock().unwrap().0 = Some(cache.clone());
    assert_eq!(cache.get_or_load(&1, || Load::<u64>::NotModified).unwrap(), 1, "who asked before gets it");
    let mut joined = told.lock().unwrap().1.take().expect("it was weighed");
    assert!(matches!(poll_once(joined.as_mut()), Poll::Ready(2)));
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn m4_what_was_declared_stale_while_it_was_loaded_is_reclaimed_at_its_end() {
    type Expire = fn(&Cache<u32, u64>);
    let expiries: [(&str, Expire); 2] = [("all", |cache| cache.expire_all()), ("tag", |cache| cache.expire_tag("tag"))];
    for (name, expire) in expiries {
        let Bench { clock, cache, .. } =
            bench(|it| it.lifetime(Lifetime::forever().stale_while_revalidate(10 * SECOND)));
        let (same, moved) = (cache.clone(), clock.clone());
        let load = move || {
            expire(&same);
            // The sweep that looks at all is over before there is anything to see.
            moved.advance(SECOND);
            Loaded::new(1).tag("tag")
        };
        cache.get_or_load(&1, load).unwrap();
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Stale, "{name}");
        clock.advance(10 * SECOND);
        assert_eq!(cache.peek(&1), None, "{name}");
        clock.advance(MINUTE);
        assert_eq!(cache.weight(), 0, "{name}: without a ttl it took its room for ever");
    }
}

#[test]
fn o2_what_still_holds_but_was_expired_meanwhile_without_a_window_is_told_as_not_servable() {
    let Bench { hand, cache, .. } = bench(|it| it.lifetime(Lifetime::ttl(10 * SECOND)));
    cache.insert(1, 1);
    let same = cache.clone();
    let renewing = cache.refresh_with(&1, move || {
        same.expire(&1);
        Load::<u64>::NotModified
    });
    hand.run();
    assert_eq!(renewing.wait(), Some(Ending::Discarded(NotStored::NotServable)));
    assert_eq!((cache.peek(&1), cache.stats().not_stored.not_servable), (None, 1));
}
