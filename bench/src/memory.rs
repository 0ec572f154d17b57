//! Bytes an entry, as the system sees them: each peer in a process of its own.

use std::fs;
use std::process::Command;

use crate::keys::scatter;
use crate::peer;

/// In all, in caches of one of these sizes.
const ENTRIES: u64 = 1_000_000;
const SIZES: [u64; 2] = [ENTRIES, 10_000];
/// The size that the bar is about.
const BARRED: u64 = ENTRIES;
pub const PEERS: &[&str] =
    &["everfresh", "papaya", "quick_cache", "scc", "moka", "foyer-s3fifo", "fibre", "cached", "lru"];

fn resident() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    pages.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// In the child: fills caches of one peer that hold so many entries each, and prints what they took.
pub fn child(name: &str, size: u64) {
    let before = resident().expect("only Linux tells what is resident");
    let caches: Vec<_> =
        (0..ENTRIES / size).map(|_| peer::make::<u64>(name, size as usize).expect("a known peer")).collect();
    for cache in &caches {
        (0..size).for_each(|rank| cache.insert(scatter(rank), rank));
    }
    let held = caches.iter().map(|cache| cache.len() as u64).sum::<u64>().max(1);
    let after = resident().expect("it told before");
    println!("{} {held}", (after - before) / held);
}

/// What caches of one size took.
pub struct Memory {
    size: u64,
    /// Bytes an entry of each peer, and how many of the million it kept.
    figures: Vec<(&'static str, u64, u64)>,
}

pub fn run() -> Vec<Memory> {
    let own = std::env::current_exe().expect("this program has a path");
    let figures = |name: &'static str, size: u64| {
        let output = Command::new(&own).args(["memory-child", name, &size.to_string()]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        Some((name, words.next()?.ok()?, words.next()?.ok()?))
    };
    let of_size = |size| Memory { size, figures: PEERS.iter().filter_map(|name| figures(name, size)).collect() };
    SIZES.map(of_size).into()
}

pub fn print(memories: &[Memory]) {
    for Memory { size, figures } in memories {
        println!("memory · {ENTRIES} entries u64 → u64, {} cache(s) of {size}", ENTRIES / size);
        for (name, bytes, held) in figures {
            println!("    {name:<14} {bytes:>5} bytes an entry, {held} held");
        }
        if let Some((_, bytes, _)) = figures.iter().find(|(name, ..)| *name == "everfresh" && *size == BARRED) {
            println!("    bar: {bytes} bytes, asked for 72: {}", if *bytes <= 72 { "reached" } else { "MISSED" });
        }
    }
}
