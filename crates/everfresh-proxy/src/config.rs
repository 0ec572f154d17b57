//! Every choice, its default, its check: flags for the simple case, TOML for the rest.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, Uri};
use serde::de::{self, Deserialize, Deserializer};

/// The whole configuration.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(default = "default_listen")]
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
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The admin address.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens; none: nowhere.
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
#[derive(Clone, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
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
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSettings {
    /// Bytes of all stored responses together.
    pub capacity: Size,
    /// The longest body that is stored; longer ones pass through.
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
            capacity: Size(256 << 20),
            max_body: Size(16 << 20),
            max_refreshes: 32,
            max_variants: 32,
            stale_when_disconnected: Span::secs(24 * 60 * 60),
            stale_despite_s_maxage: false,
        }
    }
}

/// What a client may ask of us.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head: Size,
    /// Bytes of a request's content.
    pub body: Size,
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Requests at a time that wait for another's answer.
    pub waiters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Size(64 << 10), body: Size(1 << 30), connections: 10_000, waiters: 10_000 }
    }
}

/// How long anybody may take.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// To an origin: until connected.
    pub connect: Span,
    /// From an origin: until the head of its answer.
    pub first_byte: Span,
    /// Either side: between two pieces of a body.
    pub idle: Span,
    /// An exchange with an origin from its first byte to its last.
    pub whole: Span,
    /// A client: until the head of its request has come.
    pub head: Span,
    /// A client's connection without requests.
    pub keep_alive: Span,
    /// An origin's connection without requests. Shorter than the 5 s after which Node closes one, for a request on a
    /// connection that closes in that moment is lost.
    pub pool: Span,
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
            drain: Span::secs(10),
        }
    }
}

/// What is written down, to standard error.
#[derive(Clone, Debug, serde::Deserialize)]
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
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginSettings {
    /// `http://` or `https://`, a host, perhaps a path that is put before every request's.
    pub url: OriginUrl,
    /// Only for these hosts; `*.example.com` for all below; none: for every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only for paths that begin so.
    #[serde(default)]
    pub path: Option<RootedPath>,
    /// Sends the client's `Host` on instead of the origin's own name.
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
}

/// What holds for the requests that it fits.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// Only for these hosts; `*.example.com` for all below; none: for every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only for paths that begin so.
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

    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be meant: file, line and cure.
    pub fn read(path: &Path) -> Result<Self, Wrong> {
        let text = std::fs::read_to_string(path).map_err(|error| Wrong {
            file: path.to_owned(),
            line: None,
            what: format!("cannot be read: {error}"),
            cure: Some("give the path of a TOML file that this user may read".into()),
        })?;
        Self::parse(path, &text)
    }

    /// Checks what a file says.
    ///
    /// # Errors
    /// It says what cannot be meant: file, line and cure.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Wrong> {
        let wrong = |line, what, cure| Wrong { file: path.to_owned(), line, what, cure };
        let line_of = |at: usize| Some(text.get(..at)?.matches('\n').count() + 1);
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().and_then(|span| line_of(span.start));
            let (what, cure) = explain(error.message());
            wrong(line, what, cure)
        })?;
        let key = |name: &str| {
            let at = text.lines().position(|line| line.trim_start().starts_with(name));
            at.map(|at| at + 1)
        };
        if config.origins.is_empty() {
            let cure = "add [[origin]] with url = \"http://127.0.0.1:3000\"";
            return Err(wrong(None, "there is no origin to ask".into(), Some(cure.into())));
        }
        if config.admin.listen == Some(config.listen) && config.listen.port() != 0 {
            let what = "admin.listen is the public address".to_owned();
            return Err(wrong(key("[admin]"), what, Some("give the admin address a port of its own".into())));
        }
        if config.cache.max_body.get() > config.cache.capacity.get() {
            let what = "cache.max_body is larger than cache.capacity".to_owned();
            return Err(wrong(key("max_body"), what, Some("no body can be larger than the whole cache".into())));
        }
        if config.limits.head.get() < 8192 {
            let what = "limits.head is below 8 KiB".to_owned();
            return Err(wrong(key("head"), what, Some("give it 8 KiB or more".into())));
        }
        for (name, value) in [("connections", config.limits.connections), ("max_variants", config.cache.max_variants)] {
            if value == 0 {
                let cure = format!("leave {name} out for its default");
                return Err(wrong(key(name), format!("{name} = 0 would serve nobody"), Some(cure)));
            }
        }
        if let Some(tls) = &config.tls {
            for (name, path) in [("cert", &tls.cert), ("key", &tls.key)] {
                if !path.is_file() {
                    let what = format!("tls.{name}: there is no file {}", path.display());
                    return Err(wrong(key(name), what, Some("give the path of a PEM file".into())));
                }
            }
        }
        Ok(config)
    }
}

/// What toml says, as a sentence and a cure.
fn explain(message: &str) -> (String, Option<String>) {
    let ticked: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), &ticked[..]) {
        let near = known.iter().map(|known| (distance(unknown, known), known)).min();
        let cure = match near {
            Some((away, known)) if away <= 3 => format!("did you mean {known}?"),
            _ => format!("known here: {}", known.join(", ")),
        };
        return (format!("unknown key {unknown}"), Some(cure));
    }
    if let (true, [missing, ..]) = (message.starts_with("missing field"), &ticked[..]) {
        let cure = match *missing {
            "origin" => "add [[origin]] with url = \"http://127.0.0.1:3000\"".to_owned(),
            other => format!("add {other} = …"),
        };
        return (format!("{missing} is missing"), Some(cure));
    }
    match message.split_once("; ") {
        Some((what, cure)) => (what.to_owned(), Some(cure.to_owned())),
        None => (message.lines().next().unwrap_or_default().to_owned(), None),
    }
}

/// How many letters to change, add or leave out (Levenshtein).
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (to, other) in two.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[to + 1];
            row[to + 1] = changed.min(row[to] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

/// What is wrong with a configuration, where, and what to do about it.
#[derive(Clone, Debug)]
pub struct Wrong {
    file: PathBuf,
    line: Option<usize>,
    what: String,
    cure: Option<String>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(out, ":{line}")?;
        }
        write!(out, ": {}", self.what)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(out, "\n  cure: {cure}"))
    }
}

impl std::error::Error for Wrong {}

/// Text that a value is read from, in TOML and in flags.
macro_rules! from_text {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
from_text!(Span, Size, OriginUrl, RootedPath, FieldName);

/// A time as people write it: `250ms`, `30s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the library has it.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no time; write 250ms, 30s, 5m, 1h or 7d");
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60 * 1000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let whole = number.checked_mul(millis).filter(|&whole| whole <= 100 * 365 * 86_400_000);
        whole.map(Self::millis).ok_or_else(|| format!("\"{text}\" is longer than a hundred years; write less"))
    }
}

/// A number of bytes as people write it: `512`, `64 KiB`, `256MiB`, `1 GiB`, `10 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no size; write 64 KiB, 256 MiB, 1 GiB or 10 MB");
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "kb" => 1000,
            "m" | "mib" => 1 << 20,
            "mb" => 1_000_000,
            "g" | "gib" => 1 << 30,
            "gb" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        number.checked_mul(factor).filter(|&bytes| bytes > 0).map(Self).ok_or_else(wrong)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// An origin's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginUrl(Uri);

impl OriginUrl {
    /// As the library has it; always with scheme and authority.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl std::str::FromStr for OriginUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("\"{text}\" is no origin: {why}; write http://127.0.0.1:3000");
        let uri: Uri = text.parse().map_err(|_| wrong("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(wrong("it begins with neither http:// nor https://"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        if authority.is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it needs a host, and no password"));
        }
        if uri.query().is_some() {
            return Err(wrong("it cannot have a query"));
        }
        Ok(Self(uri))
    }
}

/// The beginning of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootedPath(String);

impl RootedPath {
    /// Whether a path lies at or below it: `/api` has `/api` and `/api/x`, not `/apis`; `/img/*.png` is no path.
    pub fn holds(&self, path: &str) -> bool {
        let own = self.0.strip_suffix('*').unwrap_or(&self.0);
        match path.strip_prefix(own) {
            Some(rest) => self.0.ends_with(['*', '/']) || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl std::str::FromStr for RootedPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix('*').unwrap_or(text);
        if !body.starts_with('/') || body.contains(['*', '?', '#', ' ']) {
            return Err(format!("\"{text}\" is no path; write /api, /static/ or /img/*"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a request field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// As the library has it.
    pub fn name(&self) -> &HeaderName {
        &self.0
    }
}

impl std::str::FromStr for FieldName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = HeaderName::try_from(text).map_err(|_| format!("\"{text}\" is no field; write accept-language"))?;
        Ok(Self(name))
    }
}

/// Whether a host (without port, in lower case) is one of these; none listed: every host is.
pub(crate) fn host_fits(hosts: &[String], host: &str) -> bool {
    hosts.is_empty()
        || hosts.iter().any(|wanted| match wanted.strip_prefix("*.") {
            Some(parent) => {
                let below = host.len() > parent.len() + 1 && host.as_bytes()[host.len() - parent.len() - 1] == b'.';
                below && host[host.len() - parent.len()..].eq_ignore_ascii_case(parent)
            }
            None => wanted.eq_ignore_ascii_case(host),
        })
}
