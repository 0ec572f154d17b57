//! What the tests have in hand beside the kit: a listener that remembers, crowds of threads, keys that count who asks.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Barrier, Condvar, Mutex};

use everfresh::{
    AsKey, Cache, Cause, Ending, Event, Job, Lifetime, ManualClock, NotStored, Outcome, RefreshStatus, Spawn,
    SpawnError, Task,
};

use crate::kit::{Count, Hand, SECOND};

/// An event without its borrows.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Lookup(Outcome, RefreshStatus),
    Load(Ending),
    RefreshStarted,
    Refresh(Ending),
    Unavailable,
    Left(Cause),
    NotStored(NotStored),
    LevelFailed,
}

/// A listener that remembers all it is told, and lets somebody wait for it.
#[derive(Clone)]
pub struct Log(Arc<(Mutex<Vec<Told>>, Condvar)>);

impl Log {
    pub fn of<K, V, S>(cache: &Cache<K, V, S>) -> Log
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: std::hash::BuildHasher + Clone + Send + Sync + 'static,
    {
        let log = Log(Arc::default());
        let listener = log.clone();
        cache.subscribe(move |event: &Event<'_, K, V>| listener.add(told(event))).forever();
        log
    }

    fn add(&self, told: Told) {
        self.0.0.lock().unwrap().push(told);
        self.0.1.notify_all();
    }

    pub fn all(&self) -> Vec<Told> {
        self.0.0.lock().unwrap().clone()
    }

    pub fn count(&self, told: &Told) -> usize {
        self.0.0.lock().unwrap().iter().filter(|&other| other == told).count()
    }

    /// Waits until it was told so often.
    pub fn reach(&self, told: &Told, wanted: usize) {
        let log = self.0.0.lock().unwrap();
        let enough = |log: &Vec<Told>| log.iter().filter(|&other| other == told).count() >= wanted;
        let (log, _) = self.0.1.wait_timeout_while(log, 30 * SECOND, |log| !enough(log)).unwrap();
        assert!(enough(&log), "{told:?} was not told {wanted} times, but: {log:?}");
    }
}

fn told<K, V>(event: &Event<'_, K, V>) -> Told {
    match event {
        Event::Lookup { outcome, refresh, .. } => Told::Lookup(*outcome, *refresh),
        Event::Load { ending, .. } => Told::Load(*ending),
        Event::RefreshStarted { .. } => Told::RefreshStarted,
        Event::Refresh { ending, .. } => Told::Refresh(*ending),
        Event::RefreshUnavailable { .. } => Told::Unavailable,
        Event::Left { cause, .. } => Told::Left(*cause),
        Event::NotStored { why, .. } => Told::NotStored(*why),
        Event::LevelFailed { .. } => Told::LevelFailed,
        other => panic!("an event that the tests do not know: {:?}", std::mem::discriminant(other)),
    }
}

/// Runs `body` on so many threads that begin together.
pub fn crowd<T: Send + 'static>(size: usize, body: impl Fn(usize) -> T + Send + Sync + 'static) -> Crowd<T> {
    let body = Arc::new(body);
    let together = Arc::new(Barrier::new(size));
    let threads = (0..size)
        .map(|number| {
            let (body, together) = (Arc::clone(&body), Arc::clone(&together));
            std::thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || {
                    together.wait();
                    body(number)
                })
                .unwrap()
        })
        .collect();
    Crowd(threads)
}

pub struct Crowd<T>(Vec<std::thread::JoinHandle<T>>);

impl<T> Crowd<T> {
    pub fn join(self) -> Vec<T> {
        self.0.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

/// A `u32` that counts how often the cache compares it: a caller who compares with a flight is joining it.
pub struct Probe<'a>(pub u32, pub &'a Count);

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl AsKey<u32> for Probe<'_> {
    fn is(&self, key: &u32) -> bool {
        self.1.add();
        self.0 == *key
    }

    fn to_key(&self) -> u32 {
        self.0
    }
}

/// A spawner that accepts all work and drops it.
pub struct Dropping;

impl Spawn for Dropping {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        drop(job);
        Ok(())
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        drop(task);
        Ok(())
    }
}

/// The sum of all ends of loads, or of refreshes.
pub fn ends(ended: everfresh::Ended) -> u64 {
    ended.stored
        + ended.not_modified
        + ended.absent
        + ended.discarded
        + ended.failed
        + ended.panicked
        + ended.timed_out
        + ended.abandoned
}

/// A cache whose time and background work are in the test's hands.
pub struct Bench {
    pub clock: ManualClock,
    pub hand: Hand,
    pub cache: Cache<u32, u64>,
}

/// Ten seconds fresh, a hundred more stale; and what the test changes.
pub fn bench(change: impl FnOnce(everfresh::Builder<u32, u64>) -> everfresh::Builder<u32, u64>) -> Bench {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let builder = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .clock(clock.clone())
        .spawner(hand.clone());
    let cache = change(builder).build().unwrap();
    Bench { clock, hand, cache }
}

/// Panics when it is dropped, if it is told to.
pub struct Fragile(pub bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.0, "told to");
    }
}
