//! The adapters between real servers and real clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use everfresh_http::HttpCache;

type Count = Arc<AtomicUsize>;

async fn page(State(count): State<Count>) -> Response {
    let count = count.fetch_add(1, Ordering::SeqCst);
    ([("cache-control", "max-age=60, stale-while-revalidate=60")], count.to_string()).into_response()
}

/// 1 GiB of unknown length.
async fn large() -> Response {
    let piece = Bytes::from(vec![7; 1 << 20]);
    let stream = futures_util::stream::iter((0..1024).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    ([("cache-control", "max-age=60")], Body::from_stream(stream)).into_response()
}

fn app(count: &Count) -> Router {
    Router::new().route("/page", get(page).post(page)).route("/large", get(large)).with_state(Arc::clone(count))
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

#[cfg(feature = "tower")]
mod layer {
    use everfresh::ManualClock;
    use everfresh_http::{HttpCacheLayer, Outcome};
    use http_body_util::BodyExt;
    use tower::{Layer, ServiceExt};

    use super::*;
    use crate::world::start;

    fn shared() -> (HttpCache, ManualClock) {
        let clock = ManualClock::new();
        let cache =
            HttpCache::builder().shared().max_body(4 << 20).clock(clock.clone(), start()).build().expect("a cache");
        (cache, clock)
    }

    async fn text(client: &reqwest::Client, url: &str) -> (String, String) {
        let response = client.get(url).send().await.expect("a response");
        let status = response.headers()["cache-status"].to_str().expect("text").to_owned();
        (response.text().await.expect("a body"), status)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_an_axum_server_a_cold_url_is_asked_once_and_a_stale_one_once_behind() {
        let count = Count::default();
        let (cache, clock) = shared();
        let at = serve(app(&count).layer(HttpCacheLayer::new(cache.clone()))).await;
        let (client, url) = (client(), format!("{at}/page"));
        let burst = async |want: &str| {
            let all: Vec<_> = (0..1000)
                .map(|_| {
                    let (client, url) = (client.clone(), url.clone());
                    tokio::spawn(async move { text(&client, &url).await.0 })
                })
                .collect();
            for got in all {
                assert_eq!(got.await.expect("an answer"), want);
            }
        };
        burst("0").await;
        assert_eq!(count.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(70));
        assert_eq!(text(&client, &url).await, ("0".to_owned(), "everfresh; hit; ttl=-10".to_owned()));
        crate::engine::until(|| cache.stats().refreshes.iter().sum::<u64>() == 1).await;
        burst("1").await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // An unsafe request passes and purges.
        client.post(&url).send().await.expect("a response");
        assert_eq!(text(&client, &url).await.0, "3");
    }

    #[tokio::test]
    async fn over_an_axum_server_a_head_never_says_that_there_is_no_body() {
        let (cache, _) = shared();
        let at = serve(app(&Count::default()).layer(HttpCacheLayer::new(cache))).await;
        let (client, url) = (client(), format!("{at}/page"));
        let head = async || {
            let response = client.head(&url).send().await.expect("a response");
            response.headers().get("content-length").map(|length| length.to_str().expect("text").to_owned())
        };
        assert_eq!(head().await, None, "nobody here knows");
        assert_eq!(head().await, None, "nor from what is stored of a HEAD");
        let length = text(&client, &url).await.0.len();
        assert_eq!(head().await, Some(length.to_string()), "as the GET's");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_body_of_a_gibibyte_passes_with_bounded_memory() {
        let (cache, _) = shared();
        let at = serve(app(&Count::default()).layer(HttpCacheLayer::new(cache.clone()))).await;
        let before = resident();
        let mut response = client().get(format!("{at}/large")).send().await.expect("a response");
        let (mut length, mut most) = (0, 0);
        while let Some(piece) = response.chunk().await.expect("a piece") {
            length += piece.len() as u64;
            most = most.max(resident().saturating_sub(before));
        }
        assert_eq!(length, 1 << 30);
        assert!(most < 64 << 20, "{} MiB more than before", most >> 20);
        assert_eq!(cache.stats().pages, 0);
    }

    /// Resident memory in bytes, where the system tells it.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or_default() << 10
    }

    #[tokio::test]
    async fn under_a_client_the_layer_takes_any_body_and_gives_the_services_own_error() {
        let (cache, _) = shared();
        let service = tower::service_fn(|request: http::Request<http_body_util::Full<Bytes>>| async move {
            if request.uri().path() == "/fails" {
                return Err("refused".to_owned());
            }
            let body = http_body_util::Full::new(Bytes::from_static(b"fine"));
            Ok(http::Response::builder().header("cache-control", "max-age=9").body(body).expect("a response"))
        });
        let cached = HttpCacheLayer::new(cache).layer(service);
        let ask = |path: &str| http::Request::get(format!("http://a{path}")).body(http_body_util::Full::default());
        for outcome in [Outcome::Miss, Outcome::Hit] {
            let response = cached.clone().oneshot(ask("/").expect("a request")).await.expect("a response");
            assert_eq!(response.extensions().get::<everfresh_http::CacheAnswer>().expect("told").outcome, outcome);
            assert_eq!(response.into_body().collect().await.expect("whole").to_bytes(), "fine");
        }
        let error = cached.oneshot(ask("/fails").expect("a request")).await.expect_err("an error");
        assert_eq!(error.get(), "refused");
    }
}

/// A server that breaks every connection off after so many answers.
#[cfg(feature = "reqwest-middleware")]
async fn broken_after(answers: usize) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        for count in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let _ = stream.read(&mut [0; 4096]).await;
            if count < answers {
                let control = "cache-control: max-age=60, stale-while-revalidate=60";
                let text =
                    format!("HTTP/1.1 200 OK\r\n{control}\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfine");
                let _ = stream.write_all(text.as_bytes()).await;
            }
        }
    });
    url
}

#[cfg(feature = "reqwest-middleware")]
mod reqwest_client {
    use everfresh_http::{CacheAnswer, HttpCacheMiddleware, Outcome};
    use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

    use super::*;

    async fn ask(client: &ClientWithMiddleware, url: &str) -> (Outcome, String) {
        let response = client.get(url).send().await.expect("a response");
        assert_eq!(response.url().as_str(), url);
        let outcome = response.extensions().get::<CacheAnswer>().expect("told").outcome;
        (outcome, response.text().await.expect("a body"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_api_client_caches_refreshes_behind_and_coalesces() {
        let count = Count::default();
        let url = format!("{}/page", serve(app(&count)).await);
        // The server's Date is real, so time is too: what is stale was made so by hand.
        let interval = Duration::ZERO;
        let cache = HttpCache::builder().private().min_refresh_interval(interval).build().expect("a cache");
        let middleware = HttpCacheMiddleware::new(cache.clone()).refresh_by(super::client());
        let client = ClientBuilder::new(super::client()).with(middleware).build();
        let all: Vec<_> = (0..50)
            .map(|_| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move { ask(&client, &url).await.1 })
            })
            .collect();
        for got in all {
            assert_eq!(got.await.expect("an answer"), "0");
        }
        assert_eq!((count.load(Ordering::SeqCst), ask(&client, &url).await), (1, (Outcome::Hit, "0".to_owned())));
        cache.expire_all();
        assert_eq!(ask(&client, &url).await, (Outcome::Stale, "0".to_owned()));
        crate::engine::until(|| cache.stats().refreshes.iter().sum::<u64>() == 1).await;
        assert_eq!(ask(&client, &url).await, (Outcome::Hit, "1".to_owned()));
        // Without a client for the background what is stale is asked for first.
        let client = ClientBuilder::new(super::client()).with(HttpCacheMiddleware::new(cache.clone())).build();
        cache.expire_all();
        assert_eq!(ask(&client, &url).await.1, "2");
        // And within its window it stands in if that fails.
        let broken = crate::servers::broken_after(1).await;
        assert_eq!(ask(&client, &broken).await.0, Outcome::Miss);
        cache.expire_all();
        assert_eq!(ask(&client, &broken).await, (Outcome::Fallback, "fine".to_owned()));
    }

    #[tokio::test]
    async fn what_came_by_a_redirect_is_not_stored_for_the_url_that_was_asked() {
        // A redirect that may not be stored, to pages that may; both have the same tag.
        let steps = Count::default();
        let go = async |State(count): State<Count>| {
            let to = format!("/page{}", count.fetch_add(1, Ordering::SeqCst));
            ([("location", to), ("cache-control", "no-store".to_owned())], axum::http::StatusCode::FOUND)
        };
        let page = async |uri: axum::http::Uri, headers: axum::http::HeaderMap| {
            let with = [("cache-control", "max-age=60, stale-while-revalidate=60"), ("etag", "\"1\"")];
            let known = headers.contains_key("if-none-match");
            let status = if known { axum::http::StatusCode::NOT_MODIFIED } else { axum::http::StatusCode::OK };
            (status, with, uri.path().to_owned())
        };
        let plain = async || ([("cache-control", "max-age=0"), ("etag", "\"1\"")], "plain");
        let moved = Count::default();
        let moving = async move |headers: axum::http::HeaderMap| {
            if moved.fetch_add(1, Ordering::SeqCst) == 0 {
                return plain().await.into_response();
            }
            assert!(headers.contains_key("if-none-match") || moved.load(Ordering::SeqCst) > 2);
            (axum::http::StatusCode::FOUND, [("location", "/page9")]).into_response()
        };
        let app = Router::new().route("/go", get(go)).route("/moving", get(moving)).fallback(page).with_state(steps);
        let at = serve(app).await;
        let client = ClientBuilder::new(super::client()).with(HttpCacheMiddleware::private()).build();
        let ask = async |path: &str| {
            let response = client.get(format!("{at}{path}")).send().await.expect("a response");
            let (status, url) = (response.status().as_u16(), response.url().path().to_owned());
            (status, url, response.text().await.expect("a body"))
        };
        for page in ["/page0", "/page1", "/page2"] {
            assert_eq!(ask("/go").await, (200, page.to_owned(), page.to_owned()));
        }
        assert_eq!(ask("/page0#part").await.2, "/page0");
        assert_eq!(ask("/page0").await.2, "/page0");
        // Nor does the 304 of the page that a URL now leads to say anything of what that URL had been.
        assert_eq!(ask("/moving").await.2, "plain");
        assert_eq!(ask("/moving").await, (200, "/page9".to_owned(), "/page9".to_owned()));
    }

    /// The client below follows the redirect, and its `Location` is not in what comes in the end.
    #[tokio::test]
    async fn a_write_that_is_answered_by_a_redirect_reaches_where_that_leads_to() {
        let items = Count::default();
        let list = async |State(items): State<Count>| {
            ([("cache-control", "max-age=60")], items.load(Ordering::SeqCst).to_string())
        };
        let add = async |State(items): State<Count>, uri: axum::http::Uri| {
            items.fetch_add(1, Ordering::SeqCst);
            let to = uri.query().unwrap_or("/list").to_owned();
            (axum::http::StatusCode::SEE_OTHER, [("location", to)])
        };
        let gone = async || axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        let app = Router::new().route("/list", get(list).post(add)).route("/add", get(list).post(add));
        let at = serve(app.route("/gone", get(gone)).with_state(items)).await;
        let client = ClientBuilder::new(super::client()).with(HttpCacheMiddleware::private()).build();
        let url = |path: &str| format!("{at}{path}");
        assert_eq!(ask(&client, &url("/list")).await, (Outcome::Miss, "0".to_owned()));
        let added = client.post(url("/add")).send().await.expect("a response");
        assert_eq!(added.url().path(), "/list");
        assert_eq!(added.text().await.expect("a body"), "1");
        assert_eq!(ask(&client, &url("/list")).await.1, "1");
        // The write was done, whatever becomes of the page behind it.
        let added = client.post(url("/list?/gone")).send().await.expect("a response");
        assert_eq!(added.status().as_u16(), 500);
        assert_eq!(ask(&client, &url("/list?/gone")).await.1, "2");
        let added = client.post(url("/list?/gone")).send().await.expect("a response");
        assert_eq!(added.status().as_u16(), 500);
        assert_eq!(ask(&client, &url("/list?/gone")).await.1, "3");
    }

    /// Answers without a server, as mocks do.
    struct Mock(Count);

    #[async_trait::async_trait]
    impl reqwest_middleware::Middleware for Mock {
        async fn handle(
            &self,
            _: reqwest::Request,
            _: &mut http::Extensions,
            _: reqwest_middleware::Next<'_>,
        ) -> reqwest_middleware::Result<reqwest::Response> {
            let count = self.0.fetch_add(1, Ordering::SeqCst).to_string();
            Ok(http::Response::builder().header("cache-control", "max-age=60").body(count).expect("a response").into())
        }
    }

    #[tokio::test]
    async fn a_response_that_says_no_url_is_that_of_the_url_that_was_asked() {
        let layers = ClientBuilder::new(super::client()).with(HttpCacheMiddleware::private());
        let client = layers.with(Mock(Count::default())).build();
        for outcome in [Outcome::Miss, Outcome::Hit] {
            assert_eq!(ask(&client, "http://a.example/").await, (outcome, "0".to_owned()));
        }
    }

    #[tokio::test]
    async fn the_defaults_make_sense_and_errors_are_the_clients_own() {
        let _ = HttpCacheMiddleware::shared();
        let client = ClientBuilder::new(super::client()).with(HttpCacheMiddleware::private()).build();
        let error = client.get("http://127.0.0.1:1/").send().await.expect_err("refused");
        assert!(error.is_connect(), "{error:?}");
        // Of an error that several share, the client's own is what is beneath it.
        let ask = async || client.get("http://127.0.0.1:1/").send().await.expect_err("refused");
        let (one, other) = tokio::join!(ask(), ask());
        for error in [one, other] {
            let own = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .find_map(|error| error.downcast_ref::<reqwest::Error>());
            assert!(error.is_connect() || own.is_some_and(reqwest::Error::is_connect), "{error:?}");
        }
    }

    #[tokio::test]
    async fn l5_who_waits_for_another_waits_no_longer_than_told_by_a_timeout_of_his_own() {
        let answers = Arc::new(tokio::sync::Semaphore::new(0));
        let held = Arc::clone(&answers);
        let slow = move || {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.expect("open").forget();
                ([("cache-control", "max-age=600")], "at last")
            }
        };
        let url = format!("{}/slow", serve(Router::new().route("/slow", get(slow))).await);
        let clock = everfresh::ManualClock::new();
        let cache = HttpCache::builder().private().clock(clock.clone(), std::time::SystemTime::now()).build();
        let cache = cache.expect("a cache");
        let middleware = HttpCacheMiddleware::new(cache.clone());
        let client = ClientBuilder::new(super::client()).with(middleware).build();
        let asks = tokio::spawn(client.get(&url).send());
        crate::engine::until(|| cache.stats().in_flight == 1).await;

        let minute = Duration::from_secs(60);
        let patient = tokio::spawn(client.get(&url).timeout(10 * minute).send());
        let impatient = tokio::spawn(client.get(&url).timeout(minute).send());
        crate::engine::until(|| cache.stats().waited == 2 && clock.next_wake() == Some(minute)).await;
        clock.advance(minute);
        let guarded = tokio::time::timeout(Duration::from_secs(30), impatient).await.expect("it waits on");
        let error = guarded.expect("no panic").expect_err("too late");
        let timed_out = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .any(|error| error.kind() == std::io::ErrorKind::TimedOut);
        assert!(timed_out, "{error:?}");

        answers.add_permits(1);
        for waited in [asks, patient] {
            let answer = waited.await.expect("no panic").expect("an answer");
            assert_eq!(answer.text().await.expect("a body"), "at last", "nobody else is disturbed");
        }
    }
}
