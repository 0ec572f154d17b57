//! Cached functions: what stands above a function keeps what the cache promises.
#![cfg(feature = "macros")]
#![allow(missing_docs, unreachable_pub, dead_code, unused_variables, reason = "tests")]
#![allow(clippy::unnecessary_operation, clippy::multiple_bound_locations, clippy::ptr_arg, reason = "tests of forms")]

mod behind;
mod errors;
#[path = "../it/kit.rs"]
mod kit;
mod names;
mod places;
mod refreshing;
mod sharing;
mod storing;
