//! Random operations and clock steps on a cache: bounds hold, outcomes add up, nothing that was invalidated comes back.
#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use everfresh::{Cache, Eviction, Lifetime, ManualClock, Traits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.iter().copied();
    let Some(shape) = bytes.next() else { return };
    let capacity = 1 + usize::from(shape >> 2);
    let clock = ManualClock::new();
    let second = Duration::from_secs(1);
    let cache: Cache<u8, u64> = Cache::builder()
        .capacity(capacity)
        .eviction(if shape & 1 == 0 { Eviction::S3Fifo } else { Eviction::Lru })
        .lifetime(Lifetime::ttl(10 * second).stale_while_revalidate(20 * second).stale_if_error(40 * second))
        .max_refreshes(0)
        .clock(clock.clone())
        .build()
        .expect("the choices above make sense");
    // The oldest value of each key that may still be seen.
    let mut oldest: HashMap<u8, u64> = HashMap::new();
    let mut lookups = 0;
    let mut round = 0;
    while let (Some(operation), Some(key)) = (bytes.next(), bytes.next()) {
        round += 1;
        let floor = *oldest.get(&key).unwrap_or(&0);
        match operation % 12 {
            0 | 1 => {
                lookups += 1;
                assert!(cache.get(&key).is_none_or(|value| value >= floor));
            }
            2 | 3 => {
                lookups += 1;
                let loaded = cache.get_or_load(&key, move || round).expect("it cannot fail");
                assert!(loaded >= floor);
            }
            4 => {
                lookups += 1;
                if let Ok(value) = cache.get_or_load(&key, || Err::<u64, _>("failed")) {
                    assert!(value >= floor);
                }
            }
            5 => {
                cache.insert(key, round);
                oldest.insert(key, round);
            }
            6 => {
                cache.insert_with(key, round, Traits::new().tag(format!("{}", key % 3)));
                oldest.insert(key, round);
            }
            7 => {
                cache.invalidate(&key);
                oldest.insert(key, round);
                assert!(!cache.contains(&key));
            }
            8 => cache.expire(&key),
            9 => {
                cache.clear();
                oldest.extend((0..=255).map(|key| (key, round)));
                assert_eq!(cache.len(), 0);
            }
            10 => {
                cache.invalidate_tag(&format!("{}", key % 3));
                assert!(cache.peek(&key).is_none_or(|value| value >= floor));
            }
            _ => clock.advance(Duration::from_millis(u64::from(key) * 100)),
        }
        assert!(cache.len() <= capacity);
    }
    assert_eq!(cache.stats().lookups(), lookups);
});
