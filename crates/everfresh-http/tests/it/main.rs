//! What the rules promise, a module per clause.

mod control;
mod engine;
mod freshness;
mod groups;
mod hostile;
mod invalidation;
mod never;
mod partial;
mod precondition;
mod reusing;
mod semantics;
#[cfg(any(feature = "tower", feature = "reqwest-middleware"))]
mod servers;
mod stale;
mod status;
mod storing;
mod targeted;
mod update;
mod validation;
mod vary;
#[cfg(feature = "tower")]
mod wire;
mod world;
