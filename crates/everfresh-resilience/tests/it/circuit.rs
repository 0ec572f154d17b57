//! The circuit breaker: when it opens, what it refuses, how many it lets probe.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use everfresh_resilience::{CircuitBreaker, CircuitState, Error, ManualClock, Timeout};
use futures_util::poll;
use proptest::prelude::*;
use tokio::sync::oneshot;

use crate::support::*;

fn state(policy: &Plain) -> CircuitState {
    policy.health().circuit.unwrap().state
}

async fn pass(policy: &Plain, good: bool) -> Result<u32, Error<Broken>> {
    policy.call(|| async move { if good { Ok(0) } else { Err(Broken(0)) } }).await
}

#[tokio::test(start_paused = true)]
async fn it_opens_after_so_many_failures_in_a_row_and_says_for_how_long() {
    let breaker = CircuitBreaker::consecutive(3).open_for(10 * SECOND);
    let policy = builder().circuit_breaker(breaker).build().unwrap();
    for good in [false, false, true, false, false] {
        let _ = pass(&policy, good).await;
        assert_eq!(state(&policy), CircuitState::Closed);
    }
    assert_eq!(policy.health().circuit.unwrap().failures, 2);
    let _ = pass(&policy, false).await;
    assert_eq!(state(&policy), CircuitState::Open);
    tokio::time::advance(4 * SECOND).await;
    let refused = pass(&policy, true).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(6 * SECOND));
    assert!(refused.is_refusal());
}

#[tokio::test(start_paused = true)]
async fn it_opens_at_a_rate_of_failures_in_a_sliding_window() {
    let breaker = CircuitBreaker::rate(0.5, 4);
    let policy = builder().circuit_breaker(breaker).build().unwrap();
    for good in [false, false, true] {
        let _ = pass(&policy, good).await;
        assert_eq!(state(&policy), CircuitState::Closed, "the window is not full");
    }
    let _ = pass(&policy, true).await;
    assert_eq!(state(&policy), CircuitState::Open, "two of four, when the window is full");

    let policy = builder().circuit_breaker(breaker.minimum_calls(2)).build().unwrap();
    for good in [true, true, true, false] {
        let _ = pass(&policy, good).await;
        assert_eq!(state(&policy), CircuitState::Closed);
    }
    // The first three slide out one by one.
    let _ = pass(&policy, true).await;
    assert_eq!(state(&policy), CircuitState::Closed);
    let _ = pass(&policy, false).await;
    assert_eq!(state(&policy), CircuitState::Open, "two failures among the last four");
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_too_many_calls_are_slow_although_they_succeed() {
    let ear = Ear::default();
    let breaker = CircuitBreaker::rate(1.0, 4).minimum_calls(2).slow_calls(SECOND, 0.5);
    let policy = builder().circuit_breaker(breaker).listener(ear.listener()).build().unwrap();
    policy.call(Calls::default().slow(SECOND)).await.unwrap();
    policy.call(Calls::default().slow(SECOND)).await.unwrap();
    assert_eq!(ear.names(), ["success", "success"], "as long as the bound is not longer than it");
    policy.call(Calls::default().slow(ms(1001))).await.unwrap();
    policy.call(Calls::default().slow(ms(1001))).await.unwrap();
    assert_eq!(ear.names(), ["slow_call", "success", "slow_call", "circuit_opened", "success"]);
}

#[tokio::test(start_paused = true)]
async fn half_open_it_lets_no_more_than_so_many_probe_at_once() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let breaker = CircuitBreaker::consecutive(1).open_for(MINUTE).probes(2).close_after(3);
    let policy = builder().circuit_breaker(breaker).listener(ear.listener()).build().unwrap();
    let _ = pass(&policy, false).await;
    tokio::time::advance(MINUTE).await;
    let mut probes: Vec<_> = (0..2).map(|_| Box::pin(policy.call(calls.slow(SECOND)))).collect();
    for probe in &mut probes {
        assert!(poll!(probe).is_pending());
    }
    for _ in 0..100 {
        let refused = pass(&policy, true).await.unwrap_err();
        assert_eq!(refused.retry_after(), None, "nobody knows; whoever waits for nothing would ask again and again");
    }
    assert_eq!(calls.count(), 2);
    // One is cancelled: it says nothing, and its place is free.
    drop(probes.pop());
    assert!(pass(&policy, true).await.is_ok());
    assert_eq!(state(&policy), CircuitState::HalfOpen);
    assert!(probes.remove(0).await.is_ok());
    assert!(pass(&policy, true).await.is_ok());
    assert_eq!(state(&policy), CircuitState::Closed);
    let names = ear.names();
    let count = |name| names.iter().filter(|it| **it == name).count();
    assert_eq!((count("circuit_opened"), count("circuit_half_opened"), count("circuit_closed")), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_fails_opens_it_again_and_a_late_word_of_an_earlier_time_says_nothing() {
    let breaker = CircuitBreaker::consecutive(1).open_for(MINUTE).close_after(1);
    let policy = builder().circuit_breaker(breaker).build().unwrap();
    let mut late = std::pin::pin!(policy.call(Calls::default().slow(3 * MINUTE)));
    assert!(poll!(&mut late).is_pending());
    let _ = pass(&policy, false).await;
    tokio::time::advance(MINUTE).await;
    let _ = pass(&policy, false).await;
    assert_eq!(policy.health().circuit.unwrap().retry_after, MINUTE);
    assert_eq!(late.await.unwrap(), 1);
    assert_eq!(state(&policy), CircuitState::Open, "a success from before it opened does not close it");
    assert!(pass(&policy, true).await.is_ok());
    assert_eq!(state(&policy), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn probes_that_hang_do_not_keep_it_half_open_for_ever() {
    let breaker = CircuitBreaker::consecutive(1).open_for(MINUTE).close_after(1);
    let policy = builder().circuit_breaker(breaker).build().unwrap();
    let _ = pass(&policy, false).await;
    tokio::time::advance(MINUTE).await;
    let mut hung = std::pin::pin!(policy.call(std::future::pending));
    assert!(poll!(&mut hung).is_pending());
    tokio::time::advance(MINUTE - ms(1)).await;
    assert!(pass(&policy, true).await.is_err());
    tokio::time::advance(ms(1)).await;
    assert!(pass(&policy, true).await.is_ok());
    assert_eq!(state(&policy), CircuitState::Closed);
}

/// A language model that answers in a minute, behind a circuit that is open for half of one: each probe was given up before
/// it could say that all is well, and the circuit never closed while there were callers.
#[tokio::test(start_paused = true)]
async fn probes_that_take_longer_than_it_is_open_close_it_all_the_same() {
    let policy = builder().circuit_breaker(CircuitBreaker::consecutive(1).open_for(MINUTE / 2)).build().unwrap();
    let _ = pass(&policy, false).await;
    tokio::time::advance(MINUTE / 2).await;
    for _ in 0..7 {
        let policy = policy.clone();
        let answer = || async {
            tokio::time::sleep(MINUTE).await;
            Ok(1)
        };
        tokio::spawn(async move { policy.call(answer).await });
        tokio::time::sleep(MINUTE / 4).await;
    }
    assert_eq!(state(&policy), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_given_up_and_fails_opens_it_again() {
    let policy = builder().circuit_breaker(CircuitBreaker::consecutive(1).open_for(MINUTE)).build().unwrap();
    let _ = pass(&policy, false).await;
    tokio::time::advance(MINUTE).await;
    let (sender, receiver) = oneshot::channel::<Result<u32, Broken>>();
    let mut receiver = Some(receiver);
    let mut given_up = std::pin::pin!(policy.call(|| {
        let receiver = receiver.take().unwrap();
        async { receiver.await.unwrap() }
    }));
    assert!(poll!(&mut given_up).is_pending());
    tokio::time::advance(MINUTE).await;
    assert!(pass(&policy, true).await.is_ok());
    assert_eq!(state(&policy), CircuitState::HalfOpen);
    sender.send(Err(Broken(1))).unwrap();
    given_up.await.unwrap_err();
    assert_eq!(state(&policy), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn the_user_says_what_a_failure_is() {
    let breaker = CircuitBreaker::consecutive(1);
    let policy = builder()
        .circuit_breaker(breaker)
        .failure_if(|result| !matches!(result, Ok(_) | Err(Broken(404))))
        .build()
        .unwrap();
    let _ = policy.call(|| async { Err(Broken(404)) }).await;
    assert_eq!(state(&policy), CircuitState::Closed);
    let _ = policy.call(|| async { Err(Broken(503)) }).await;
    assert_eq!(state(&policy), CircuitState::Open);
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_cure() {
    let wrong = [
        CircuitBreaker::consecutive(0),
        CircuitBreaker::consecutive(1).slow_calls(SECOND, 0.5),
        CircuitBreaker::consecutive(1).probes(0),
        CircuitBreaker::consecutive(1).close_after(0),
        CircuitBreaker::consecutive(1).open_for(Duration::ZERO),
        CircuitBreaker::rate(0.0, 10),
        CircuitBreaker::rate(1.1, 10),
        CircuitBreaker::rate(f64::NAN, 10),
        CircuitBreaker::rate(0.5, 0),
        CircuitBreaker::rate(0.5, 10).minimum_calls(11),
        CircuitBreaker::rate(0.5, 10).slow_calls(SECOND, 0.0),
    ];
    for settings in wrong {
        let refused = Plain::builder().circuit_breaker(settings).build().unwrap_err();
        assert!(refused.to_string().len() > 20, "{settings:?}: {refused}");
    }
}

/// What happens to a circuit, in any order.
#[derive(Clone, Debug)]
enum Step {
    Begin,
    End(usize, bool),
    Cancel(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Begin),
        4 => (0..6_usize, any::<bool>()).prop_map(|(which, good)| Step::End(which, good)),
        1 => (0..6_usize).prop_map(Step::Cancel),
        2 => (1..8_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..200)
}

/// The machine as one would write it on a blackboard, for calls one step at a time.
struct Model {
    settings: (u32, u64, u32, usize),
    state: CircuitState,
    /// Changes with every change of the state.
    era: u32,
    half_open_since: u32,
    failures: u32,
    successes: u32,
    open_until: u64,
    last_probe: u64,
    probing: Vec<u32>,
}

impl Model {
    fn turn(&mut self, state: CircuitState) {
        (self.state, self.failures, self.successes) = (state, 0, 0);
        self.era += 1;
        self.probing.clear();
    }

    /// The era of a call that is let in.
    fn begin(&mut self, id: u32, now: u64) -> Option<u32> {
        let (_, open_for, _, probes) = self.settings;
        if self.state == CircuitState::Open && now >= self.open_until {
            self.turn(CircuitState::HalfOpen);
            self.half_open_since = self.era;
        }
        let full = self.probing.len() >= probes;
        match self.state {
            CircuitState::Closed => return Some(self.era),
            CircuitState::HalfOpen if full && now >= self.last_probe + open_for => {
                self.era += 1;
                self.probing.clear();
            }
            CircuitState::HalfOpen if !full => {}
            _ => return None,
        }
        self.probing.push(id);
        self.last_probe = now;
        Some(self.era)
    }

    fn end(&mut self, id: u32, era: u32, good: Option<bool>, now: u64) {
        let (threshold, open_for, close_after, _) = self.settings;
        let is_of_a_probe = self.state == CircuitState::HalfOpen && era >= self.half_open_since;
        if era != self.era && !is_of_a_probe {
            return;
        }
        self.probing.retain(|it| *it != id);
        match (good, self.state) {
            (None, _) => {}
            (Some(true), CircuitState::Closed) => self.failures = 0,
            (Some(true), _) => {
                self.successes += 1;
                if self.successes == close_after {
                    self.turn(CircuitState::Closed);
                }
            }
            (Some(false), state) => {
                self.failures += 1;
                if state == CircuitState::HalfOpen || self.failures == threshold {
                    self.turn(CircuitState::Open);
                    self.open_until = now + open_for;
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn it_is_the_machine_on_the_blackboard(
        steps in steps(), threshold in 1..4_u32, open_for in 1..10_u64, close_after in 1..4_u32, probes in 1..4_usize,
    ) {
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::consecutive(threshold)
            .open_for(Duration::from_secs(open_for)).close_after(close_after).probes(probes as u32);
        let policy = Plain::builder().circuit_breaker(breaker).clock(clock.clone()).build().unwrap();
        let mut model = Model {
            settings: (threshold, open_for, close_after, probes), state: CircuitState::Closed, era: 0, half_open_since: 0,
            failures: 0, successes: 0, open_until: 0, last_probe: 0, probing: vec![],
        };
        type Running = (u32, oneshot::Sender<bool>, Pin<Box<dyn Future<Output = Result<u32, Error<Broken>>>>>);
        let mut running: BTreeMap<u32, Running> = BTreeMap::new();
        let (mut next, mut now) = (0_u32, 0_u64);
        let nth = |running: &BTreeMap<u32, Running>, which: usize| running.keys().nth(which).copied();
        let mut cx = Context::from_waker(Waker::noop());
        for step in steps {
            match step {
                Step::Begin => {
                    let (sender, receiver) = oneshot::channel();
                    let (policy, mut receiver) = (policy.clone(), Some(receiver));
                    let mut call: Pin<Box<dyn Future<Output = _>>> = Box::pin(async move {
                        policy.call(|| {
                            let receiver = receiver.take().unwrap();
                            async move { if receiver.await.unwrap() { Ok(0) } else { Err(Broken(0)) } }
                        }).await
                    });
                    next += 1;
                    let admitted = model.begin(next, now);
                    let ended = call.as_mut().poll(&mut cx);
                    prop_assert_eq!(admitted.is_some(), ended.is_pending());
                    if let Some(era) = admitted {
                        running.insert(next, (era, sender, call));
                    }
                }
                Step::End(which, good) => if let Some(id) = nth(&running, which) {
                    let (era, sender, mut call) = running.remove(&id).unwrap();
                    sender.send(good).unwrap();
                    prop_assert!(call.as_mut().poll(&mut cx).is_ready());
                    drop(call);
                    model.end(id, era, Some(good), now);
                },
                Step::Cancel(which) => if let Some(id) = nth(&running, which) {
                    let (era, _, call) = running.remove(&id).unwrap();
                    drop(call);
                    model.end(id, era, None, now);
                },
                Step::Pass(seconds) => {
                    clock.advance(Duration::from_secs(seconds));
                    now += seconds;
                }
            }
            let health = policy.health();
            prop_assert_eq!(health.circuit.unwrap().state, model.state);
            prop_assert_eq!(health.in_flight, running.len());
            prop_assert!(model.state != CircuitState::HalfOpen || model.probing.len() <= probes);
        }
    }
}

#[test]
fn threads_that_come_at_once_get_no_more_probes_than_there_are() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    const THREADS: usize = 16;
    for round in 1..=20 {
        let probes = round % 4 + 1;
        let clock = ManualClock::new();
        let breaker = CircuitBreaker::consecutive(1).open_for(MINUTE).probes(probes as u32).close_after(probes as u32);
        let policy = Plain::builder().circuit_breaker(breaker).clock(clock.clone()).build().unwrap();
        policy.call_blocking(|| Err(Broken(1))).unwrap_err();
        clock.advance(MINUTE);
        let (start, refused) = (Arc::new(Barrier::new(THREADS)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (policy, start, refused) = (policy.clone(), Arc::clone(&start), Arc::clone(&refused));
                std::thread::spawn(move || {
                    start.wait();
                    let others = Arc::clone(&refused);
                    let result = policy.call_blocking(move || {
                        // A probe lasts until everybody else has been refused.
                        while others.load(Ordering::SeqCst) < THREADS - probes {
                            std::thread::yield_now();
                        }
                        Ok(1)
                    });
                    refused.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
                    result.is_ok()
                })
            })
            .collect();
        let admitted = callers.into_iter().map(|caller| caller.join().unwrap()).filter(|admitted| *admitted).count();
        assert_eq!(admitted, probes);
        assert_eq!(state(&policy), CircuitState::Closed);
    }
}

#[test]
fn one_that_stays_open_for_ever_never_overflows() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::consecutive(1).open_for(Duration::MAX);
    let policy = Plain::builder().circuit_breaker(breaker).clock(clock.clone()).build().unwrap();
    policy.call_blocking(|| Err(Broken(1))).unwrap_err();
    clock.advance(Duration::MAX);
    let mut probe = Box::pin(policy.call(std::future::pending));
    assert!(probe.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(state(&policy), CircuitState::HalfOpen);
    // At the end of time the probe has hung for ever.
    assert!(policy.call_blocking(|| Ok(1)).is_ok());
}

/// It said nothing: a circuit stayed closed while every call panicked, and half-open let one after the other through.
#[tokio::test(start_paused = true)]
async fn a_call_that_panics_has_failed_and_gives_its_place_back() {
    let breaker = CircuitBreaker::consecutive(2).open_for(MINUTE).close_after(1);
    let bulkhead = everfresh_resilience::Bulkhead::new(1);
    for timeout in [None, Some(Timeout::per_attempt(MINUTE)), Some(Timeout::whole(MINUTE))] {
        let ear = Ear::default();
        let built =
            builder().circuit_breaker(breaker).bulkhead(bulkhead).failure_if(|_| false).listener(ear.listener());
        let policy = match timeout {
            None => built.build().unwrap(),
            Some(timeout) => built.timeout(timeout).build().unwrap(),
        };
        let panic = || {
            let other = policy.clone();
            let panics = || async {
                tokio::task::yield_now().await;
                panic!("as told")
            };
            tokio::spawn(async move { other.call(panics).await })
        };
        for expected in [CircuitState::Closed, CircuitState::Open] {
            assert!(panic().await.unwrap_err().is_panic(), "it reaches the caller");
            assert_eq!(state(&policy), expected);
        }
        assert_eq!(ear.names(), ["failure", "circuit_opened", "failure"]);
        tokio::time::advance(MINUTE).await;
        panic().await.unwrap_err();
        assert_eq!(state(&policy), CircuitState::Open, "a probe that panics has failed, too");
        let health = policy.health();
        assert_eq!((health.in_flight, health.bulkhead.unwrap().running), (0, 0));
        tokio::time::advance(MINUTE).await;
        assert!(pass(&policy, true).await.is_ok());
        assert_eq!(state(&policy), CircuitState::Closed);
    }
}

/// Only its own panic is: a call that is dropped because another one panics beside it says nothing.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_by_anothers_panic_says_nothing() {
    let policy = builder().circuit_breaker(CircuitBreaker::consecutive(1)).build().unwrap();
    let other = policy.clone();
    let beside = async move {
        tokio::join!(other.call(std::future::pending), async {
            tokio::task::yield_now().await;
            panic!("as told")
        })
    };
    tokio::spawn(beside).await.unwrap_err();
    assert_eq!((state(&policy), policy.health().in_flight), (CircuitState::Closed, 0));
}
