//! The way to the origins: pooled connections, TLS, and a bound on every wait.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri, Version};
use http_body_util::BodyExt;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::body::{Body, BoxError, Watched};
use crate::config::{Config, OriginSettings, Timeouts};
use crate::forward;
use crate::hearing::HeardOut;
use crate::sending::Turn;
use crate::trouble::Trouble;

type Pool = Client<InTime, Body>;

/// Connects in time, or not at all: what an agreement on TLS takes is in it.
#[derive(Clone)]
struct InTime {
    connector: HttpsConnector<HttpConnector>,
    most: Duration,
}

impl Service<Uri> for InTime {
    type Response = HeardOut<<HttpsConnector<HttpConnector> as Service<Uri>>::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(self.most, self.connector.call(to));
        Box::pin(async { connecting.await.map_err(io::Error::from)?.map(HeardOut::new) })
    }
}

/// Connects to one origin, whatever host a request names: what HTTP/2 has as the connection's host and the request's own
/// can differ so.
#[derive(Clone)]
struct Towards {
    connector: InTime,
    origin: Uri,
}

impl Service<Uri> for Towards {
    type Response = <InTime as Service<Uri>>::Response;
    type Error = <InTime as Service<Uri>>::Error;
    type Future = <InTime as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.connector.call(self.origin.clone())
    }
}

/// How to speak with an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speak {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Either,
    /// HTTP/1.1 alone: what asks for another protocol needs it.
    One,
    /// HTTP/2 from the first byte, without TLS too.
    Two,
}

impl Speak {
    /// How an origin is asked for what needs no other protocol. A connection that TLS may agree on as HTTP/2 has its
    /// host from its address, so that the client's own is preserved over HTTP/1.1 alone; and so is one that is not
    /// `named` in the configuration, as HTTP/2 has a connection of its own for each.
    pub fn with(origin: &OriginSettings, named: bool) -> Self {
        match (origin.http2, origin.preserve_host) {
            (true, false) => Self::Two,
            (true, true) if named => Self::Two,
            (_, true) => Self::One,
            (false, false) => Self::Either,
        }
    }
}

/// The pools of connections to all origins.
#[derive(Clone)]
pub struct Origins {
    either: Pool,
    one: Pool,
    two: Pool,
    /// For each origin of which HTTP/2 is to carry the client's own host.
    preserving: Vec<Option<Client<Towards, Body>>>,
    timeouts: Timeouts,
}

impl Origins {
    /// Pools for the origins of a configuration, with its bounds. Roots are the system's, or the ones built in where it has none.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: &Config) -> Result<Self, BoxError> {
        let timeouts = config.timeouts.clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wanted = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = match wanted.clone().with_native_roots() {
            Ok(roots) => roots.with_no_client_auth(),
            Err(error) => {
                if config.origins.iter().any(|origin| origin.url.uri().scheme_str() == Some("https")) {
                    tracing::warn!("{error}: origins are trusted by the roots that are built in");
                }
                wanted.with_webpki_roots().with_no_client_auth()
            }
        };
        let tcp = || {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            // Of several addresses each has its share of it.
            tcp.set_connect_timeout(Some(timeouts.connect.get()));
            tcp
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(timeouts.pool.get())
            .pool_max_idle_per_host(256)
            .timer(TokioTimer::new())
            .http2_max_header_list_size(MOST_HEAD)
            .http2_keep_alive_interval(quiet(&timeouts))
            .http2_keep_alive_timeout(quiet(&timeouts));
        let connector = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let in_time = |connector| InTime { connector, most: timeouts.connect.get() };
        let either = builder.build(in_time(connector().enable_all_versions().wrap_connector(tcp())));
        let one = builder.build(in_time(connector().enable_http1().wrap_connector(tcp())));
        let two = builder.http2_only(true).build(in_time(connector().enable_http2().wrap_connector(tcp())));
        let preserving = config.origins.iter().map(|origin| {
            let connector = in_time(connector().enable_http2().wrap_connector(tcp()));
            let towards = Towards { connector, origin: origin.url.uri().clone() };
            (origin.http2 && origin.preserve_host).then(|| builder.build(towards))
        });
        let preserving = preserving.collect();
        Ok(Self { either, one, two, preserving, timeouts })
    }

    /// One exchange. It is never tried again once a byte of it went out; a pooled connection that turns out to be
    /// closed before that is replaced. Only what an origin says it has not looked at (RFC 9113 §8.7: a refused stream,
    /// one beyond those that its GOAWAY names) is sent once more, if not too much of its content has gone out.
    ///
    /// `to` says which of the configuration's origins it is for.
    ///
    /// # Errors
    /// No head of an answer came.
    pub async fn send(&self, mut request: Request<Body>, to: usize, speak: Speak) -> Result<Response<Body>, Trouble> {
        let ask = |request| match (speak, self.preserving.get(to)) {
            (Speak::Either, _) => self.either.request(request),
            (Speak::One, _) => self.one.request(request),
            (Speak::Two, Some(Some(preserving))) => preserving.request(request),
            (Speak::Two, _) => self.two.request(request),
        };
        *request.version_mut() = if speak == Speak::Two { Version::HTTP_2 } else { Version::HTTP_11 };
        let bounds = &self.timeouts;
        let until = Instant::now() + bounds.whole.get();
        let patience = (bounds.first_byte.get() + bounds.connect.get()).min(bounds.whole.get());
        let may_be_two = speak != Speak::One && (speak == Speak::Two || request.uri().scheme_str() == Some("https"));
        let head = may_be_two.then(|| head_of(&request));
        let (request, turn) = Turn::of(request, may_be_two);
        let asking = async {
            let answer = match (ask(request).await, head) {
                (Err(error), Some(head)) if was_not_looked_at(&error) => match turn.again() {
                    Some(content) => ask(head.map(|()| content)).await,
                    None => Err(error),
                },
                (answer, _) => answer,
            };
            turn.is_heard();
            answer.inspect_err(leave_if_too_much)
        };
        let mut answer = tokio::select! {
            biased;
            // What the client's content died of is told by itself; over HTTP/2 the connection does not tell it.
            answer = asking => answer.map_err(|error| turn.broke().unwrap_or_else(|| trouble(&error)))?,
            late = turn.is_late(patience, until) => return Err(late),
        };
        let status = answer.status();
        forward::one_length(status, answer.headers_mut()).map_err(|wrong| Trouble::Broken(wrong.into()))?;
        Ok(answer.map(|body| Watched::new(body, bounds.idle.get(), Some(until), ()).boxed_unsync()))
    }

    /// The bound on the whole of an exchange.
    pub fn whole(&self) -> Duration {
        self.timeouts.whole.get()
    }
}

/// The longest head that an origin may answer with over HTTP/2: about as much as hyper reads over HTTP/1.1. Of its own
/// accord it takes 16 KiB, so whether an answer passed hung on what TLS had agreed on.
const MOST_HEAD: u32 = 400 << 10;

/// How long an origin of HTTP/2 may say nothing while it is asked before it is asked whether it lives, and how long it may
/// take to say so. All requests share one connection: one that is dead without a word, as when a firewall forgot it or a
/// machine is gone, would have them all until the system gives up, a quarter of an hour later. What waits for its answer
/// there is over a little sooner than its time.
fn quiet(timeouts: &Timeouts) -> Duration {
    (timeouts.first_byte.get() / 3).clamp(Duration::from_secs(1), Duration::from_secs(20))
}

/// The head of a request, for a second time.
fn head_of(request: &Request<Body>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// Whether the origin says that it did nothing for the request.
fn was_not_looked_at(error: &hyper_util::client::legacy::Error) -> bool {
    told_by_origin(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        let beyond = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        refused || beyond
    })
}

/// A connection on which the origin says that it is too much for it is left: it may say so of all that comes there, for as long
/// as the connection lives (RFC 9113 §7). Requests that follow begin another one.
fn leave_if_too_much(error: &hyper_util::client::legacy::Error) {
    if told_by_origin(error).and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM)
        && let Some(connection) = error.connect_info()
    {
        connection.poison();
    }
}

/// What an origin of HTTP/2 says that it died of.
fn told_by_origin(error: &hyper_util::client::legacy::Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return Some(error).filter(|error| error.is_remote());
        }
        cause = inner.source();
    }
    None
}

/// Whether it is we who found fault with one answer over HTTP/2. A head that is too long is told in no other way.
fn is_faulty(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<h2::Error>();
    error.is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR))
}

fn trouble(error: &hyper_util::client::legacy::Error) -> Trouble {
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(inner) = cause {
        let io = inner.downcast_ref::<std::io::Error>();
        if let Some(io) = io.filter(|io| io.kind() == std::io::ErrorKind::TimedOut) {
            if !error.is_connect() {
                return Trouble::Late;
            }
            // A connection that does not come about in time is none: nobody was there to answer.
            let own = || "no connection came about within timeouts.connect".to_owned();
            return Trouble::Unreachable(io.raw_os_error().map_or_else(own, |_| io.to_string()));
        }
        last = inner.to_string();
        if is_faulty(inner) {
            last = format!("{last}: it is not as HTTP/2 has it, or its head is longer than {} KiB", MOST_HEAD >> 10);
        }
        cause = inner.source();
    }
    if error.is_connect() { Trouble::Unreachable(with_cure(last)) } else { Trouble::Broken(last) }
}

/// What is wrong with an origin's certificate has words of its library alone, and the cure is often the same.
fn with_cure(why: String) -> String {
    let cure = match &why {
        why if why.contains("UnknownIssuer") || why.contains("BadSignature") => {
            "nobody whom this machine trusts has signed it: let SSL_CERT_FILE name a PEM file with who has"
        }
        why if why.contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority: let that sign one for the server, or make this one with CA:FALSE"
        }
        _ => return why,
    };
    format!("{why}; {cure}")
}
