//! Over sockets: an origin that speaks byte by byte, a hyper client over it, the cache, an axum server before it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use everfresh::ManualClock;
use everfresh_http::engine::BoxError;
use everfresh_http::{CacheAnswer, HttpCache, HttpCacheLayer, Outcome};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt};

use crate::engine::until;
use crate::world::start;

/// What an origin does with one request; then it closes the connection.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    /// Until the test lets it go on.
    Wait,
    Hang,
}

fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

#[derive(Clone)]
struct Origin {
    at: String,
    asked: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Origin {
    async fn new(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = format!("http://{}", listener.local_addr().expect("an address"));
        let own = Self { at, asked: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let (asked, gate, script) = (Arc::clone(&own.asked), Arc::clone(&own.gate), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (asked, gate, script) = (Arc::clone(&asked), Arc::clone(&gate), Arc::clone(&script));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let steps = script(asked.fetch_add(1, Ordering::SeqCst));
                    for step in steps {
                        match step {
                            Step::Send(bytes) if stream.write_all(&bytes).await.is_err() => return,
                            Step::Send(_) => {}
                            Step::Wait => gate.acquire().await.expect("open").forget(),
                            Step::Hang => std::future::pending::<()>().await,
                        }
                    }
                });
            }
        });
        own
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A cached client of that origin.
#[derive(Clone)]
struct Front {
    cache: HttpCache,
    clock: ManualClock,
    origin: Origin,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Body>,
}

impl Front {
    async fn new(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let clock = ManualClock::new();
        let cache = HttpCache::builder().shared().clock(clock.clone(), start()).build().expect("a cache");
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { cache, clock, origin: Origin::new(script).await, client }
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<everfresh_http::Body>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.origin.at).parse()?;
        parts.headers.remove("host");
        let cached = HttpCacheLayer::new(self.cache).layer(self.client);
        Ok(cached.oneshot(Request::from_parts(parts, body)).await?)
    }

    async fn get(&self) -> Response<everfresh_http::Body> {
        let request = Request::get("/a").body(Body::empty()).expect("a request");
        self.clone().answer(request).await.expect("a response")
    }

    /// A server of its own before it.
    async fn serve(&self) -> String {
        let own = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let own = own.clone();
            async move {
                let answer = own.answer(request).await.map(|response| response.map(Body::new));
                Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(|_| {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }))
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address").to_string();
        let app = Router::new().fallback_service(service);
        tokio::spawn(async move { axum::serve(listener, app).await });
        at
    }
}

/// A client that reads when it is told to.
struct Raw(TcpStream);

impl Raw {
    async fn connected(at: &str) -> Self {
        Self(TcpStream::connect(at).await.expect("a connection"))
    }

    async fn ask(at: &str) -> Self {
        let mut own = Self::connected(at).await;
        own.0.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.expect("sent");
        own
    }

    /// Reads until the text came.
    async fn until(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            seen.push(self.0.read_u8().await.expect("more"));
        }
    }

    async fn rest(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.0.read_to_end(&mut all).await.expect("an end");
        all
    }
}

async fn all_of(at: &str, count: usize) -> Vec<String> {
    let all: Vec<_> = (0..count)
        .map(|_| {
            let at = at.to_owned();
            tokio::spawn(async move { String::from_utf8(Raw::ask(&at).await.rest().await).expect("text") })
        })
        .collect();
    futures_util::future::join_all(all).await.into_iter().map(|got| got.expect("an answer")).collect()
}

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_that_ask_for_a_stale_url_of_a_hung_origin_wait_for_nobody() {
    let front = Front::new(|count| match count {
        0 => vec![send(&format!(
            "{OK}cache-control: max-age=10, stale-while-revalidate=60\r\ncontent-length: 3\r\n\r\nold"
        ))],
        _ => vec![Step::Hang],
    })
    .await;
    let at = front.serve().await;
    assert!(all_of(&at, 1).await[0].ends_with("old"));
    front.clock.advance(Duration::from_secs(20));
    for got in all_of(&at, 1000).await {
        assert!(got.ends_with("\r\n\r\nold") && got.contains("age: 20\r\n"), "{got}");
    }
    until(|| front.origin.asked() == 2).await;
    assert_eq!(front.cache.stats().outcome("stale"), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_that_ask_for_a_cold_url_of_a_failing_origin_are_one_request_to_it() {
    let front = Front::new(|_| vec![Step::Wait, send("HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\ndown")]).await;
    let at = front.serve().await;
    let own = front.clone();
    let letting = tokio::spawn(async move {
        until(|| own.cache.stats().waited == 999).await;
        own.origin.gate.add_permits(1);
    });
    for got in all_of(&at, 1000).await {
        assert!(got.starts_with("HTTP/1.1 503") && got.ends_with("down"), "{got}");
    }
    letting.await.expect("let");
    assert_eq!(front.origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_in_the_middle_ends_nothing_for_those_who_read_on() {
    let front = Front::new(|_| {
        vec![
            send(&format!("{OK}cache-control: max-age=60\r\ncontent-length: 10\r\n\r\n01234")),
            Step::Wait,
            send("56789"),
        ]
    })
    .await;
    let at = front.serve().await;
    let mut leaving = Raw::ask(&at).await;
    leaving.until("01234").await;
    let mut staying = Raw::ask(&at).await;
    staying.until("01234").await;
    drop(leaving);
    front.origin.gate.add_permits(1);
    assert_eq!(staying.rest().await, b"56789");
    assert!(all_of(&at, 1).await[0].ends_with("0123456789"));
    assert_eq!(front.origin.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_slows_nobody() {
    const LENGTH: usize = 6 << 20;
    let front = Front::new(|_| {
        let head = format!("{OK}cache-control: max-age=60\r\ncontent-length: {LENGTH}\r\n\r\n");
        vec![send(&head), Step::Wait, Step::Send(vec![b'x'; LENGTH])]
    })
    .await;
    let at = front.serve().await;
    let mut slow = Raw::ask(&at).await;
    slow.until("\r\n\r\n").await;
    let mut fast = Raw::ask(&at).await;
    fast.until("\r\n\r\n").await;
    front.origin.gate.add_permits(1);
    assert_eq!(fast.rest().await.len(), LENGTH);
    // And it gets all of it when it reads.
    assert_eq!(slow.rest().await.len(), LENGTH);
    assert_eq!(front.origin.asked(), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_as_broken_and_never_stored() {
    let control = "cache-control: max-age=60\r\n";
    for broken in [
        format!("{OK}{control}content-length: 10\r\n\r\n01234"),
        format!("{OK}{control}transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n"),
        format!("{OK}{control}transfer-encoding: chunked\r\n\r\n9\r\n01234"),
    ] {
        let front = Front::new(move |count| match count {
            0 => vec![send(&broken)],
            _ => vec![send(&format!("{OK}{control}content-length: 5\r\n\r\nwhole"))],
        })
        .await;
        let error = front.get().await.into_body().collect().await.expect_err("broken").to_string();
        assert!(error.starts_with("error reading a body from connection: "), "and what happened: {error}");
        until(|| front.cache.stats().in_flight == 0).await;
        assert_eq!(front.cache.stats().pages, 0);
        let again = front.get().await.into_body().collect().await.expect("whole");
        assert_eq!((again.to_bytes().as_ref(), front.origin.asked()), (b"whole".as_slice(), 2));
    }
}

#[tokio::test]
async fn trailers_reach_those_who_join_and_those_who_come_after() {
    let front = Front::new(|_| {
        let head = format!("{OK}cache-control: max-age=60\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n");
        vec![send(&head), send("3\r\nabc\r\n"), Step::Wait, send("0\r\nx-sum: 42\r\n\r\n")]
    })
    .await;
    let (first, second) = (front.get().await, front.get().await);
    front.origin.gate.add_permits(1);
    let (first, second) = (first.into_body().collect().await, second.into_body().collect().await);
    let third = front.get().await;
    assert_eq!(third.extensions().get::<CacheAnswer>().expect("told").outcome, Outcome::Hit);
    for body in [first, second, third.into_body().collect().await] {
        let body = body.expect("whole");
        assert_eq!(body.trailers().and_then(|it| it.get("x-sum")).expect("a trailer"), "42");
        assert_eq!(body.to_bytes(), "abc");
    }
    let mut client = Raw::connected(&front.serve().await).await;
    client
        .0
        .write_all(b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close, te\r\nte: trailers\r\n\r\n")
        .await
        .expect("sent");
    let answer = String::from_utf8(client.rest().await).expect("text");
    assert!(answer.contains("; hit;") && answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n"), "{answer}");
    assert_eq!(front.origin.asked(), 1);
}

/// Tower shows no interim responses to a layer; what a client listens with goes along with the request that is sent.
#[tokio::test]
async fn interim_responses_reach_the_listener_of_the_client_whose_request_went_out() {
    let front = Front::new(|_| {
        vec![send(&format!(
            "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n{OK}cache-control: max-age=60\r\n\
             content-length: 4\r\n\r\npage"
        ))]
    })
    .await;
    let heard: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    for outcome in [Outcome::Miss, Outcome::Hit] {
        let mut request = Request::get("/a").body(Body::empty()).expect("a request");
        let own = Arc::clone(&heard);
        hyper::ext::on_informational(&mut request, move |interim| {
            own.lock().expect("the log").push(interim.headers().clone());
        });
        let response = front.clone().answer(request).await.expect("a response");
        assert_eq!(response.extensions().get::<CacheAnswer>().expect("told").outcome, outcome);
        assert_eq!(response.into_body().collect().await.expect("whole").to_bytes(), "page");
    }
    let heard = heard.lock().expect("the log");
    assert_eq!(heard.iter().map(|fields| &fields["link"]).collect::<Vec<_>>(), ["</style.css>"]);
}
