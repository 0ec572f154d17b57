//! What a policy tells of itself: one stream for what stands in front of it and for all its layers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Something that happened, told to listeners after the fact and outside of every lock.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The cache in front had a fresh value: no layer was touched.
    CacheHit,
    /// The cache in front served a stale value: no layer was touched on the caller's behalf.
    CacheStale,
    /// The cache in front had nothing to serve, and this call went on to the layers; told when it is over, after what
    /// they tell. Or the cache refused it: there was no room to wait in, or a function asked for its own key.
    CacheMiss,
    /// The cache in front let this call wait for one that was under way, to its end or for as long as it may wait.
    CacheCoalesced,
    /// A call failed, this one or another a moment ago, and the cache in front served an old value instead.
    CacheFallback,
    /// The cache in front remembered the error of an earlier call: no layer was touched.
    CacheNegative,
    /// A stale value wants a refresh, and none was started because the circuit is open or the policy closed.
    RefreshRefused,
    /// An attempt failed, or its value was rejected; another follows.
    Retry {
        /// The number of the attempt that failed, from 1.
        attempt: u32,
        /// How long until the next.
        pause: Duration,
    },
    /// An attempt failed, or its value was rejected, and no other follows although the predicate asks for one.
    RetryExhausted {
        /// How many attempts were made.
        attempts: u32,
        /// Why there is no other.
        why: Exhausted,
    },
    /// An attempt, or the whole call, took too long. If its [`Failure`](Event::Failure) says 0 attempts, it was let wait for
    /// its turn or a place all that time.
    Timeout {
        /// The bound that was reached.
        after: Duration,
    },
    /// A second call was started beside one that takes long.
    Hedged,
    /// The circuit was opened by this call.
    CircuitOpened,
    /// The circuit lets probes through, of which this call is the first.
    CircuitHalfOpened,
    /// The circuit was closed by this call.
    CircuitClosed,
    /// The circuit refused the call.
    CircuitRejected {
        /// How long the circuit stays open; zero while probes are under way.
        retry_after: Duration,
    },
    /// The rate limit refused the call.
    RateLimited {
        /// How long until there is room for one call.
        retry_after: Duration,
    },
    /// The bulkhead refused the call.
    BulkheadRejected,
    /// An attempt took longer than the circuit breaker calls slow.
    SlowCall {
        /// How long it took.
        took: Duration,
    },
    /// The caller was given the fallback's value.
    FallbackUsed,
    /// The call ended with a value.
    Success {
        /// How long it took, all waits and attempts included.
        took: Duration,
        /// How many attempts were made.
        attempts: u32,
    },
    /// The call ended with an error, with a value that a predicate rejected, or by a panic.
    Failure {
        /// How long it took, all waits and attempts included.
        took: Duration,
        /// How many attempts were made; 0 if a layer refused it, or let it wait, before the first.
        attempts: u32,
    },
}

impl Event {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::CacheHit => "cache_hit",
            Event::CacheStale => "cache_stale",
            Event::CacheMiss => "cache_miss",
            Event::CacheCoalesced => "cache_coalesced",
            Event::CacheFallback => "cache_fallback",
            Event::CacheNegative => "cache_negative",
            Event::RefreshRefused => "refresh_refused",
            Event::Retry { .. } => "retry",
            Event::RetryExhausted { .. } => "retry_exhausted",
            Event::Timeout { .. } => "timeout",
            Event::Hedged => "hedged",
            Event::CircuitOpened => "circuit_opened",
            Event::CircuitHalfOpened => "circuit_half_opened",
            Event::CircuitClosed => "circuit_closed",
            Event::CircuitRejected { .. } => "circuit_rejected",
            Event::RateLimited { .. } => "rate_limited",
            Event::BulkheadRejected => "bulkhead_rejected",
            Event::SlowCall { .. } => "slow_call",
            Event::FallbackUsed => "fallback_used",
            Event::Success { .. } => "success",
            Event::Failure { .. } => "failure",
        }
    }
}

/// Why no further attempt was made although the predicate asks for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Exhausted {
    /// As many attempts as allowed were made.
    Attempts,
    /// The shared retry budget is empty.
    Budget,
    /// The circuit was opened meanwhile.
    Circuit,
    /// The bulkhead, whose place is given back during a pause, had none again.
    Bulkhead,
    /// The delay that was asked for is longer than the longest pause.
    Hint,
    /// The time of the whole call ends before the pause does.
    Time,
}

impl Exhausted {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            Exhausted::Attempts => "attempts",
            Exhausted::Budget => "budget",
            Exhausted::Circuit => "circuit",
            Exhausted::Bulkhead => "bulkhead",
            Exhausted::Hint => "hint",
            Exhausted::Time => "time",
        }
    }
}

/// A function that gets every event, with the policy's name.
pub(crate) type Listener = Box<dyn Fn(&str, &Event) + Send + Sync>;

/// The name of a policy and everybody who listens to it.
#[derive(Default)]
pub(crate) struct Teller {
    pub(crate) name: String,
    pub(crate) listeners: Vec<Listener>,
}

impl Teller {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Tells everybody. A listener that panics is cut off from this event only; the call goes on.
    #[inline]
    pub(crate) fn tell(&self, event: Event) {
        if self.any() {
            self.tell_all(&event);
        }
    }

    #[cold]
    fn tell_all(&self, event: &Event) {
        for listener in &self.listeners {
            let _ = catch_unwind(AssertUnwindSafe(|| listener(&self.name, event)));
        }
    }
}
