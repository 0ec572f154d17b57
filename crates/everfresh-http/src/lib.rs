//! HTTP caching by the book: RFC 9111 with stale-while-revalidate and stale-if-error.
//!
//! [`rfc9111`] holds the rules alone: pure functions of (request, stored response, now), without clock, network or
//! store.

pub mod rfc9111;
