//! All layers of a policy against the same stack made by hand of tower's layers, and a cache hit in front of both.

use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use everfresh::Cache;
use everfresh::resilience::{Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, TokioClock};
use futures_util::future::Either;
use recloser::{AsyncRecloser, Recloser};
use tower::buffer::Buffer;
use tower::retry::Policy as RetryPolicy;
use tower::{Service, ServiceBuilder, ServiceExt};

const MANY: u32 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// One row: nanoseconds a call of either side, and the median of the ratios round by round.
pub struct Row {
    name: &'static str,
    ours: f64,
    by_hand: f64,
    ratio: f64,
}

type Failure = std::num::ParseIntError;

/// What is called: ready at once, or after one turn of the runtime.
async fn function(waits: bool, number: u64) -> Result<u64, Failure> {
    if waits {
        tokio::task::yield_now().await;
    }
    Ok(black_box(number))
}

/// Tries an error again, up to three times in all, with a pause that never comes here.
#[derive(Clone)]
struct Thrice(u32);

impl<E> RetryPolicy<u64, u64, E> for Thrice {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<tokio::time::Sleep> {
        self.0 -= 1;
        (result.is_err() && self.0 > 0).then(|| tokio::time::sleep(SECOND))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// All layers by hand: a known circuit breaker around tower's own limits, retry and timeout. As lean as can be: it is
/// owned by its one caller (tower's rate limit cannot be shared without a buffer and a task), and has no events, health
/// or closing.
fn by_hand(waits: bool) -> impl Service<u64, Response = u64, Error = tower::BoxError, Future: Send> {
    ServiceBuilder::new()
        .rate_limit(u64::from(MANY), SECOND)
        .concurrency_limit(64)
        .retry(Thrice(3))
        .timeout(10 * SECOND)
        .service_fn(move |number: u64| function(waits, number))
}

type Later = Pin<Box<dyn Future<Output = Result<u64, tower::BoxError>> + Send>>;

fn load_behind(cache: Cache<u64, u64>, key: u64, load: Box<dyn FnOnce() -> Later + Send>) -> Later {
    Box::pin(async move { Ok(cache.get_or_load_async(&key, load).await?) })
}

/// A cache in front of such a stack, as one writes it for tower: a hit is ready at once, a miss goes through the rest.
#[derive(Clone)]
struct Front<S> {
    cache: Cache<u64, u64>,
    inner: S,
}

impl<S> Service<u64> for Front<S>
where
    S: Service<u64, Response = u64, Error = tower::BoxError, Future: Send> + Clone + Send + 'static,
{
    type Response = u64;
    type Error = tower::BoxError;
    type Future =
        Either<Ready<Result<u64, tower::BoxError>>, Pin<Box<dyn Future<Output = Result<u64, tower::BoxError>> + Send>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        // A hit needs nothing of what is behind.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u64) -> Self::Future {
        let key = number & 255;
        if let Some(value) = self.cache.get(&key) {
            return Either::Left(ready(Ok(value)));
        }
        let (cache, mut inner) = (self.cache.clone(), self.inner.clone());
        let load = move || -> Later { Box::pin(async move { inner.ready().await?.call(number).await }) };
        Either::Right(load_behind(cache, key, Box::new(load)))
    }
}

fn ours() -> everfresh::resilience::Builder<u64, Failure> {
    Policy::builder()
        .circuit_breaker(CircuitBreaker::consecutive(5))
        .rate_limit(RateLimit::new(MANY, SECOND))
        .bulkhead(Bulkhead::new(64))
        .retry(Retry::attempts(3))
        .timeout(10 * SECOND)
        .clock(TokioClock::new())
        .fallback(|error| error.is_refusal().then_some(0))
}

async fn timed(each: usize, mut call: impl AsyncFnMut(u64) -> u64) -> f64 {
    let began = Instant::now();
    let mut sum = 0;
    for number in 0..each as u64 {
        sum += call(number).await;
    }
    black_box(sum);
    began.elapsed().as_nanos() as f64 / each as f64
}

/// Runs all rows.
pub fn run(rounds: usize, each: usize) -> Vec<Row> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("{error}"));
    let mut rows = Vec::new();
    for (name, waits) in [("all layers, ready at once", false), ("all layers, one turn of the runtime", true)] {
        rows.push(runtime.block_on(interleaved(
            name,
            rounds,
            async || {
                let policy = ours().build().unwrap_or_else(|error| panic!("{error}"));
                timed(each, async |number| policy.call(|| function(waits, number)).await.unwrap_or_default()).await
            },
            async || {
                let breaker = AsyncRecloser::from(Recloser::default());
                let mut service = by_hand(waits);
                timed(each, async |number| {
                    let call = async { service.ready().await?.call(number).await };
                    match breaker.call(std::pin::pin!(call)).await {
                        Ok(value) => value,
                        Err(_) => 0,
                    }
                })
                .await
            },
        )));
    }
    let cache = || Cache::<u64, u64>::builder().capacity(1024).build().unwrap_or_else(|error| panic!("{error}"));
    let cached = async || {
        let policy = ours().cache(cache()).build().unwrap_or_else(|error| panic!("{error}"));
        timed(each, async |number| {
            let key = number & 255;
            policy.call(&key, move || function(false, number)).await.unwrap_or_default()
        })
        .await
    };
    rows.push(runtime.block_on(interleaved("a cache hit in front, one load a key", rounds, cached, async || {
        let mut service = Front { cache: cache(), inner: Buffer::new(by_hand(false), 64) };
        timed(each, async |number| {
            let call = async { service.ready().await?.call(number).await };
            call.await.unwrap_or_default()
        })
        .await
    })));
    rows.push(runtime.block_on(interleaved("the same against `Cache::get` alone", rounds, cached, async || {
        let cache = cache();
        timed(each, async |number| {
            let key = number & 255;
            match cache.get(&key) {
                Some(value) => value,
                None => cache.get_or_load_async(&key, move || function(false, number)).await.unwrap_or_default(),
            }
        })
        .await
    })));
    rows.push(runtime.block_on(interleaved(
        "the same against `get_or_load_async` alone",
        rounds,
        cached,
        async || {
            let cache = cache();
            timed(each, async |number| {
                let key = number & 255;
                cache.get_or_load_async(&key, move || function(false, number)).await.unwrap_or_default()
            })
            .await
        },
    )));
    rows
}

async fn interleaved<A: Future<Output = f64>, B: Future<Output = f64>>(
    name: &'static str,
    rounds: usize,
    mut ours: impl FnMut() -> A,
    mut by_hand: impl FnMut() -> B,
) -> Row {
    ours().await;
    by_hand().await;
    let (mut one, mut other, mut ratios) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let (mine, theirs) = match round % 2 {
            0 => {
                let mine = ours().await;
                (mine, by_hand().await)
            }
            _ => {
                let theirs = by_hand().await;
                (ours().await, theirs)
            }
        };
        one.push(mine);
        other.push(theirs);
        ratios.push(mine / theirs);
    }
    Row { name, ours: median(&mut one), by_hand: median(&mut other), ratio: median(&mut ratios) }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The table, and whether each row keeps to at most 1.1 times the time by hand.
pub fn print(rows: &[Row]) {
    println!(
        "\nresilient calls, nanoseconds a call\n\
         | row | everfresh-resilience | by hand | ratio | bar |\n|---|---|---|---|---|"
    );
    for Row { name, ours, by_hand, ratio } in rows {
        let verdict = if *ratio <= 1.1 { "reached" } else { "MISSED" };
        println!("| {name} | {ours:.0} | {by_hand:.0} | {ratio:.2} | ≤ 1.1: {verdict} |");
    }
}
