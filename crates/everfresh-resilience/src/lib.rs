#![doc = include_str!("docs/front.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod bulkhead;
mod circuit;
mod clock;
mod drive;
mod error;
mod event;
mod front;
pub mod guide;
mod inflight;
#[cfg(feature = "tower")]
pub mod layer;
mod line;
#[cfg(feature = "metrics")]
mod measure;
mod policy;
mod preset;
mod rate;
mod registry;
mod retry;
mod stack;
mod timeout;
#[cfg(feature = "tracing")]
mod trace;
mod waiting;
mod work;

pub use builder::Builder;
pub use bulkhead::{Bulkhead, BulkheadHealth};
pub use circuit::{CircuitBreaker, CircuitHealth, CircuitState};
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use clock::{Clock, ManualClock, Sleep, SystemClock};
pub use error::{ConfigError, Error};
pub use event::{Event, Exhausted};
pub use front::{Carried, Failed, Front, How, Missed, Served};
#[cfg(feature = "metrics")]
pub use measure::metrics_listener;
pub use policy::{Behind, Direct, Policy};
pub use preset::{Preset, presets};
pub use rate::RateLimit;
pub use registry::{Health, Registry};
pub use retry::{Retry, RetryBudget};
pub use timeout::{Hedge, Timeout};
#[cfg(feature = "tracing")]
pub use trace::tracing_listener;
