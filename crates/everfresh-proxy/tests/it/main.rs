//! What the proxy promises, over real sockets on ports of their own.

#[cfg(target_os = "linux")]
mod arena;
mod circle;
mod config;
mod downloads;
mod forward;
mod key_of_rules;
mod log;
mod poison;
mod process;
mod purge;
mod redirects;
mod smuggle;
mod smuggle_two;
mod trailers;
mod tunnels;
mod uploads;
mod versions;
mod world;
