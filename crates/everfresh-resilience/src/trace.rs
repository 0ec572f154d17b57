//! Events as `tracing` events (feature `tracing`).

use tracing::{Span, debug, dispatcher, info, trace, warn};

use crate::event::Event;

/// A listener that tells each event to `tracing`: what failed, was refused or given up, and a circuit that opens, as
/// warnings; one that half-opens or closes as information; retries, hedges, what was served in place of an error, and
/// calls with a value as debug; what else the cache answered as trace.
///
/// ```
/// use everfresh_resilience::{Policy, tracing_listener};
///
/// let policy = Policy::<u32, std::io::Error>::builder().name("github").listener(tracing_listener()).build()?;
/// # let _ = policy;
/// # Ok::<(), everfresh_resilience::ConfigError>(())
/// ```
pub fn tracing_listener() -> impl Fn(&str, &Event) + Send + Sync + 'static {
    |policy, event| match event {
        Event::CacheHit | Event::CacheStale | Event::CacheMiss | Event::CacheCoalesced | Event::CacheNegative => {
            trace!(policy, event = event.name());
        }
        Event::Retry { attempt, pause } => debug!(policy, event = event.name(), attempt, ?pause),
        Event::Success { took, attempts } => debug!(policy, event = event.name(), ?took, attempts),
        Event::Failure { took, attempts } => warn!(policy, event = event.name(), ?took, attempts),
        Event::RetryExhausted { attempts, why } => warn!(policy, event = event.name(), attempts, why = why.name()),
        Event::Timeout { after } => warn!(policy, event = event.name(), ?after),
        Event::SlowCall { took } => warn!(policy, event = event.name(), ?took),
        Event::RateLimited { retry_after } | Event::CircuitRejected { retry_after } => {
            warn!(policy, event = event.name(), ?retry_after);
        }
        Event::CircuitOpened | Event::BulkheadRejected | Event::RefreshRefused => warn!(policy, event = event.name()),
        Event::CircuitHalfOpened | Event::CircuitClosed => info!(policy, event = event.name()),
        Event::FallbackUsed | Event::CacheFallback | Event::Hedged => debug!(policy, event = event.name()),
    }
}

/// Work for a caller on another thread, in the caller's span.
pub(crate) fn in_this_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    let told_to = (!span.is_none()).then(|| dispatcher::get_default(Clone::clone));
    move || match told_to {
        None => work(),
        Some(told_to) => dispatcher::with_default(&told_to, || span.in_scope(work)),
    }
}
