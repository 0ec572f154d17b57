//! `Policy`: the one handle to a stack of layers, with a cache in front or without.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::drive;
use crate::error::Error;
use crate::event::Event;
use crate::front::{Carried, Failed, Front, How, Missed, Served};
use crate::inflight::Counted;
use crate::registry::Health;
use crate::stack::{Stack, Undone};
use crate::work::{Elsewhere, Here, Task};

/// Layers around calls, in one fixed order, with a cache in front of them ([`Behind`]) or without.
///
/// Clones are handles to the same policy: they share its circuit, its limits and its count of calls.
///
/// ```
/// use std::time::Duration;
/// use everfresh_resilience::{CircuitBreaker, Policy, Retry};
///
/// # fn fetch() -> Result<u32, std::io::Error> { Ok(7) }
/// let policy = Policy::<u32, std::io::Error>::builder()
///     .circuit_breaker(CircuitBreaker::consecutive(5))
///     .retry(Retry::attempts(3))
///     .timeout(Duration::from_secs(10))
///     .build()?;
/// assert_eq!(policy.call_blocking(fetch)?, 7); // in a task: policy.call(|| async { .. }).await?
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Policy<V, E, F = Direct> {
    pub(crate) stack: Arc<Stack<V, E>>,
    pub(crate) front: F,
}

/// A policy with nothing in front.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

/// A policy with a cache in front.
#[derive(Clone, Copy, Debug)]
pub struct Behind<F>(pub(crate) F);

impl<V, E, F: Clone> Clone for Policy<V, E, F> {
    fn clone(&self) -> Policy<V, E, F> {
        Policy { stack: Arc::clone(&self.stack), front: self.front.clone() }
    }
}

impl<V, E, F> fmt::Debug for Policy<V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name()).field("health", &self.health()).finish_non_exhaustive()
    }
}

/// Calling without a cache.
impl<V, E> Policy<V, E> {
    /// Calls through all layers; `function` is called anew for each attempt.
    ///
    /// A value that `retry_if` still rejects after the last attempt is returned all the same.
    ///
    /// # Errors
    /// What the function or a layer said, unless the fallback had a value for it.
    pub async fn call<W, Fut>(&self, function: W) -> Result<V, Error<E>>
    where
        W: FnMut() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.stack.answer(Task(function)).await
    }

    /// As [`call`](Policy::call) on a thread: the same circuit, limits and places.
    ///
    /// Without a timeout or a hedge the function runs on this thread. With one it runs on a worker, from which the
    /// caller walks away in time; the function itself cannot be stopped, goes on to its end there, and keeps its place
    /// in the bulkhead until then. With the feature `tracing` it is in the caller's span there, too.
    ///
    /// # Errors
    /// As [`call`](Policy::call).
    ///
    /// # Panics
    /// If the function panics.
    pub fn call_blocking<W>(&self, function: W) -> Result<V, Error<E>>
    where
        V: Send + 'static,
        E: Send + 'static,
        W: Fn() -> Result<V, E> + Send + Sync + 'static,
    {
        match self.stack.walks_away() {
            true => drive(self.stack.answer(Elsewhere::new(function, None))),
            false => drive(self.stack.answer(Here(function))),
        }
    }
}

fn run_blocking<V, E, W>(
    stack: &Stack<V, E>,
    counted: Option<Arc<Counted>>,
    carried: fn() -> Carried,
    function: W,
) -> Result<V, Undone<V, E>>
where
    V: Send + 'static,
    E: Send + 'static,
    W: Fn() -> Result<V, E> + Send + Sync + 'static,
{
    match stack.walks_away() {
        true => {
            let carried = carried();
            drive(stack.run(counted, Elsewhere::new(function, carried.around.clone())))
        }
        false => drive(stack.run(counted, Here(function))),
    }
}

/// What everybody who waited for a load is told.
enum Shared<V, E> {
    /// A word about the key.
    Failed(Arc<Error<E>>),
    /// The function was not called.
    NotCalled(Arc<Error<E>>),
    Rejected(V),
}

impl<V, E> From<Undone<V, E>> for Shared<V, E> {
    fn from(undone: Undone<V, E>) -> Shared<V, E> {
        match undone {
            Undone::Error(error) if !error.is_refusal() => Shared::Failed(Arc::new(error)),
            Undone::Error(error) => Shared::NotCalled(Arc::new(error)),
            Undone::Rejected(value) => Shared::Rejected(value),
        }
    }
}

impl<V: Send + Sync + 'static, E: Send + Sync + 'static> Failed for Shared<V, E> {
    fn may_be_remembered(&self) -> bool {
        matches!(self, Shared::Failed(_))
    }
}

/// A load under way. Boxed: that is of no weight beside a load, and the types of those who call do not nest in it.
struct Loading<V, E>(Pin<Box<dyn Future<Output = Loads<V, E>> + Send>>);

type Loads<V, E> = Result<V, Shared<V, E>>;

impl<V, E> Future for Loading<V, E> {
    type Output = Loads<V, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// Calling behind a cache.
impl<V, E, F> Policy<V, E, Behind<F>>
where
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The cached value of a key; if there is none to serve, what the function makes of it through all layers, once for
    /// everybody who asks meanwhile.
    ///
    /// A hit, fresh or stale, touches no layer. A stale value comes at once, and its refresh goes through all layers
    /// but the fallback; with an open circuit none is started. Neither a fallback's value nor one that `retry_if`
    /// rejected is ever stored.
    ///
    /// # Errors
    /// What the function or a layer said, shared with everybody who waited, unless there was an old value to serve
    /// instead or the fallback had one; [`Error::Front`] if the cache itself gave up.
    pub async fn call<Q, W, Fut>(&self, key: &Q, function: W) -> Result<V, Arc<Error<E>>>
    where
        Q: ?Sized,
        F: Front<Q, V>,
        W: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(value) = self.hit(key) {
            return Ok(value);
        }
        self.slowly(key, function).await
    }

    /// Boxed and apart, so that a hit stays small.
    #[cold]
    #[inline(never)]
    fn slowly<'a, Q, W, Fut>(
        &'a self,
        key: &'a Q,
        function: W,
    ) -> Pin<Box<impl Future<Output = Result<V, Arc<Error<E>>>> + use<'a, Q, W, Fut, V, E, F>>>
    where
        Q: ?Sized,
        F: Front<Q, V>,
        W: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Box::pin(self.call_slowly(key, function))
    }

    async fn call_slowly<Q, W, Fut>(&self, key: &Q, function: W) -> Result<V, Arc<Error<E>>>
    where
        Q: ?Sized,
        F: Front<Q, V>,
        W: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        let (telling, counted) = (Arc::new(Telling::default()), self.stack.counted());
        let with = counted.clone();
        let (stack, led) = (Arc::clone(&self.stack), Arc::clone(&telling));
        let load = move || {
            led.led.store(true, Ordering::Relaxed);
            Loading(Box::pin(async move { stack.run(with, Task(function)).await.map_err(Shared::from) }))
        };
        let served = self.front.0.serve(key, || telling.refuses(&self.stack), load).await;
        self.conclude(served, &telling, counted).await
    }

    /// As [`call`](Policy::call) on a thread; see the limits of timeouts at
    /// [`Policy::call_blocking`](Policy::call_blocking).
    ///
    /// # Errors
    /// As [`call`](Policy::call).
    ///
    /// # Panics
    /// If the function panics on this thread.
    #[inline]
    pub fn call_blocking<Q, W>(&self, key: &Q, function: W) -> Result<V, Arc<Error<E>>>
    where
        Q: ?Sized,
        F: Front<Q, V>,
        W: Fn() -> Result<V, E> + Send + Sync + 'static,
    {
        if let Some(value) = self.hit(key) {
            return Ok(value);
        }
        self.call_blocking_slowly(key, function)
    }

    #[cold]
    #[inline(never)]
    fn call_blocking_slowly<Q, W>(&self, key: &Q, function: W) -> Result<V, Arc<Error<E>>>
    where
        Q: ?Sized,
        F: Front<Q, V>,
        W: Fn() -> Result<V, E> + Send + Sync + 'static,
    {
        let (telling, counted) = (Arc::new(Telling::default()), self.stack.counted());
        let with = counted.clone();
        let (stack, led) = (Arc::clone(&self.stack), Arc::clone(&telling));
        let load = move || {
            led.led.store(true, Ordering::Relaxed);
            run_blocking(&stack, with, <F as Front<Q, V>>::carried, function).map_err(Shared::from)
        };
        let served = self.front.0.serve_blocking(key, || telling.refuses(&self.stack), load);
        drive(self.conclude(served, &telling, counted))
    }

    /// A fresh value, if there is one: for who would have to make ready what only a load needs.
    #[doc(hidden)]
    #[inline]
    pub fn hit<Q>(&self, key: &Q) -> Option<V>
    where
        Q: ?Sized,
        F: Front<Q, V>,
    {
        let value = self.front.0.fresh(key)?;
        self.stack.teller.tell(Event::CacheHit);
        Some(value)
    }

    /// The cache in front, to invalidate, and to ask for its statistics.
    pub fn cache(&self) -> &F {
        &self.front.0
    }

    async fn conclude(
        &self,
        served: Result<Served<V>, Missed<Shared<V, E>>>,
        telling: &Telling,
        _until_the_end: Option<Arc<Counted>>,
    ) -> Result<V, Arc<Error<E>>> {
        let tell = |event| self.stack.teller.tell(event);
        match &served {
            Ok(Served { how: How::Fresh, .. }) => tell(Event::CacheHit),
            Ok(Served { how: How::Stale, .. }) => {
                tell(Event::CacheStale);
                if telling.refused.load(Ordering::Relaxed) {
                    tell(Event::RefreshRefused);
                }
            }
            Ok(Served { how: How::Loaded, .. }) => tell(Event::CacheMiss),
            Ok(Served { how: How::Coalesced, .. }) => tell(Event::CacheCoalesced),
            Ok(Served { how: How::Fallback, .. }) => tell(Event::CacheFallback),
            Err(Missed::Remembered(_)) => tell(Event::CacheNegative),
            Err(Missed::Waited(_)) => tell(Event::CacheCoalesced),
            Err(Missed::Load(_)) if !telling.led.load(Ordering::Relaxed) => tell(Event::CacheCoalesced),
            Err(Missed::Load(_) | Missed::Front(_)) => tell(Event::CacheMiss),
        }
        let error = match served {
            Ok(served) => return Ok(served.value),
            Err(Missed::Load(shared) | Missed::Remembered(shared)) => match &*shared {
                Shared::Rejected(value) => return Ok(value.clone()),
                Shared::Failed(error) | Shared::NotCalled(error) => Arc::clone(error),
            },
            Err(Missed::Front(error) | Missed::Waited(error)) => Arc::new(Error::Front(error)),
        };
        self.stack.fall_back(&error).value().await.ok_or(error)
    }
}

/// What a call notes on its way through the front, to tell it afterwards.
#[derive(Default)]
struct Telling {
    /// The load was this call's own.
    led: AtomicBool,
    /// The layers would have refused it.
    refused: AtomicBool,
}

impl Telling {
    fn refuses<V, E>(&self, stack: &Stack<V, E>) -> bool {
        let refuses = stack.refuses();
        self.refused.fetch_or(refuses, Ordering::Relaxed);
        refuses
    }
}

/// Watching and ending.
impl<V, E, F> Policy<V, E, F> {
    /// The policy's name; empty if it was given none.
    pub fn name(&self) -> &str {
        &self.stack.teller.name
    }

    /// How it is. What it shares with others through a registry is told here, too.
    pub fn health(&self) -> Health {
        let stack = &*self.stack;
        Health {
            in_flight: stack.in_flight.count(),
            circuit: stack.circuit.as_ref().map(|circuit| circuit.health(stack.clock.now())),
            bulkhead: stack.places.as_ref().map(|places| places.health()),
        }
    }

    /// Refuses new calls with [`Error::Closed`], and waits until those under way have ended or `deadline` has passed;
    /// how many are left.
    ///
    /// A cache in front goes on serving what it has. Calls are counted always, refreshes among them; with an
    /// asynchronous fallback also those that wait for another's load, as it may be their turn after that. A blocking
    /// function that its caller has walked away from is not counted.
    pub async fn close(&self, deadline: Duration) -> usize {
        self.stack.in_flight.close(&self.stack.clock, deadline).await
    }

    /// As [`close`](Policy::close) on a thread.
    pub fn close_blocking(&self, deadline: Duration) -> usize {
        drive(self.close(deadline))
    }
}
