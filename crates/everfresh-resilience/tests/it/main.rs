//! The promises of resilient calls, a module each.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "tests")]

mod attribute;
mod blocking;
mod budget;
mod bulkhead;
mod cached;
mod circuit;
mod clocks;
mod closing;
mod extremes;
mod fallback;
mod hedge;
mod order;
mod rate;
mod refreshed;
mod retry;
mod strict;
mod support;
mod together;
mod told;
#[cfg(feature = "tower")]
mod tower;
mod window;
