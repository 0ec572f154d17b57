//! The sliding window of a circuit that opens by rate, against the one on the blackboard.

use std::collections::VecDeque;
use std::future::ready;
use std::time::Duration;

use everfresh_resilience::{CircuitBreaker, CircuitState, ManualClock};
use proptest::prelude::*;

use crate::support::*;

proptest! {
    #[test]
    fn it_opens_when_the_last_so_many_attempts_say_so_and_never_else(
        tenths in 1..11_u32,
        slow_tenths in 1..11_u32,
        window in 1..12_usize,
        minimum in 1..12_usize,
        attempts in proptest::collection::vec((any::<bool>(), 0..4_u64), 1..150),
    ) {
        let minimum = minimum.min(window);
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::rate(f64::from(tenths) / 10.0, window as u32)
            .minimum_calls(minimum as u32)
            .slow_calls(2 * SECOND, f64::from(slow_tenths) / 10.0)
            .open_for(MINUTE)
            .close_after(1);
        let policy = Plain::builder().circuit_breaker(breaker).clock(clock.clone()).build().unwrap();
        let state = || policy.health().circuit.unwrap().state;
        let call = |good: bool, takes: Duration| {
            let clock = clock.clone();
            at_once(policy.call(move || {
                clock.advance(takes);
                ready(if good { Ok(1) } else { Err(Broken(1)) })
            }))
        };
        let mut seen: VecDeque<(bool, bool)> = VecDeque::new();
        for (good, seconds) in attempts {
            prop_assert_eq!(call(good, Duration::from_secs(seconds)).unwrap().is_ok(), good);
            seen.push_back((!good, seconds > 2));
            if seen.len() > window {
                seen.pop_front();
            }
            // In whole numbers: a count of ten times as much against tenths of what was seen.
            let count = |which: fn(&(bool, bool)) -> bool| seen.iter().filter(|it| which(it)).count() * 10;
            let (failed, slow) = (count(|it| it.0), count(|it| it.1));
            let judged = seen.len() >= minimum;
            let opens = judged
                && (failed >= tenths as usize * seen.len() || slow >= slow_tenths as usize * seen.len());
            prop_assert_eq!(state() == CircuitState::Open, opens, "{:?}", seen);
            if opens {
                prop_assert!(call(true, Duration::ZERO).unwrap().is_err());
                clock.advance(MINUTE);
                prop_assert!(call(true, Duration::ZERO).unwrap().is_ok());
                prop_assert_eq!(state(), CircuitState::Closed);
                seen.clear();
            } else {
                prop_assert_eq!(policy.health().circuit.unwrap().failures as usize * 10, failed);
            }
        }
    }
}

#[test]
fn it_opens_at_exactly_the_fraction_although_that_is_no_binary_number() {
    for percent in 1..=100_u32 {
        let breaker = CircuitBreaker::rate(f64::from(percent) / 100.0, 100).slow_calls(SECOND, 1.0);
        let policy = Plain::builder().circuit_breaker(breaker).clock(ManualClock::new()).build().unwrap();
        for number in 0..100 {
            let call = move || ready(if number < percent { Err(Broken(1)) } else { Ok(1) });
            let _ = at_once(policy.call(call)).unwrap();
        }
        assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open, "{percent} of 100");
    }
}
