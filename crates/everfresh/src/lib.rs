#![doc = include_str!("docs/front.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Of the tests only the few for loom are built then, and not those that use these.
#![cfg_attr(everfresh_loom, allow(dead_code))]

mod batch;
mod beneath;
mod birth;
mod builder;
mod cache;
mod clock;
mod coalesce;
#[cfg(feature = "macros")]
pub mod data;
mod dice;
mod drive;
mod engine;
mod entry;
mod error;
mod event;
mod flight;
#[cfg(feature = "macros")]
mod functions;
#[cfg(everfresh_fuzz)]
#[doc(hidden)]
pub mod fuzzing;
mod given;
pub mod guide;
mod handle;
mod history;
mod hit;
mod housekeeper;
mod key;
mod landing;
mod leading;
mod ledger;
mod level;
mod lifetime;
mod load;
mod loader;
mod lookup;
mod many;
#[cfg(feature = "metrics")]
mod measure;
mod moment;
mod obtain;
mod pool;
mod reclaim;
mod refresh;
#[cfg(feature = "resilience")]
mod resilient;
#[cfg(feature = "macros")]
pub mod resource;
mod schedule;
mod second;
mod spawn;
mod stats;
mod store;
mod sync;
#[cfg(all(test, not(everfresh_loom)))]
mod tests;
mod thread;
mod ticks;
#[cfg(feature = "tracing")]
mod trace;
mod wakers;

pub use builder::Builder;
pub use cache::Cache;
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use clock::{Clock, ManualClock, Sleep, SystemClock};
pub use coalesce::Answer;
pub use engine::{Hasher, Key, Value};
pub use error::{Error, LoadError};
pub use event::{Cause, Ending, Event, NotStored, Outcome, RefreshStatus, Subscription};
#[cfg(all(feature = "macros", feature = "resilience"))]
pub use everfresh_macros::resilient;
#[cfg(feature = "macros")]
pub use everfresh_macros::{cache_data, cache_resource};
#[cfg(feature = "resilience")]
pub use everfresh_resilience as resilience;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub use functions::glue as __private;
#[cfg(feature = "macros")]
pub use functions::{
    CachedFunction, KeyArgument, Kind, Registered, Registry, Runtime, Shared, close, close_async, registry, runtime,
};
pub use handle::Refreshing;
pub use key::AsKey;
pub use level::{LevelFuture, SecondLevel};
pub use lifetime::{Freshness, Lifetime};
pub use load::{IntoLoad, Load, Loaded, Previous, Traits};
pub use loader::BoxError;
pub use lookup::Lookup;
#[cfg(feature = "metrics")]
pub use measure::metrics_listener;
pub use pool::RefreshPool;
pub use schedule::Schedule;
pub use spawn::{Job, Spawn, SpawnError, Task, Workers};
pub use stats::{Ended, Left, Skipped, Stats, Unstored};
pub use store::Eviction;
#[cfg(feature = "tracing")]
pub use trace::tracing_listener;
