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
mod servers;
mod stale;
mod status;
mod storing;
mod targeted;
mod update;
mod validation;
mod vary;
mod wire;
mod world;
