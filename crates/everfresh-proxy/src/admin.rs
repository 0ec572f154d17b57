//! The admin address: metrics, health, statistics, purges and the live page; never on the public port.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::body::{Body, Watched, full};
use crate::cache::{Purge, PurgeMode};
use crate::forward::Peer;
use crate::log::shown;
use crate::proxy::{Proxy, Purged};
use crate::say::say;
use crate::server::{self, Bounds, Ended};
use crate::trouble::{Trouble, of_the_client};

const PAGE: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/page.css");
const SCRIPT: &str = include_str!("../page/page.js");

/// The most bytes of a purge request.
const MOST: usize = 64 << 10;

/// Serves the admin address until `end` turns true; once `stop` does, it says that it is not ready any more.
pub async fn serve(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    stop: watch::Receiver<bool>,
    end: watch::Receiver<bool>,
) -> Ended {
    let bounding = Arc::clone(&proxy);
    let bounds = move || {
        let mut bounds = Bounds::of(&bounding.site().config);
        bounds.limits.connections = 256;
        bounds.timeouts.drain = crate::config::Span::secs(0);
        bounds
    };
    let stopping = stop.clone();
    let service = move || {
        let (proxy, stopping) = (Arc::clone(&proxy), stopping.clone());
        move |_: Peer, request: Request<Incoming>| {
            let (proxy, stopping) = (Arc::clone(&proxy), stopping.clone());
            async move { answer(&proxy, request, stopping).await }
        }
    };
    server::serve(listener, None, bounds, Arc::new(()), service, end).await
}

async fn answer(proxy: &Arc<Proxy>, request: Request<Incoming>, stop: watch::Receiver<bool>) -> Response<Body> {
    // A page of another name that the browser resolves to this address (DNS rebinding) learns nothing here.
    if !is_own_host(&request) {
        return say(
            StatusCode::MISDIRECTED_REQUEST,
            "the admin address answers to IP addresses and names without a dot",
        );
    }
    let page: Page = match request.uri().path() {
        "/purge" if request.method() == Method::POST => return purge(proxy, request).await,
        "/purge" => return only("POST", refuse(StatusCode::METHOD_NOT_ALLOWED, "purge with POST")),
        "/" | "/index.html" => |_, _| typed("text/html; charset=utf-8", PAGE),
        "/page.css" => |_, _| typed("text/css; charset=utf-8", STYLE),
        "/page.js" => |_, _| typed("text/javascript; charset=utf-8", SCRIPT),
        "/health" => |_, _| typed("text/plain", "ok\n"),
        "/ready" => |_, stop| match *stop.borrow() {
            true => say(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            false => typed("text/plain", "ready\n"),
        },
        "/stats" => |proxy, _| typed("application/json", stats(proxy).to_string()),
        "/stats/history" => |proxy, _| typed("application/json", proxy.stats.history()),
        "/stats/stream" => |proxy, stop| stream(Arc::clone(proxy), stop),
        "/metrics" => |proxy, _| typed("text/plain; version=0.0.4; charset=utf-8", metrics(proxy)),
        _ => {
            return say(
                StatusCode::NOT_FOUND,
                "here are /, /stats, /stats/history, /stats/stream, /metrics, /health, /ready and /purge",
            );
        }
    };
    match *request.method() {
        Method::GET | Method::HEAD => page(proxy, stop),
        _ => only("GET, HEAD", say(StatusCode::METHOD_NOT_ALLOWED, "only GET here")),
    }
}

/// What makes the answer to one path.
type Page = fn(&Arc<Proxy>, watch::Receiver<bool>) -> Response<Body>;

/// A refusal that says which methods are served.
fn only(methods: &'static str, mut refusal: Response<Body>) -> Response<Body> {
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    refusal
}

/// Whether a request names this machine in a way that no page of another's can: by address, or by a name without a dot, as
/// `localhost` and those of containers are, of which nobody outside has any. Without a host it is from no browser.
fn is_own_host(request: &Request<Incoming>) -> bool {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let Some(host) = named.or_else(|| request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default())) else {
        return request.version() == Version::HTTP_10;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    !name.contains('.') || name.parse::<std::net::IpAddr>().is_ok()
}

fn typed(kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:";
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    response
}

/// The object that `GET /stats` answers with, and the live page is drawn from.
pub fn stats(proxy: &Proxy) -> Value {
    let mut all = proxy.stats.json(|key| proxy.cache.standing(key));
    let site = proxy.site();
    let origins: Vec<String> = site.config.origins.iter().map(|origin| origin.url.to_string()).collect();
    all.insert("name".into(), json!("everfresh"));
    all.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    all.insert("origin".into(), json!(origins));
    all.insert("demo".into(), proxy.demo());
    if let Value::Object(cache) = proxy.cache.json() {
        all.extend(cache);
    }
    Value::Object(all)
}

fn stream(proxy: Arc<Proxy>, mut stop: watch::Receiver<bool>) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, crate::body::BoxError>::new(2);
    tokio::spawn(async move {
        let mut each = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = each.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let line = format!("data: {}\n\n", stats(&proxy));
            if sender.send_data(Bytes::from(line)).await.is_err() {
                return;
            }
        }
    });
    let mut response = typed("text/event-stream", "");
    *response.body_mut() = body.boxed_unsync();
    response
}

fn metrics(proxy: &Proxy) -> String {
    let mut out = String::with_capacity(8 << 10);
    proxy.stats.prometheus(&mut out);
    proxy.cache.prometheus(&mut out);
    out
}

/// What a purge asks for.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    url: Option<String>,
    prefix: Option<String>,
    group: Option<String>,
    #[serde(default)]
    mode: PurgeMode,
}

/// A refusal as the page and scripts read it.
fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = typed("application/json", json!({ "error": why }).to_string());
    *response.status_mut() = status;
    response
}

async fn purge(proxy: &Arc<Proxy>, request: Request<Incoming>) -> Response<Body> {
    let site = proxy.site();
    let Some(token) = &site.config.admin.token else {
        return refuse(StatusCode::FORBIDDEN, "nothing can be purged: set admin.token, or EVERFRESH_TOKEN");
    };
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    if !given.is_some_and(|(_, given)| token.is(given.trim())) {
        let mut wrong = refuse(StatusCode::UNAUTHORIZED, "a purge needs Authorization: Bearer with the token");
        wrong.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return wrong;
    }
    let body = Watched::new(Limited::new(request.into_body(), MOST), site.config.timeouts.idle.get(), None, ());
    let body = match body.collect().await.map_err(|error| of_the_client(&*error)) {
        Ok(body) => body.to_bytes(),
        Err(Trouble::TooLarge) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "a purge is a short JSON object"),
        Err(trouble) => return refuse(trouble.status(), &trouble.to_string()),
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("that is no purge: {error}")),
    };
    let what = match (wanted.url, wanted.prefix, wanted.group) {
        (Some(url), None, None) => Purge::Url(url),
        (None, Some(prefix), None) => Purge::Prefix(prefix),
        (None, None, Some(group)) => Purge::Group(group),
        _ => return refuse(StatusCode::BAD_REQUEST, "name one of url, prefix and group"),
    };
    match proxy.purge(&what, wanted.mode).await {
        Ok(purged) => {
            let (kind, named) = match &what {
                Purge::Url(url) => ("url", url),
                Purge::Prefix(prefix) => ("prefix", prefix),
                Purge::Group(group) => ("group", group),
            };
            let (named, Purged { concerned, asked }) = (shown(named), purged);
            tracing::info!(target: "everfresh::purge", kind, named, mode = wanted.mode.name(), purged = concerned, asked);
            let done = match wanted.mode {
                PurgeMode::Revalidate => json!({ "purged": concerned, "revalidated": asked }),
                _ => json!({ "purged": concerned }),
            };
            typed("application/json", done.to_string())
        }
        Err(why) => refuse(StatusCode::BAD_REQUEST, &why),
    }
}
