//! What an HTTP cache is made of, and the small steps that its story is told in.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everfresh::Spawn;
use http::header::{HOST, HeaderMap, HeaderName};
use http::request;

use super::answer::{RefreshAction, StaleContext};
use super::event::Teller;
use super::key::{self, LONGEST_ROOM, write_key};
use super::page::{KeptBody, Stored, StoredBody};
use super::shelf::Shelf;
use super::time::Time;
use crate::rfc9111::{self, Failure, HitStatus, Meta, RequestControl, Reuse, Rules, StaleBy, WhyRevalidate};

pub(crate) type OnStale = Arc<dyn Fn(&StaleContext<'_>) -> RefreshAction + Send + Sync>;
pub(crate) type BodyKeeper = Arc<dyn Fn(&[Bytes]) -> Option<KeptBody> + Send + Sync>;
pub(crate) type KeyOf = Arc<dyn Fn(&request::Parts) -> String + Send + Sync>;

/// The choices that the engine itself heeds; those of the rules are in [`Rules`].
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) max_body: u64,
    pub(crate) read_ahead: u64,
    pub(crate) max_refreshes: usize,
    pub(crate) min_refresh_interval: Duration,
    pub(crate) refresh_timeout: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) patience: Duration,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) tag_fields: Vec<HeaderName>,
    pub(crate) refresh_fields: Vec<HeaderName>,
    pub(crate) on_stale: Option<OnStale>,
    pub(crate) key: Option<KeyOf>,
    pub(crate) body_keeper: Option<BodyKeeper>,
}

pub(crate) struct Inner {
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) hit_status: HitStatus,
    pub(crate) shelf: Shelf,
    pub(crate) time: Time,
    pub(crate) teller: Teller,
    pub(crate) spawner: Arc<dyn Spawn>,
    pub(crate) refreshing: Arc<AtomicUsize>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpCache").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

/// A request and what was worked out of it once.
pub(crate) struct Ask {
    pub(crate) key: String,
    pub(crate) parts: request::Parts,
}

/// The right to run one refresh; gives its place back when dropped.
pub(crate) struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    pub(crate) fn key(&self, parts: &request::Parts) -> String {
        match &self.settings.key {
            Some(key) => key(parts),
            None => {
                let mut key = String::new();
                write_key(&mut key, parts);
                key
            }
        }
    }

    /// Lends the key of a request, written where the last one on this thread was: a hit makes no string of its own.
    pub(crate) fn with_key<R>(&self, parts: &request::Parts, then: impl FnOnce(&str) -> R) -> R {
        thread_local!(static ROOM: Cell<String> = const { Cell::new(String::new()) });
        if let Some(key) = &self.settings.key {
            return then(&key(parts));
        }
        let mut key = ROOM.take();
        key.clear();
        write_key(&mut key, parts);
        let result = then(&key);
        if key.capacity() <= LONGEST_ROOM {
            ROOM.set(key);
        }
        result
    }

    /// A body that came whole, where it is to be kept.
    pub(crate) fn stored_body(&self, chunks: &[Bytes], trailers: Option<HeaderMap>) -> StoredBody {
        let keeper = self.settings.body_keeper.as_ref();
        let kept = keeper.and_then(|keep| catch_unwind(AssertUnwindSafe(|| keep(chunks))).ok().flatten());
        let length: usize = chunks.iter().map(Bytes::len).sum();
        match kept.filter(|kept| kept.bytes.len() == length) {
            Some(kept) => StoredBody::kept(kept, trailers),
            None => StoredBody::new(chunks, trailers),
        }
    }

    pub(crate) fn permit(&self) -> Option<Permit> {
        let most = self.settings.max_refreshes;
        let more = |running: usize| (running < most).then_some(running + 1);
        let got = self.refreshing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        got.is_ok().then(|| Permit(Arc::clone(&self.refreshing)))
    }

    /// What is to be done with a stored response; one that was expired by hand counts as stale from then on.
    pub(crate) fn judge(&self, parts: &request::Parts, stored: &Stored) -> Reuse {
        self.judge_as(parts, &self.rules.asked(&parts.headers), stored, self.moment_of(stored))
    }

    /// The moment by which its age is judged now.
    pub(crate) fn moment_of(&self, stored: &Stored) -> SystemTime {
        stored.moment(self.time.now(), self.time.elapsed())
    }

    /// The same, with what the request asks and the time read before: once for all variants.
    pub(crate) fn judge_as(
        &self,
        parts: &request::Parts,
        asked: &RequestControl,
        stored: &Stored,
        now: SystemTime,
    ) -> Reuse {
        let reuse = self.rules.reuse_as(parts, asked, &stored.meta, now);
        let Some(since) = stored.expired_for(|| self.time.elapsed()) else { return reuse };
        let (age, stale_for) = match reuse {
            Reuse::Fresh { age, .. } => (age, since),
            Reuse::Stale { age, stale_for, .. } => (age, stale_for.max(since)),
            other => return other,
        };
        let window = stored.meta.stale_while_revalidate();
        let unwanted = asked.wants_nothing_stale();
        if unwanted.is_none() && stale_for < window {
            let remaining = window.saturating_sub(stale_for);
            return Reuse::Stale { age, stale_for, by: StaleBy::Window, refresh: true, remaining };
        }
        if self.rules.only_if_cached(parts) {
            return Reuse::GatewayTimeout;
        }
        let fallback = self.rules.fallback(asked, &stored.meta, stale_for, Failure::Unreachable);
        Reuse::Revalidate { age, why: unwanted.unwrap_or(WhyRevalidate::Stale), fallback }
    }

    /// For how long it has been stale, by its age or by hand.
    pub(crate) fn stale_for(&self, stored: &Stored) -> Duration {
        let by_age = stored.meta.age(self.moment_of(stored)).saturating_sub(stored.meta.lifetime());
        by_age.max(stored.expired_for(|| self.time.elapsed()).unwrap_or_default())
    }

    /// The seconds that it stays fresh; negative for what is stale.
    pub(crate) fn ttl(&self, meta: &Meta, age: Duration, expired_for: Option<Duration>) -> i64 {
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let lifetime = meta.lifetime();
        match expired_for {
            Some(since) => -seconds(since.max(age.saturating_sub(lifetime))),
            None => seconds(lifetime).saturating_sub(seconds(age)),
        }
    }

    /// The tags of a response: its cache groups, which mean something within their origin only (RFC 9875 §2), and the
    /// surrogate keys that its fields name.
    pub(crate) fn tags(&self, request: &request::Parts, headers: &HeaderMap, meta: &Meta) -> Box<[Arc<str>]> {
        let mut tags: Vec<Arc<str>> = Vec::new();
        if !meta.groups().is_empty() {
            let origin = key::origin(&request.uri, &request.headers);
            tags.extend(meta.groups().iter().map(|group| group_tag(&origin, group)));
        }
        for name in &self.settings.tag_fields {
            // All of them: what is stored and cannot be purged is served for longer than its owner wants.
            // Only a word that is no text has no name by which it could be purged.
            let lines = headers.get_all(name).iter();
            let words = lines.flat_map(|line| line.as_bytes().split(|byte| b" ,\t".contains(byte)));
            let words = words.filter_map(|word| std::str::from_utf8(word).ok());
            tags.extend(words.filter(|word| !word.is_empty()).map(surrogate_tag));
        }
        tags.sort_unstable();
        tags.dedup();
        tags.into()
    }

    /// How long an origin that failed is left alone: doubled by each further failure, less up to a half by lot, never
    /// more than a quarter of what is left of the window (contract R3).
    pub(crate) fn pause(&self, failures: u32, remaining: Duration) -> Duration {
        let (base, most) = self.settings.backoff;
        let full = base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
        let pause = full.mul_f64(1.0 - fastrand::f64() / 2.0);
        pause.min(remaining / 4).max(self.settings.min_refresh_interval)
    }

    /// The origin failed to renew this: it is left alone for a while, by refreshes and by those who have this to fall
    /// back on (contract R3, T1).
    pub(crate) fn note_failure(&self, stored: &Stored, failure: Failure) {
        let (meta, age) = (&stored.meta, stored.meta.age(self.moment_of(stored)));
        let left = |window: Duration| meta.lifetime().saturating_add(window).saturating_sub(age);
        let behind = left(meta.stale_while_revalidate());
        let remaining = if behind.is_zero() { left(failure.window(meta)) } else { behind };
        let pause = self.pause(stored.note_failure(), remaining);
        stored.leave_alone(self.time.elapsed().saturating_add(pause), failure);
    }

    /// The request that refreshes a stored response behind a reader's back; `None` where it would need credentials that
    /// the reader does not have.
    pub(crate) fn renewal(&self, asked: &request::Parts, meta: &Meta) -> Option<request::Parts> {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = meta.method().clone();
        parts.uri = asked.uri.clone();
        parts.version = asked.version;
        if !self.rules.is_shared() {
            // The one user's own request, asked again.
            let mut plain = asked.headers.clone();
            plain.remove(http::header::CACHE_CONTROL);
            plain.remove(http::header::PRAGMA);
            parts.headers = rfc9111::renewing(&plain, meta);
            return Some(parts);
        }
        parts.headers = rfc9111::refreshing(meta);
        // What a stored response needed to come into being, it needs again; that it may be shared was judged when it
        // was stored (RFC 9111 §3.5).
        let credentials = meta.is_authorized().then_some(http::header::AUTHORIZATION);
        if credentials.as_ref().is_some_and(|name| !asked.headers.contains_key(name)) {
            return None;
        }
        for name in self.settings.refresh_fields.iter().chain([&HOST]).chain(&credentials) {
            if !parts.headers.contains_key(name) {
                for value in asked.headers.get_all(name) {
                    parts.headers.append(name.clone(), value.clone());
                }
            }
        }
        Some(parts)
    }
}

pub(crate) fn group_tag(origin: &str, group: &str) -> Arc<str> {
    format!("group {origin} {group}").into()
}

pub(crate) fn surrogate_tag(tag: &str) -> Arc<str> {
    format!("tag {tag}").into()
}
