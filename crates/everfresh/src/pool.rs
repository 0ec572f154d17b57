//! How many refreshes may run at once, and who runs them.

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::clock::Timepiece;
use crate::moment::Moment;
use crate::spawn::{Spawn, Workers};
use crate::sync::raced::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use crate::wakers::Line;

/// Refreshes that hang past their deadline stop counting against the bound, up to this many times the bound; beyond it the
/// pool counts as full until one of them comes back.
const HUNG_FACTOR: usize = 4;

/// A bounded number of background refreshes, for one cache or shared by many (contract R2).
///
/// A full pool does not queue: the refresh is skipped, the stale value is served, and the next access tries again. A refresh
/// that hangs past its deadline gives its place to the next one that wants it; up to four times the bound may hang like this,
/// and beyond that the pool is full until one of them returns. Clones are handles to the same pool.
///
/// ```
/// use everfresh::{Cache, RefreshPool};
///
/// let pool = RefreshPool::new(8);
/// let users: Cache<u64, String> = Cache::builder().capacity(100).refresh_pool(pool.clone()).build()?;
/// let prices: Cache<String, u64> = Cache::builder().capacity(100).refresh_pool(pool).build()?;
/// # let _ = (users, prices);
/// # Ok::<(), everfresh::Error>(())
/// ```
#[derive(Clone)]
pub struct RefreshPool {
    inner: Arc<Inner>,
}

/// A refresh that panics gives its place back, and leaves all else as it was.
impl UnwindSafe for RefreshPool {}
/// As above.
impl RefUnwindSafe for RefreshPool {}

struct Inner {
    max: AtomicUsize,
    spawner: Arc<dyn Spawn>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<Arc<Ticket>>,
    hung: usize,
    /// Who wants to know when a place is given back.
    waiting: Line,
}

struct Ticket {
    clock: Timepiece,
    deadline: Moment,
}

impl Ticket {
    /// Asks a clock, which may be the user's: never under the lock.
    fn hangs(&self) -> bool {
        self.clock.now() >= self.deadline
    }
}

impl RefreshPool {
    /// At most `max` at once, on [`Workers`]; with 0 nothing is ever refreshed in the background.
    pub fn new(max: usize) -> RefreshPool {
        RefreshPool::with_spawner(max, Workers::new())
    }

    /// At most `max` at once, run by `spawner`.
    pub fn with_spawner(max: usize, spawner: impl Spawn) -> RefreshPool {
        RefreshPool {
            inner: Arc::new(Inner { max: AtomicUsize::new(max), spawner: Arc::new(spawner), state: Mutex::default() }),
        }
    }

    /// Changes how many may run at once; those that run already are not stopped.
    pub fn set_max_refreshes(&self, max: usize) {
        self.inner.max.store(max, Ordering::Relaxed);
        self.wake_who_waits();
    }

    /// Has all who wait for room look again, as something has changed that is no place given back.
    pub(crate) fn wake_who_waits(&self) {
        // The lock: whoever found the pool full before that change waits by now.
        let waiting = self.state().waiting.take();
        waiting.wake();
    }

    /// How many may run at once.
    pub fn max_refreshes(&self) -> usize {
        self.inner.max.load(Ordering::Relaxed)
    }

    /// How many run now, those that hang past their deadline among them.
    pub fn running(&self) -> usize {
        let state = self.state();
        state.running.len() + state.hung
    }

    pub(crate) fn spawner(&self) -> &Arc<dyn Spawn> {
        &self.inner.spawner
    }

    /// The right to run one more until `deadline`; `None` if the pool is full.
    pub(crate) fn acquire(&self, clock: &Timepiece, deadline: Moment) -> Option<Permit> {
        let max = self.max_refreshes();
        if max == 0 {
            return None;
        }
        let mut hung: Option<Arc<Ticket>> = None;
        // More than one may have to give way: the bound may have been lowered while they ran.
        loop {
            let running = {
                let mut state = self.state();
                if state.running.len() >= max && state.hung >= HUNG_FACTOR.saturating_mul(max) {
                    return None;
                }
                // If it is not there, it has come back meanwhile, or has given way to somebody else.
                if state.running.len() >= max
                    && let Some(hung) = &hung
                    && let Some(at) = state.running.iter().position(|ticket| Arc::ptr_eq(ticket, hung))
                {
                    state.running.swap_remove(at);
                    state.hung += 1;
                }
                if state.running.len() < max {
                    let ticket = Arc::new(Ticket { clock: clock.clone(), deadline });
                    state.running.push(Arc::clone(&ticket));
                    return Some(Permit { pool: self.clone(), ticket });
                }
                state.running.clone()
            };
            hung = Some(running.into_iter().find(|ticket| ticket.hangs())?);
        }
    }

    /// Completes once there is a place that nobody has, but for one that could be taken from a refresh that hangs; or once there
    /// is nothing to wait for, as no refresh may start any more, or the cache was `closed`.
    pub(crate) fn room<'p>(&'p self, closed: &'p AtomicBool) -> Room<'p> {
        Room { pool: self, closed, number: None }
    }

    /// How long it takes until one of those that run hangs; `None` if nothing more can be taken from those that do.
    pub(crate) fn until_one_hangs(&self) -> Option<Duration> {
        let state = self.state();
        if state.hung >= HUNG_FACTOR.saturating_mul(self.max_refreshes()) {
            return None;
        }
        let running = state.running.clone();
        drop(state);
        running.iter().map(|ticket| ticket.deadline.since(ticket.clock.now())).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.inner.state)
    }
}

/// Waits for a place; somebody else may be quicker to take it.
pub(crate) struct Room<'p> {
    pool: &'p RefreshPool,
    closed: &'p AtomicBool,
    /// Under which its waker may stand in the line.
    number: Option<u64>,
}

impl Future for Room<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let pool = self.pool;
        let mut state = pool.state();
        let max = pool.max_refreshes();
        // Acquire: pairs with the Release in `close_async`.
        if state.running.len() < max || max == 0 || self.closed.load(Ordering::Acquire) {
            drop(state);
            return Poll::Ready(());
        }
        let replaced = state.waiting.note(&mut self.number, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let forgotten = self.pool.state().waiting.forget(number);
            drop(forgotten);
        }
    }
}

impl fmt::Debug for RefreshPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshPool").field("max", &self.max_refreshes()).field("running", &self.running()).finish()
    }
}

/// Gives its place back when it is dropped.
pub(crate) struct Permit {
    pool: RefreshPool,
    ticket: Arc<Ticket>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.pool.state();
            match state.running.iter().position(|ticket| Arc::ptr_eq(ticket, &self.ticket)) {
                Some(at) => {
                    state.running.swap_remove(at);
                }
                None => state.hung -= 1,
            }
            state.waiting.take()
        };
        waiting.wake();
    }
}

/// Counts what one cache has running in the background, so that it can wait for all of it.
#[derive(Default)]
pub(crate) struct Background {
    state: Mutex<(usize, Line)>,
}

impl Background {
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.lock().0 += 1;
        Running { background: Arc::clone(self) }
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().0
    }

    /// Completes when nothing runs.
    pub(crate) fn drained(self: &Arc<Self>) -> Drained {
        Drained { background: Arc::clone(self), number: None }
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Line)> {
        lock(&self.state)
    }
}

/// Waits until a cache has nothing running in the background.
pub(crate) struct Drained {
    background: Arc<Background>,
    /// Under which its waker may stand in the line.
    number: Option<u64>,
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let Drained { background, number } = &mut *self;
        let mut state = background.lock();
        if state.0 == 0 {
            drop(state);
            return Poll::Ready(());
        }
        let replaced = state.1.note(number, waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let forgotten = self.background.lock().1.forget(number);
            drop(forgotten);
        }
    }
}

/// One piece of background work, until it is dropped.
pub(crate) struct Running {
    background: Arc<Background>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let wakers = {
            let mut state = self.background.lock();
            state.0 -= 1;
            if state.0 > 0 {
                return;
            }
            state.1.take()
        };
        wakers.wake();
    }
}
