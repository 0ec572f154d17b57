//! The caching reverse proxy: fresh answers in front of any origin, with one command.
//!
//! The crate is the binary `everfresh`; what is public here is what its tests and its demonstration stand on.

mod access;
pub mod admin;
pub mod apart;
pub mod arena;
pub mod body;
pub mod bound;
pub mod cache;
mod circle;
pub mod cli;
pub mod config;
pub mod demo;
mod files;
pub mod forward;
mod framing;
mod hearing;
pub mod log;
pub mod origin;
pub mod outlet;
mod patience;
pub mod proxy;
mod rule;
mod say;
mod sending;
pub mod server;
pub mod stats;
pub mod tls;
pub mod trouble;
mod tunnel;
