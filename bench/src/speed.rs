//! How fast, as ratios: all peers in turn, round after round, on the same keys.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfresh::{Cache, Lifetime};

use crate::keys::{scatter, spread, zipf};
use crate::peer::{self, Key, Peer};
use crate::race::{Contestant, Course, Row, race};

const CAPACITY: usize = 100_000;
const RESIDENT: usize = 80_000;
const UNIVERSE: usize = 1_000_000;
/// A cache that is small enough for everfresh to count how often keys come.
const SMALL: usize = 10_000;

fn filled(names: &[&str]) -> Vec<(String, Box<dyn Peer<u64>>)> {
    filled_to(names, CAPACITY)
}

/// Peers of this capacity, four fifths full.
fn filled_to(names: &[&str], capacity: usize) -> Vec<(String, Box<dyn Peer<u64>>)> {
    let resident = (capacity / 10 * 8) as Key;
    let make = |name: &&str| {
        let peer = peer::make::<u64>(name, capacity).expect("a known peer");
        (0..resident).for_each(|rank| peer.insert(scatter(rank), rank));
        // Some admit by frequency, some with a delay: ask until all are in.
        for _ in 0..20 {
            let missing: Vec<Key> = (0..resident).filter(|rank| peer.get(scatter(*rank)).is_none()).collect();
            missing.iter().for_each(|rank| peer.insert(scatter(*rank), *rank));
            if missing.is_empty() {
                break;
            }
        }
        ((*name).to_owned(), peer)
    };
    names.iter().map(make).collect()
}

/// All rows whose name contains `only`.
pub fn run(course: Course, only: &str) -> Vec<Row> {
    let each = course.each;
    let mut rows = Vec::new();
    let wanted = |name: &str| name.contains(only);
    for threads in [1, 2] {
        let course = Course { threads, ..course };
        let mut done = |row: Row| {
            row.print();
            rows.push(row);
        };
        if wanted("hit") {
            let keys: Vec<_> = (0..threads as u64).map(|seed| spread(zipf(RESIDENT, 0.99, each, seed))).collect();
            let peers = filled(peer::ALL);
            done(race("hit", course, &on_keys(&peers, &keys, |peer, keys| peer.read_all(keys), |name| name != "scc")));
        }
        if wanted("hot") && threads > 1 {
            let keys = vec![vec![scatter(3); each]; threads];
            let peers = filled(peer::ALL);
            done(race("hot", course, &on_keys(&peers, &keys, |peer, keys| peer.read_all(keys), |_| true)));
        }
        if wanted("str") {
            done(strings(course));
        }
        let universe: Vec<_> = (0..threads as u64).map(|seed| spread(zipf(UNIVERSE, 0.99, each, 100 + seed))).collect();
        let writers: Vec<&str> = peer::ALL.iter().copied().filter(|name| *name != "fibre-swr").collect();
        if wanted("mix") {
            let peers = filled(&writers);
            done(race("mix", course, &on_keys(&peers, &universe, |peer, keys| peer.mix_all(keys), |_| false)));
        }
        if wanted("readthrough") {
            let peers = filled(&writers);
            let work = on_keys(&peers, &universe, |peer, keys| peer.read_through_all(keys), |_| false);
            done(race("readthrough", course, &work));
        }
        if wanted("small") {
            let keys: Vec<_> =
                (0..threads as u64).map(|seed| spread(zipf(10 * SMALL, 0.99, each, 200 + seed))).collect();
            let peers = filled_to(&writers, SMALL);
            done(race("small mix", course, &on_keys(&peers, &keys, |peer, keys| peer.mix_all(keys), |_| false)));
            let peers = filled_to(&writers, SMALL);
            let work = on_keys(&peers, &keys, |peer, keys| peer.read_through_all(keys), |_| false);
            done(race("small readthrough", course, &work));
        }
        if wanted("load") {
            let peers = filled(&["everfresh", "quick_cache", "moka"]);
            let work = on_keys(&peers, &universe, |peer, keys| peer.load_all(keys), |_| true);
            done(race("load", course, &work));
        }
        if wanted("churn") {
            done(churn(course));
        }
        if wanted("macro") {
            crate::functions::rows(course).into_iter().for_each(&mut done);
        }
        if wanted("stale") {
            done(stale(course));
        }
    }
    rows
}

fn on_keys<'a>(
    peers: &'a [(String, Box<dyn Peer<u64>>)],
    keys: &'a [Vec<Key>],
    work: impl Fn(&dyn Peer<u64>, &[Key]) -> usize + Sync + Copy + 'a,
    all_hit: impl Fn(&str) -> bool,
) -> Vec<Contestant<'a>> {
    let contestant = |(name, peer): &'a (String, Box<dyn Peer<u64>>)| -> Contestant<'a> {
        (name.clone(), Box::new(move |thread| work(&**peer, &keys[thread])), all_hit(name))
    };
    peers.iter().map(contestant).collect()
}

fn strings(course: Course) -> Row {
    let names: Vec<String> = (0..RESIDENT as Key).map(|rank| format!("product:{:016x}", scatter(rank))).collect();
    let keys: Vec<_> = (0..course.threads as u64).map(|seed| zipf(RESIDENT, 0.99, course.each, seed)).collect();
    let peers: Vec<_> = peer::STRINGS
        .iter()
        .map(|name| {
            let peer = peer::make_str(name, CAPACITY).expect("a known peer");
            for _ in 0..20 {
                let missing: Vec<&String> = names.iter().filter(|name| peer.get(name).is_none()).collect();
                missing.iter().for_each(|name| peer.insert((*name).clone(), std::sync::Arc::new([7; 256])));
                if missing.is_empty() {
                    break;
                }
            }
            (*name, peer)
        })
        .collect();
    let (names, keys) = (&names, &keys);
    let contestants: Vec<Contestant<'_>> = peers
        .iter()
        .map(|(name, peer)| -> Contestant<'_> {
            ((*name).to_owned(), Box::new(move |thread| peer.read_all(names, &keys[thread])), true)
        })
        .collect();
    race("str", course, &contestants)
}

fn churn(course: Course) -> Row {
    let writers: Vec<&str> =
        peer::ALL.iter().copied().filter(|name| !matches!(*name, "fibre-swr" | "papaya")).collect();
    let peers = filled(&writers);
    let next = AtomicU64::new(1 << 40);
    let (next, each) = (&next, course.each);
    let contestants: Vec<Contestant<'_>> = peers
        .iter()
        .map(|(name, peer)| -> Contestant<'_> {
            let work = move |_thread: usize| {
                let first = next.fetch_add(each as u64, Ordering::Relaxed);
                let mut done = 0;
                // In pieces, so that making the keys stays in the cache of the processor.
                for start in (first..first + each as u64).step_by(1024) {
                    let keys: Vec<Key> = (start..(start + 1024).min(first + each as u64)).map(scatter).collect();
                    done += peer.write_all(&keys);
                }
                done
            };
            (name.clone(), Box::new(work), true)
        })
        .collect();
    race("churn", course, &contestants)
}

/// A stale hit that starts no refresh, because one runs or because the key is left alone, beside a fresh one; by the
/// system's clock, as nearly every cache has it.
fn stale(course: Course) -> Row {
    let minute = Duration::from_secs(60);
    let make = |ttl| -> Cache<Key, u64, ahash::RandomState> {
        Cache::builder()
            .capacity(CAPACITY)
            .lifetime(Lifetime::ttl(ttl).stale_while_revalidate(1_000 * minute))
            .refresh_timeout(None)
            .backoff(1_000 * minute, 1_000 * minute)
            .max_refreshes(1)
            .hasher(ahash::RandomState::new())
            .build()
            .expect("the choices make sense")
    };
    let moment = Duration::from_millis(1);
    let (fresh, running, backing_off) = (make(60 * minute), make(moment), make(moment));
    [&fresh, &running, &backing_off].iter().for_each(|cache| cache.insert(0, 1));
    // Far from its end.
    std::thread::sleep(100 * moment);
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let hang = move || {
        let _ = held.lock().expect("only this loader takes it").recv();
        2_u64
    };
    running.get_or_load(&0, hang).expect("a stale value");
    backing_off.get_or_load(&0, || Err::<u64, _>("down")).expect("a stale value");
    while backing_off.stats().refreshes.failed == 0 {
        std::thread::yield_now();
    }
    let read = |cache: &Cache<Key, u64, ahash::RandomState>| {
        (0..course.each).filter(|_| cache.get_or_load(&0, || 3_u64).is_ok()).count()
    };
    let contestants: Vec<Contestant<'_>> = vec![
        ("fresh".into(), Box::new(|_| read(&fresh)), true),
        ("one runs".into(), Box::new(|_| read(&running)), true),
        ("backing off".into(), Box::new(|_| read(&backing_off)), true),
    ];
    let row = race("stale", course, &contestants);
    drop(hold);
    row
}
