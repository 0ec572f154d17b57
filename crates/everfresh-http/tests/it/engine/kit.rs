//! An origin that says what a test lets it say, and a client.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everfresh::ManualClock;
use everfresh_http::engine::{Body, BoxError, Fetch};
use everfresh_http::{CacheAnswer, HttpCache, HttpCacheBuilder, Outcome};
use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::sync::Semaphore;

use crate::world::{Fields, start};

pub(crate) type TestBody = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Said = Result<Response<TestBody>, String>;
type Answering = Pin<Box<dyn Future<Output = Said> + Send>>;

/// Answers every request by a function of (how many came before, request), once it is let.
#[derive(Clone)]
pub(crate) struct Origin {
    answer: Arc<dyn Fn(usize, request::Parts) -> Answering + Send + Sync>,
    asked: Arc<Mutex<Vec<request::Parts>>>,
    pub(crate) dropped: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Origin {
    pub(crate) fn new(answer: impl Fn(usize, &request::Parts) -> Said + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(move |count, parts| {
                let said = answer(count, &parts);
                Box::pin(async move { said })
            }),
            asked: Arc::default(),
            dropped: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// As [`new`](Self::new), where an answer takes its time.
    pub(crate) fn in_time<F>(answer: impl Fn(usize, request::Parts) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Said> + Send + 'static,
    {
        Self {
            answer: Arc::new(move |count, parts| Box::pin(answer(count, parts))),
            ..Self::new(|_, _| unreachable!())
        }
    }

    /// The same answer every time, but for its body, which is the number of the request.
    pub(crate) fn counting(with: Fields<'static>) -> Self {
        Self::new(move |count, _| Ok(text(200, with, &count.to_string())))
    }

    /// Lets nobody through until [`let_through`](Self::let_through).
    pub(crate) fn hold(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// As [`hold`](Self::hold), where some were let through and did not come.
    pub(crate) fn hold_again(&self) {
        self.gate.forget_permits(self.gate.available_permits());
    }

    pub(crate) fn let_through(&self, count: usize) {
        self.gate.add_permits(count);
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().expect("the log").len()
    }

    pub(crate) fn last(&self) -> request::Parts {
        self.asked.lock().expect("the log").last().cloned().expect("a request")
    }

    pub(crate) fn fetch(&self) -> impl Fetch<Empty<Bytes>, Body = TestBody, Error = String> {
        let own = self.clone();
        move |request: Request<Empty<Bytes>>| async move {
            let count = {
                let mut asked = own.asked.lock().expect("the log");
                asked.push(request.into_parts().0);
                asked.len() - 1
            };
            let parts = own.last();
            let watch = Dropped(Arc::clone(&own.dropped));
            own.gate.acquire().await.expect("open").forget();
            std::mem::forget(watch);
            (own.answer)(count, parts).await
        }
    }
}

/// Counts requests that were dropped while they waited.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn whole(status: u16, with: Fields<'_>, body: TestBody) -> Response<TestBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    *response.headers_mut() = crate::world::fields(with);
    response
}

pub(crate) fn text(status: u16, with: Fields<'_>, body: &str) -> Response<TestBody> {
    whole(status, with, Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {}).boxed_unsync())
}

/// A body that the test sends piece by piece.
pub(crate) struct Pipe(tokio::sync::mpsc::UnboundedSender<Result<http_body::Frame<Bytes>, BoxError>>);

impl Pipe {
    pub(crate) fn new() -> (Self, TestBody) {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let stream = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
        (Self(send), StreamBody::new(stream).boxed_unsync())
    }

    pub(crate) fn send(&self, piece: &'static str) -> bool {
        self.0.send(Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))).is_ok()
    }

    pub(crate) fn trailers(&self, fields: HeaderMap) {
        self.0.send(Ok(http_body::Frame::trailers(fields))).expect("a reader");
    }

    pub(crate) fn fail(&self) {
        self.0.send(Err("cut off".into())).expect("a reader");
    }
}

/// A pipe that an origin gives away once.
pub(crate) fn once(body: TestBody) -> impl Fn() -> TestBody {
    let body = Mutex::new(Some(body));
    move || body.lock().expect("the body").take().expect("asked once")
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) answer: CacheAnswer,
}

impl Got {
    pub(crate) fn outcome(&self) -> Outcome {
        self.answer.outcome
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Outcome's name and body in one.
    pub(crate) fn brief(&self) -> String {
        format!("{} {}", self.outcome().name(), self.body)
    }
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) cache: HttpCache,
    pub(crate) clock: ManualClock,
    pub(crate) origin: Origin,
}

pub(crate) fn shared() -> HttpCacheBuilder {
    HttpCache::builder().shared()
}

impl World {
    pub(crate) fn new(builder: HttpCacheBuilder, origin: Origin) -> Self {
        let clock = ManualClock::new();
        let cache = builder.clock(clock.clone(), start()).build().expect("a cache");
        Self { cache, clock, origin }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, with: Fields<'_>) -> Result<Response<Body>, String> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("https://example.com{path}").parse().expect("a URI");
        *request.headers_mut() = crate::world::fields(with);
        self.cache.respond(request, self.origin.fetch()).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn get_with(&self, path: &str, with: Fields<'_>) -> Got {
        read(self.ask("GET", path, with).await.expect("a response")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.get_with(path, &[]).await
    }

    /// The same in a task of its own.
    pub(crate) fn spawn_get(&self, path: &'static str, with: Fields<'static>) -> tokio::task::JoinHandle<Got> {
        let own = self.clone();
        tokio::spawn(async move { own.get_with(path, with).await })
    }

    /// Until the origin was asked so often.
    pub(crate) async fn asked(&self, count: usize) {
        until(|| self.origin.count() >= count).await;
    }

    /// Until so many refreshes have ended.
    pub(crate) async fn refreshed(&self, count: u64) {
        until(|| self.cache.stats().refreshes.iter().sum::<u64>() >= count).await;
    }
}

pub(crate) async fn read(response: Response<Body>) -> Got {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let answer = head.extensions.get::<CacheAnswer>().expect("an answer").clone();
    let body = String::from_utf8(bytes.to_vec()).expect("text");
    Got { status: head.status.as_u16(), headers: head.headers, body, answer }
}

/// Lets others run until something holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never came to hold");
        tokio::task::yield_now().await;
    }
}

/// Lets everything run that can.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
