//! What the tests have in hand: gates to hold loads at, and a spawner that runs work only when told.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everfresh::{Job, Spawn, SpawnError, Task};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);

/// Holds threads until it is opened.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Fails the test instead of hanging for ever.
    pub fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, 30 * SECOND, |open| !*open).unwrap();
        assert!(*open, "the gate was not opened in time");
    }
}

/// Counts, and lets somebody wait for a count.
#[derive(Clone, Default)]
pub struct Count(Arc<(Mutex<usize>, Condvar)>);

impl Count {
    pub fn add(&self) -> usize {
        let mut count = self.0.0.lock().unwrap();
        *count += 1;
        self.0.1.notify_all();
        *count
    }

    pub fn get(&self) -> usize {
        *self.0.0.lock().unwrap()
    }

    pub fn reach(&self, wanted: usize) {
        let count = self.0.0.lock().unwrap();
        let (count, _) = self.0.1.wait_timeout_while(count, 30 * SECOND, |count| *count < wanted).unwrap();
        assert!(*count >= wanted, "only {} of {wanted} came in time", *count);
    }
}

/// A spawner that keeps what it is given until it is told to run it, or refuses it.
#[derive(Clone, Default)]
pub struct Hand(Arc<InHand>);

#[derive(Default)]
struct InHand {
    jobs: Mutex<Vec<Job>>,
    tasks: Mutex<Vec<Task>>,
    refuses: AtomicBool,
    asked: AtomicUsize,
}

impl Hand {
    pub fn refuse(&self, refuses: bool) {
        self.0.refuses.store(refuses, Ordering::SeqCst);
    }

    pub fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub fn waiting(&self) -> usize {
        self.0.jobs.lock().unwrap().len() + self.0.tasks.lock().unwrap().len()
    }

    /// Runs all jobs, and polls all tasks once.
    pub fn run(&self) {
        let jobs = std::mem::take(&mut *self.0.jobs.lock().unwrap());
        jobs.into_iter().for_each(|job| job());
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap());
        let pending: Vec<Task> =
            tasks.into_iter().filter_map(|mut task| poll_once(task.as_mut()).is_pending().then_some(task)).collect();
        self.0.tasks.lock().unwrap().extend(pending);
    }

    /// Drops all work without running it, as a runtime that shuts down does.
    pub fn drop_all(&self) {
        let jobs = std::mem::take(&mut *self.0.jobs.lock().unwrap());
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap());
        drop((jobs, tasks));
    }

    fn accept(&self) -> Result<(), SpawnError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        match self.0.refuses.load(Ordering::SeqCst) {
            true => Err(SpawnError::new("the hand is closed")),
            false => Ok(()),
        }
    }
}

impl Spawn for Hand {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        self.accept()?;
        self.0.jobs.lock().unwrap().push(job);
        Ok(())
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        self.accept()?;
        self.0.tasks.lock().unwrap().push(task);
        Ok(())
    }
}

/// Polls a future once, with a waker that wakes nobody.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a test's body on a thread of its own and fails if it hangs.
pub fn within_a_minute(body: impl FnOnce() + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match finished.recv_timeout(MINUTE) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
