//! The directives of requests and responses (RFC 9111 §5.2, §5.4; RFC 5861; RFC 8246).

use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, PRAGMA};

use super::fields::{delta_seconds, elements, is_well_quoted, list, trim};

/// A directive that carries seconds: RFC 9111 §4.2.1 lets a cache use the first of several, or treat what conflicts or
/// is malformed as already over. We do the latter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seconds(Option<Duration>);

impl Seconds {
    pub(crate) fn add(&mut self, value: Option<Duration>) {
        let value = value.unwrap_or_default();
        self.0 = Some(self.0.map_or(value, |first| if first == value { value } else { Duration::ZERO }));
    }
}

/// The fields that a qualified `no-cache="…"` or `private="…"` names (RFC 9111 §5.2.2.4, §5.2.2.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Qualified {
    #[default]
    Absent,
    /// Only these fields are meant.
    Fields(Vec<HeaderName>),
    /// The response as a whole is meant.
    Whole,
}

impl Qualified {
    /// Without an argument, or with one that cannot be read, the whole response is meant.
    pub(crate) fn add(&mut self, argument: Option<&[u8]>) {
        let named = argument.and_then(|text| {
            let names: Option<Vec<_>> = elements(text).map(|name| HeaderName::from_bytes(name).ok()).collect();
            names.filter(|names| !names.is_empty() && names.iter().all(may_be_left_out))
        });
        match (named, &mut *self) {
            (None, _) => *self = Self::Whole,
            (Some(names), Self::Fields(known)) => known.extend(names),
            (Some(names), Self::Absent) => *self = Self::Fields(names),
            (Some(_), Self::Whole) => {}
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    pub(crate) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Whole => &[],
        }
    }
}

/// A response cannot be kept without the fields that say how to read, select or age it: naming one means all of it.
pub(crate) fn may_be_left_out(name: &HeaderName) -> bool {
    const NEEDED: [&str; 11] = [
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "expires",
        "age",
        "vary",
        "transfer-encoding",
        "cdn-cache-control",
    ];
    !NEEDED.contains(&name.as_str())
}

/// What a response's directives say (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
///
/// Of a directive that is malformed, negative, or said twice with different values the conservative reading holds:
/// a lifetime or window of zero. Values of 2³¹ seconds and more count as 2³¹ (RFC 9111 §1.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseControl {
    pub(crate) no_store: bool,
    pub(crate) no_cache: Qualified,
    pub(crate) private: Qualified,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) immutable: bool,
    pub(crate) max_age: Seconds,
    pub(crate) s_maxage: Seconds,
    pub(crate) stale_while_revalidate: Seconds,
    pub(crate) stale_if_error: Seconds,
}

impl ResponseControl {
    /// Reads `Cache-Control`; what `Pragma` means in a response is not specified (RFC 9111 §5.4) and not guessed.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut own = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            let line = line.as_bytes();
            if is_well_quoted(line) {
                elements(line).map(split).for_each(|(name, argument)| own.add(name, argument));
            } else {
                // What an unclosed quote may hide must not be missed, and nothing here is to be trusted.
                own.no_cache.add(None);
                torn(line).map(split).for_each(|(name, argument)| own.add(name, argument));
            }
        }
        own
    }

    pub(crate) fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        match lower(name, &mut [0; 24]) {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache.add(argument.text()),
            b"private" => self.private.add(argument.text()),
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable = true,
            b"max-age" => self.max_age.add(argument.seconds()),
            b"s-maxage" => self.s_maxage.add(argument.seconds()),
            b"stale-while-revalidate" => self.stale_while_revalidate.add(argument.seconds()),
            b"stale-if-error" => self.stale_if_error.add(argument.seconds()),
            // §5.2.3: what is not understood is ignored.
            _ => {}
        }
    }

    /// `max-age` (RFC 9111 §5.2.2.1).
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age.0
    }

    /// `s-maxage` (RFC 9111 §5.2.2.10).
    pub fn s_maxage(&self) -> Option<Duration> {
        self.s_maxage.0
    }

    /// `stale-while-revalidate` as the origin said it (RFC 5861 §3).
    pub fn stale_while_revalidate(&self) -> Option<Duration> {
        self.stale_while_revalidate.0
    }

    /// `stale-if-error` as the origin said it (RFC 5861 §4).
    pub fn stale_if_error(&self) -> Option<Duration> {
        self.stale_if_error.0
    }

    /// Unqualified `no-cache`: never served without asking the origin (RFC 9111 §5.2.2.4).
    pub fn no_cache(&self) -> bool {
        self.no_cache.is_whole()
    }

    /// `no-store` (RFC 9111 §5.2.2.5).
    pub fn no_store(&self) -> bool {
        self.no_store
    }

    /// Unqualified `private` (RFC 9111 §5.2.2.7).
    pub fn is_private(&self) -> bool {
        self.private.is_whole()
    }

    /// `public` (RFC 9111 §5.2.2.9).
    pub fn is_public(&self) -> bool {
        self.public
    }

    /// `must-revalidate` (RFC 9111 §5.2.2.2).
    pub fn must_revalidate(&self) -> bool {
        self.must_revalidate
    }

    /// `proxy-revalidate` (RFC 9111 §5.2.2.8).
    pub fn proxy_revalidate(&self) -> bool {
        self.proxy_revalidate
    }

    /// `immutable`: while fresh, a client's reload (`max-age=0`) does not ask the origin; its `no-cache` does (RFC 8246 §2).
    pub fn is_immutable(&self) -> bool {
        self.immutable
    }
}

/// What a request's directives say (RFC 9111 §5.2.1, RFC 5861 §4).
///
/// Of several different values the strictest holds; a `max-stale` or `stale-if-error` that cannot be read allows
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestControl {
    /// `no-store` (RFC 9111 §5.2.1.5).
    pub no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` without a `Cache-Control` (RFC 9111 §5.2.1.4, §5.4).
    pub no_cache: bool,
    /// `only-if-cached` (RFC 9111 §5.2.1.7).
    pub only_if_cached: bool,
    /// `max-age` (RFC 9111 §5.2.1.1).
    pub max_age: Option<Duration>,
    /// `max-stale`; without a value as long as can be said (RFC 9111 §5.2.1.2).
    pub max_stale: Option<Duration>,
    /// `min-fresh` (RFC 9111 §5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4).
    pub stale_if_error: Option<Duration>,
}

impl RequestControl {
    /// Reads `Cache-Control`, or `Pragma` where there is none (RFC 9111 §5.4); allocates nothing.
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut own = Self::default();
        let mut lines = headers.get_all(CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            // §5.4: Pragma: no-cache counts as Cache-Control: no-cache where there is no Cache-Control.
            own.no_cache = pragma_no_cache(headers);
            return own;
        }
        let at_most = |known: Option<Duration>, new: Duration| Some(known.map_or(new, |known| known.min(new)));
        for directive in lines.map(HeaderValue::as_bytes).flat_map(|line| {
            let (whole, torn) = if is_well_quoted(line) { (line, &b""[..]) } else { (&b""[..], line) };
            elements(whole).chain(self::torn(torn))
        }) {
            let (name, argument) = split(directive);
            match lower(name, &mut [0; 24]) {
                b"no-store" => own.no_store = true,
                b"no-cache" => own.no_cache = true,
                b"only-if-cached" => own.only_if_cached = true,
                b"max-age" => own.max_age = at_most(own.max_age, argument.seconds().unwrap_or_default()),
                b"max-stale" => {
                    let limit = if argument.is_absent() { Some(Duration::MAX) } else { argument.seconds() };
                    own.max_stale = at_most(own.max_stale, limit.unwrap_or_default());
                }
                b"min-fresh" => {
                    let asked = argument.seconds().unwrap_or(Duration::MAX);
                    own.min_fresh = Some(own.min_fresh.map_or(asked, |known| known.max(asked)));
                }
                b"stale-if-error" => {
                    own.stale_if_error = at_most(own.stale_if_error, argument.seconds().unwrap_or_default());
                }
                _ => {}
            }
        }
        own
    }
}

/// The pieces of a line whose quotes cannot be told apart.
fn torn(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(trim).filter(|piece| !piece.is_empty())
}

fn pragma_no_cache(headers: &HeaderMap) -> bool {
    list(headers.get_all(PRAGMA).iter()).any(|pragma| split(pragma).0.eq_ignore_ascii_case(b"no-cache"))
}

/// What follows a directive's `=`.
#[derive(Clone, Copy)]
pub(crate) enum Argument<'a> {
    Absent,
    /// A token, or a quoted string without its quotes (§5.2: recipients take both forms).
    Text(&'a [u8]),
    Malformed,
}

impl<'a> Argument<'a> {
    fn is_absent(self) -> bool {
        matches!(self, Self::Absent)
    }

    fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Malformed => None,
        }
    }

    fn seconds(self) -> Option<Duration> {
        self.text().and_then(delta_seconds)
    }
}

/// Splits a directive into its name and its argument. White space around `=` is not in the grammar: the name still
/// counts, the argument is malformed.
fn split(directive: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(at) = directive.iter().position(|&byte| byte == b'=') else { return (directive, Argument::Absent) };
    let (name, text) = (&directive[..at], &directive[at + 1..]);
    let bare = trim(name);
    let argument = match text {
        _ if bare.len() != name.len() => Argument::Malformed,
        // A backslash would have to be undone; nothing that these directives may say needs one.
        [b'"', inner @ .., b'"'] if !inner.contains(&b'"') && !inner.contains(&b'\\') => Argument::Text(inner),
        [b'"', ..] | [] | [b' ' | b'\t', ..] => Argument::Malformed,
        token => Argument::Text(token),
    };
    (bare, argument)
}

/// The name in lower case; names longer than any we know stay as they are.
fn lower<'a>(name: &'a [u8], room: &'a mut [u8; 24]) -> &'a [u8] {
    match room.get_mut(..name.len()) {
        Some(room) => {
            room.copy_from_slice(name);
            room.make_ascii_lowercase();
            room
        }
        None => name,
    }
}
