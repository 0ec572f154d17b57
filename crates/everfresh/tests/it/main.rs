//! The promises of CONTRACT.md, a module each.
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod kit;
mod model;
mod memory;
mod one_load;
mod overtaken;
mod refresh;
mod time;
mod told;
