//! Every choice of the rules and its default.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

/// What the rules are told by the operator; cheap to clone.
///
/// All defaults are the RFCs' own: nothing stale is served unless the origin or the client allows it. Windows given
/// here widen that for responses that say nothing themselves (RFC 9111 §4.2.4 lets an operator's configuration allow
/// stale responses); they never override `no-cache`, `must-revalidate`, `proxy-revalidate` or `no-store`.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Choices>);

#[derive(Clone, Debug)]
pub(crate) struct Choices {
    pub(crate) shared: bool,
    pub(crate) heuristic_fraction: f64,
    pub(crate) heuristic_cap: Duration,
    pub(crate) default_swr: Option<Duration>,
    pub(crate) default_sie: Option<Duration>,
    pub(crate) max_swr: Duration,
    pub(crate) max_sie: Duration,
    pub(crate) when_disconnected: Option<Duration>,
    pub(crate) stale_despite_s_maxage: bool,
    pub(crate) ignore_request_no_cache: bool,
    pub(crate) targets: Vec<HeaderName>,
    pub(crate) max_vary_fields: usize,
    pub(crate) understood: Vec<StatusCode>,
}

/// Final status codes whose caching requirements (RFC 9110 §15) these rules carry out, for `must-understand`.
const UNDERSTOOD: [u16; 20] =
    [200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 421, 451, 500, 501];

impl Rules {
    /// Rules of a cache that serves many users: a proxy, a gateway, a server's own cache (RFC 9111 §1).
    ///
    /// Heeds `CDN-Cache-Control` (RFC 9213); see [`Rules::targets`].
    pub fn shared() -> Self {
        Self::new(true, vec![HeaderName::from_static("cdn-cache-control")])
    }

    /// Rules of a cache that serves one user: an API client, a browser (RFC 9111 §1).
    pub fn private() -> Self {
        Self::new(false, Vec::new())
    }

    fn new(shared: bool, targets: Vec<HeaderName>) -> Self {
        Self(Arc::new(Choices {
            shared,
            heuristic_fraction: 0.1,
            heuristic_cap: Duration::from_secs(24 * 60 * 60),
            default_swr: None,
            default_sie: None,
            max_swr: Duration::MAX,
            max_sie: Duration::MAX,
            when_disconnected: None,
            stale_despite_s_maxage: false,
            ignore_request_no_cache: false,
            targets,
            max_vary_fields: 16,
            understood: UNDERSTOOD.iter().filter_map(|&code| StatusCode::from_u16(code).ok()).collect(),
        }))
    }

    pub(crate) fn choices(&self) -> &Choices {
        &self.0
    }

    /// Whether these are the rules of a shared cache.
    pub fn is_shared(&self) -> bool {
        self.0.shared
    }

    fn with(mut self, change: impl FnOnce(&mut Choices)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The share of the time since `Last-Modified` for which a response without a lifetime of its own counts as fresh;
    /// 0.1 by default, 0 turns heuristics off (RFC 9111 §4.2.2).
    ///
    /// Held between 0 and 1; what is not a number counts as 0.
    pub fn heuristic_fraction(self, fraction: f64) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        self.with(|choices| choices.heuristic_fraction = fraction)
    }

    /// The longest lifetime that the heuristic gives; 24 hours by default (RFC 9111 §4.2.2).
    pub fn heuristic_cap(self, cap: Duration) -> Self {
        self.with(|choices| choices.heuristic_cap = cap)
    }

    /// The window of stale-while-revalidate for responses that name none; `None` by default (RFC 5861 §3).
    pub fn default_stale_while_revalidate(self, window: impl Into<Option<Duration>>) -> Self {
        let window = window.into();
        self.with(|choices| choices.default_swr = window)
    }

    /// The window of stale-if-error for responses that name none; `None` by default (RFC 5861 §4).
    pub fn default_stale_if_error(self, window: impl Into<Option<Duration>>) -> Self {
        let window = window.into();
        self.with(|choices| choices.default_sie = window)
    }

    /// The widest window of stale-while-revalidate, whoever asks for it; unlimited by default.
    pub fn max_stale_while_revalidate(self, cap: Duration) -> Self {
        self.with(|choices| choices.max_swr = cap)
    }

    /// The widest window of stale-if-error, whoever asks for it; unlimited by default.
    pub fn max_stale_if_error(self, cap: Duration) -> Self {
        self.with(|choices| choices.max_sie = cap)
    }

    /// How long past its lifetime a response may stand in while the origin cannot be reached at all; `None` by default
    /// (RFC 9111 §4.2.4 allows a disconnected cache to serve stale responses).
    ///
    /// Unlike stale-if-error, an answer of 5xx is no disconnection. In a shared cache this is for responses that name a
    /// lifetime or a window, that say `public`, or whose lifetime can be guessed by `Last-Modified`: another may be its one
    /// user's, by a cookie or the key of an API. Nor are such given to clients that take stale ones (`max-stale`).
    pub fn stale_when_disconnected(self, window: impl Into<Option<Duration>>) -> Self {
        let window = window.into();
        self.with(|choices| choices.when_disconnected = window)
    }

    /// Whether the windows also hold for responses with `s-maxage`; `false` by default.
    ///
    /// RFC 9111 §5.2.2.10 gives `s-maxage` the meaning of `proxy-revalidate`, which forbids stale responses in a shared
    /// cache; common practice of content networks is to combine it with `stale-while-revalidate` all the same.
    pub fn stale_despite_s_maxage(self, yes: bool) -> Self {
        self.with(|choices| choices.stale_despite_s_maxage = yes)
    }

    /// Whether a client's `no-cache`, `max-age`, `min-fresh` and `Pragma` are ignored, so that no client can make the
    /// origin work; `false` by default.
    ///
    /// A deliberate departure from RFC 9111 §5.2.1 that many shared caches take; `no-store` and `only-if-cached` are
    /// always heeded.
    pub fn ignore_request_no_cache(self, yes: bool) -> Self {
        self.with(|choices| choices.ignore_request_no_cache = yes)
    }

    /// The targeted fields to heed before `Cache-Control`, most specific first; `CDN-Cache-Control` by default in a
    /// shared cache, none in a private one (RFC 9213 §2.2).
    pub fn targets(self, fields: impl IntoIterator<Item = HeaderName>) -> Self {
        self.with(|choices| choices.targets = fields.into_iter().collect())
    }

    /// The most fields that `Vary` may name; 16 by default. Responses that name more are not stored.
    pub fn max_vary_fields(self, most: usize) -> Self {
        self.with(|choices| choices.max_vary_fields = most)
    }

    /// The final status codes that count as understood where a response says `must-understand` (RFC 9111 §5.2.2.3).
    pub fn understood(self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|choices| choices.understood = codes.into_iter().collect())
    }
}
