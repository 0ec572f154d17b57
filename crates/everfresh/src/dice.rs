//! Chance, where lives and pauses are to differ: the thread's own, or one that a seed decides.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where a cache takes its chances from.
pub(crate) struct Dice {
    /// The next state of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
    seeded: Option<AtomicU64>,
}

impl Dice {
    pub(crate) fn new(seed: Option<u64>) -> Dice {
        Dice { seeded: seed.map(AtomicU64::new) }
    }

    /// A number in [0, 1).
    pub(crate) fn throw(&self) -> f64 {
        match &self.seeded {
            None => fastrand::f64(),
            Some(state) => {
                let bits = mix(state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN));
                (bits >> 11) as f64 / (1_u64 << 53) as f64
            }
        }
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_all_throws_and_another_seed_others() {
        let throws = |seed| {
            let dice = Dice::new(Some(seed));
            (0..1_000).map(|_| dice.throw()).collect::<Vec<f64>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        assert!(throws(0).iter().all(|throw| (0.0..1.0).contains(throw)));
        let mean = throws(3).iter().sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }

    #[test]
    fn the_generator_is_the_one_that_was_published() {
        // The first outputs for the seed 1234567, as its reference implementation gives them.
        assert_eq!(mix(1_234_567_u64.wrapping_add(GOLDEN)), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567_u64.wrapping_add(GOLDEN.wrapping_mul(2))), 3_203_168_211_198_807_973);
    }
}
