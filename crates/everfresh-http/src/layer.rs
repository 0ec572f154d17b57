//! The cache as a tower layer: under a client or over a server.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::engine::{Body, BoxError, Fetch, HttpCache, HttpCacheBuilder};

/// Puts an HTTP cache over a service of requests; cheap to clone, all clones share one store.
///
/// The service below has to be `Clone`: it is called in tasks of their own, when it is ready, and again for a refresh behind
/// a reader's back, never through this layer. What the store can answer does not wait for it to be ready. Interim
/// responses (1xx) are a matter of the client or server below and above: tower does not show them to a layer, but a
/// request's extensions go along with what is sent for it, such as hyper's `on_informational`. A layer that follows
/// redirects belongs above this one: below it, the answer of another URL would be stored for the one that was asked.
///
/// ```
/// use everfresh_http::{HttpCacheLayer, RefreshAction, StaleContext};
///
/// let layer = HttpCacheLayer::builder()
///     .shared()
///     .capacity_bytes(256 << 20)
///     .on_stale(|_: &StaleContext<'_>| RefreshAction::Refresh)
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), everfresh_http::engine::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HttpCacheLayer {
    cache: HttpCache,
}

impl HttpCacheLayer {
    /// A layer to be configured.
    pub fn builder() -> HttpCacheBuilder<Self> {
        HttpCacheBuilder::new()
    }

    /// A layer over a cache that is there already; the cache is the handle for purges and statistics.
    pub fn new(cache: HttpCache) -> Self {
        Self { cache }
    }

    /// The cache itself.
    pub fn cache(&self) -> &HttpCache {
        &self.cache
    }
}

impl From<HttpCache> for HttpCacheLayer {
    fn from(cache: HttpCache) -> Self {
        Self::new(cache)
    }
}

impl<S> Layer<S> for HttpCacheLayer {
    type Service = HttpCacheService<S>;

    fn layer(&self, inner: S) -> HttpCacheService<S> {
        HttpCacheService { cache: self.cache.clone(), inner }
    }
}

/// A service with a cache over it; made by [`HttpCacheLayer`].
#[derive(Clone, Debug)]
pub struct HttpCacheService<S> {
    cache: HttpCache,
    inner: S,
}

/// The error of the service below; everybody who waited for the same request has it.
pub struct HttpCacheError<E>(Arc<E>);

impl<E> HttpCacheError<E> {
    /// The service's own error.
    pub fn get(&self) -> &E {
        &self.0
    }

    /// The service's own error, shared.
    pub fn into_inner(self) -> Arc<E> {
        self.0
    }
}

impl<E> Clone for HttpCacheError<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: fmt::Display> fmt::Debug for HttpCacheError<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HttpCacheError({})", self.0)
    }
}

impl<E: fmt::Display> fmt::Display for HttpCacheError<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<E: fmt::Display> Error for HttpCacheError<E> {}

/// Over a service that cannot fail, such as an axum router, neither does the cache.
impl From<HttpCacheError<Infallible>> for Infallible {
    fn from(error: HttpCacheError<Infallible>) -> Self {
        match *error.0 {}
    }
}

impl<S, B, R> Service<Request<B>> for HttpCacheService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: fmt::Display + Send + Sync + 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = HttpCacheError<S::Error>;
    type Future = HttpCacheFuture<S::Error>;

    /// Always ready: whether the service below is, is asked when it is needed.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        if let Some(response) = self.cache.inner.fresh(&parts, &body) {
            return HttpCacheFuture(Answering::Fresh(Some(response)));
        }
        let request = Request::from_parts(parts, body);
        let (cache, below) = (self.cache.clone(), Below { inner: self.inner.clone(), of: PhantomData });
        HttpCacheFuture(Answering::Other(Box::pin(async move {
            let error = match cache.respond_slowly(request, below).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match error.downcast() {
                Ok(own) => Err(HttpCacheError(own)),
                // Of another service over the same store, or of a runtime that has ended.
                Err(_) => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    Ok(response)
                }
            }
        })))
    }
}

/// An answer of [`HttpCacheService`].
///
/// What is stored and fresh is answered in the call itself, without a task, a boxed future or a clone of the service
/// below. That allocates eight times: three for the copy of the fields, two for the values of `Age` and `Cache-Status`,
/// three for the extensions with [`CacheAnswer`](crate::CacheAnswer). The body is shared with the store, never copied.
pub struct HttpCacheFuture<E>(Answering<E>);

type Answered<E> = Result<Response<Body>, HttpCacheError<E>>;

enum Answering<E> {
    Fresh(Option<Response<Body>>),
    Other(Pin<Box<dyn Future<Output = Answered<E>> + Send>>),
}

impl<E> Future for HttpCacheFuture<E> {
    type Output = Answered<E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered<E>> {
        match &mut self.0 {
            Answering::Fresh(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => panic!("polled after it was ready"),
            },
            Answering::Other(future) => future.as_mut().poll(cx),
        }
    }
}

impl<E> fmt::Debug for HttpCacheFuture<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpCacheFuture").finish_non_exhaustive()
    }
}

/// The service below as a fetch.
struct Below<S, B> {
    inner: S,
    of: PhantomData<fn() -> B>,
}

impl<S: Clone, B> Clone for Below<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), of: PhantomData }
    }
}

impl<S, B, R> Fetch<B> for Below<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: fmt::Display + Send + Sync + 'static,
    B: Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = R;
    type Error = S::Error;

    async fn fetch(mut self, request: Request<B>) -> Result<Response<R>, S::Error> {
        poll_fn(|cx| self.inner.poll_ready(cx)).await?;
        self.inner.call(request).await
    }
}
