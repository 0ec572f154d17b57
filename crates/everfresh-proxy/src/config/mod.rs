//! Every choice, its default, its check: flags for the simple case, TOML for the rest.

mod check;
mod value;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use check::Wrong;
pub use value::{FieldName, OriginUrl, RootedPath, Size, Span};
pub(crate) use value::{address, host_fits};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(default = "default_listen", deserialize_with = "value::socket")]
    pub listen: SocketAddr,
    /// TLS for clients; without it HTTP/1.1 and h2c are spoken in the clear.
    pub tls: Option<Tls>,
    /// The address for metrics, purges and the live page.
    #[serde(default)]
    pub admin: Admin,
    /// The room of the cache.
    #[serde(default)]
    pub cache: CacheSettings,
    /// What a client may ask of us.
    #[serde(default)]
    pub limits: Limits,
    /// How long anybody may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// What is written down.
    #[serde(default)]
    pub log: Log,
    /// Where answers come from; the first that fits a request is asked.
    #[serde(rename = "origin")]
    pub origins: Vec<OriginSettings>,
    /// What holds for which requests; the first that fits counts.
    #[serde(rename = "rule", default)]
    pub rules: Vec<RuleSettings>,
}

/// Certificate and key in PEM.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The admin address.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens; `off`: nowhere.
    #[serde(deserialize_with = "value::perhaps_socket")]
    pub listen: Option<SocketAddr>,
    /// What a purge must carry as `Authorization: Bearer`; without it nothing can be purged.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9090))), token: None }
    }
}

/// A word that is never printed.
#[derive(Clone, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it is empty, which guards nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a client can send it in `Authorization`, of which spaces at either end are no part.
    pub fn can_be_sent(&self) -> bool {
        self.0.trim() == self.0 && self.0.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    }

    /// Whether it is this text; takes the same time for every text of its length.
    pub fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        own.len() == given.len() && own.iter().zip(given).fold(0, |differs, (one, two)| differs | (one ^ two)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("…")
    }
}

/// The room of the cache.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Bytes of all stored responses together.
    pub capacity: Size,
    /// The longest body that is stored; longer ones pass through. Less than the default where `capacity` is less.
    pub max_body: Size,
    /// Refreshes behind the readers' backs at a time; 0: none.
    pub max_refreshes: usize,
    /// Stored variants of one URL.
    pub max_variants: usize,
    /// How long what cannot be reached anew stands in where nothing forbids it.
    pub stale_when_disconnected: Span,
    /// Whether windows also hold for responses with `s-maxage`, which forbids stale ones by RFC 9111 §5.2.2.10.
    pub stale_despite_s_maxage: bool,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            capacity: Size::bytes(256 << 20),
            max_body: Size::bytes(16 << 20),
            max_refreshes: 32,
            max_variants: 32,
            stale_when_disconnected: Span::secs(24 * 60 * 60),
            stale_despite_s_maxage: false,
        }
    }
}

impl CacheSettings {
    /// Where nobody wrote `max_body`, or a flag gives less room: no body is larger than the whole cache.
    pub(crate) fn bound_max_body(&mut self) {
        if self.max_body.get() > self.capacity.get() {
            self.max_body = self.capacity;
        }
    }
}

/// What a client may ask of us.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head: Size,
    /// Bytes of a request's content.
    pub body: Size,
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Requests at a time that wait for an answer, those whose content still comes too; beyond them what is stored is
    /// answered, and all else is 503.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Size::bytes(64 << 10), body: Size::bytes(1 << 30), connections: 10_000, waiters: 10_000 }
    }
}

/// How long anybody may take.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To an origin: until connected.
    pub connect: Span,
    /// From an origin: until the head of its answer, counted from when it could have all of the request that its client
    /// has sent.
    pub first_byte: Span,
    /// Either side: between two pieces of a body.
    pub idle: Span,
    /// An exchange with an origin from its first byte to its last; a client that still sends then is told 408.
    pub whole: Span,
    /// A client: until the head of its request has come.
    pub head: Span,
    /// A client's connection without requests.
    pub keep_alive: Span,
    /// An origin's connection without requests. Shorter than the 5 s after which Node closes one, for a request on a
    /// connection that closes in that moment is lost.
    pub pool: Span,
    /// An upgraded connection (WebSocket) on which neither side sends anything.
    pub tunnel: Span,
    /// At the end: until what still runs is cut off.
    pub drain: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span::secs(5),
            first_byte: Span::secs(30),
            idle: Span::secs(30),
            whole: Span::secs(600),
            head: Span::secs(10),
            keep_alive: Span::secs(75),
            pool: Span::secs(4),
            tunnel: Span::secs(60 * 60),
            drain: Span::secs(10),
        }
    }
}

/// What is written down, to standard error.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A line for each request.
    pub access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, access: true }
    }
}

/// For whom the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Where answers come from.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginSettings {
    /// `http://` or `https://`, a host, perhaps a path that is put before every request's.
    pub url: OriginUrl,
    /// Only for these hosts; `*.example.com` for all below; none: for every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only for paths that begin so, however a client encodes them.
    #[serde(default)]
    pub path: Option<RootedPath>,
    /// Sends the client's `Host` on instead of the origin's own name; over HTTP/2, as `:authority`, only with `http2` and
    /// where it stands in `hosts` as it is, else over HTTP/1.1.
    #[serde(default)]
    pub preserve_host: bool,
    /// Keeps `Forwarded` and `X-Forwarded-*` that came with the request, adding to them: for a proxy behind a proxy.
    #[serde(default)]
    pub trust_forwarded: bool,
    /// Speaks HTTP/2 from the first byte, also without TLS.
    #[serde(default)]
    pub http2: bool,
}

impl OriginSettings {
    /// An origin for every request.
    pub fn new(url: OriginUrl) -> Self {
        let (hosts, path) = (Vec::new(), None);
        Self { url, hosts, path, preserve_host: false, trust_forwarded: false, http2: false }
    }

    /// Whether the host of a URL stands in `hosts` as it is, at the usual port or that which is listened at: no client can
    /// make up more of these than there are.
    pub(crate) fn names(&self, url: &http::Uri, listening: u16) -> bool {
        let port = url.port_u16().is_none_or(|port| port == listening);
        port && url.host().is_some_and(|host| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host)))
    }
}

/// What holds for the requests that it fits.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// Only for these hosts; `*.example.com` for all below; none: for every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only for paths that begin so, however a client encodes them.
    pub path: Option<RootedPath>,
    /// The lifetime of responses that say nothing of theirs and set no cookie.
    pub ttl: Option<Span>,
    /// The window of stale-while-revalidate for responses that name none.
    pub stale_while_revalidate: Option<Span>,
    /// The window of stale-if-error for responses that name none.
    pub stale_if_error: Option<Span>,
    /// Goes past the cache.
    #[serde(default)]
    pub bypass: bool,
    /// Query parameters that the key leaves out, `utm_*` for all that begin so; they are not sent to the origin either.
    #[serde(default)]
    pub ignore_query: Vec<String>,
    /// Request fields whose values are part of the key.
    #[serde(default)]
    pub key_headers: Vec<FieldName>,
    /// The most fields that `Vary` may name.
    pub max_vary: Option<usize>,
    /// Clients cannot make the origin work by `no-cache`, `max-age` or `Pragma`.
    #[serde(default)]
    pub ignore_client_no_cache: bool,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

impl Config {
    /// Whether a key may have more than its URL: a rule's fields, or what a trusted proxy told.
    pub(crate) fn has_longer_keys(&self) -> bool {
        self.rules.iter().any(|rule| !rule.key_headers.is_empty())
            || self.origins.iter().any(|origin| origin.trust_forwarded)
    }

    /// The host of a request that names none: that of the origin for every host.
    pub(crate) fn unnamed_host(&self) -> Option<&str> {
        let origin = self.origins.iter().find(|origin| origin.hosts.is_empty())?;
        origin.url.uri().authority().map(http::uri::Authority::as_str)
    }

    /// All defaults, before one origin.
    pub fn of(origin: OriginUrl) -> Self {
        Self {
            listen: default_listen(),
            tls: None,
            admin: Admin::default(),
            cache: CacheSettings::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            log: Log::default(),
            origins: vec![OriginSettings::new(origin)],
            rules: Vec::new(),
        }
    }

    /// The keys in which another configuration differs and that cannot change while this one is served.
    pub(crate) fn counts_from_the_start(&self, other: &Self) -> Vec<&'static str> {
        let fixed = [
            ("listen", self.listen != other.listen),
            ("admin.listen", self.admin.listen != other.admin.listen),
            ("[tls], there or not", self.tls.is_some() != other.tls.is_some()),
            ("[cache]", self.cache != other.cache),
            ("limits.connections", self.limits.connections != other.limits.connections),
            ("log.format", self.log.format != other.log.format),
        ];
        fixed.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
