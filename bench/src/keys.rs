//! Keys to ask for, made before the clock runs.

use fastrand::Rng;

use crate::peer::Key;

/// Ranks `0..n` by the Zipf law with the given exponent; rank 0 is the most popular.
pub fn zipf(n: usize, exponent: f64, count: usize, seed: u64) -> Vec<Key> {
    let mut sums = Vec::with_capacity(n);
    let mut sum = 0.0;
    for rank in 1..=n {
        sum += (rank as f64).powf(-exponent);
        sums.push(sum);
    }
    let mut dice = Rng::with_seed(seed);
    (0..count).map(|_| sums.partition_point(|&upto| upto < dice.f64() * sum).min(n - 1) as Key).collect()
}

/// Ranks as keys that have nothing to do with their popularity.
pub fn spread(ranks: Vec<Key>) -> Vec<Key> {
    ranks.into_iter().map(scatter).collect()
}

/// One to one, and no order left.
pub fn scatter(rank: Key) -> Key {
    rank.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The middle of some figures.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
