//! Time as a value: the system's, one that a test moves by hand, or a runtime's own.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::moment::{Moment, saturating_nanos};
use crate::second;
use crate::ticks;

/// A future that completes when a clock has reached a moment.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of time for a cache; [`SystemClock`] unless the builder is told otherwise.
///
/// Implement it to let a cache live in the time of a simulation or of a runtime. Time is counted in [`Duration`]s since an
/// origin of the clock's own choosing; a cache can tell 584 years apart from its origin, later moments count as never.
pub trait Clock: Send + Sync + 'static {
    /// The time since the clock's origin. It must never go back.
    fn now(&self) -> Duration;

    /// Completes once [`now`](Clock::now) has reached `at`; at the first poll if it has already.
    fn sleep_until(&self, at: Duration) -> Sleep;

    /// Whether time moves only when the program says so, as in a test or a simulation. Then a cache reclaims what has expired,
    /// and refreshes on a schedule, on the thread that moves the clock, which wakes those who sleep: so that the order of all
    /// that happens is the program's. Otherwise, and by default, a thread of its own does that.
    fn moves_by_hand(&self) -> bool {
        false
    }
}

/// A clock that others have, too, or that is chosen while the program runs (`Arc<dyn Clock>`).
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        (**self).sleep_until(at)
    }

    fn moves_by_hand(&self) -> bool {
        (**self).moves_by_hand()
    }
}

/// The monotonic clock of the operating system, counted from some moment before its first use in this process.
///
/// A cache asks for the exact time only near a deadline: within 25 ms on Linux. Further away cheaper means will do, of which the
/// cheapest, with glibc on x86-64, is that the wall clock's second is still the one in which the time was last noted; that is good
/// for deadlines more than 2.05 s away. It takes one thread for the process, `everfresh-clock`, which sleeps until somebody sets
/// the wall clock (contract T4), and is given no signals.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(ticks::exact_nanos())
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        Box::pin(futures_timer::Delay::new(at.saturating_sub(self.now())))
    }
}

/// A clock that stands still until it is told to move: tests of code that caches need no sleep.
///
/// Clones are handles to the same clock. Whoever waits for a moment is woken by the [`advance`](ManualClock::advance) that
/// reaches it; what a cache does at some time of its own accord, such as giving back the room of what has expired, is done by
/// the time that `advance` returns.
///
/// ```
/// use std::time::Duration;
/// use everfresh::{Cache, Lifetime, ManualClock};
///
/// let clock = ManualClock::new();
/// let cache: Cache<String, u32> = Cache::builder()
///     .capacity(10)
///     .lifetime(Lifetime::ttl(Duration::from_secs(60)))
///     .clock(clock.clone())
///     .build()?;
/// cache.insert("a".to_owned(), 1);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(cache.get("a"), None);
/// # Ok::<(), everfresh::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    shared: Arc<Manual>,
}

#[derive(Default)]
struct Manual {
    now: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

#[derive(Default)]
struct Sleepers {
    next_id: u64,
    waiting: BTreeMap<(u64, u64), Waker>,
}

impl ManualClock {
    /// A clock that stands at its origin.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves time forward and wakes everybody whose moment has come.
    pub fn advance(&self, by: Duration) {
        let to = self.shared.now.load(Ordering::Acquire).saturating_add(saturating_nanos(by));
        self.move_to(to);
    }

    /// Moves time forward to `at` since the origin; does nothing if that is in the past.
    pub fn advance_to(&self, at: Duration) {
        self.move_to(saturating_nanos(at));
    }

    /// The earliest moment that somebody waits for, to let a simulation jump there.
    pub fn next_wake(&self) -> Option<Duration> {
        let sleepers = self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.waiting.keys().next().map(|&(at, _)| Duration::from_nanos(at))
    }

    fn move_to(&self, to: u64) {
        let due = {
            let mut sleepers = self.shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            // Release: pairs with the Acquire in `now`; under the lock so that no sleeper registers between.
            let now = self.shared.now.fetch_max(to, Ordering::AcqRel).max(to);
            let later = match now.checked_add(1) {
                Some(after) => sleepers.waiting.split_off(&(after, 0)),
                None => BTreeMap::new(),
            };
            std::mem::replace(&mut sleepers.waiting, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.shared.now.load(Ordering::Acquire))
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        Box::pin(ManualSleep { clock: self.clone(), at: saturating_nanos(at), id: None })
    }

    fn moves_by_hand(&self) -> bool {
        true
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

struct ManualSleep {
    clock: ManualClock,
    at: u64,
    id: Option<u64>,
}

impl Future for ManualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.clock.shared);
        let mut sleepers = shared.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.now.load(Ordering::Acquire) >= self.at {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            sleepers.next_id += 1;
            sleepers.next_id
        });
        let replaced = sleepers.waiting.insert((self.at, id), cx.waker().clone());
        // Not under the lock: it may be the last that knows of a task.
        drop(sleepers);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let sleepers = self.clock.shared.sleepers.lock();
            let waker = sleepers.unwrap_or_else(PoisonError::into_inner).waiting.remove(&(self.at, id));
            drop(waker);
        }
    }
}

/// The time of a tokio runtime, which stands still under `start_paused` and jumps with `tokio::time::advance`.
///
/// It can be read from any thread, and waited for as long as the runtime is there: a bounded wait after its end panics, and what expires
/// then is reclaimed no more. In a runtime of one thread waits end only while somebody is in its `block_on`. A cache that outlives its
/// runtime belongs on [`SystemClock`]. Loaders that block belong on another clock, too: a paused runtime sees nothing to do while they
/// run, and jumps to the next deadline.
#[cfg(feature = "tokio")]
#[derive(Clone, Debug)]
pub struct TokioClock {
    origin: tokio::time::Instant,
    runtime: tokio::runtime::Handle,
    /// Only the time of a runtime of one thread can be paused; that of all others is the system's.
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
        // Entering writes to what all threads of the runtime share.
        if !self.can_pause {
            return self.origin.into_std().elapsed();
        }
        let _inside = self.runtime.enter();
        self.origin.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        let _inside = self.runtime.enter();
        match self.origin.checked_add(at) {
            Some(at) => Box::pin(tokio::time::sleep_until(at)),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// The cheapest estimate of the system's clock; as it is for nearly every hit, it is one word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse(u64);

impl Glimpse {
    /// Nobody has asked, or nothing cheap is to be had.
    pub(crate) const NONE: Glimpse = Glimpse(0);

    #[inline(always)]
    pub(crate) fn of_system() -> Option<Glimpse> {
        let about = if second::IS_THERE { second::about() } else { ticks::about() };
        about.map(Glimpse)
    }

    #[cfg(test)]
    pub(crate) fn of(nanos: u64) -> Glimpse {
        Glimpse(nanos)
    }

    /// By how much it is late at most; it is never early.
    pub(crate) const LATE: Duration = if second::IS_THERE { second::LATE } else { ticks::GUARD };

    #[inline(always)]
    pub(crate) fn is_known(self) -> bool {
        self.0 != 0
    }

    /// Nanoseconds that have passed since then at most, and less by [`LATE`](Glimpse::LATE) at least; very many since what is
    /// still to come. To be asked of what is known.
    #[inline(always)]
    pub(crate) fn age_of(self, moment: Moment) -> u64 {
        self.bounds().1.nanos().wrapping_sub(moment.nanos())
    }

    /// The moments between which the time is.
    #[inline(always)]
    pub(crate) fn bounds(self) -> (Moment, Moment) {
        from_to(self.0, Glimpse::LATE)
    }
}

/// A moment of the system's clock, and the one so much later: neither is near the end of time.
#[inline(always)]
fn from_to(nanos: u64, late: Duration) -> (Moment, Moment) {
    (Moment::from_nanos(nanos), Moment::from_nanos(nanos.wrapping_add(late.as_nanos() as u64)))
}

/// The time as it may have been a moment ago; never early.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Estimate {
    Cheapest(Glimpse),
    /// Late by [`ticks::GUARD`] at most.
    OfTick(u64),
    Exact(Moment),
}

impl Estimate {
    /// Whether there is none better but the time itself.
    pub(crate) fn is_good(self) -> bool {
        !matches!(self, Estimate::Cheapest(_))
    }

    /// The moments between which the time is.
    pub(crate) fn bounds(self) -> (Moment, Moment) {
        match self {
            Estimate::Cheapest(glimpse) => glimpse.bounds(),
            Estimate::OfTick(nanos) => from_to(nanos, ticks::GUARD),
            Estimate::Exact(now) => (now, now),
        }
    }
}

/// The clock as the cache uses it: exact when asked, cheap where that is enough.
#[derive(Clone)]
pub(crate) enum Timepiece {
    /// The system's clock, which has a cheap estimate.
    System,
    /// Any other.
    Other(Arc<dyn Clock>),
}

impl Timepiece {
    pub(crate) fn now(&self) -> Moment {
        match self {
            Timepiece::System => Moment::from_nanos(ticks::exact_nanos()),
            Timepiece::Other(clock) => clock.now().into(),
        }
    }

    /// The estimate that somebody has made, or the next best.
    pub(crate) fn estimate(&self, made: Glimpse) -> Estimate {
        match self {
            _ if made.is_known() => Estimate::Cheapest(made),
            Timepiece::System => Glimpse::of_system().map_or_else(|| self.estimate_well(), Estimate::Cheapest),
            Timepiece::Other(_) => Estimate::Exact(self.now()),
        }
    }

    /// A better estimate than that one; at last the time itself.
    pub(crate) fn estimate_better(&self, than: Estimate) -> Estimate {
        match (self, than) {
            (Timepiece::System, Estimate::Cheapest(_)) => self.estimate_well(),
            _ => Estimate::Exact(self.now()),
        }
    }

    /// What the system's clock tells by the tick; noted, so that the next glimpse tells more.
    fn estimate_well(&self) -> Estimate {
        second::note(ticks::about).map_or_else(|| Estimate::Exact(self.now()), Estimate::OfTick)
    }

    pub(crate) fn is_system(&self) -> bool {
        matches!(self, Timepiece::System)
    }

    /// The time for what may be dated early by a tick, but never late.
    #[inline]
    pub(crate) fn about(&self) -> Moment {
        match self {
            Timepiece::System => ticks::about().map_or_else(|| self.now(), Moment::from_nanos),
            Timepiece::Other(_) => self.now(),
        }
    }

    /// For a cache whose entries end, before it is asked for estimates.
    pub(crate) fn get_ready(&self) {
        if let Timepiece::System = self {
            second::watch();
        }
    }

    pub(crate) fn moves_by_hand(&self) -> bool {
        match self {
            Timepiece::System => false,
            Timepiece::Other(clock) => clock.moves_by_hand(),
        }
    }

    pub(crate) fn sleep_until(&self, at: Moment) -> Sleep {
        if at == Moment::NEVER {
            return Box::pin(std::future::pending());
        }
        let at = Duration::from_nanos(at.nanos());
        match self {
            Timepiece::System => SystemClock.sleep_until(at),
            Timepiece::Other(clock) => clock.sleep_until(at),
        }
    }
}

impl fmt::Debug for Timepiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timepiece").field(&self.now()).finish()
    }
}
