//! The bounded concurrent map of entries: knows no loader, no future, no network.

mod ages;
mod ahead;
mod barrier;
mod bound;
mod clock;
mod counts;
mod frequency;
mod ground;
mod guard;
mod hazard;
mod insert;
mod lock;
mod lru;
mod map;
mod need;
mod policy;
mod reading;
mod retire;
mod s3;
mod shard;
mod slab;
mod state;
mod table;
mod tags;
mod validate;
mod waiting;
mod walk;
mod writer;
mod yard;

#[cfg(all(test, not(everfresh_loom)))]
mod tests;

#[cfg(all(test, everfresh_loom))]
mod raced;

pub use bound::Eviction;
pub(crate) use bound::{Bound, Settings};
pub(crate) use guard::{Glance, Glanced, Insertion, Judgement, PushedOut, Ref, Removed, Seen, Unseen};
pub(crate) use map::Store;
