//! HTTP caching by the book: RFC 9111 with stale-while-revalidate and stale-if-error.
//!
//! [`rfc9111`] holds the rules alone: pure functions of (request, stored response, now), without clock, network or
//! store.

pub mod engine;
#[cfg(feature = "tower")]
mod layer;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
pub mod rfc9111;

pub use engine::{
    Body, CacheAnswer, HttpCache, HttpCacheBuilder, HttpEvent, HttpStats, Outcome, RefreshAction, StaleContext,
};
#[cfg(feature = "tower")]
pub use layer::{HttpCacheError, HttpCacheLayer, HttpCacheService};
#[cfg(feature = "reqwest-middleware")]
pub use middleware::HttpCacheMiddleware;
