//! A day in virtual time: a discrete-event simulation in which everfresh runs as it is, on a clock that jumps.
//!
//! Every request is a task, and so is every refresh that the cache spawns; a call of the backend sleeps on the clock. What
//! can run runs, in the order in which it was woken; when nothing can, time jumps to the next request or the next waking.
//! All of that happens on one thread, so a seed says all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use everfresh::{Clock, Error, Job, ManualClock, Sleep, Spawn, SpawnError, Task};

use crate::backend::{Backend, Behaviour};
use crate::contestant::{Contestant, Equipped, Kind, Policy, call_async};
use crate::tally::{Score, Tally};
use crate::trace::Trace;

/// What is replayed, and against what.
pub(crate) struct Scene<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) span: Duration,
    pub(crate) slots: usize,
    pub(crate) policy: Policy,
    pub(crate) behaviour: Behaviour,
}

/// Replays the whole trace against one contestant. `progress` hears now and then how many more requests have come.
pub(crate) fn simulate(scene: &Scene<'_>, kind: Kind, progress: impl Fn(u64)) -> Result<Score, Error> {
    IN_SIMULATION.set(true);
    let clock = SimulatedClock(ManualClock::new());
    let floor = Floor::new(clock.0.clone());
    let spawner = Spawner(Arc::clone(&floor.newcomers));
    let equip = |builder: Equipped| builder.clock(clock.clone()).spawner(spawner).seed(scene.behaviour.seed);
    let contestant = Contestant::new(kind, scene.policy, equip)?;
    let stage = Rc::new(Stage {
        contestant,
        clock,
        backend: Backend::new(scene.behaviour.clone(), scene.span, scene.slots),
        tally: RefCell::new(Tally::new(scene.span, scene.slots, Duration::ZERO)),
        open: Cell::new(0),
    });
    run(&stage, floor, scene, progress);
    IN_SIMULATION.set(false);
    let tally = stage.tally.borrow().clone();
    Ok(Score { name: kind.name(), tally, load: stage.backend.load() })
}

fn run(stage: &Rc<Stage>, mut floor: Floor, scene: &Scene<'_>, progress: impl Fn(u64)) {
    let period = reclaim_period(scene);
    let mut reclaim_at = period;
    let mut spare = Spare::default();
    let mut told = 0;
    for (index, (at, key)) in scene.trace.requests().enumerate() {
        floor.run_until(at);
        if at >= reclaim_at {
            stage.contestant.reclaim();
            reclaim_at = at + period;
        }
        floor.start(&mut spare, || Rc::clone(stage).request(at, key));
        if index & 0xfff == 0xfff {
            progress((index - told) as u64);
            told = index;
        }
    }
    while stage.open.get() > 0 {
        let Some(next) = floor.clock.next_wake() else { break };
        floor.run_until(next);
    }
    progress((scene.trace.len() - told) as u64);
}

/// As often as the cache would do it itself, but not so often that a large one does little else: each time it looks at all
/// entries, and a day must not take longer than some ten million looks.
fn reclaim_period(scene: &Scene<'_>) -> Duration {
    const LOOKS: f64 = 1e7;
    let entries = scene.policy.capacity.min(scene.trace.len()) as f64;
    let often = (scene.policy.ttl / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
    often.max(scene.span.mul_f64(entries / LOOKS))
}

/// What all requests share.
struct Stage {
    contestant: Contestant,
    clock: SimulatedClock,
    backend: Arc<Backend>,
    tally: RefCell<Tally>,
    /// Requests that wait for their answer.
    open: Cell<u64>,
}

impl Stage {
    async fn request(self: Rc<Self>, came: Duration, key: u64) {
        self.open.set(self.open.get() + 1);
        let (backend, clock) = (Arc::clone(&self.backend), self.clock.clone());
        let served = self.contestant.serve_async(key, move || call_async(backend, clock)).await;
        self.tally.borrow_mut().record(came, self.clock.now(), served);
        self.open.set(self.open.get() - 1);
    }
}

thread_local! {
    static IN_SIMULATION: Cell<bool> = const { Cell::new(false) };
}

/// The clock of the simulation, for the thread of the simulation.
///
/// Elsewhere it stands still: the cache's housekeeping thread would reclaim expired entries at moments that no seed decides.
/// [`Contestant::reclaim`] does its work.
#[derive(Clone)]
struct SimulatedClock(ManualClock);

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        if IN_SIMULATION.get() { self.0.now() } else { Duration::ZERO }
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        if IN_SIMULATION.get() { self.0.sleep_until(at) } else { Box::pin(std::future::pending()) }
    }
}

/// Takes the cache's refreshes onto the floor.
struct Spawner(Arc<Mutex<Vec<Task>>>);

impl Spawn for Spawner {
    fn spawn_job(&self, _job: Job) -> Result<(), SpawnError> {
        Err(SpawnError::new("there are no threads in virtual time"))
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        locked(&self.0).push(task);
        Ok(())
    }
}

/// A single-threaded executor on a manual clock.
struct Floor {
    clock: ManualClock,
    tasks: Vec<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    newcomers: Arc<Mutex<Vec<Task>>>,
}

type Ready = Mutex<VecDeque<usize>>;

struct Bell {
    place: usize,
    ready: Arc<Ready>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        locked(&self.ready).push_back(self.place);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the last request that was answered at once has left over: most are, and the next needs the same.
struct Spare<F> {
    future: Option<Pin<Box<F>>>,
    bell: Option<(usize, Waker)>,
}

impl<F> Default for Spare<F> {
    fn default() -> Spare<F> {
        Spare { future: None, bell: None }
    }
}

impl Floor {
    fn new(clock: ManualClock) -> Floor {
        Floor { clock, tasks: Vec::new(), free: Vec::new(), ready: Arc::default(), newcomers: Arc::default() }
    }

    /// A free place, and the bell that calls the task in it.
    fn place(&mut self) -> (usize, Waker) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        (place, Waker::from(Arc::new(Bell { place, ready: Arc::clone(&self.ready) })))
    }

    /// Polls a new task once; it gets a place only if that was not enough.
    fn start<F: Future<Output = ()> + 'static>(&mut self, spare: &mut Spare<F>, make: impl FnOnce() -> F) {
        let mut future = match spare.future.take() {
            Some(mut future) => {
                future.set(make());
                future
            }
            None => Box::pin(make()),
        };
        let (place, bell) = spare.bell.take().unwrap_or_else(|| self.place());
        match future.as_mut().poll(&mut Context::from_waker(&bell)) {
            Poll::Ready(()) => *spare = Spare { future: Some(future), bell: Some((place, bell)) },
            Poll::Pending => self.tasks[place] = Some(future),
        }
        self.run_ready();
    }

    /// Lets everything happen that happens up to a moment, and stands there.
    fn run_until(&mut self, moment: Duration) {
        while let Some(next) = self.clock.next_wake().filter(|&next| next <= moment) {
            self.clock.advance_to(next);
            self.run_ready();
        }
        self.clock.advance_to(moment);
    }

    fn run_ready(&mut self) {
        loop {
            let newcomers = std::mem::take(&mut *locked(&self.newcomers));
            for task in newcomers {
                let (place, bell) = self.place();
                self.tasks[place] = Some(task);
                bell.wake();
            }
            let Some(place) = locked(&self.ready).pop_front() else { return };
            // None: woken once more than there was to do.
            let Some(mut task) = self.tasks[place].take() else { continue };
            let bell = Waker::from(Arc::new(Bell { place, ready: Arc::clone(&self.ready) }));
            match task.as_mut().poll(&mut Context::from_waker(&bell)) {
                Poll::Ready(()) => self.free.push(place),
                Poll::Pending => self.tasks[place] = Some(task),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trace::{self, Day};
    use crate::units::{Latency, Stretch};

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3_600);
    const LATENCY: Duration = Duration::from_millis(50);

    /// Room for everything, a backend that never fails, no chance in anything.
    pub(crate) fn scene_of(trace: &Trace, span: Duration) -> Scene<'_> {
        let policy = Policy {
            capacity: 1_000_000,
            ttl: 60 * SECOND,
            stale_while_revalidate: 24 * HOUR,
            stale_if_error: 24 * HOUR,
            soft_timeout: None,
            max_refreshes: 4,
            coalesce: false,
        };
        let latency = Latency { mean: LATENCY, spread: Duration::ZERO };
        let behaviour = Behaviour { latency, outages: vec![], fail_after: SECOND, error_rate: 0.0, seed: 1 };
        Scene { trace, span, slots: 24, policy, behaviour }
    }

    fn day(requests: usize, keys: usize) -> Trace {
        Day { requests, keys, exponent: 0.99, span: 24 * HOUR, seed: 7 }.make()
    }

    fn replayed(scene: &Scene<'_>, kind: Kind) -> Score {
        simulate(scene, kind, |_| {}).unwrap()
    }

    #[test]
    fn the_same_seed_is_the_same_day_to_the_last_count() {
        let trace = day(30_000, 2_000);
        let mut scene = scene_of(&trace, 24 * HOUR);
        scene.policy.capacity = 500;
        scene.policy.stale_while_revalidate = HOUR;
        scene.behaviour.latency.spread = LATENCY;
        scene.behaviour.error_rate = 0.05;
        scene.behaviour.outages = vec![Stretch { from: 13 * HOUR, to: 14 * HOUR }];
        for kind in Kind::ALL {
            let first = replayed(&scene, kind);
            let again = std::thread::scope(|scope| scope.spawn(|| replayed(&scene, kind)).join().unwrap());
            assert!(first == again, "{}: {:?} and {:?}", kind.name(), first.tally.outcomes, again.tally.outcomes);
            assert_eq!(first.tally.requests(), 30_000);
        }
        let first = replayed(&scene, Kind::Everfresh);
        scene.behaviour.seed = 2;
        assert!(first != replayed(&scene, Kind::Everfresh), "the seed decides something");
    }

    #[test]
    fn without_failures_and_with_room_only_the_first_reader_of_a_key_waits() {
        let trace = day(50_000, 1_000);
        let distinct = trace.distinct_keys() as u64;
        let score = replayed(&scene_of(&trace, 24 * HOUR), Kind::Everfresh);
        let outcomes = score.tally.outcomes;
        assert_eq!(outcomes.loaded, distinct);
        assert_eq!(outcomes.failed + outcomes.fallback, 0);
        assert_eq!(outcomes.fresh + outcomes.stale + outcomes.coalesced, 50_000 - distinct);
        assert_eq!(score.tally.at_once, outcomes.fresh + outcomes.stale, "a stale reader waits for nothing");
        assert!(outcomes.stale > 1_000);
        assert!(score.tally.wait.longest() <= LATENCY);
    }

    #[test]
    fn an_outage_inside_the_window_reaches_no_reader_who_has_an_old_value() {
        let trace = day(50_000, 200);
        let mut scene = scene_of(&trace, 24 * HOUR);
        scene.policy.stale_while_revalidate = 2 * 60 * SECOND;
        scene.behaviour.outages = vec![Stretch { from: 13 * HOUR, to: 15 * HOUR }];
        let score = replayed(&scene, Kind::Everfresh);
        assert_eq!(score.tally.outcomes.failed, 0);
        assert!(score.tally.outcomes.fallback > 100 && score.load.failed > 0);
        let score = replayed(&scene, Kind::TtlCache);
        assert!(score.tally.outcomes.failed > 1_000, "the same day without that window");
    }

    #[test]
    fn the_backend_never_runs_more_than_one_load_a_key_and_refreshes_within_their_bound() {
        // A thousand requests for three keys within a quarter of a second, each quarter of an hour.
        let (mut at, mut keys) = (vec![], vec![]);
        for burst in 0..96_u64 {
            for request in 0..1_000_u64 {
                at.push(burst * 900_000_000_000 + request * 250_000);
                keys.push(request % 3);
            }
        }
        let trace = Trace { at, keys };
        let mut scene = scene_of(&trace, 24 * HOUR);
        scene.policy.max_refreshes = 2;
        let ever = replayed(&scene, Kind::Everfresh);
        assert!(ever.load.peak <= 3, "{}", ever.load.peak);
        let ttl = replayed(&scene, Kind::TtlCache);
        assert!(ttl.load.peak > 100, "whoever finds nothing loads for himself: {}", ttl.load.peak);
        scene.policy.coalesce = true;
        let ttl = replayed(&scene, Kind::TtlCache);
        assert_eq!((ttl.load.peak, ttl.load.calls), (3, 3 * 96));
        assert!(ttl.tally.outcomes.coalesced > 10_000);
        assert_eq!(replayed(&scene, Kind::NoCache).load.calls, 96_000);
    }

    #[test]
    fn a_soft_timeout_bounds_the_wait_of_those_who_have_an_old_value() {
        let trace = trace::steadily(vec![1; 2_000], HOUR, 1);
        let mut scene = scene_of(&trace, HOUR);
        scene.policy.stale_while_revalidate = Duration::ZERO;
        scene.policy.soft_timeout = Some(Duration::from_millis(10));
        let score = replayed(&scene, Kind::Everfresh);
        assert!(score.tally.outcomes.fallback > 20 && score.tally.outcomes.failed == 0);
        let second_longest = score.tally.wait.quantile(0.999);
        assert!(second_longest <= Duration::from_micros(10_010), "{second_longest:?}");
    }
}
