//! The promises of CONTRACT.md, a module each.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "tests")]

mod doors;
mod flights;
mod inside;
mod kit;
mod level;
mod many;
mod memory;
mod model;
mod one_load;
mod overtaken;
mod panics;
mod refresh;
mod renewal;
#[cfg(feature = "tracing")]
mod spans;
mod storm;
mod struck;
mod support;
mod time;
mod told;
mod values;
mod warming;
