//! HTTP caching by the book: RFC 9111 with stale-while-revalidate and stale-if-error.
//!
//! [`rfc9111`] holds the rules alone: pure functions of (request, stored response, now), without clock, network or
//! store. [`engine`] tells the story of one request over them and one bounded store; `HttpCacheLayer` (feature `tower`) and
//! `HttpCacheMiddleware` (feature `reqwest-middleware`) put it under a client or over a server. [`from_others`] says what
//! other caches' options are called here.

pub mod engine;
/// From faraday-http-cache, http-cache and requests-cache: what is it called here?
#[doc = include_str!("docs/from_others.md")]
pub mod from_others {}
#[cfg(feature = "tower")]
mod layer;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
pub mod rfc9111;

pub use engine::{
    Body, CacheAnswer, HttpCache, HttpCacheBuilder, HttpEvent, HttpStats, Outcome, RefreshAction, StaleContext,
};
#[cfg(feature = "tower")]
pub use layer::{HttpCacheError, HttpCacheFuture, HttpCacheLayer, HttpCacheService};
#[cfg(feature = "reqwest-middleware")]
pub use middleware::HttpCacheMiddleware;
