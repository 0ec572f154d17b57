//! How the engine reaches the origin: an asynchronous function, whatever stands behind it.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A response as it comes from the origin, with the type of its body taken away.
pub(crate) type Incoming = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// A request under way.
pub(crate) type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Incoming, FetchError>> + Send + 'a>>;

/// Sends one request to the origin; every `async` function of `Request<B>` that can be cloned is one.
///
/// The engine clones it to refresh behind a reader's back, so it must own what it needs. It is called for what the cache
/// cannot answer, and never through the cache again.
pub trait Fetch<B>: Clone + Send + 'static {
    /// The body of what it answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
    /// Its error; all who wait for one fetch share it.
    type Error: fmt::Display + Send + Sync + 'static;

    /// Sends the request.
    fn fetch(
        self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;
}

impl<B, F, Fut, R, E> Fetch<B> for F
where
    F: FnOnce(Request<B>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Response<R>, E>> + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    E: fmt::Display + Send + Sync + 'static,
{
    type Body = R;
    type Error = E;

    fn fetch(
        self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static {
        self(request)
    }
}

/// The error of a fetch; everybody who waited for it gets it.
#[derive(Clone)]
pub struct FetchError {
    own: Arc<dyn Any + Send + Sync>,
    text: Arc<str>,
}

impl FetchError {
    /// Wraps the error of a fetch.
    pub fn new<E: fmt::Display + Send + Sync + 'static>(own: E) -> Self {
        Self { text: own.to_string().into(), own: Arc::new(own) }
    }

    /// The fetch's own error.
    ///
    /// # Errors
    /// Itself, if it is of another type.
    pub fn downcast<E: Send + Sync + 'static>(self) -> Result<Arc<E>, Self> {
        let text = self.text;
        self.own.downcast().map_err(|own| Self { own, text })
    }
}

impl fmt::Debug for FetchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("FetchError").field(&self.text).finish()
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Error for FetchError {}

/// A fetch without its types, which can be had again for a refresh.
pub(crate) trait Origin: Send {
    fn fetch(&self, request: request::Parts) -> Fetching<'static>;
    fn again(&self) -> Box<dyn Origin>;
}

/// Takes the types of a fetch away; its requests have no body.
pub(crate) fn erase<B: Default + Send + 'static, F: Fetch<B>>(fetch: F) -> Box<dyn Origin> {
    Box::new(Erased { fetch, of: PhantomData::<fn() -> B> })
}

struct Erased<F, B> {
    fetch: F,
    of: PhantomData<fn() -> B>,
}

impl<B: Default + Send + 'static, F: Fetch<B>> Origin for Erased<F, B> {
    fn fetch(&self, request: request::Parts) -> Fetching<'static> {
        sending(self.fetch.clone(), Request::from_parts(request, B::default()))
    }

    fn again(&self) -> Box<dyn Origin> {
        Box::new(Self { fetch: self.fetch.clone(), of: PhantomData })
    }
}

pub(crate) fn sending<B: Send + 'static, F: Fetch<B>>(fetch: F, request: Request<B>) -> Fetching<'static> {
    // Called at the first poll, so that what it does before its first wait happens where it is polled.
    Box::pin(async move { fetch.fetch(request).await.map(boxed).map_err(FetchError::new) })
}

pub(crate) fn boxed<R>(response: Response<R>) -> Incoming
where
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// How one request reaches the origin.
pub(crate) enum Way<'a> {
    /// By a fetch that owns all it needs: it runs in a task of its own.
    Owned(Box<dyn Origin>),
    /// By one that borrows from its caller and can only run there; another one may do the background's work.
    #[cfg_attr(not(feature = "reqwest-middleware"), allow(dead_code))]
    Borrowed { fetch: Box<dyn Fn(request::Parts) -> Fetching<'a> + Send + 'a>, behind: Option<Box<dyn Origin>> },
}

impl Way<'_> {
    /// A fetch for work behind the reader's back, if there is one.
    pub(crate) fn behind(&self) -> Option<Box<dyn Origin>> {
        match self {
            Self::Owned(origin) => Some(origin.again()),
            Self::Borrowed { behind, .. } => behind.as_ref().map(|origin| origin.again()),
        }
    }
}
