//! The engine: the story of one request, over the rules, with one bounded store below it and no framework above.
//!
//! ```text
//!  request ─▶ bypass? ─▶ fetch, invalidate what it changed
//!     │
//!     ├─ fresh ──▶ served from the store, no byte copied
//!     ├─ stale, inside its window ──▶ served at once; one refresh behind
//!     └─ else ──▶ join the flight of this URI and variant, or lead one:
//!                 the head decides; a body that may be stored streams to all who wait while it fills the store
//! ```

mod answer;
mod body;
mod builder;
mod cache;
mod event;
mod fetch;
mod fill;
mod flight;
mod inner;
mod key;
mod lead;
mod page;
mod passing;
mod pump;
mod purge;
mod refresh;
mod serve;
mod shelf;
mod time;

pub use answer::{CacheAnswer, Outcome, RefreshAction, StaleContext, Uncacheable, Why};
pub use body::Body;
pub use builder::{BuildError, HttpCacheBuilder};
pub use cache::HttpCache;
pub use event::{Histogram, HttpEvent, HttpStats, RefreshEnding};
pub use fetch::{BoxError, Fetch, FetchError};
pub use fill::BodyError;
pub use page::KeptBody;
pub use purge::KeyReport;
pub use shelf::NotLanded;

#[cfg(feature = "reqwest-middleware")]
pub(crate) use fetch::{Fetching, Incoming, Origin, boxed, erase};
#[cfg(feature = "reqwest-middleware")]
pub(crate) use lead::Elsewhere;
#[cfg(feature = "reqwest-middleware")]
pub(crate) use passing::Passing;
