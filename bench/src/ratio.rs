//! How often the cache has what is asked for, on recorded traces.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::thread;

use crate::keys::{median, scatter, spread, zipf};
use crate::peer::{self, BOUNDED, Key};

/// A named trace.
pub struct Trace {
    pub name: String,
    pub keys: Vec<Key>,
}

/// The traces of a folder: files of little-endian 64-bit keys that end in `.u64le`.
pub fn read(folder: &Path) -> Result<Vec<Trace>, String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}; give a folder of .u64le files", folder.display()))?;
    let mut traces = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "u64le") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if bytes.len() % 8 != 0 {
            return Err(format!("{}: its length is no multiple of 8; is it cut off?", path.display()));
        }
        let keys = bytes.as_chunks::<8>().0.iter().map(|chunk| Key::from_le_bytes(*chunk)).collect();
        traces.push(Trace { name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), keys });
    }
    traces.sort_by(|one, other| one.name.cmp(&other.name));
    if traces.is_empty() { Err(format!("{}: no .u64le file in it", folder.display())) } else { Ok(traces) }
}

/// What stands in where there are no recordings: popularity, a scan through it, a loop.
pub fn made() -> Vec<Trace> {
    let popular = spread(zipf(100_000, 0.9, 500_000, 1));
    let mut scanned = popular.clone();
    scanned.chunks_mut(50_000).enumerate().for_each(|(part, chunk)| {
        chunk
            .iter_mut()
            .skip(40_000)
            .enumerate()
            .for_each(|(at, key)| *key = scatter((part * 10_000 + at) as Key + (1 << 40)));
    });
    let looped = (0..500_000).map(|at| scatter(at % 10_000)).collect();
    [("zipf", popular), ("zipf+scan", scanned), ("loop", looped)]
        .map(|(name, keys)| Trace { name: name.into(), keys })
        .into()
}

/// Hit ratios of all peers at one capacity of one trace, in percent.
pub struct Point {
    pub trace: String,
    pub capacity: usize,
    pub optimum: f64,
    pub ratios: Vec<(&'static str, f64)>,
}

impl Point {
    pub fn of(&self, peer: &str) -> f64 {
        self.ratios.iter().find(|(name, _)| *name == peer).map_or(f64::NAN, |(_, ratio)| *ratio)
    }

    fn best(&self) -> f64 {
        self.ratios.iter().filter(|(name, _)| *name != "everfresh").map(|(_, ratio)| *ratio).fold(0.0, f64::max)
    }
}

fn hits(peer: &str, capacity: usize, keys: &[Key]) -> f64 {
    let cache = peer::make::<u64>(peer, capacity).expect("a known peer");
    100.0 * cache.read_through_all(keys) as f64 / keys.len() as f64
}

/// Belady's optimum with bypass: keeps what is asked for again soonest.
fn optimum(capacity: usize, keys: &[Key]) -> f64 {
    let mut next_use = vec![usize::MAX; keys.len()];
    let mut seen: HashMap<Key, usize> = HashMap::new();
    for (at, key) in keys.iter().enumerate().rev() {
        if let Some(later) = seen.insert(*key, at) {
            next_use[at] = later;
        }
    }
    // Held keys by their next use, which is unique; the furthest goes first.
    let mut held: BTreeSet<(usize, Key)> = BTreeSet::new();
    let mut hits = 0;
    for (at, key) in keys.iter().enumerate() {
        hits += usize::from(held.remove(&(at, *key)));
        if next_use[at] != usize::MAX {
            held.insert((next_use[at], *key));
            if held.len() > capacity {
                held.pop_last();
            }
        }
    }
    100.0 * hits as f64 / keys.len() as f64
}

/// Measures all points, two at a time.
pub fn measure(traces: &[Trace], percents: &[f64]) -> Vec<Point> {
    let mut work = Vec::new();
    for trace in traces {
        let distinct = trace.keys.iter().collect::<HashSet<_>>().len();
        work.extend(percents.iter().map(|percent| (trace, ((distinct as f64 * percent / 100.0) as usize).max(64))));
    }
    let point = |(trace, capacity): &(&Trace, usize)| Point {
        trace: trace.name.clone(),
        capacity: *capacity,
        optimum: optimum(*capacity, &trace.keys),
        ratios: BOUNDED.iter().map(|peer| (*peer, hits(peer, *capacity, &trace.keys))).collect(),
    };
    let half = work.len().div_ceil(2);
    let (mut first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| work[half..].iter().map(point).collect::<Vec<_>>());
        (work[..half].iter().map(point).collect::<Vec<_>>(), other.join().expect("a worker panicked"))
    });
    first.extend(second);
    first
}

pub fn print(points: &[Point]) {
    println!("{:<14} {:>8} {:>7} {}", "trace", "capacity", "optimum", BOUNDED.map_names());
    for point in points {
        let figures: String = point.ratios.iter().map(|(_, ratio)| format!("{ratio:>13.2}")).collect();
        println!("{:<14} {:>8} {:>7.2} {figures}", point.trace, point.capacity, point.optimum);
    }
    let mean = |peer: &str| points.iter().map(|point| point.of(peer)).sum::<f64>() / points.len() as f64;
    println!("{:<31} {}", "mean", BOUNDED.iter().map(|peer| format!("{:>13.2}", mean(peer))).collect::<String>());
    let mut behind: Vec<f64> = points.iter().map(|point| point.best() - point.of("everfresh")).collect();
    let mean_behind = behind.iter().sum::<f64>() / behind.len() as f64;
    let worst = behind.iter().copied().fold(f64::MIN, f64::max);
    println!(
        "points behind the best peer of each point: mean {mean_behind:.2}, median {:.2}, worst {worst:.2}",
        median(&mut behind)
    );
    let (lost, at) = points
        .iter()
        .map(|point| (point.of("lru") - point.of("everfresh"), point))
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .expect("there are points");
    println!("worst against exact LRU: {lost:.2} points behind, at {} {}", at.trace, at.capacity);
    let best_peer = BOUNDED.iter().filter(|peer| **peer != "everfresh").map(|peer| mean(peer)).fold(0.0, f64::max);
    let verdict = |holds: bool| if holds { "reached" } else { "MISSED" };
    println!(
        "    bar: mean above every peer ({:.2} against {best_peer:.2}): {}",
        mean("everfresh"),
        verdict(mean("everfresh") > best_peer)
    );
    println!("    bar: mean at most 1.0 behind the best peer of each point: {}", verdict(mean_behind <= 1.0));
    println!("    bar: nowhere more than 2 behind exact LRU: {}", verdict(lost <= 2.0));
}

trait MapNames {
    fn map_names(&self) -> String;
}

impl MapNames for &[&'static str] {
    fn map_names(&self) -> String {
        self.iter().map(|name| format!("{name:>13}")).collect()
    }
}

/// Whether `Eviction::Lru` hits exactly when a reference list does; the first trace where not.
pub fn lru_is_exact(traces: &[Trace]) -> Result<usize, String> {
    let mut points = 0;
    for trace in traces {
        let distinct = trace.keys.iter().collect::<HashSet<_>>().len();
        for capacity in [1, 2, 64, distinct / 20, distinct / 5].map(|capacity| capacity.max(1)) {
            let (ours, list) = (hits("everfresh-lru", capacity, &trace.keys), hits("lru", capacity, &trace.keys));
            if ours != list {
                return Err(format!("{} at {capacity}: {ours} against {list}", trace.name));
            }
            points += 1;
        }
    }
    Ok(points)
}
