//! The cache in front of a policy of layers (feature `resilience`): it answers what it can, they do the rest.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everfresh_resilience::{Front, How, Missed, Served, Sleep};

use crate::cache::Cache;
#[cfg(feature = "tokio")]
use crate::clock::TokioClock;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::coalesce::Answer;
use crate::drive::drive;
use crate::engine::{Hasher, Key, Value};
use crate::error::LoadError;
use crate::event::{Outcome, RefreshStatus};
use crate::key::AsKey;
use crate::load::{IntoLoad, Load, Loaded, Previous};
use crate::loader::{Async, Blocking, Detached, Loader, Made};

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
        X: Send + Sync + 'static,
    {
        let loader = Async::<_, false>(move |_| async move { Whole(load().await) });
        let loader = Perhaps { loader, refuses };
        served(self.engine.obtain(self.hash(key), key, self.bounds(), loader).await)
    }

    fn serve_blocking<L, X>(&self, key: &Q, refuses: impl Fn() -> bool, load: L) -> Result<Served<V>, Missed<X>>
    where
        L: FnOnce() -> Result<V, X> + Send + 'static,
        X: Send + Sync + 'static,
    {
        let loader = Blocking::<_, false>(move |_| Whole(load()));
        let loader = Perhaps { loader, refuses };
        served(drive(self.engine.obtain(self.hash(key), key, self.bounds(), loader)))
    }
}

/// A loader's result as it is: a `V` that happens to be an `Option` or a `Loaded` is a value, too.
struct Whole<V, X>(Result<V, X>);

impl<V, X: Send + Sync + 'static> IntoLoad<V> for Whole<V, X> {
    type Error = X;

    fn into_load(self) -> Result<Load<V>, X> {
        self.0.map(|value| Load::Loaded(Loaded::new(value)))
    }
}

/// A loader that runs behind its caller only if that makes sense: a refresh that the layers would refuse is not
/// started.
struct Perhaps<L, R> {
    loader: L,
    refuses: R,
}

impl<K, V, L: Loader<K, V>, R: Fn() -> bool> Loader<K, V> for Perhaps<L, R> {
    type Error = L::Error;

    fn wants_previous(&self) -> bool {
        self.loader.wants_previous()
    }

    async fn run(self, key: &K, previous: Option<Previous<V>>) -> Made<V, L::Error> {
        self.loader.run(key, previous).await
    }

    fn can_detach(&self) -> bool {
        !(self.refuses)() && self.loader.can_detach()
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        match (self.refuses)() {
            true => Err(RefreshStatus::Refused),
            false => self.loader.detach(),
        }
    }
}

fn served<V, X>(obtained: Result<Answer<V>, LoadError<X>>) -> Result<Served<V>, Missed<X>> {
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
        Err(LoadError::Load(error)) => Err(Missed::Load(error)),
        Err(LoadError::Cache(error)) => Err(Missed::Front(Arc::new(error))),
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
