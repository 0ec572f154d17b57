//! The cache in front of a policy of layers (feature `resilience`): it answers what it can, they do the rest.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everfresh_resilience::{Carried, Failed, Front, How, Missed, Served, Sleep};

use crate::cache::Cache;
#[cfg(feature = "tokio")]
use crate::clock::TokioClock;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::coalesce::Answer;
use crate::drive::drive;
use crate::engine::{Hasher, Key, Value};
use crate::error::{Failure, LoadError};
use crate::event::{Outcome, RefreshStatus};
use crate::key::AsKey;
use crate::leading::{led_from_here, working_for};
use crate::load::{Load, Loaded, Previous};
use crate::loader::{Detached, Loader, Made, MadeLater, Work};
use crate::obtain::Gave;

impl<K: Key, V: Value, S: Hasher, Q: AsKey<K> + Sync + ?Sized> Front<Q, V> for Cache<K, V, S> {
    #[inline]
    fn fresh(&self, key: &Q) -> Option<V> {
        self.engine.get_fresh(self.hash(key), key)
    }

    async fn serve<L, Fut, X>(
        &self,
        key: &Q,
        refuses: impl Fn() -> bool + Send,
        load: L,
    ) -> Result<Served<V>, Missed<X>>
    where
        L: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, X>> + Send + 'static,
        X: Failed,
    {
        let led = AtomicBool::new(false);
        let loader = Task { load, refuses, led: &led };
        let obtained = self.engine.obtain_or_why(self.hash(key), key, self.bounds(), loader).await;
        served(obtained, led.into_inner())
    }

    fn serve_blocking<L, X>(&self, key: &Q, refuses: impl Fn() -> bool, load: L) -> Result<Served<V>, Missed<X>>
    where
        L: FnOnce() -> Result<V, X> + Send + 'static,
        X: Failed,
    {
        let led = AtomicBool::new(false);
        let loader = Thread { load, refuses, led: &led };
        let obtained = drive(self.engine.obtain_or_why(self.hash(key), key, self.bounds(), loader));
        served(obtained, led.into_inner())
    }

    /// The function may ask for its own key on the worker, too (contract L8).
    fn carried() -> Carried {
        let Some(led) = led_from_here() else { return Carried::default() };
        let there = Arc::downgrade(&led);
        Carried::new(led, move |function| working_for(&there, function))
    }
}

/// A load's result as it is: a `V` that happens to be an `Option` or a `Loaded` is a value, too.
fn whole<V, X>(made: Result<V, X>) -> Made<V, X> {
    made.map(|value| Load::Loaded(Loaded::new(value)))
}

fn failure<X: Failed>(error: X) -> Failure {
    let is_passing = !error.may_be_remembered();
    Failure::new(error).passing(is_passing)
}

/// The layers as a loader, in a task. It runs behind its caller only if that makes sense: a refresh that the layers
/// would refuse is not started.
struct Task<'a, L, R> {
    load: L,
    refuses: R,
    /// The load was this caller's.
    led: &'a AtomicBool,
}

impl<K, V, L, Fut, X, R> Loader<K, V> for Task<'_, L, R>
where
    L: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, X>> + Send + 'static,
    V: Send + 'static,
    X: Failed,
    R: Fn() -> bool,
{
    type Error = X;

    fn wants_previous(&self) -> bool {
        false
    }

    fn is_passing(error: &X) -> bool {
        !error.may_be_remembered()
    }

    async fn run(self, _key: &K, _previous: Option<Previous<V>>) -> Made<V, X> {
        self.led.store(true, Ordering::Relaxed);
        whole((self.load)().await)
    }

    fn can_detach(&self) -> bool {
        !(self.refuses)()
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        self.led.store(true, Ordering::Relaxed);
        if (self.refuses)() {
            return Err(RefreshStatus::Refused);
        }
        let load = self.load;
        let work = move |_key: &K, _previous| -> MadeLater<V, Failure> {
            Box::pin(async move { whole(load().await).map_err(failure) })
        };
        Ok(Detached { wants_previous: false, work: Work::Async(Box::new(work)) })
    }
}

/// As [`Task`], on a thread.
struct Thread<'a, L, R> {
    load: L,
    refuses: R,
    led: &'a AtomicBool,
}

impl<K, V, L, X, R> Loader<K, V> for Thread<'_, L, R>
where
    L: FnOnce() -> Result<V, X> + Send + 'static,
    X: Failed,
    R: Fn() -> bool,
{
    type Error = X;

    fn wants_previous(&self) -> bool {
        false
    }

    fn is_passing(error: &X) -> bool {
        !error.may_be_remembered()
    }

    async fn run(self, _key: &K, _previous: Option<Previous<V>>) -> Made<V, X> {
        self.led.store(true, Ordering::Relaxed);
        whole((self.load)())
    }

    fn can_detach(&self) -> bool {
        !(self.refuses)()
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        self.led.store(true, Ordering::Relaxed);
        if (self.refuses)() {
            return Err(RefreshStatus::Refused);
        }
        let load = self.load;
        let work = move |_key: &K, _previous| whole(load()).map_err(failure);
        Ok(Detached { wants_previous: false, work: Work::Blocking(Box::new(work)) })
    }
}

fn served<V, X>(obtained: Result<Answer<V>, Gave<X>>, led: bool) -> Result<Served<V>, Missed<X>> {
    match obtained {
        Ok(answer) => {
            let how = match answer.outcome {
                Outcome::Hit | Outcome::SecondLevel => How::Fresh,
                Outcome::Stale => How::Stale,
                Outcome::Coalesced => How::Coalesced,
                Outcome::Fallback => How::Fallback,
                _ => How::Loaded,
            };
            Ok(Served { value: answer.value, how })
        }
        Err(Gave::Up(LoadError::Load(error))) => Err(Missed::Load(error)),
        Err(Gave::Remembered(LoadError::Load(error))) => Err(Missed::Remembered(error)),
        Err(Gave::Up(LoadError::Cache(error)) | Gave::Remembered(LoadError::Cache(error))) => {
            let waited = !(led || error.is_overloaded() || error.is_recursive());
            Err(if waited { Missed::Waited(Arc::new(error)) } else { Missed::Front(Arc::new(error)) })
        }
    }
}

macro_rules! tells_the_time {
    ($($(#[$when:meta])? $clock:ty),*) => {$(
        $(#[$when])?
        impl everfresh_resilience::Clock for $clock {
            fn now(&self) -> Duration {
                Clock::now(self)
            }

            fn sleep_until(&self, at: Duration) -> Sleep {
                Clock::sleep_until(self, at)
            }
        }
    )*};
}
tells_the_time!(
    SystemClock,
    ManualClock,
    #[cfg(feature = "tokio")]
    TokioClock
);
