//! The demonstration: a slow, sometimes failing origin, the proxy before it, and readers of both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::body::{Body, BoxError, empty, full};
use crate::bound::Bound;
use crate::config::{Config, Secret, Span};
use crate::forward::Peer;
use crate::log::tell;
use crate::server::{self, Bounds};

/// How long the origin takes, and how often it fails.
const SLOW: Duration = Duration::from_millis(300);
const FAILS_ONE_IN: u32 = 10;
const READERS: usize = 20;
const PAGES: u32 = 40;
/// Whoever reaches the demonstration's loopback address may purge it.
const TOKEN: &str = "demo";
/// How often the terminal is told how it goes.
const EACH: Duration = Duration::from_secs(5);

type Reader = Client<HttpConnector, Body>;

/// What one crowd of readers saw.
#[derive(Default)]
struct Seen {
    waits: Mutex<Vec<f32>>,
    lately: Mutex<Vec<f32>>,
    read: AtomicU64,
    errors: AtomicU64,
}

impl Seen {
    fn note(&self, wait: f32) {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        // Enough to tell percentiles by, and no more memory than that.
        if waits.len() < 100_000 {
            waits.push(wait);
        } else {
            let at = fastrand::usize(..waits.len());
            waits[at] = wait;
        }
    }

    fn summary(&self) -> (u64, u64, f32, f32, f32) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits.sort_by(f32::total_cmp);
        let at = |share| percentile(&waits, share);
        let (read, errors) = (self.read.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed));
        (read, errors, at(0.5), at(0.99), waits.last().copied().unwrap_or_default())
    }

    fn json(&self) -> serde_json::Value {
        let (read, errors, p50, p99, max) = self.summary();
        json!({ "requests": read, "errors": errors, "p50_ms": p50, "p99_ms": p99, "max_ms": max })
    }
}

/// The wait that such a share of these sorted ones does not exceed.
fn percentile(sorted: &[f32], share: f64) -> f32 {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or_default()
}

/// Runs until Ctrl-C, or for so long.
///
/// # Errors
/// An address cannot be had.
pub async fn run(time: Option<Duration>, admin: SocketAddr) -> Result<(), BoxError> {
    let (stop, stopped) = watch::channel(false);
    let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let mut config = Config::of(origin.parse()?);
    config.listen.set_port(0);
    config.admin.listen = Some(admin);
    config.admin.token = Some(Secret::new(TOKEN));
    config.log.access = false;
    config.timeouts.drain = Span::millis(500);
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let service = move || {
        let counted = Arc::clone(&counted);
        move |_: Peer, request: Request<Incoming>| page(request, Arc::clone(&counted))
    };
    let bounds = Bounds::of(&config);
    let bounds = move || bounds.clone();
    tokio::spawn(server::serve(listener, None, bounds, Arc::new(()), service, stopped.clone()));

    let bound = Bound::new(config).await?;
    let proxy = Arc::clone(bound.proxy());
    let cached = format!("http://{}", bound.address()?);
    tell(&format!("origin   {origin}  takes {} ms, fails one time in {FAILS_ONE_IN}", SLOW.as_millis()))?;
    tell(&format!("proxy    {cached}  in front of it"))?;
    if let Some(admin) = bound.admin() {
        tell(&format!("live     http://{admin}/  watch it here; the token to purge with is {TOKEN}"))?;
    }
    tell(&match time {
        Some(time) => format!("{READERS} readers of {PAGES} pages each side, for {} s …", time.as_secs_f32()),
        None => format!("{READERS} readers of {PAGES} pages each side, until Ctrl-C …"),
    })?;
    let (with, without) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let (told_with, told_without) = (Arc::clone(&with), Arc::clone(&without));
    proxy.set_demo(move || json!({ "with": told_with.json(), "without": told_without.json() }));
    let serving = tokio::spawn(bound.serve(stopped.clone()));

    let mut readers = JoinSet::new();
    for (base, seen) in [(&cached, &with), (&origin, &without)] {
        let client: Reader = Client::builder(TokioExecutor::new()).build_http();
        for _ in 0..READERS {
            readers.spawn(read(client.clone(), base.clone(), Arc::clone(seen)));
        }
    }
    let ended = async {
        match time {
            Some(time) => sleep(time).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
    };
    tokio::select! {
        () = ended => {}
        told = tell_each(&with, &without) => told?,
    }
    readers.shutdown().await;
    let _ = stop.send(true);
    serving.await??;

    tell("\n                    requests   errors   wait p50     p99      max")?;
    for (name, seen) in [("without the cache", &without), ("with the cache", &with)] {
        let (read, errors, p50, p99, max) = seen.summary();
        tell(&format!("{name:<18} {read:>9} {errors:>8} {p50:>7.1} ms {p99:>5.0} ms {max:>5.0} ms"))?;
    }
    let (stale, hit) = (proxy.stats.outcome("stale"), proxy.stats.outcome("hit"));
    let behind = proxy.stats.origin_requests();
    Ok(tell(&format!("{hit} fresh and {stale} stale answers at once; {behind} requests to the origin behind them"))?)
}

/// Tells now and then how long both crowds waited lately, and the errors so far, until it is dropped.
async fn tell_each(with: &Seen, without: &Seen) -> Result<(), BoxError> {
    let began = Instant::now();
    loop {
        sleep(EACH).await;
        let crowd = |seen: &Seen| {
            let mut waits = std::mem::take(&mut *seen.lately.lock().unwrap_or_else(PoisonError::into_inner));
            waits.sort_by(f32::total_cmp);
            let (p99, errors) = (percentile(&waits, 0.99), seen.errors.load(Ordering::Relaxed));
            format!("p99 {p99:>5.1} ms, {errors:>4} errors")
        };
        let (seconds, with, without) = (began.elapsed().as_secs(), crowd(with), crowd(without));
        tell(&format!("{seconds:>5} s   without the cache {without}   with it {with}"))?;
    }
}

/// A page that takes its time, and sometimes does not come.
async fn page(request: Request<Incoming>, asked: Arc<AtomicU64>) -> Response<Body> {
    let version = asked.fetch_add(1, Ordering::Relaxed);
    sleep(SLOW.mul_f32(0.7 + 0.6 * fastrand::f32())).await;
    if fastrand::u32(0..FAILS_ONE_IN) == 0 {
        let mut failed = Response::new(full("the origin stumbles\n"));
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return failed;
    }
    let mut page = Response::new(full(format!("{} version {version}\n", request.uri().path()).repeat(64)));
    let control = http::HeaderValue::from_static("max-age=1, stale-while-revalidate=30, stale-if-error=60");
    page.headers_mut().insert(http::header::CACHE_CONTROL, control);
    page
}

/// Reads one page after another: a few much, many seldom.
async fn read(client: Reader, base: String, seen: Arc<Seen>) {
    loop {
        let page = (fastrand::f32().powi(3) * PAGES as f32) as u32;
        let Ok(request) = Request::get(format!("{base}/page/{page}")).body(empty()) else { return };
        let began = Instant::now();
        let answer = client.request(request).await;
        let wait = began.elapsed().as_secs_f32() * 1000.0;
        let whole = match answer {
            Ok(answer) if answer.status().is_success() => answer.into_body().collect().await.is_ok(),
            _ => false,
        };
        seen.read.fetch_add(1, Ordering::Relaxed);
        if !whole {
            seen.errors.fetch_add(1, Ordering::Relaxed);
        }
        seen.note(wait);
        sleep(Duration::from_millis(fastrand::u64(5..30))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crowd_saw_is_summed_up() {
        let seen = Seen::default();
        assert_eq!(seen.summary(), (0, 0, 0.0, 0.0, 0.0));
        (1..=200).rev().for_each(|wait| seen.note(wait as f32));
        seen.read.store(200, Ordering::Relaxed);
        seen.errors.store(3, Ordering::Relaxed);
        assert_eq!(seen.summary(), (200, 3, 101.0, 199.0, 200.0));
        let told = json!({ "requests": 200, "errors": 3, "p50_ms": 101.0, "p99_ms": 199.0, "max_ms": 200.0 });
        assert_eq!(seen.json(), told);
    }

    #[tokio::test]
    async fn a_page_that_does_not_come_is_an_error_and_one_that_comes_is_none() {
        for (status, fails) in [(200, 0), (500, 3)] {
            let listener = server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
            let base = format!("http://{}", listener.local_addr().expect("an address"));
            let bounds = Bounds::of(&Config::of(base.parse().expect("an origin")));
            let service = move |_: Peer, _: Request<Incoming>| async move {
                let mut answer = Response::new(full("a page"));
                *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
                answer
            };
            let (_stop, stopped) = watch::channel(false);
            let services = move || service;
            tokio::spawn(server::serve(listener, None, move || bounds.clone(), Arc::new(()), services, stopped));
            let client: Reader = Client::builder(TokioExecutor::new()).build_http();
            let seen = Arc::new(Seen::default());
            let reader = tokio::spawn(read(client, base, Arc::clone(&seen)));
            while seen.waits.lock().expect("the waits").len() < 3 {
                tokio::task::yield_now().await;
            }
            reader.abort();
            assert_eq!(seen.errors.load(Ordering::Relaxed).min(3), fails, "{status}");
        }
    }
}
