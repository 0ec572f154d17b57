//! Bytes an entry, as the system sees them: each peer in a process of its own.

use std::fs;
use std::process::Command;

use crate::keys::scatter;
use crate::peer;

const ENTRIES: u64 = 1_000_000;
pub const PEERS: &[&str] =
    &["everfresh", "papaya", "quick_cache", "scc", "moka", "foyer-s3fifo", "fibre", "cached", "lru"];

fn resident() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    pages.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// In the child: fills one peer and prints what it took.
pub fn child(name: &str) {
    let before = resident().expect("only Linux tells what is resident");
    let cache = peer::make::<u64>(name, ENTRIES as usize).expect("a known peer");
    (0..ENTRIES).for_each(|rank| cache.insert(scatter(rank), rank));
    let held = cache.len().max(1) as u64;
    let after = resident().expect("it told before");
    println!("{} {held}", (after - before) / held);
}

/// Bytes an entry of each peer, and how many of the million it kept.
pub fn run() -> Vec<(&'static str, u64, u64)> {
    let own = std::env::current_exe().expect("this program has a path");
    let figures = |name: &&'static str| {
        let output = Command::new(&own).args(["memory-child", name]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        Some((*name, words.next()?.ok()?, words.next()?.ok()?))
    };
    PEERS.iter().filter_map(figures).collect()
}

pub fn print(figures: &[(&'static str, u64, u64)]) {
    println!("memory · {ENTRIES} entries u64 → u64");
    for (name, bytes, held) in figures {
        println!("    {name:<14} {bytes:>5} bytes an entry, {held} held");
    }
    if let Some((_, bytes, _)) = figures.iter().find(|(name, ..)| *name == "everfresh") {
        println!("    bar: {bytes} bytes, asked for 72: {}", if *bytes <= 72 { "reached" } else { "MISSED" });
    }
}
