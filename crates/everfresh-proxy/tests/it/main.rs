//! What the proxy promises, over real sockets on ports of their own.

mod config;
mod forward;
mod poison;
mod process;
mod purge;
mod smuggle;
mod smuggle_two;
mod versions;
mod world;
