//! The engine over an origin in the same process, in time that stands still until it is moved.

mod flights;
mod hazards;
mod keys;
mod kit;
mod outage;
mod parts;
mod posts;
mod purges;
mod random;
mod sharing;
mod stale;
mod stored;
mod storm;
mod use_stale;
mod validated;

#[cfg(any(feature = "tower", feature = "reqwest-middleware"))]
pub(crate) use kit::until;
