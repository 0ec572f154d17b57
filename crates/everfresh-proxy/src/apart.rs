//! What threads count, each in a place of its own: a place that all wrote to would go from core to core with each request.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// Two cache lines, as processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Place<T>(T);

/// One `T` for each thread, or for some of them if there are many.
pub struct Apart<T>(Box<[Place<T>]>);

impl<T: Default> Default for Apart<T> {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self((0..cores.clamp(1, 16).next_power_of_two()).map(|_| Place::default()).collect())
    }
}

impl<T> Apart<T> {
    /// That of this thread.
    pub fn own(&self) -> &T {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static AT: Cell<Option<usize>> = const { Cell::new(None) });
        let at = AT.get().unwrap_or_else(|| {
            let at = NEXT.fetch_add(1, Ordering::Relaxed);
            AT.set(Some(at));
            at
        });
        &self.0[at & (self.0.len() - 1)].0
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|place| &place.0)
    }
}

impl<T> fmt::Debug for Apart<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Apart").field("places", &self.0.len()).finish()
    }
}

/// How many there are, counted up and down by whichever thread.
#[derive(Debug, Default)]
pub struct Gauge(Apart<AtomicIsize>);

impl Gauge {
    /// One more.
    pub fn up(&self) {
        self.0.own().fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.0.own().fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn read(&self) -> usize {
        let sum: isize = self.0.all().map(|own| own.load(Ordering::Relaxed)).sum();
        usize::try_from(sum).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Apart, Gauge};

    #[test]
    fn what_threads_count_apart_adds_up() {
        let (apart, gauge) = (Apart::<AtomicU64>::default(), Gauge::default());
        (0..100).for_each(|_| gauge.up());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        apart.own().fetch_add(1, Ordering::Relaxed);
                    }
                    (0..10).for_each(|_| gauge.down());
                });
            }
        });
        assert_eq!(apart.all().map(|own| own.load(Ordering::Relaxed)).sum::<u64>(), 8000);
        assert_eq!(gauge.read(), 20);
    }
}
