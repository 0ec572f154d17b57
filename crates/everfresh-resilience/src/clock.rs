//! Time as a value: the system's, one that a test moves by hand, or a runtime's own.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A future that completes when a clock has reached a moment.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time for policies; [`SystemClock`] unless the builder is told otherwise.
///
/// Time is counted in [`Duration`]s since an origin of the clock's own choosing.
pub trait Clock: Send + Sync + 'static {
    /// The time since the clock's origin. It must never go back.
    fn now(&self) -> Duration;

    /// Completes once [`now`](Clock::now) has reached `at`; at the first poll if it has already.
    fn sleep_until(&self, at: Duration) -> Sleep;
}

/// The monotonic clock of the operating system, counted from its first use in this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        ORIGIN.get_or_init(Instant::now).elapsed()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        Box::pin(futures_timer::Delay::new(at.saturating_sub(self.now())))
    }
}

/// A clock that stands still until it is told to move: tests of timeouts and pauses need no sleep.
///
/// Clones are handles to the same clock. Whoever waits for a moment is woken by the [`advance`](ManualClock::advance)
/// that reaches it.
///
/// ```
/// use std::time::Duration;
/// use everfresh_resilience::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(3));
/// assert_eq!(clock.now(), Duration::from_secs(3));
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    hands: Arc<Mutex<Hands>>,
}

#[derive(Default)]
struct Hands {
    now: Duration,
    last_ticket: u64,
    sleepers: Vec<Sleeper>,
}

struct Sleeper {
    at: Duration,
    ticket: u64,
    waker: Waker,
}

impl ManualClock {
    /// A clock that stands at its origin.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves time forward and wakes everybody whose moment has come.
    pub fn advance(&self, by: Duration) {
        let due: Vec<Sleeper> = {
            let mut hands = self.hands();
            hands.now = hands.now.saturating_add(by);
            let now = hands.now;
            hands.sleepers.extract_if(.., |sleeper| sleeper.at <= now).collect()
        };
        due.into_iter().for_each(|sleeper| sleeper.waker.wake());
    }

    /// The earliest moment that somebody waits for, to let a simulation jump there.
    pub fn next_wake(&self) -> Option<Duration> {
        self.hands().sleepers.iter().map(|sleeper| sleeper.at).min()
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.hands().now
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        Box::pin(ManualSleep { clock: self.clone(), at, ticket: None })
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

struct ManualSleep {
    clock: ManualClock,
    at: Duration,
    ticket: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clone_clock();
        let mut hands = clock.hands();
        if hands.now >= self.at {
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            hands.last_ticket += 1;
            hands.last_ticket
        });
        let waker = cx.waker().clone();
        let replaced = match hands.sleepers.iter_mut().find(|sleeper| sleeper.ticket == ticket) {
            Some(sleeper) => Some(std::mem::replace(&mut sleeper.waker, waker)),
            None => {
                hands.sleepers.push(Sleeper { at: self.at, ticket, waker });
                None
            }
        };
        // Not under the lock: it may be the last that knows of a task.
        drop(hands);
        drop(replaced);
        Poll::Pending
    }
}

impl ManualSleep {
    fn clone_clock(&self) -> ManualClock {
        self.clock.clone()
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let is_own = |sleeper: &mut Sleeper| sleeper.ticket == ticket;
            let own: Vec<Sleeper> = self.clock.hands().sleepers.extract_if(.., is_own).collect();
            drop(own);
        }
    }
}

/// The time of a tokio runtime, which stands still under `start_paused` and jumps with `tokio::time::advance`.
///
/// It can be read from any thread, and waited for as long as the runtime is there: whoever waits after its end panics. In
/// a runtime of one thread waits end only while somebody is in its `block_on`. Inside of another runtime it is that one's
/// time. In a tokio program it is the clock to choose: timers of the runtime are cheaper than those of [`SystemClock`],
/// which belong to a thread. Blocking functions belong on another clock: a paused runtime sees nothing to do while they run, and jumps to
/// the next deadline.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
    runtime: tokio::runtime::Handle,
    /// Only the time of a runtime of one thread can be paused; that of all others is the system's, inside or outside.
    can_pause: bool,
}

#[cfg(feature = "tokio")]
impl TokioClock {
    /// The time of the runtime in whose context this is called, counted from now.
    ///
    /// # Panics
    /// If called outside of a tokio runtime, or in one without time.
    pub fn new() -> TokioClock {
        let runtime = tokio::runtime::Handle::current();
        let can_pause = runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread;
        TokioClock { origin: tokio::time::Instant::now(), runtime, can_pause }
    }

    /// Entering is dear, and needed only outside of every runtime.
    #[inline]
    fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        tokio::runtime::Handle::try_current().is_err().then(|| self.runtime.enter())
    }

    #[inline]
    fn read(&self) -> Duration {
        // Whether this is inside of a runtime is known for nothing in a task. Anywhere else the answer writes to what
        // all threads share.
        let _inside = if self.can_pause && tokio::task::try_id().is_none() { self.enter() } else { None };
        self.origin.elapsed()
    }

    fn sleep(&self, at: Duration) -> Option<tokio::time::Sleep> {
        let at = self.origin.checked_add(at)?;
        let _inside = self.enter();
        Some(tokio::time::sleep_until(at))
    }
}

#[cfg(feature = "tokio")]
impl Default for TokioClock {
    fn default() -> TokioClock {
        TokioClock::new()
    }
}

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.read()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        match self.sleep(at) {
            Some(sleep) => Box::pin(sleep),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// The clock as the layers use it: the system's and the runtime's without a call through a table.
#[derive(Clone, Default)]
pub(crate) enum Timepiece {
    #[default]
    System,
    #[cfg(feature = "tokio")]
    Tokio(TokioClock),
    Other(Arc<dyn Clock>),
}

impl Timepiece {
    pub(crate) fn of(clock: impl Clock) -> Timepiece {
        let any = &clock as &dyn Any;
        if any.is::<SystemClock>() {
            return Timepiece::System;
        }
        #[cfg(feature = "tokio")]
        if let Some(clock) = any.downcast_ref::<TokioClock>() {
            return Timepiece::Tokio(clock.clone());
        }
        Timepiece::Other(Arc::new(clock))
    }

    pub(crate) fn is_system(&self) -> bool {
        matches!(self, Timepiece::System)
    }

    #[inline]
    pub(crate) fn now(&self) -> Duration {
        match self {
            Timepiece::System => SystemClock.now(),
            #[cfg(feature = "tokio")]
            Timepiece::Tokio(clock) => clock.read(),
            Timepiece::Other(clock) => clock.now(),
        }
    }

    pub(crate) fn sleep_until(&self, at: Duration) -> Sleep {
        match self {
            Timepiece::System => SystemClock.sleep_until(at),
            #[cfg(feature = "tokio")]
            Timepiece::Tokio(clock) => clock.sleep_until(at),
            Timepiece::Other(clock) => clock.sleep_until(at),
        }
    }

    /// What a future makes before `bound` has passed since `began`, or nothing; without a bound, however long it takes.
    /// A future that is ready at once costs no timer, and a timer of the runtime no allocation.
    #[inline]
    pub(crate) async fn within<F: Future>(
        &self,
        began: Duration,
        bound: Option<Duration>,
        mut future: Pin<&mut F>,
    ) -> Option<F::Output> {
        #[cfg(feature = "tokio")]
        let mut native = std::pin::pin!(None::<tokio::time::Sleep>);
        let mut boxed: Option<Sleep> = None;
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(made) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(made));
            }
            let Some(bound) = bound else { return Poll::Pending };
            #[cfg(feature = "tokio")]
            if let Timepiece::Tokio(clock) = self {
                if native.is_none() {
                    native.set(clock.sleep(began.saturating_add(bound)));
                }
                return native.as_mut().as_pin_mut().map_or(Poll::Pending, |sleep| sleep.poll(cx).map(|()| None));
            }
            let sleep = boxed.get_or_insert_with(|| self.sleep_until(began.saturating_add(bound)));
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

impl fmt::Debug for Timepiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timepiece").field(&self.now()).finish()
    }
}
