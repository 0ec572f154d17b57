//! Bounds on time: of each attempt, and of the whole call; and a second call beside one that takes long.

use std::time::Duration;

use crate::error::ConfigError;

/// How long an attempt may take, and how long the whole call.
///
/// A task that takes too long is dropped. A thread cannot be stopped: a blocking function that takes too long goes on
/// behind its caller, on a worker, and keeps its place in the bulkhead until it ends. All policies share 500 workers, so
/// give a [`Bulkhead`](crate::Bulkhead) to those whose functions block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeout {
    pub(crate) attempt: Option<Duration>,
    pub(crate) whole: Option<Duration>,
}

impl Timeout {
    /// Bounds each attempt.
    pub const fn per_attempt(bound: Duration) -> Timeout {
        Timeout { attempt: Some(bound), whole: None }
    }

    /// Bounds the whole call: all attempts, the pauses between them, and the waits for the rate limit and the bulkhead.
    /// A pause that would not end before it is not begun: the call ends at once, with the error at hand.
    pub const fn whole(bound: Duration) -> Timeout {
        Timeout { attempt: None, whole: Some(bound) }
    }

    /// Bounds the whole call besides each attempt.
    pub const fn and_whole(self, bound: Duration) -> Timeout {
        Timeout { whole: Some(bound), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let zero = self.attempt == Some(Duration::ZERO) || self.whole == Some(Duration::ZERO);
        ConfigError::refuse(zero, "a timeout of zero ends every call before it begins; leave it out for no limit")
    }
}

/// Bounds each attempt.
impl From<Duration> for Timeout {
    fn from(bound: Duration) -> Timeout {
        Timeout::per_attempt(bound)
    }
}

/// When to start another call beside one that takes long; the first value that no predicate rejects wins, the others
/// are dropped.
///
/// For calls that may run twice without harm. A call that *fails* before the delay is not hedged; that is the retry's
/// business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hedge {
    pub(crate) after: Duration,
    pub(crate) more: u32,
}

impl Hedge {
    /// Starts a second call when the first has not ended after so long.
    pub const fn after(delay: Duration) -> Hedge {
        Hedge { after: delay, more: 1 }
    }

    /// Starts up to so many further calls, each `after` later than the one before.
    pub const fn up_to(self, more: u32) -> Hedge {
        Hedge { more, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::refuse(self.more == 0, "a hedge of zero further calls does nothing; leave it out")
    }
}
