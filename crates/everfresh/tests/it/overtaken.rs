//! Invalidation always wins (I1-I3, R4): everything that can befall a key while it is being loaded or refreshed, against
//! every way in which that can end.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use everfresh::{Answer, Cache, Eviction, Lifetime, LoadError, Loaded, ManualClock, Outcome, Traits};

use crate::kit::{Hand, MINUTE, SECOND, poll_once};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Befalls {
    Insert,
    Remove,
    Invalidate,
    Expire,
    Clear,
    ExpireAll,
    Tag,
    ExpireTag,
    Predicate,
    Eviction,
    HardExpiry,
    Close,
    Nothing,
}

const ALL: [Befalls; 13] = [
    Befalls::Insert,
    Befalls::Remove,
    Befalls::Invalidate,
    Befalls::Expire,
    Befalls::Clear,
    Befalls::ExpireAll,
    Befalls::Tag,
    Befalls::ExpireTag,
    Befalls::Predicate,
    Befalls::Eviction,
    Befalls::HardExpiry,
    Befalls::Close,
    Befalls::Nothing,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Well,
    Badly,
    Panicking,
    TooLate,
}

const ENDS: [Ends; 4] = [Ends::Well, Ends::Badly, Ends::Panicking, Ends::TooLate];

const KEY: u32 = 7;
const OLD: u64 = 1;
const NEW: u64 = 2;
const INSERTED: u64 = 50;
const TIMEOUT: std::time::Duration = MINUTE;

type Ending = Arc<Mutex<Option<Ends>>>;

fn cache(clock: &ManualClock, hand: &Hand, ends: Ends) -> Cache<u32, u64> {
    // Long enough to outlast every window, where it is not to run out.
    let timeout = if ends == Ends::TooLate { TIMEOUT } else { 1_000 * MINUTE };
    Cache::builder()
        .capacity(4)
        .eviction(Eviction::Lru)
        .lifetime(Lifetime::ttl(10 * MINUTE).stale_while_revalidate(100 * MINUTE))
        .refresh_timeout(timeout)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap()
}

/// A loader that ends when and how it is told.
async fn load(ending: Ending) -> Result<Loaded<u64>, &'static str> {
    poll_fn(move |_| match *ending.lock().unwrap() {
        None | Some(Ends::TooLate) => Poll::Pending,
        Some(Ends::Well) => Poll::Ready(Ok(Loaded::new(NEW).tag("tag"))),
        Some(Ends::Badly) => Poll::Ready(Err("bad")),
        Some(Ends::Panicking) => panic!("told to"),
    })
    .await
}

fn befall(what: Befalls, cache: &Cache<u32, u64>, clock: &ManualClock) {
    match what {
        Befalls::Insert => cache.insert(KEY, INSERTED),
        Befalls::Remove => drop(cache.remove(&KEY)),
        Befalls::Invalidate => cache.invalidate(&KEY),
        Befalls::Expire => cache.expire(&KEY),
        Befalls::Clear => cache.clear(),
        Befalls::ExpireAll => cache.expire_all(),
        Befalls::Tag => cache.invalidate_tag("tag"),
        Befalls::ExpireTag => cache.expire_tag("tag"),
        Befalls::Predicate => cache.invalidate_matching(|key, _| *key == KEY),
        Befalls::Eviction => (100..104).for_each(|key| cache.insert(key, 0)),
        Befalls::HardExpiry => clock.advance(200 * MINUTE),
        Befalls::Close => assert_eq!(close_now(cache), cache_running(cache)),
        Befalls::Nothing => {}
    }
}

/// Closes without waiting, which a deadline that has passed already asks for.
fn close_now(cache: &Cache<u32, u64>) -> usize {
    cache.close(std::time::Duration::ZERO)
}

fn cache_running(cache: &Cache<u32, u64>) -> usize {
    cache.close(std::time::Duration::ZERO)
}

fn what_stands(cache: &Cache<u32, u64>) -> Option<(u64, Outcome)> {
    cache.lookup(&KEY).peek().map(|Answer { value, outcome, .. }| (value, outcome))
}

#[test]
fn i1_whatever_befalls_a_key_while_it_is_loaded_nothing_old_reappears() {
    for what in ALL {
        for ends in ENDS {
            let (clock, hand) = (ManualClock::new(), Hand::default());
            let cache = cache(&clock, &hand, ends);
            let ending = Ending::default();
            let told = Arc::clone(&ending);
            // Its time is bounded where it is to run out, so it runs in the hand; else here.
            let lookup = cache.lookup(&KEY);
            let lookup = if ends == Ends::TooLate { lookup.load_timeout(TIMEOUT) } else { lookup };
            let mut caller = Box::pin(lookup.load_async(move || load(told)));
            assert!(poll_once(caller.as_mut()).is_pending());
            hand.run();
            befall(what, &cache, &clock);
            *ending.lock().unwrap() = Some(ends);
            if ends == Ends::TooLate {
                clock.advance(TIMEOUT);
            }
            hand.run();
            let got = catch_unwind(AssertUnwindSafe(|| poll_once(caller.as_mut())));
            let case = format!("{what:?} befalls a load that ends {ends:?}");
            match (ends, got) {
                (Ends::Well, Ok(Poll::Ready(Ok(answer)))) => assert_eq!(answer.value, NEW, "{case}"),
                (Ends::Badly, Ok(Poll::Ready(Err(LoadError::Load(error))))) => assert_eq!(*error, "bad", "{case}"),
                (Ends::Panicking, Err(_)) => {}
                (Ends::TooLate, Ok(Poll::Ready(Err(error)))) => assert!(error.is_timeout(), "{case}"),
                (_, other) => panic!("{case}: the caller got {:?}", other.is_ok()),
            }
            drop(caller);
            let expected = match (what, ends) {
                (Befalls::Insert, _) => Some((INSERTED, Outcome::Hit)),
                (Befalls::Remove | Befalls::Invalidate | Befalls::Clear | Befalls::Tag | Befalls::Predicate, _) => None,
                (Befalls::Expire | Befalls::ExpireAll | Befalls::ExpireTag, Ends::Well) => Some((NEW, Outcome::Stale)),
                (_, Ends::Well) => Some((NEW, Outcome::Hit)),
                _ => None,
            };
            assert_eq!(what_stands(&cache), expected, "{case}");
            assert_eq!(cache.stats().lookups(), if ends == Ends::Panicking { 0 } else { 1 }, "{case}");
            // The slot is free: the next one loads, if there is nothing to serve.
            let next = cache.get_or_load(&KEY, || 99_u64).unwrap();
            assert_eq!(next, expected.map_or(99, |(value, _)| value), "{case}");
        }
    }
}

#[test]
fn r4_whatever_befalls_an_entry_while_it_is_refreshed_nothing_old_reappears() {
    for what in ALL {
        for ends in ENDS {
            let (clock, hand) = (ManualClock::new(), Hand::default());
            let cache = cache(&clock, &hand, ends);
            cache.insert_with(KEY, OLD, Traits::new().tag("tag"));
            clock.advance(10 * MINUTE + SECOND);
            let ending = Ending::default();
            let told = Arc::clone(&ending);
            let mut reader = Box::pin(cache.lookup(&KEY).load_async(move || load(told)));
            let Poll::Ready(Ok(answer)) = poll_once(reader.as_mut()) else { panic!("a stale reader waits") };
            assert_eq!((answer.value, answer.outcome), (OLD, Outcome::Stale));
            drop(reader);
            hand.run();
            befall(what, &cache, &clock);
            *ending.lock().unwrap() = Some(ends);
            if ends == Ends::TooLate {
                clock.advance(TIMEOUT);
            }
            hand.run();
            assert_eq!(hand.waiting(), 0, "the refresh has ended");
            let case = format!("{what:?} befalls a refresh that ends {ends:?}");
            let ended_well = ends == Ends::Well;
            let expected = match what {
                Befalls::Insert => Some((INSERTED, Outcome::Hit)),
                Befalls::Remove | Befalls::Invalidate | Befalls::Clear | Befalls::Tag | Befalls::Predicate => None,
                Befalls::Eviction => None,
                Befalls::HardExpiry if !ended_well => None,
                Befalls::Expire | Befalls::ExpireAll | Befalls::ExpireTag if ended_well => Some((NEW, Outcome::Stale)),
                _ if ended_well => Some((NEW, Outcome::Hit)),
                _ => Some((OLD, Outcome::Stale)),
            };
            assert_eq!(what_stands(&cache), expected, "{case}");
            let refreshes = cache.stats().refreshes;
            let overtaken = matches!(
                what,
                Befalls::Insert
                    | Befalls::Remove
                    | Befalls::Invalidate
                    | Befalls::Clear
                    | Befalls::Tag
                    | Befalls::Predicate
                    | Befalls::Eviction
            );
            if overtaken && ends == Ends::Well {
                assert_eq!((refreshes.stored, refreshes.discarded), (0, 1), "{case}");
            }
            let counted = refreshes.stored
                + refreshes.discarded
                + refreshes.failed
                + refreshes.panicked
                + refreshes.timed_out
                + refreshes.abandoned;
            assert!(counted <= 1, "{case}: one refresh has one end, not {refreshes:?}");
        }
    }
}

#[test]
fn r4_the_failure_of_a_refresh_that_was_overtaken_sets_no_pause() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand, Ends::Badly);
    cache.insert(KEY, OLD);
    clock.advance(10 * MINUTE);
    assert_eq!(cache.get_or_load(&KEY, || Err::<u64, _>("bad")).unwrap(), OLD);
    cache.insert(KEY, INSERTED);
    hand.run();
    clock.advance(10 * MINUTE);
    let answer = cache.lookup(&KEY).load(|| NEW).unwrap();
    assert_eq!((answer.value, answer.refresh), (INSERTED, everfresh::RefreshStatus::Started));
}
