//! What can go wrong with a call: the function's own error, kept as it is, and what the layers refuse, with facts.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a call has no value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error<E> {
    /// The circuit is open, or half-open with all its probes taken: the function was not called.
    CircuitOpen {
        /// How long the circuit stays open; zero while probes are under way.
        retry_after: Duration,
    },
    /// The rate limit has no room for this call, and waiting for it would have taken too long.
    RateLimited {
        /// How long until there is room for one call.
        retry_after: Duration,
    },
    /// As many calls as the bulkhead admits are running, and there was no room or time to wait.
    BulkheadFull,
    /// An attempt, or the whole call, took too long.
    TimedOut {
        /// The bound that was reached.
        after: Duration,
        /// Whether the function was called. If not, all the time went in waiting: for the rate limit, for a place, or, if it
        /// blocks, for a worker.
        called: bool,
    },
    /// The policy was closed; see [`Policy::close`](crate::Policy::close).
    Closed,
    /// What stands before the policy, a cache, gave up by itself; the layers did not fail.
    Front(Arc<dyn StdError + Send + Sync>),
    /// The function's own error.
    Inner(E),
}

impl<E> Error<E> {
    /// The function's own error, if it was the function that failed.
    pub fn inner(&self) -> Option<&E> {
        match self {
            Error::Inner(error) => Some(error),
            _ => None,
        }
    }

    /// The function's own error by value, if it was the function that failed.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Error::Inner(error) => Some(error),
            _ => None,
        }
    }

    /// How long to leave it alone, if a layer knows: not while probes are under way, of which nobody knows when they end.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::CircuitOpen { retry_after: Duration::ZERO } => None,
            Error::CircuitOpen { retry_after } | Error::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether an attempt or the whole call took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::TimedOut { .. })
    }

    /// Whether a layer refused the call before the function was called, or let it wait until its time was over.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::CircuitOpen { .. } | Error::RateLimited { .. } | Error::BulkheadFull | Error::Closed => true,
            Error::TimedOut { called, .. } => !called,
            Error::Front(_) | Error::Inner(_) => false,
        }
    }

    /// The same with the function's error changed into another.
    pub fn map<T>(self, change: impl FnOnce(E) -> T) -> Error<T> {
        match self {
            Error::CircuitOpen { retry_after } => Error::CircuitOpen { retry_after },
            Error::RateLimited { retry_after } => Error::RateLimited { retry_after },
            Error::BulkheadFull => Error::BulkheadFull,
            Error::TimedOut { after, called } => Error::TimedOut { after, called },
            Error::Closed => Error::Closed,
            Error::Front(error) => Error::Front(error),
            Error::Inner(error) => Error::Inner(change(error)),
        }
    }
}

impl<E> Error<Error<E>> {
    /// One policy inside another, as layers in a tower stack are: whoever refused, refused.
    pub fn flatten(self) -> Error<E> {
        match self {
            Error::Inner(inner) => inner,
            Error::CircuitOpen { retry_after } => Error::CircuitOpen { retry_after },
            Error::RateLimited { retry_after } => Error::RateLimited { retry_after },
            Error::BulkheadFull => Error::BulkheadFull,
            Error::TimedOut { after, called } => Error::TimedOut { after, called },
            Error::Closed => Error::Closed,
            Error::Front(error) => Error::Front(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::CircuitOpen { retry_after: Duration::ZERO } => {
                f.write_str("the circuit is half-open, and as many probes as it lets through are under way")
            }
            Error::CircuitOpen { retry_after } => write!(f, "the circuit is open for another {retry_after:?}"),
            Error::RateLimited { retry_after } => write!(f, "over the rate limit; there is room in {retry_after:?}"),
            Error::BulkheadFull => f.write_str("too many calls are running already"),
            Error::TimedOut { after, called: true } => write!(f, "no answer after {after:?}"),
            Error::TimedOut { after, called: false } => {
                write!(f, "neither a turn, a place nor a worker within {after:?}; the function was not called")
            }
            Error::Closed => f.write_str("the policy is closed to new calls"),
            Error::Front(error) => error.fmt(f),
            Error::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Front(error) => error.source(),
            Error::Inner(error) => error.source(),
            _ => None,
        }
    }
}

/// A choice that cannot work; the message names the cure.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Cow<'static, str>);

impl ConfigError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> ConfigError {
        ConfigError(message.into())
    }

    pub(crate) fn refuse(when: bool, message: impl Into<Cow<'static, str>>) -> Result<(), ConfigError> {
        if when { Err(ConfigError::new(message)) } else { Ok(()) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigError").field(&self.0).finish()
    }
}

impl StdError for ConfigError {}
