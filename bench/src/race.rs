//! Contestants in turn, round after round, and what came of it.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::bars::Bar;
use crate::keys::median;

/// One row of the table, for one number of threads: millions of operations a second, each round of each peer.
pub struct Row {
    pub name: &'static str,
    pub threads: usize,
    pub peers: Vec<(String, Vec<f64>)>,
}

impl Row {
    fn rounds(&self, peer: &str) -> Option<&Vec<f64>> {
        self.peers.iter().find(|(name, _)| name == peer).map(|(_, rounds)| rounds)
    }

    /// The median of the ratios of everfresh to a peer, round by round.
    pub fn ratio(&self, peer: &str) -> Option<f64> {
        self.ratio_of("everfresh", peer)
    }

    pub fn ratio_of(&self, one: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.rounds(one)?, self.rounds(other)?);
        Some(median(&mut one.iter().zip(other).map(|(one, other)| one / other).collect::<Vec<_>>()))
    }

    pub fn print(&self) {
        let mut shown = String::new();
        for (name, rounds) in &self.peers {
            let rate = median(&mut rounds.clone());
            let (low, high) = quartiles(rounds);
            shown += &format!("\n    {name:<14} {rate:>8.1} M/s  ({low:.1}..{high:.1})");
            if let Some(ratio) = self.ratio(name).filter(|_| name != "everfresh") {
                shown += &format!("   everfresh is {ratio:.2}×");
            }
        }
        println!("{} · {} thread(s){shown}", self.name, self.threads);
        for bar in Bar::of(self.name, self.threads) {
            if let Some(ratio) = self.ratio_of(bar.subject, bar.peer) {
                println!("    bar: {}", bar.verdict(ratio));
            }
        }
    }
}

fn quartiles(rounds: &[f64]) -> (f64, f64) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 4], sorted[sorted.len() * 3 / 4])
}

/// A contestant: what one thread does with its keys; how many operations counted as hits.
pub type Contestant<'a> = (String, Box<dyn Fn(usize) -> usize + Sync + 'a>, bool);

/// What all contestants have to go through.
#[derive(Clone, Copy)]
pub struct Course {
    pub threads: usize,
    pub rounds: usize,
    /// Operations of each thread in each round.
    pub each: usize,
    /// Each turn begins with what the others left in the processor's caches; else the work is done once before it is timed.
    pub cold: bool,
}

/// Runs all contestants in turn, each on so many threads at once.
pub fn race(name: &'static str, course: Course, contestants: &[Contestant<'_>]) -> Row {
    let Course { threads, rounds, each, cold } = course;
    let mut peers: Vec<(String, Vec<f64>)> = contestants.iter().map(|(name, ..)| (name.clone(), vec![])).collect();
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for round in 0..=rounds {
        fastrand::shuffle(&mut order);
        for &at in &order {
            let (_, work, all_hit) = &contestants[at];
            let barrier = Barrier::new(threads);
            let took = thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|thread| {
                        let barrier = &barrier;
                        scope.spawn(move || {
                            if !cold {
                                work(thread);
                            }
                            barrier.wait();
                            let began = Instant::now();
                            let hits = work(thread);
                            (hits, began, Instant::now())
                        })
                    })
                    .collect();
                // From the first who begins to the last who ends, by their own watches: this thread may get no core meanwhile.
                let (mut began, mut ended) = (None, None);
                for worker in workers {
                    let (hits, from, until) = worker.join().expect("a worker panicked");
                    assert!(!all_hit || hits == each, "{name}: {hits} hits of {each}");
                    began = began.into_iter().chain([from]).min();
                    ended = ended.into_iter().chain([until]).max();
                }
                ended.zip(began).map_or(Duration::ZERO, |(ended, began): (Instant, Instant)| ended - began)
            });
            // The first round warms up.
            if round > 0 {
                peers[at].1.push((threads * each) as f64 / took.as_secs_f64() / 1e6);
            }
        }
    }
    Row { name, threads, peers }
}
