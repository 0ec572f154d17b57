//! The promises of CONTRACT.md, a module each.
#![allow(missing_docs, clippy::unwrap_used)]

mod kit;
mod overtaken;
