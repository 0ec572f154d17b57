//! Events as `tracing` events (feature `tracing`).

use std::fmt::Debug;
use std::sync::Arc;

use tracing::{Span, debug, info_span, trace, warn};

use crate::event::{Ending, Event, RefreshStatus};

/// A listener that tells each event to `tracing`, with the cache's name: what went wrong as warnings, refreshes and loads as
/// debug, lookups and leavings as trace.
///
/// ```
/// use everfresh::{Cache, tracing_listener};
///
/// let cache: Cache<u64, String> = Cache::builder().capacity(100).build()?;
/// cache.subscribe(tracing_listener("users")).forever();
/// # Ok::<(), everfresh::Error>(())
/// ```
pub fn tracing_listener<K: Debug, V>(name: impl Into<Arc<str>>) -> impl Fn(&Event<'_, K, V>) + Send + Sync + 'static {
    let name = name.into();
    move |happened| {
        let cache = &*name;
        match happened {
            Event::Lookup { key, outcome, age, refresh } => {
                let refresh = (*refresh != RefreshStatus::NotNeeded).then(|| refresh.name());
                trace!(cache, ?key, outcome = outcome.name(), ?age, refresh, "lookup");
            }
            Event::Load { key, ending, took, waiters } => match is_failure(*ending) {
                true => warn!(cache, ?key, ending = ending.name(), ?took, waiters, "load failed"),
                false => debug!(cache, ?key, ending = ending.name(), ?took, waiters, "load"),
            },
            Event::RefreshStarted { key } => debug!(cache, ?key, "refresh started"),
            Event::Refresh { key, ending, took, waiters } => match is_failure(*ending) {
                true => warn!(cache, ?key, ending = ending.name(), ?took, waiters, "refresh failed"),
                false => debug!(cache, ?key, ending = ending.name(), ?took, waiters, "refresh"),
            },
            Event::RefreshUnavailable { reason } => warn!(cache, reason, "no worker for refreshes"),
            Event::Left { key, cause, .. } => trace!(cache, ?key, cause = cause.name(), "left"),
            Event::NotStored { key, why } => debug!(cache, ?key, why = why.name(), "not stored"),
            Event::LevelFailed { key, reason } => warn!(cache, ?key, reason, "second level failed"),
        }
    }
}

fn is_failure(ending: Ending) -> bool {
    matches!(ending, Ending::Failed | Ending::Panicked | Ending::TimedOut)
}

/// The span of work in the background: a root of its own that follows from the span which started it (contract R5).
pub(crate) fn background_span() -> Span {
    let span = info_span!(parent: None, "everfresh.load");
    span.follows_from(Span::current());
    span
}
