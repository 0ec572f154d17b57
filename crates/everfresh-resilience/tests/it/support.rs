//! What all tests use: short times, an error, an ear for events, a function that counts its calls.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everfresh::{Cache, Lifetime, TokioClock};
use everfresh_resilience::{Builder, Event, Policy};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The functions' own error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub u32);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "broken {}", self.0)
    }
}

impl std::error::Error for Broken {}

pub type Plain = Policy<u32, Broken>;
pub type Cached = Policy<u32, Broken, everfresh_resilience::Behind<Cache<String, u32>>>;

/// A builder in the runtime's time.
pub fn builder() -> Builder<u32, Broken> {
    Plain::builder().clock(everfresh_resilience::TokioClock::new())
}

/// A cache in the runtime's time: fresh for a minute, then stale for ten.
pub fn cache() -> Cache<String, u32> {
    let lifetime = Lifetime::ttl(MINUTE).stale_while_revalidate(10 * MINUTE);
    Cache::builder().capacity(100).lifetime(lifetime).clock(TokioClock::new()).build().unwrap()
}

/// How often a function was called.
#[derive(Clone, Default)]
pub struct Calls(Arc<AtomicUsize>);

impl Calls {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub fn one_more(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A function that answers with the number of the call.
    pub fn numbered(&self) -> impl FnMut() -> std::future::Ready<Result<u32, Broken>> + Send + use<> {
        let calls = self.clone();
        move || std::future::ready(Ok(calls.one_more() as u32))
    }

    /// A function that fails with the number of the call.
    pub fn failing(&self) -> impl FnMut() -> std::future::Ready<Result<u32, Broken>> + Send + use<> {
        let calls = self.clone();
        move || std::future::ready(Err(Broken(calls.one_more() as u32)))
    }

    /// A function that takes so long, then answers with the number of the call.
    pub fn slow(
        &self,
        takes: Duration,
    ) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = Result<u32, Broken>> + Send>> + Send + use<> {
        let calls = self.clone();
        move || {
            let number = calls.one_more() as u32;
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                Ok(number)
            })
        }
    }
}

/// Every event that was told.
#[derive(Clone, Default)]
pub struct Ear(Arc<Mutex<Vec<Event>>>);

impl Ear {
    pub fn listener(&self) -> impl Fn(&str, &Event) + Send + Sync + 'static {
        let heard = Arc::clone(&self.0);
        move |_, event| heard.lock().unwrap().push(*event)
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.take().iter().map(Event::name).collect()
    }
}

/// What a future makes at its first poll.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(made) => Some(made),
        Poll::Pending => None,
    }
}

/// How much of the runtime's time passed.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let began = tokio::time::Instant::now();
    (future.await, began.elapsed())
}
