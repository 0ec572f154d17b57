//! What the engine tells of itself: events as they happen, and counters.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everfresh::RefreshStatus;
use http::StatusCode;

use super::answer::{CacheAnswer, Outcome, Uncacheable};
use super::shelf::NotLanded;

/// Something that happened, told after the fact and outside of every lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpEvent<'a> {
    /// A request was answered; its body may still be on the way.
    #[non_exhaustive]
    Answered {
        /// Its key.
        key: &'a str,
        /// The status that was served.
        status: StatusCode,
        /// What the cache did.
        answer: &'a CacheAnswer,
    },
    /// The origin answered, or failed to.
    #[non_exhaustive]
    Fetched {
        /// The key that was asked for.
        key: &'a str,
        /// Whether it was a refresh behind a reader's back.
        refresh: bool,
        /// Its status; `None` if no response came.
        status: Option<StatusCode>,
        /// How long it took to the head of the response.
        took: Duration,
        /// How many waited for it.
        waiters: usize,
    },
    /// A response was stored.
    #[non_exhaustive]
    Stored {
        /// Its key.
        key: &'a str,
        /// The length of its body.
        bytes: u64,
    },
    /// A response that the rules allow to be stored was not.
    #[non_exhaustive]
    NotStored {
        /// Its key.
        key: &'a str,
        /// Why.
        why: NotLanded,
    },
    /// A response cannot be shared: for a while nobody waits for another's request of this key.
    #[non_exhaustive]
    Passes {
        /// The key.
        key: &'a str,
        /// Why.
        why: Uncacheable,
    },
    /// A stale response wanted a refresh.
    #[non_exhaustive]
    Refresh {
        /// The key.
        key: &'a str,
        /// What became of the wish.
        status: RefreshStatus,
    },
    /// A refresh ended.
    #[non_exhaustive]
    Refreshed {
        /// The key.
        key: &'a str,
        /// How.
        ending: RefreshEnding,
    },
    /// `on_stale` panicked; the cache refreshed as if it had said so.
    #[non_exhaustive]
    HookPanicked {
        /// The key.
        key: &'a str,
    },
    /// Something was purged or expired by hand, or by an unsafe request.
    #[non_exhaustive]
    Purged {
        /// The key, prefix or tag; empty for all.
        what: &'a str,
    },
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefreshEnding {
    /// 304: the stored response lives anew.
    Renewed,
    /// Another response took its place.
    Replaced,
    /// The origin's answer cannot be stored; the stored response is dropped.
    Dropped,
    /// The origin failed; the stored response is kept and the origin left alone for a while.
    Failed,
    /// No answer came within `refresh_timeout`; as failed.
    TimedOut,
    /// The result was not wanted any more.
    Discarded,
    /// `on_stale` said [`Skip`](super::RefreshAction::Skip).
    Skipped,
    /// `on_stale` said [`Handled`](super::RefreshAction::Handled).
    Handled,
}

impl RefreshEnding {
    /// All names, in the order of [`HttpStats::refreshes`].
    pub const NAMES: [&'static str; 8] =
        ["renewed", "replaced", "dropped", "failed", "timed_out", "discarded", "skipped", "handled"];

    /// The name in lower case, as metrics and logs use it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

pub(crate) type Listener = Arc<dyn Fn(&HttpEvent<'_>) + Send + Sync>;

/// Upper ends of the buckets of a histogram, in microseconds: powers of four from 64 µs, the last without end.
const BUCKETS: usize = 16;

/// How often something took how long: bucket `n` counts what took less than [`Histogram::limit`]`(n)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many fell into each bucket and not into one before it.
    pub counts: [u64; BUCKETS],
}

impl Histogram {
    /// The upper end of a bucket; the last one's is without meaning.
    pub fn limit(bucket: usize) -> Duration {
        Duration::from_micros(64_u64.saturating_mul(1 << (2 * bucket.min(BUCKETS))))
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper end of the bucket in which this share (0.5: the median) of all lies; zero if nothing was counted.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if sum >= wanted {
                return Self::limit(bucket);
            }
        }
        Duration::ZERO
    }
}

#[derive(Default)]
pub(crate) struct Spread([AtomicU64; BUCKETS]);

impl Spread {
    pub(crate) fn add(&self, span: Duration) {
        let steps = (span.as_micros() / 64).max(1).ilog2() / 2;
        let bucket = if span.as_micros() < 64 { 0 } else { (steps as usize + 1).min(BUCKETS - 1) };
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)) }
    }
}

/// A snapshot of the engine's counters.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct HttpStats {
    /// Requests by outcome, in the order of [`Outcome::NAMES`].
    pub outcomes: [u64; 9],
    /// Refreshes by ending, in the order of [`RefreshEnding::NAMES`].
    pub refreshes: [u64; 8],
    /// Refreshes that were wanted and not started, for whatever reason.
    pub refreshes_not_started: u64,
    /// Requests to the origin.
    pub fetches: u64,
    /// Requests to the origin without a response.
    pub fetches_failed: u64,
    /// Time to the head of the origin's responses.
    pub origin_latency: Histogram,
    /// Age of what was served from the store.
    pub age_at_serve: Histogram,
    /// Body bytes served from the store.
    pub bytes_from_store: u64,
    /// Body bytes that the origin sent for the store.
    pub bytes_from_origin: u64,
    /// Requests that waited for another's fetch.
    pub waited: u64,
    /// Answers of the origin that are under way just now and may come to be stored: fetches and refreshes until their
    /// bodies have come, and POSTs; not what else passes the cache.
    pub in_flight: usize,
    /// Refreshes behind readers' backs that are under way just now, of those that `max_refreshes` bounds.
    pub refreshing: usize,
    /// Stored URIs.
    pub pages: usize,
    /// What they weigh, in bytes.
    pub weight: u64,
    /// What they may weigh.
    pub capacity: u64,
}

impl HttpStats {
    /// How many requests there were.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// The count of one outcome by its name; zero for a name that is none.
    pub fn outcome(&self, name: &str) -> u64 {
        Outcome::NAMES.iter().position(|own| *own == name).map_or(0, |at| self.outcomes[at])
    }

    /// The share of requests that were answered with what is stored, also after the origin failed, or by another's fetch; zero
    /// without requests.
    pub fn hit_rate(&self) -> f64 {
        let served = ["hit", "stale", "coalesced", "fallback"].map(|name| self.outcome(name)).iter().sum::<u64>();
        if self.requests() == 0 { 0.0 } else { served as f64 / self.requests() as f64 }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    outcomes: [AtomicU64; 9],
    refreshes: [AtomicU64; 8],
    not_started: AtomicU64,
    fetches: AtomicU64,
    fetches_failed: AtomicU64,
    origin_latency: Spread,
    age_at_serve: Spread,
    from_store: AtomicU64,
    from_origin: AtomicU64,
    waited: AtomicU64,
}

/// Counts, and tells the listeners.
pub(crate) struct Teller {
    counters: Counters,
    listeners: Vec<Listener>,
}

impl Teller {
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        Self { counters: Counters::default(), listeners }
    }

    /// A listener that panics misses this event only.
    pub(crate) fn tell(&self, event: &HttpEvent<'_>) {
        self.count(event);
        for listener in &self.listeners {
            let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
        }
    }

    fn count(&self, event: &HttpEvent<'_>) {
        let own = &self.counters;
        let one = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        match event {
            HttpEvent::Answered { answer, .. } => {
                one(&own.outcomes[answer.outcome.index()]);
                if let (Outcome::Hit | Outcome::Stale | Outcome::Fallback, Some(age)) = (answer.outcome, answer.age) {
                    own.age_at_serve.add(age);
                }
            }
            HttpEvent::Fetched { status, took, .. } => {
                one(&own.fetches);
                match status {
                    Some(_) => own.origin_latency.add(*took),
                    None => one(&own.fetches_failed),
                }
            }
            HttpEvent::Refresh { status, .. } if *status != RefreshStatus::Started => one(&own.not_started),
            HttpEvent::Refreshed { ending, .. } => one(&own.refreshes[*ending as usize]),
            _ => {}
        }
    }

    pub(crate) fn waited(&self) {
        self.counters.waited.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_from_store(&self, bytes: u64) {
        self.counters.from_store.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_from_origin(&self, bytes: u64) {
        self.counters.from_origin.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> HttpStats {
        let own = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HttpStats {
            outcomes: std::array::from_fn(|at| read(&own.outcomes[at])),
            refreshes: std::array::from_fn(|at| read(&own.refreshes[at])),
            refreshes_not_started: read(&own.not_started),
            fetches: read(&own.fetches),
            fetches_failed: read(&own.fetches_failed),
            origin_latency: own.origin_latency.read(),
            age_at_serve: own.age_at_serve.read(),
            bytes_from_store: read(&own.from_store),
            bytes_from_origin: read(&own.from_origin),
            waited: read(&own.waited),
            ..HttpStats::default()
        }
    }
}

impl fmt::Debug for Teller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Teller").field("listeners", &self.listeners.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_tells_in_which_bucket_a_share_lies() {
        let spread = Spread::default();
        for micros in [1, 63, 64, 255, 256, 1_000_000] {
            spread.add(Duration::from_micros(micros));
        }
        let histogram = spread.read();
        assert_eq!(histogram.counts[..3], [2, 2, 1]);
        assert_eq!(histogram.total(), 6);
        assert_eq!(histogram.quantile(0.5), Histogram::limit(1));
        assert!(histogram.quantile(1.0) >= Duration::from_secs(1));
    }
}
