//! Every choice of the engine, its default, and its check.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everfresh::{Clock, Spawn, Workers};
use http::header::HeaderName;
use http::request;

use super::answer::{RefreshAction, StaleContext};
use super::cache::HttpCache;
use super::event::{HttpEvent, Listener, Teller};
use super::inner::{Inner, Settings};
use super::page::KeptBody;
use super::shelf::Shelf;
use super::time::Time;
use crate::rfc9111::{HitStatus, Rules};

const DEFAULT_MAX_BODY: u64 = 8 << 20;

/// Why a cache could not be built; its message names the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(String);

impl fmt::Display for BuildError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BuildError {}

/// Configures an [`HttpCache`], or an adapter over one; made by their `builder()`.
///
/// [`shared`](Self::shared) or [`private`](Self::private) has to be chosen; all else has a default.
#[must_use = "a builder does nothing until `build` is called"]
pub struct HttpCacheBuilder<T = HttpCache> {
    rules: Option<Rules>,
    change: Vec<fn(Rules, Duration) -> Rules>,
    spans: Vec<Duration>,
    capacity: u64,
    /// `None` where nobody chose.
    max_body: Option<u64>,
    max_variants: usize,
    hit_for_miss: Duration,
    settings: Settings,
    time: Time,
    spawner: Option<Arc<dyn Spawn>>,
    listeners: Vec<Listener>,
    of: PhantomData<fn() -> T>,
}

impl HttpCache {
    /// A cache to be configured.
    pub fn builder() -> HttpCacheBuilder {
        HttpCacheBuilder::new()
    }
}

impl<T> fmt::Debug for HttpCacheBuilder<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpCacheBuilder").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl<T: From<HttpCache>> HttpCacheBuilder<T> {
    pub(crate) fn new() -> Self {
        Self {
            rules: None,
            change: Vec::new(),
            spans: Vec::new(),
            capacity: 64 << 20,
            max_body: None,
            max_variants: 32,
            hit_for_miss: Duration::from_secs(120),
            settings: Settings {
                name: "everfresh".to_owned(),
                max_body: DEFAULT_MAX_BODY,
                read_ahead: 1 << 20,
                max_refreshes: 64,
                min_refresh_interval: Duration::from_secs(1),
                refresh_timeout: Duration::from_secs(30),
                soft_timeout: None,
                patience: Duration::from_secs(30),
                backoff: (Duration::from_secs(1), Duration::from_secs(60)),
                tag_fields: Vec::new(),
                refresh_fields: Vec::new(),
                on_stale: None,
                key: None,
                body_keeper: None,
            },
            time: Time::System,
            spawner: None,
            listeners: Vec::new(),
            of: PhantomData,
        }
    }

    /// For many users: a proxy, a gateway, a server's own cache (RFC 9111 §1).
    pub fn shared(self) -> Self {
        self.rules(Rules::shared())
    }

    /// For one user: an API client (RFC 9111 §1). Nothing that one user may see is kept from another.
    pub fn private(self) -> Self {
        self.rules(Rules::private())
    }

    /// With rules of one's own making.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = Some(rules);
        self
    }

    fn changed(mut self, span: Duration, change: fn(Rules, Duration) -> Rules) -> Self {
        self.change.push(change);
        self.spans.push(span);
        self
    }

    /// The window of stale-while-revalidate for responses that name none; none by default (RFC 5861 §3).
    pub fn default_stale_while_revalidate(self, window: Duration) -> Self {
        self.changed(window, |rules, window| rules.default_stale_while_revalidate(window))
    }

    /// The window of stale-if-error for responses that name none; none by default (RFC 5861 §4).
    pub fn default_stale_if_error(self, window: Duration) -> Self {
        self.changed(window, |rules, window| rules.default_stale_if_error(window))
    }

    /// The widest window of stale-while-revalidate, whatever the origin says; no limit by default.
    pub fn max_stale_while_revalidate(self, cap: Duration) -> Self {
        self.changed(cap, Rules::max_stale_while_revalidate)
    }

    /// The widest window of stale-if-error, whatever the origin says; no limit by default.
    pub fn max_stale_if_error(self, cap: Duration) -> Self {
        self.changed(cap, Rules::max_stale_if_error)
    }

    /// How many bytes all that is stored may weigh, heads and keys included; 64 MiB by default.
    pub fn capacity_bytes(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// The longest body that is stored; 8 MiB by default, or the capacity if that is less. Longer ones are passed on. It
    /// also bounds what a fetch that several read holds of a body that turns out longer.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// How far the origin is read ahead of the fastest reader of a body; 1 MiB by default.
    pub fn read_ahead(mut self, bytes: u64) -> Self {
        self.settings.read_ahead = bytes;
        self
    }

    /// The most variants that are kept of one URI (RFC 9111 §4.1); 32 by default. The oldest go.
    pub fn max_variants(mut self, most: usize) -> Self {
        self.max_variants = most;
        self
    }

    /// Asked once for each stale answer that would start a refresh, on a thread where it may block, after the answer was
    /// given. A panic in it is contained, told as [`HttpEvent::HookPanicked`], and counts as
    /// [`RefreshAction::Refresh`].
    pub fn on_stale(mut self, hook: impl Fn(&StaleContext<'_>) -> RefreshAction + Send + Sync + 'static) -> Self {
        self.settings.on_stale = Some(Arc::new(hook));
        self
    }

    /// Gets every event, on the thread on which it happened; may be called more than once. Panics are contained.
    pub fn on_event(mut self, listener: impl Fn(&HttpEvent<'_>) + Send + Sync + 'static) -> Self {
        self.listeners.push(Arc::new(listener));
        self
    }

    /// At most one refresh of a stored response in so long, also when the origin says `max-age=0`; 1 s by default.
    pub fn min_refresh_interval(mut self, interval: Duration) -> Self {
        self.settings.min_refresh_interval = interval;
        self
    }

    /// At most so many refreshes at once; 64 by default, 0 for none ever. Beyond it the stale response is served and the
    /// next access tries again (contract R2).
    pub fn max_refreshes(mut self, refreshes: usize) -> Self {
        self.settings.max_refreshes = refreshes;
        self
    }

    /// Gives up a refresh without an answer after so long, and a body that nobody reads when it stands still for so long; a
    /// refresh whose body goes on for longer gives its place to another (contract L4). 30 s by default.
    pub fn refresh_timeout(mut self, bound: Duration) -> Self {
        self.settings.refresh_timeout = bound;
        self
    }

    /// With a stored response that may stand in for a failing origin, waits no longer than this for a better one; the
    /// fetch goes on behind (contract L6). Off by default.
    pub fn soft_timeout(mut self, bound: Duration) -> Self {
        self.settings.soft_timeout = Some(bound);
        self
    }

    /// A fetch that has not got on for so long is waited for by nobody who comes new: the next one leads; 30 s by default
    /// (contract L4).
    pub fn join_timeout(mut self, bound: Duration) -> Self {
        self.settings.patience = bound;
        self
    }

    /// How long a response whose refresh failed is left alone: `base` at first, doubled by each further failure up to
    /// `max`; never longer than a quarter of what is left of its window. 1 s and 60 s by default (contract R3).
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.settings.backoff = (base, max);
        self
    }

    /// For how long nobody waits for another's request of a URI whose response could not be shared; 120 s by default.
    pub fn hit_for_miss(mut self, span: Duration) -> Self {
        self.hit_for_miss = span;
        self
    }

    /// The response fields that hold surrogate keys for [`HttpCache::purge_tag`], such as `surrogate-key` or `cache-tag`;
    /// words apart by spaces or commas, in UTF-8. None by default.
    pub fn tag_fields(mut self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.tag_fields = fields.into_iter().collect();
        self
    }

    /// Fields of the request that found a response stale which its refresh carries on, beside `Host` and what `Vary`
    /// nominates; none by default. In a private cache all are carried on. Name what the origin goes by without saying so in
    /// `Vary`, such as `x-forwarded-proto` behind whoever ends TLS: else a refresh is answered with the redirect to https,
    /// in place of the page.
    pub fn refresh_fields(mut self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.refresh_fields = fields.into_iter().collect();
        self
    }

    /// Makes the key of a request; by default scheme, authority, path and query, as `https://example.com/a`. Where a server
    /// is asked by path and `Host` no scheme is known: `//example.com/a`. A `Host` that is not the authority's own stands
    /// behind, after a space. Two requests with one key must mean one resource.
    pub fn key(mut self, key: impl Fn(&request::Parts) -> String + Send + Sync + 'static) -> Self {
        self.settings.key = Some(Arc::new(key));
        self
    }

    /// How this cache calls itself in `Cache-Status` (RFC 9211 §2); `everfresh` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Reads time from another clock; `origin` is the date at its origin. A test moves an [`everfresh::ManualClock`].
    pub fn clock(mut self, clock: impl Clock, origin: SystemTime) -> Self {
        self.time = Time::Other(Arc::new(clock), origin);
        self
    }

    /// Says where bodies are kept: called once for each body that came whole and is to be stored, with its pieces, on a
    /// thread that also serves, so it must not block. `None` leaves a body to the cache, which copies it into memory of
    /// its own; so does a panic, and an answer that is not as long as the body. What is returned is shared with the
    /// answers that are served from it, and dropped when neither they nor the store need it any more.
    pub fn body_keeper(mut self, keeper: impl Fn(&[Bytes]) -> Option<KeptBody> + Send + Sync + 'static) -> Self {
        self.settings.body_keeper = Some(Arc::new(keeper));
        self
    }

    /// Runs background work with this spawner; [`Workers`] by default, which use the tokio runtime at hand.
    pub fn spawner(mut self, spawner: impl Spawn) -> Self {
        self.spawner = Some(Arc::new(spawner));
        self
    }

    /// The cache, or the adapter over it.
    ///
    /// # Errors
    /// If the choices make no sense; the message names the cure.
    pub fn build(mut self) -> Result<T, BuildError> {
        self.settings.max_body = self.max_body.unwrap_or(DEFAULT_MAX_BODY.min(self.capacity));
        let refuse = |wrong: bool, cure: &str| if wrong { Err(BuildError(cure.to_owned())) } else { Ok(()) };
        let Some(rules) = self.rules else {
            return Err(BuildError(
                "whose cache is it? choose shared() for many users or private() for one: RFC 9111 gives them other rules"
                    .to_owned(),
            ));
        };
        let settings = &self.settings;
        refuse(self.capacity == 0, "capacity_bytes(0) would hold nothing; give at least the size of a response")?;
        refuse(
            settings.max_body > self.capacity,
            "a body of max_body would not fit into capacity_bytes; lower max_body or raise capacity_bytes",
        )?;
        refuse(self.max_variants == 0, "max_variants(0) would hold nothing; give at least 1")?;
        refuse(
            settings.refresh_timeout.is_zero() || settings.soft_timeout.is_some_and(|bound| bound.is_zero()),
            "a timeout of zero would end every request before it begins; leave it out",
        )?;
        refuse(settings.backoff.0 > settings.backoff.1, "backoff(base, max) needs base <= max; exchange them")?;
        refuse(
            self.hit_for_miss.is_zero(),
            "hit_for_miss of zero would serialise uncacheable responses; give at least 1 s",
        )?;
        refuse(settings.name.is_empty(), "a cache without a name cannot speak in Cache-Status; leave name() out")?;
        let rules = self.change.iter().zip(&self.spans).fold(rules, |rules, (change, span)| change(rules, *span));
        let shelf = Shelf::new(
            rules.clone(),
            self.time.clone(),
            (self.capacity, settings.max_body),
            self.max_variants,
            self.hit_for_miss,
        );
        let inner = Inner {
            shelf: shelf.map_err(|error| BuildError(error.to_string()))?,
            rules,
            hit_status: HitStatus::new(&self.settings.name),
            settings: self.settings,
            time: self.time,
            teller: Teller::new(self.listeners),
            spawner: self.spawner.unwrap_or_else(|| Arc::new(Workers::new())),
            refreshing: Arc::new(AtomicUsize::new(0)),
        };
        Ok(HttpCache { inner: Arc::new(inner) }.into())
    }
}
