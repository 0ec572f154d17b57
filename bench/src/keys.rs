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
    let mut draw = || {
        let drawn = dice.f64() * sum;
        sums.partition_point(|&upto| upto < drawn).min(n - 1) as Key
    };
    (0..count).map(|_| draw()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_as_often_as_the_law_says() {
        let (keys, count) = (1_000, 400_000);
        let mut came = vec![0_u32; keys];
        zipf(keys, 0.99, count, 7).into_iter().for_each(|rank| came[rank as usize] += 1);
        let sum: f64 = (1..=keys).map(|rank| (rank as f64).powf(-0.99)).sum();
        for rank in [1, 2, 10, 100] {
            let expected = (rank as f64).powf(-0.99) / sum * count as f64;
            let off = (f64::from(came[rank - 1]) - expected).abs();
            assert!(off < 5.0 * expected.sqrt(), "rank {rank}: {} instead of {expected:.0}", came[rank - 1]);
        }
    }
}
