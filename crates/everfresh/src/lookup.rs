//! One lookup with bounds of its own.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::cache::Cache;
use crate::coalesce::{Answer, Bounds};
use crate::drive::drive;
use crate::engine::{Hasher, Key, Value};
use crate::error::LoadError;
use crate::event::{Outcome, RefreshStatus};
use crate::key::AsKey;
use crate::load::{IntoLoad, Previous};
use crate::loader::{Async, Blocking, Inline};

/// A lookup that says more than which key: how old the value may be, how long to wait, what to do regardless.
///
/// Made by [`Cache::lookup`], ended by one of its `load` methods or by [`peek`](Lookup::peek).
#[must_use = "a lookup does nothing until one of its load methods is called"]
pub struct Lookup<'a, K, V, S, Q: ?Sized> {
    cache: &'a Cache<K, V, S>,
    key: &'a Q,
    bounds: Bounds,
}

impl<K, V, S, Q: ?Sized> fmt::Debug for Lookup<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// A lookup with bounds of its own, which ends with an [`Answer`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use everfresh::{Cache, Outcome};
    ///
    /// let cache: Cache<String, u32> = Cache::builder().capacity(100).build()?;
    /// let answer = cache
    ///     .lookup("AAPL")
    ///     .max_stale(Duration::from_secs(5))
    ///     .wait_at_most(Duration::from_millis(200))
    ///     .load(|| Ok::<u32, std::io::Error>(4))?;
    /// assert_eq!((answer.value, answer.outcome), (4, Outcome::Loaded));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lookup<'a, Q: AsKey<K> + ?Sized>(&'a self, key: &'a Q) -> Lookup<'a, K, V, S, Q> {
        Lookup { cache: self, key, bounds: Bounds { aged: true, ..self.bounds() } }
    }
}

impl<K, V, S, Q> Lookup<'_, K, V, S, Q>
where
    K: Key,
    V: Value,
    S: Hasher,
    Q: AsKey<K> + ?Sized,
{
    /// Accepts a stale value only if it became stale no longer ago than this; an older one is loaded first, and not even
    /// served when that fails. One that may still be served after a failure is loaded first also while its key is left alone
    /// after one.
    pub fn max_stale(mut self, bound: Duration) -> Self {
        self.bounds.max_stale = Some(bound);
        self
    }

    /// Waits no longer than this: then a value that may be served after a failure, else a timeout error (contract L5).
    ///
    /// The load itself goes on behind and stores its result.
    pub fn wait_at_most(mut self, bound: Duration) -> Self {
        self.bounds.wait_at_most = Some(bound);
        self
    }

    /// With a value at hand that may be served after a failure, waits no longer than this for a better one (contract L6).
    pub fn soft_timeout(mut self, bound: Duration) -> Self {
        self.bounds.soft_timeout = Some(bound);
        self
    }

    /// Gives up a load that this lookup begins after so long: its slot is free then, and its late result is not stored
    /// (contract L4).
    pub fn load_timeout(mut self, bound: Duration) -> Self {
        self.bounds.load_timeout = Some(bound);
        self
    }

    /// Loads whatever the cache or its second level holds, and stores what was loaded; a load that runs already is joined.
    ///
    /// If it fails, the caller gets the error, and nothing old instead: what is held stays as it is.
    pub fn bypass(mut self) -> Self {
        self.bounds.bypass = true;
        self
    }

    /// What the cache holds and may serve, without loading, refreshing or counting anything.
    pub fn peek(self) -> Option<Answer<V>> {
        self.cache.peek_answer(self.key, self.bounds.max_stale)
    }

    /// Serves the value, or loads it here, on the calling thread; with a bound on time, on a worker.
    ///
    /// # Errors
    /// [`LoadError::Load`] with the loader's error if that failed and there is nothing to serve instead;
    /// [`LoadError::Cache`] if a bound was reached, the loader found nothing, or it asked for its own key.
    ///
    /// # Panics
    /// If the loader panics on the calling thread, the panic goes on to the caller.
    pub fn load<F, R>(self, loader: F) -> Result<Answer<V>, LoadError<R::Error>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: IntoLoad<V>,
    {
        if let Some(answer) = self.at_once() {
            return Ok(answer);
        }
        let loader = Blocking::<_, false>(move |_| loader());
        drive(self.cache.engine.obtain(self.cache.hash(self.key), self.key, self.bounds, loader))
    }

    /// As [`load`](Lookup::load), and the loader is told what the cache still has.
    ///
    /// # Errors
    /// As [`load`](Lookup::load).
    pub fn load_with<F, R>(self, loader: F) -> Result<Answer<V>, LoadError<R::Error>>
    where
        F: FnOnce(Option<Previous<V>>) -> R + Send + 'static,
        R: IntoLoad<V>,
    {
        if let Some(answer) = self.at_once() {
            return Ok(answer);
        }
        drive(self.cache.engine.obtain(self.cache.hash(self.key), self.key, self.bounds, Blocking::<_, true>(loader)))
    }

    /// As [`load_with`](Lookup::load_with) with a loader that borrows from its caller.
    ///
    /// Such a loader can only run here: a stale value is served without starting a refresh, and bounds on time hold for
    /// those who wait but not for the caller who loads.
    ///
    /// # Errors
    /// As [`load`](Lookup::load).
    pub fn load_inline<F, R>(self, loader: F) -> Result<Answer<V>, LoadError<R::Error>>
    where
        F: FnOnce(Option<Previous<V>>) -> R,
        R: IntoLoad<V>,
    {
        if let Some(answer) = self.at_once() {
            return Ok(answer);
        }
        drive(self.cache.engine.obtain(self.cache.hash(self.key), self.key, self.bounds, Inline(loader)))
    }

    /// Serves the value, or loads it in the calling task; with a bound on time, in a task of its own.
    ///
    /// # Errors
    /// As [`load`](Lookup::load).
    #[allow(clippy::manual_async_fn, reason = "callers must not have to prove that it is Send")]
    pub fn load_async<F, Fut>(
        self,
        loader: F,
    ) -> impl Future<Output = Result<Answer<V>, LoadError<<Fut::Output as IntoLoad<V>>::Error>>> + Send
    where
        Q: Sync,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        async move {
            if let Some(answer) = self.at_once() {
                return Ok(answer);
            }
            let loader = Async::<_, false>(move |_| loader());
            self.cache.engine.obtain_later(self.cache.hash(self.key), self.key, self.bounds, loader).await
        }
    }

    /// As [`load_async`](Lookup::load_async), and the loader is told what the cache still has.
    ///
    /// # Errors
    /// As [`load`](Lookup::load).
    #[allow(clippy::manual_async_fn, reason = "callers must not have to prove that it is Send")]
    pub fn load_async_with<F, Fut>(
        self,
        loader: F,
    ) -> impl Future<Output = Result<Answer<V>, LoadError<<Fut::Output as IntoLoad<V>>::Error>>> + Send
    where
        Q: Sync,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        async move {
            if let Some(answer) = self.at_once() {
                return Ok(answer);
            }
            let hash = self.cache.hash(self.key);
            self.cache.engine.obtain_later(hash, self.key, self.bounds, Async::<_, true>(loader)).await
        }
    }

    /// The fresh value that most lookups find, without the apparatus of the others.
    fn at_once(&self) -> Option<Answer<V>> {
        if self.bounds.bypass {
            return None;
        }
        let engine = &self.cache.engine;
        let found = engine.store.find(self.cache.hash(self.key), self.key)?;
        if !engine.is_fresh(&found) {
            return None;
        }
        let age = engine.clock.now().since(found.loaded_at());
        engine.conclude(Some(&found.key), Outcome::Hit, Some(age), RefreshStatus::NotNeeded);
        Some(Answer { value: found.value.clone(), outcome: Outcome::Hit, age, refresh: RefreshStatus::NotNeeded })
    }
}
