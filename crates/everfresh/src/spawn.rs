//! Who runs background work: threads of our own, the runtime that is at hand, or whatever the user brings.

use std::any::Any;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
#[cfg(feature = "tokio")]
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use crate::drive::block_on;

/// A piece of blocking work.
pub type Job = Box<dyn FnOnce() + Send>;

/// A piece of asynchronous work.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs background work for a cache; [`Workers`] unless the builder is told otherwise.
///
/// Neither call may block or run the work on the calling thread. What was accepted is run, or dropped; the cache notices a
/// drop.
pub trait Spawn: Send + Sync + 'static {
    /// Runs blocking work on some other thread.
    ///
    /// # Errors
    /// If no thread can be had now; the cache skips this refresh and tries again after a pause.
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError>;

    /// Runs asynchronous work.
    ///
    /// # Errors
    /// If no runtime can be had now; the cache skips this refresh and tries again after a pause.
    fn spawn_task(&self, task: Task) -> Result<(), SpawnError>;
}

/// A spawner that others have, too, or that is chosen while the program runs (`Arc<dyn Spawn>`).
impl<S: Spawn + ?Sized> Spawn for Arc<S> {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        (**self).spawn_job(job)
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        (**self).spawn_task(task)
    }
}

/// Why no worker or runtime could be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpawnError {
    message: Cow<'static, str>,
}

impl SpawnError {
    /// An error with a message for the listeners.
    pub fn new(message: impl Into<Cow<'static, str>>) -> SpawnError {
        SpawnError { message: message.into() }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for SpawnError {}

/// Threads that are started when there is work and end when there has been none for ten seconds.
///
/// Asynchronous work goes to the tokio runtime in whose context it is started, else to the one in whose context the cache was
/// built while that runs, else it is polled on one of these threads (feature `tokio`; without it, always on one of these
/// threads). A runtime of one thread does nothing while nobody drives it: what is started outside of it is polled on one of these
/// threads, in its context; timers and sockets of tokio's still need somebody who drives it. How many threads there are is bounded
/// by who uses them: see `max_refreshes`.
///
/// As they run the user's code, they block the signals that the thread blocks which starts them, and no others; so do
/// `everfresh-housekeeper`, the thread that drops what has expired or was invalidated, and `everfresh-scheduler`, which begins
/// refreshes on schedules, each for all caches: a destructor or a listener that takes its time holds it up. A program that lets one
/// thread wait for signals has to block them before it first uses a cache, as before it starts any other thread.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
    #[cfg(feature = "tokio")]
    home: Option<tokio::runtime::Handle>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that wait for work and are not promised to a queued job.
    idle: usize,
    threads_ever: u64,
}

const LINGER: Duration = Duration::from_secs(10);

impl Workers {
    /// No threads yet; remembers the tokio runtime in whose context this is called, if any.
    pub fn new() -> Workers {
        Workers {
            shared: Arc::default(),
            #[cfg(feature = "tokio")]
            home: tokio::runtime::Handle::try_current().ok(),
        }
    }
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::new()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Spawn for Workers {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        self.shared.push(job)
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        #[cfg(feature = "tokio")]
        let task = match (tokio::runtime::Handle::try_current(), &self.home) {
            (Ok(here), _) => {
                drop(here.spawn(task));
                return Ok(());
            }
            (Err(_), Some(home)) if home.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread => {
                let home = home.clone();
                return self.shared.push(Box::new(move || {
                    let _within = home.enter();
                    block_on(task);
                }));
            }
            (Err(_), Some(home)) => match offer(home, task) {
                None => return Ok(()),
                Some(refused) => refused,
            },
            (Err(_), None) => task,
        };
        self.shared.push(Box::new(move || block_on(task)))
    }
}

/// Gives the task to a runtime, or back if that has been shut down.
#[cfg(feature = "tokio")]
fn offer(home: &tokio::runtime::Handle, task: Task) -> Option<Task> {
    /// A runtime that has been shut down drops what it is given at once, without ever polling it.
    struct Offered {
        task: Option<Task>,
        was_polled: bool,
        back: Arc<Mutex<Option<Task>>>,
    }
    impl Future for Offered {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.was_polled = true;
            self.task.as_mut().map_or(Poll::Ready(()), |task| task.as_mut().poll(cx))
        }
    }
    impl Drop for Offered {
        fn drop(&mut self) {
            if !self.was_polled {
                *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.task.take();
            }
        }
    }
    let back = Arc::default();
    drop(home.spawn(Offered { task: Some(task), was_polled: false, back: Arc::clone(&back) }));
    back.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Shared {
    fn push(self: &Arc<Self>, job: Job) -> Result<(), SpawnError> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.idle > 0 {
            queue.idle -= 1;
            queue.jobs.push_back(job);
            drop(queue);
            self.work.notify_one();
            return Ok(());
        }
        queue.threads_ever += 1;
        let name = format!("everfresh-{}", queue.threads_ever);
        drop(queue);
        let shared = Arc::clone(self);
        match thread::Builder::new().name(name).spawn(move || shared.work(job)) {
            Ok(_detached) => Ok(()),
            Err(error) => Err(SpawnError::new(format!("no thread could be started: {error}"))),
        }
    }

    fn work(&self, first: Job) {
        run(first);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.idle += 1;
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                run(job);
                queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.idle += 1;
                continue;
            }
            let (back, waited) = self.work.wait_timeout(queue, LINGER).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            // A job in the queue has a thread promised to it; idle ones beyond those may go.
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.idle -= 1;
                return;
            }
        }
    }
}

/// Work that panics takes no thread with it. The cache's own work contains its panics already.
fn run(job: Job) {
    let _: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(job));
}
