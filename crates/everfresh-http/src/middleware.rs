//! The cache as a middleware of `reqwest_middleware`.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{Extensions, HeaderValue, Request, Response, request};
use reqwest::ResponseBuilderExt;
use reqwest_middleware::{Error, Middleware, Next};

use crate::engine::{
    Body, BuildError, Elsewhere, FetchError, Fetching, HttpCache, HttpCacheBuilder, Incoming, Origin, Passing, boxed,
    erase,
};

/// Puts an HTTP cache into a `reqwest_middleware::ClientBuilder`.
///
/// ```
/// use everfresh_http::HttpCacheMiddleware;
///
/// let plain = reqwest::Client::new();
/// let client = reqwest_middleware::ClientBuilder::new(plain.clone())
///     .with(HttpCacheMiddleware::private().refresh_by(plain))
///     .build();
/// # let _ = client;
/// ```
///
/// The rest of the chain belongs to one request and cannot run behind its back. So a refresh in the background goes by a
/// client of its own ([`refresh_by`](Self::refresh_by)), past the other middlewares; without one, a stale response inside
/// its window is validated first, and stands in if that fails. For the same reason `soft_timeout` ends the request that it
/// cuts short, and a caller who goes away takes its request to the origin along until the head has come; one of those who
/// wait asks again then.
///
/// What the client adds by itself, such as its default headers or the cookies of its store, it adds behind the chain, unseen
/// here: whoever has them counts as one without, also where `Vary` names them and in a shared cache. So set on the requests
/// what answers depend on, and give clients that add different things a cache each.
///
/// Where several wait for one request and it fails, they share its error: an [`Error::Middleware`] that has the client's
/// own, such as a [`reqwest::Error`] that is a timeout, as its source. That goes for a timeout of one request
/// (`RequestBuilder::timeout`), too, where it is the one that asks; who waits for it waits no longer than told by a timeout of
/// his own, and gets an [`io::Error`] that says [`TimedOut`](io::ErrorKind::TimedOut) as the source.
///
/// A client that follows redirects gives the answer of the last URL alone, and nobody here knows how long the way there
/// holds (RFC 9111 §3). So what came by a redirect is passed on and not stored, and of what a write changed its own URL and
/// the last are known; a client with `redirect::Policy::none()` has each step stored that may be. A middleware below that
/// asks for another URL than it was given counts as a redirect; a response that says no URL, as a mock's, is that of the URL
/// that was asked.
#[derive(Clone, Debug)]
pub struct HttpCacheMiddleware {
    cache: HttpCache,
    refresh_by: Option<reqwest::Client>,
}

impl HttpCacheMiddleware {
    /// For one user, with the defaults of [`HttpCacheBuilder`].
    pub fn private() -> Self {
        Self::defaults(Self::builder().private())
    }

    /// For many users, with the defaults of [`HttpCacheBuilder`].
    pub fn shared() -> Self {
        Self::defaults(Self::builder().shared())
    }

    fn defaults(builder: HttpCacheBuilder<Self>) -> Self {
        // The defaults make sense: a test holds them to it.
        builder.build().unwrap_or_else(|error: BuildError| unreachable!("{error}"))
    }

    /// A middleware to be configured.
    pub fn builder() -> HttpCacheBuilder<Self> {
        HttpCacheBuilder::new()
    }

    /// Over a cache that is there already; the cache is the handle for purges and statistics.
    pub fn new(cache: HttpCache) -> Self {
        Self { cache, refresh_by: None }
    }

    /// Refreshes in the background by this client: give the one that the chain ends with.
    pub fn refresh_by(mut self, client: reqwest::Client) -> Self {
        self.refresh_by = Some(client);
        self
    }

    /// The cache itself.
    pub fn cache(&self) -> &HttpCache {
        &self.cache
    }

    /// The answer, or `None` if the patience for another's ended before.
    async fn within<T>(
        &self,
        patience: Option<Duration>,
        answer: impl Future<Output = T>,
        asks: &AtomicBool,
    ) -> Option<T> {
        let Some(patience) = patience else { return Some(answer.await) };
        let mut answer = pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return Some(answer),
            () = self.cache.inner.time.sleep(patience) => {}
        }
        if asks.load(Ordering::Relaxed) { Some(answer.await) } else { None }
    }
}

impl From<HttpCache> for HttpCacheMiddleware {
    fn from(cache: HttpCache) -> Self {
        Self::new(cache)
    }
}

#[async_trait::async_trait]
impl Middleware for HttpCacheMiddleware {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let url = request.url().clone();
        let asked = url.clone();
        let patience = request.timeout().copied();
        let request: Request<reqwest::Body> = request.try_into().map_err(Error::Reqwest)?;
        let inner = &self.cache.inner;
        let (parts, body) = request.into_parts();
        if let Some(response) = inner.fresh(&parts, &body) {
            return Ok(answered(response, url));
        }
        if let Some(why) = inner.bypass(&parts, &body) {
            if let Some(refused) = inner.refused(&parts, why) {
                return Ok(answered(refused, url));
            }
            let passing = Passing::new(inner, &parts, why);
            let request = Request::from_parts(parts, body);
            let request = reqwest::Request::try_from(request).map_err(Error::Reqwest)?;
            let response = next.run(request, extensions).await?;
            let passed = passing.ended(Ok(incoming(response, &asked)));
            return passed.map(|response| answered(response, url)).map_err(Error::middleware);
        }
        // Whoever asks himself is told by the client when his time is up.
        let asks = &AtomicBool::new(false);
        let chain = (next, extensions.clone());
        let fetch = move |parts: request::Parts| -> Fetching<'_> {
            let (next, mut extensions) = chain.clone();
            let asked = asked.clone();
            Box::pin(async move {
                let request = reqwest::Request::try_from(Request::from_parts(parts, reqwest::Body::default()));
                let request = request.map_err(|error| FetchError::new(Whole(Error::Reqwest(error))))?;
                asks.store(true, Ordering::Relaxed);
                let response = next.run(request, &mut extensions).await;
                response.map(|response| incoming(response, &asked)).map_err(|error| FetchError::new(Whole(error)))
            })
        };
        let behind = self.refresh_by.clone().map(behind);
        let answer = self.cache.respond_here(parts, Box::new(fetch), behind);
        let Some(result) = self.within(patience, answer, asks).await else {
            return Err(Error::middleware(Late(io::ErrorKind::TimedOut.into())));
        };
        result.map(|response| answered(response, url)).map_err(|error| match error.downcast::<Whole>() {
            Ok(own) => Arc::try_unwrap(own).map_or_else(|shared| Error::middleware(Shared(shared)), |own| own.0),
            Err(other) => Error::middleware(other),
        })
    }
}

fn behind(client: reqwest::Client) -> Box<dyn Origin> {
    erase(move |request: Request<reqwest::Body>| async move {
        let request = reqwest::Request::try_from(request)?;
        let asked = request.url().clone();
        client.execute(request).await.map(|response| told_where(response, &asked))
    })
}

/// Where a response came from, after redirects; an `http::Response` has no place of its own for it.
#[derive(Clone)]
struct Final(reqwest::Url);

fn incoming(response: reqwest::Response, asked: &reqwest::Url) -> Incoming {
    boxed(told_where(response, asked))
}

/// What a response has as its URL of which reqwest knows none.
static NO_URL: LazyLock<reqwest::Url> = LazyLock::new(|| reqwest::Response::from(Response::new("")).url().clone());

fn told_where(response: reqwest::Response, asked: &reqwest::Url) -> Response<reqwest::Body> {
    let without_fragment = |url: &reqwest::Url| {
        let mut url = url.clone();
        url.set_fragment(None);
        url
    };
    // What a middleware made itself says no URL, and is that of the one that was asked.
    let own = Some(response.url()).filter(|url| **url != *NO_URL).unwrap_or(asked).clone();
    let elsewhere = without_fragment(&own) != without_fragment(asked);
    let mut response = Response::<reqwest::Body>::from(response);
    if elsewhere {
        response.extensions_mut().insert(Elsewhere(HeaderValue::from_str(own.as_str()).ok()));
    }
    response.extensions_mut().insert(Final(own));
    response
}

/// With the URL that it came from, or was asked for if it was stored.
fn answered(response: Response<Body>, asked: reqwest::Url) -> reqwest::Response {
    let (mut parts, body) = response.into_parts();
    let url = parts.extensions.remove::<Final>().map_or(asked, |own| own.0);
    let mut response = Response::builder().url(url).body(reqwest::Body::wrap(body)).unwrap_or_default();
    *response.status_mut() = parts.status;
    *response.version_mut() = parts.version;
    *response.headers_mut() = parts.headers;
    response.extensions_mut().extend(parts.extensions);
    response.into()
}

/// An error with all that is beneath it in its text, as those who waited have only that at the top.
#[derive(Debug)]
struct Whole(Error);

impl fmt::Display for Whole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)?;
        let mut beneath = std::error::Error::source(&self.0);
        while let Some(error) = beneath {
            write!(out, ": {error}")?;
            beneath = error.source();
        }
        Ok(())
    }
}

/// The same for those who waited.
#[derive(Debug)]
struct Shared(Arc<Whole>);

impl fmt::Display for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl std::error::Error for Shared {
    /// The client's own, so that each of them can find out whether it was a timeout.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match &self.0.0 {
            Error::Reqwest(own) => own,
            Error::Middleware(own) => own.as_ref(),
        })
    }
}

/// What is told who waited for another's answer until his own time was up.
#[derive(Debug)]
struct Late(io::Error);

impl fmt::Display for Late {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the time of this request was up while it waited for another's answer")
    }
}

impl std::error::Error for Late {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
