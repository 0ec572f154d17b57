//! A hit of the HTTP cache, over the bare service, beside http-cache's in memory.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use everfresh_http::{HttpCacheLayer, HttpCacheMiddleware};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use http_cache_quickcache::QuickManager;
use http_cache_reqwest::{Cache, CacheMode, HttpCache, HttpCacheOptions, MokaManager};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use tower::{Layer, Service};

use crate::keys::median;

/// One way to get an answer: nanoseconds a call over so many calls.
type Contestant = (&'static str, Box<dyn Fn(usize) -> Pin<Box<dyn Future<Output = f64>>>>);

/// One table: the bare service first, then everfresh, then the others.
pub struct Row {
    name: &'static str,
    length: usize,
    over_at_most: Option<f64>,
    contestants: Vec<(&'static str, Vec<f64>)>,
}

const URI: &str = "http://example.com/items/1?page=2";

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

/// What every contestant is asked.
fn asked() -> HeaderMap {
    map(&[("host", "example.com"), ("accept", "application/json"), ("user-agent", "bench/1")])
}

/// The fields of the origin's answer. Each value has its bytes on the heap, as one that came over a wire has.
fn told(length: usize) -> HeaderMap {
    let mut fields = map(&[
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=3600"),
        ("etag", "\"33a64df5\""),
        ("last-modified", "Sat, 21 Nov 2026 08:00:00 GMT"),
    ]);
    fields.insert("content-length", HeaderValue::from(length));
    for value in fields.values_mut() {
        *value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }
    fields
}

/// Answers with a clone of what is prepared: the least that a service can do.
fn answer(headers: &HeaderMap, body: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.clone()));
    *response.headers_mut() = headers.clone();
    response
}

fn is_hit(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| headers.get(name).is_some_and(|value| value.as_bytes().starts_with(word.as_bytes()));
    says("cache-status", "everfresh; hit") || says("x-cache", "HIT")
}

fn service<S, B>(name: &'static str, service: S, length: usize) -> Contestant
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>> + Clone + 'static,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let ok = |result: Result<Response<B>, S::Error>| result.unwrap_or_else(|_| panic!("a service cannot fail here"));
    let run = move |each: usize| -> Pin<Box<dyn Future<Output = f64>>> {
        let mut service = service.clone();
        Box::pin(async move {
            let mut request = Request::new(Empty::new());
            *request.uri_mut() = URI.parse().unwrap_or_else(|error| panic!("{error}"));
            *request.headers_mut() = asked();
            // Stores it, and lets the task that does so end.
            let mut first = ok(service.call(request.clone()).await).into_body();
            while first.frame().await.is_some() {}
            tokio::task::yield_now().await;
            let probe = ok(service.call(request.clone()).await);
            assert!(name == "bare" || is_hit(probe.headers()), "{name}: no hit: {:?}", probe.headers());
            let requests = vec![request; each];
            let began = Instant::now();
            for request in requests {
                let (head, mut body) = ok(service.call(request).await).into_parts();
                let mut read = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    read += frame.data_ref().map_or(0, Bytes::len);
                }
                assert_eq!(read, length);
                black_box(head);
            }
            began.elapsed().as_nanos() as f64 / each as f64
        })
    };
    (name, Box::new(run))
}

/// The end of a chain of reqwest's middlewares that answers without a network.
struct Origin(HeaderMap, Bytes);

#[async_trait::async_trait]
impl Middleware for Origin {
    async fn handle(
        &self,
        _: reqwest::Request,
        _: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        Ok(answer(&self.0, &self.1).map(reqwest::Body::wrap).into())
    }
}

fn client(name: &'static str, client: ClientWithMiddleware, length: usize) -> Contestant {
    let run = move |each: usize| -> Pin<Box<dyn Future<Output = f64>>> {
        let client = client.clone();
        Box::pin(async move {
            let request = || client.get(URI).headers(asked()).build().unwrap_or_else(|error| panic!("{error}"));
            let sent = async |request| client.execute(request).await.unwrap_or_else(|error| panic!("{error}"));
            let whole = async |response: reqwest::Response| response.bytes().await.map_or(0, |body| body.len());
            assert_eq!(whole(sent(request()).await).await, length);
            tokio::task::yield_now().await;
            let probe = sent(request()).await;
            assert!(name == "bare" || is_hit(probe.headers()), "{name}: no hit: {:?}", probe.headers());
            let requests: Vec<_> = (0..each).map(|_| request()).collect();
            let began = Instant::now();
            for request in requests {
                assert_eq!(whole(sent(request).await).await, length);
            }
            began.elapsed().as_nanos() as f64 / each as f64
        })
    };
    (name, Box::new(run))
}

fn theirs<M: http_cache_reqwest::CacheManager>(manager: M) -> Cache<M> {
    Cache(HttpCache { mode: CacheMode::Default, manager, options: HttpCacheOptions::default() })
}

/// All tables: tower and reqwest, 1 KiB and 100 KiB.
pub fn run(rounds: usize, each: usize) -> Vec<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    let mut rows = Vec::new();
    for length in [1 << 10, 100 << 10] {
        let (headers, body) = (told(length), Bytes::from(vec![b'x'; length]));
        let (fields, bytes) = (headers.clone(), body.clone());
        let bare =
            tower::service_fn(move |_: Request<Empty<Bytes>>| ready(Ok::<_, Infallible>(answer(&fields, &bytes))));
        let ours = HttpCacheLayer::builder().shared().build().unwrap_or_else(|error| panic!("{error}"));
        let moka = http_cache_tower::HttpCacheLayer::new(MokaManager::default());
        let quick = http_cache_tower::HttpCacheLayer::new(QuickManager::default());
        let contestants = vec![
            service("bare", bare.clone(), length),
            service("everfresh", ours.layer(bare.clone()), length),
            service("http-cache, moka", moka.layer(bare.clone()), length),
            service("http-cache, quick", quick.layer(bare), length),
        ];
        let over_at_most = (length == 1 << 10).then_some(1500.0);
        rows.push(measured(&runtime, "tower", (length, over_at_most), (rounds, each), contestants));

        let bare = || ClientBuilder::new(reqwest::Client::new());
        let origin = || Origin(headers.clone(), body.clone());
        let contestants = vec![
            client("bare", bare().with(origin()).build(), length),
            client("everfresh", bare().with(HttpCacheMiddleware::shared()).with(origin()).build(), length),
            client("http-cache, moka", bare().with(theirs(MokaManager::default())).with(origin()).build(), length),
            client("http-cache, quick", bare().with(theirs(QuickManager::default())).with(origin()).build(), length),
        ];
        rows.push(measured(&runtime, "reqwest", (length, None), (rounds, each), contestants));
    }
    rows
}

fn measured(
    runtime: &tokio::runtime::Runtime,
    name: &'static str,
    (length, over_at_most): (usize, Option<f64>),
    (rounds, each): (usize, usize),
    contestants: Vec<Contestant>,
) -> Row {
    let mut figures: Vec<_> = contestants.iter().map(|(name, _)| (*name, Vec::new())).collect();
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    for round in 0..=rounds {
        fastrand::shuffle(&mut order);
        for &at in &order {
            let took = runtime.block_on(contestants[at].1(each));
            // The first round warms up.
            if round > 0 {
                figures[at].1.push(took);
            }
        }
    }
    Row { name, length, over_at_most, contestants: figures }
}

impl Row {
    /// The median of what a contestant makes of a round, beside what another one makes of it.
    fn of(&self, one: &[f64], at: usize, make: impl Fn(f64, f64) -> f64) -> f64 {
        median(&mut one.iter().zip(&self.contestants[at].1).map(|(one, other)| make(*one, *other)).collect::<Vec<_>>())
    }

    pub fn print(&self) {
        println!("http, {} · hit of {} KiB, nanoseconds a call", self.name, self.length >> 10);
        for (name, rounds) in &self.contestants {
            let over = self.of(rounds, 0, |own, bare| own - bare);
            let times = self.of(rounds, 1, |own, ours| own / ours);
            println!(
                "    {name:<18} {:>7.0}   over bare {over:>7.0}   {times:>6.2}× everfresh",
                median(&mut rounds.clone())
            );
        }
        let word = |held: bool| if held { "reached" } else { "MISSED" };
        if let Some(most) = self.over_at_most {
            let over = self.of(&self.contestants[1].1, 0, |own, bare| own - bare);
            println!("    bar: {over:.0} ns over bare, asked for at most {most:.0}: {}", word(over <= most));
        }
        // What is asked of a hit is asked of one of 1 KiB.
        let peers = if self.length == 1 << 10 { &self.contestants[2..] } else { &[] };
        for (name, rounds) in peers {
            let times = self.of(rounds, 1, |own, ours| own / ours);
            println!("    bar: {times:.2}× as fast as {name}, asked for 5.00×: {}", word(times >= 5.0));
        }
    }
}
