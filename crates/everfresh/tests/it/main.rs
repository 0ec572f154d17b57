//! The promises of CONTRACT.md, a module each.
#![allow(missing_docs, unreachable_pub, reason = "tests")]

mod doors;
mod kit;
mod memory;
mod model;
mod one_load;
mod overtaken;
mod refresh;
mod time;
mod told;
mod values;
