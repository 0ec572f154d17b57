//! What of a request reaches the origin, and what of its answer the client: fields of one hop, `Via`, `Forwarded`,
//! `Host`.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, FORWARDED, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, MAX_FORWARDS, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version, request};

/// Fields that mean something between two neighbours only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that some origins obey in place of the request's own method, host or path, which the key knows nothing of.
/// They never reach an origin with a request that a stored response could answer.
const CONFUSING: [&str; 16] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-http-host-override",
    "x-forwarded-server",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-scheme",
    "x-forwarded-port",
    "x-forwarded-ssl",
    "front-end-https",
    "x-url-scheme",
];

const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The client's address.
    pub address: IpAddr,
    /// Whether it came over TLS.
    pub secure: bool,
}

/// Why a request is turned away before anybody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is answered with.
    pub status: StatusCode,
    /// In one sentence.
    pub why: &'static str,
    /// With a 405: what is served instead.
    pub allow: Option<&'static str>,
}

/// The methods of the registry that are passed on; others are, too, but there is no end of them.
pub(crate) const PASSED_ON: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

const fn refused<T>(status: StatusCode, why: &'static str) -> Result<T, Refused> {
    Err(Refused { status, why, allow: None })
}

// RFC 9110 §15.5.6: a 405 says what is served.
const fn not_allowed<T>(why: &'static str, allow: &'static str) -> Result<T, Refused> {
    Err(Refused { status: StatusCode::METHOD_NOT_ALLOWED, why, allow: Some(allow) })
}

/// The target as the client means it: scheme, host and path, from absolute form, `:authority` or `Host`; refuses what
/// can be read in two ways (RFC 9112 §3.2, RFC 9113 §8.3.1).
///
/// # Errors
/// No host, several, or different ones; a method or an expectation that is not served here.
pub fn target<B>(request: &Request<B>, peer: Peer) -> Result<Uri, Refused> {
    let bad = StatusCode::BAD_REQUEST;
    if request.method() == Method::CONNECT {
        return not_allowed("this is a reverse proxy: it opens no tunnels", PASSED_ON);
    }
    if request.method() == Method::TRACE {
        return not_allowed("TRACE would show what must not be shown", PASSED_ON);
    }
    let headers = request.headers();
    // RFC 9112 §6.1: both together are an attempt at smuggling, or as good as one.
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        return refused(bad, "both Content-Length and Transfer-Encoding");
    }
    if headers.get_all(TRANSFER_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || headers.get_all(TRANSFER_ENCODING).iter().count() > 1
    {
        return refused(StatusCode::NOT_IMPLEMENTED, "a Transfer-Encoding other than chunked");
    }
    if let Some(wish) = headers.get(http::header::EXPECT)
        && !wish.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return refused(StatusCode::EXPECTATION_FAILED, "only 100-continue can be expected");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return refused(bad, "several Host fields");
    }
    let host: Option<Authority> = match host.map(|host| host.to_str().ok().and_then(|host| host.parse().ok())) {
        Some(None) => return refused(bad, "a Host that is none"),
        Some(host) => host,
        None => None,
    };
    if host.is_none() && request.version() == Version::HTTP_11 {
        return refused(bad, "no Host");
    }
    let named = request.uri().authority().cloned();
    if let (Some(named), Some(host), true) = (&named, &host, request.version() >= Version::HTTP_2)
        && !named.as_str().eq_ignore_ascii_case(host.as_str())
    {
        return refused(bad, ":authority and Host name different hosts");
    }
    // RFC 9112 §3.2.2: in absolute form the target's own host counts, and Host is ignored.
    let Some(authority) = named.or(host) else { return refused(bad, "no host") };
    if authority.as_str().contains('@') || authority.as_str().is_empty() || authority.as_str().starts_with(':') {
        return refused(bad, "a host with a user's name, or none");
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return refused(bad, "a scheme other than http and https");
    }
    let path = match request.uri().path_and_query() {
        // RFC 9110 §10.2.1: an empty list, for nothing else can be asked of this target.
        Some(path) if path.as_str() == "*" && request.method() == Method::OPTIONS => {
            return not_allowed("OPTIONS * is not forwarded", "");
        }
        Some(path) if path.as_str() == "*" => return refused(bad, "only OPTIONS has the target *"),
        // Its `Display` puts a slash before a query, where `as_str` has none.
        Some(path) if path.as_str().starts_with('?') => path.to_string().parse().ok(),
        Some(path) => Some(path.clone()),
        None => Some(PathAndQuery::from_static("/")),
    };
    let Some(path) = path.filter(|path| path.as_str().starts_with('/')) else {
        return refused(bad, "a target that is no path");
    };
    let scheme = if peer.secure { Scheme::HTTPS } else { Scheme::HTTP };
    let usual: u16 = if peer.secure { 443 } else { 80 };
    let none = Refused { status: bad, why: "a target that is no URL", allow: None };
    let text = authority.as_str();
    let (written, rest) = text.split_at(authority.host().len());
    // RFC 1034 §3.1: a name written to its root is the same name.
    let name = written.strip_suffix('.').unwrap_or(written);
    if name.is_empty() {
        return Err(none);
    }
    // RFC 9110 §4.2.3: an empty port and the usual one are the same; and so is one with zeros before it.
    let port = match rest.get(1..).unwrap_or_default() {
        "" => usual,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| none)?,
        _ => return Err(none),
    };
    let is_as_in_keys = name == written && (rest.is_empty() || (port != usual && !rest.starts_with(":0")));
    let authority = if !is_as_in_keys || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let mut lower = name.to_ascii_lowercase();
        if port != usual {
            lower.extend([":", &port.to_string()]);
        }
        lower.parse().map_err(|_| none)?
    } else {
        authority
    };
    let mut whole = Parts::default();
    (whole.scheme, whole.authority, whole.path_and_query) = (Some(scheme), Some(authority), Some(path));
    Uri::from_parts(whole).map_err(|_| none)
}

/// A client that takes trailers (`TE: trailers`). It is said for one hop only, so it is said anew to an origin that can
/// send them: servers of gRPC refuse a request without.
#[derive(Clone, Copy, Debug)]
pub struct TakesTrailers;

fn takes_trailers(headers: &HeaderMap) -> bool {
    elements(headers, TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// The elements of a field that is a list without quotes.
pub(crate) fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// Takes out what was meant for this hop, and what could say one thing to the key and another to the origin.
pub fn clean(parts: &mut request::Parts, peer: Peer, host: &str, trust: bool) {
    let left = hops_left(parts);
    let headers = &mut parts.headers;
    if takes_trailers(headers) {
        parts.extensions.insert(TakesTrailers);
    }
    strip_hop(headers);
    join_crumbs(headers);
    if let Some(left) = left {
        set(headers, MAX_FORWARDS, HeaderValue::try_from(left.saturating_sub(1).to_string()));
    }
    let readable = parts.method == Method::GET || parts.method == Method::HEAD;
    // One look at the few fields that came, rather than one for each that could have.
    let is_confusing = |name: &&HeaderName| {
        let name = name.as_str();
        (readable && CONFUSING.contains(&name)) || (!trust && is_forwarding(name)) || is_alias(name, readable)
    };
    let confusing: Vec<HeaderName> = headers.keys().filter(is_confusing).cloned().collect();
    confusing.iter().for_each(|name| drop(headers.remove(name)));
    let proto = if peer.secure { "https" } else { "http" };
    let address = text_of(peer.address);
    let (open, close) = if peer.address.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
    let forwarded = ["for=", open, &address, close, ";host=\"", host, "\";proto=", proto].concat();
    if trust {
        append(headers, FORWARDED, &forwarded);
        append(headers, X_FOR, &address);
        for (name, value) in [(X_HOST, host), (X_PROTO, proto)] {
            if !headers.contains_key(&name) {
                append(headers, name, value);
            }
        }
        return;
    }
    set(headers, FORWARDED, HeaderValue::try_from(forwarded));
    set(headers, X_FOR, HeaderValue::try_from(address));
    set(headers, X_HOST, HeaderValue::from_str(host));
    headers.insert(X_PROTO, HeaderValue::from_static(proto));
}

/// Whether a field is one of those by which proxies tell of a client: who it is to them, too (`X-Forwarded-User`). With a
/// line in the place of a dash it is the same to CGI and what came after it.
fn is_forwarding(name: &str) -> bool {
    const BEGINNING: &str = "x-forwarded-";
    let is = |(one, two): (u8, u8)| one == two || (one == b'_' && two == b'-');
    name.len() > BEGINNING.len() && name.bytes().zip(BEGINNING.bytes()).all(is)
}

/// Whether a field has lines where dashes would make it another one, by which a message's end is known; or, of a request that
/// a stored response could answer, one of those that the key, `Vary` and this proxy may speak of. To CGI and what came after
/// it both are the same, and here they are not. Others pass: there are origins that want an `api_key`.
fn is_alias(name: &str, readable: bool) -> bool {
    const READ: [&str; 6] = ["x-", "accept-", "content-", "if-", "sec-", "proxy-"];
    const WHOLE: [&str; 4] = ["cache-control", "front-end-https", "user-agent", "max-forwards"];
    const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
    if !name.contains('_') {
        return false;
    }
    let name = &*name.replace('_', "-");
    FRAMING.contains(&name) || (readable && (READ.iter().any(|it| name.starts_with(it)) || WHOLE.contains(&name)))
}

/// What `Max-Forwards` leaves of an OPTIONS (RFC 9110 §7.6.2): `Some(0)` is to be answered here.
pub fn hops_left(parts: &request::Parts) -> Option<u64> {
    let told = parts.headers.get(MAX_FORWARDS).filter(|_| parts.method == Method::OPTIONS)?;
    let digits = told.to_str().ok().filter(|told| told.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// RFC 9113 §8.2.3: HTTP/2 may send a cookie in pieces, each in a field of its own; nobody else knows that.
fn join_crumbs(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(mut whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        whole.set_sensitive(headers.get(COOKIE).is_some_and(HeaderValue::is_sensitive));
        headers.insert(COOKIE, whole);
    }
}

/// Takes out what a client says to have the origin asked anew; that nothing may be stored, and that nothing but what is
/// stored is wanted, stays.
pub fn without_reload(headers: &mut HeaderMap) {
    const RELOADS: [&[u8]; 3] = [b"no-cache", b"max-age", b"min-fresh"];
    headers.remove(PRAGMA);
    let stays = |directive: &&[u8]| {
        let name = directive.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
        !name.is_empty() && !RELOADS.iter().any(|reload| name.eq_ignore_ascii_case(reload))
    };
    let kept: Vec<&[u8]> = elements(headers, CACHE_CONTROL).filter(stays).collect();
    let kept = if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b", "[..])).ok() };
    match kept {
        Some(kept) => drop(headers.insert(CACHE_CONTROL, kept)),
        None => drop(headers.remove(CACHE_CONTROL)),
    }
}

/// The fields by which trusted proxies tell the host and the scheme that a client named: for a refresh of what was stored
/// for them. Who the client is, is left out.
pub fn told_to_go_on(headers: &HeaderMap) -> HeaderMap {
    let mut told = HeaderMap::new();
    for name in [X_HOST, X_PROTO] {
        take_over(&mut told, &name, headers);
    }
    let is_told = |pair: &&[u8]| {
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
    };
    let hops = elements(headers, FORWARDED).map(|hop| {
        let pairs = hop.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).filter(is_told);
        pairs.collect::<Vec<_>>().join(&b';')
    });
    let hops: Vec<Vec<u8>> = hops.filter(|hop| !hop.is_empty()).collect();
    if let Ok(hops) = HeaderValue::from_bytes(&hops.join(&b", "[..])) {
        told.insert(FORWARDED, hops);
    }
    told
}

/// What trusted fields say of the host and the scheme that a client named, where it is not what the key has already: an
/// origin may answer by it, so it belongs into the key.
pub fn told_by_trusted(headers: &HeaderMap, public: &Uri) -> String {
    let (host, scheme) = (public.authority().map_or("", Authority::as_str), public.scheme_str().unwrap_or_default());
    let mut told = String::new();
    let mut tell = |name: &str, value: &[u8]| {
        let value = value.escape_ascii().to_string();
        told.extend([" ", name, "=", &value.len().to_string(), ":", &value]);
    };
    for (name, known) in [(X_HOST, host), (X_PROTO, scheme)] {
        let other =
            headers.get_all(&name).iter().filter(|value| !value.as_bytes().eq_ignore_ascii_case(known.as_bytes()));
        other.for_each(|value| tell(name.as_str(), value.as_bytes()));
    }
    // RFC 7239 §4: of each hop, host and proto.
    let pairs = headers.get_all(FORWARDED).iter().flat_map(|line| line.as_bytes().split(|byte| b";,".contains(byte)));
    for pair in pairs.map(<[u8]>::trim_ascii) {
        let is = |name: &[u8]| pair.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if is(b"host") || is(b"proto") {
            tell("forwarded", pair);
        }
    }
    told
}

/// Scheme and host as the client named them to the first of the proxies that are trusted, if these are others than here:
/// where an answer leads, that is the way for the client.
pub fn known_as(headers: &HeaderMap, public: &Uri) -> Option<Uri> {
    let first = |name: &HeaderName| headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim);
    let of_hop = |wanted: &str| {
        first(&FORWARDED)?.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
        })
    };
    let scheme = match first(&X_PROTO).or_else(|| of_hop("proto")) {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => Some(Scheme::HTTPS),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => Some(Scheme::HTTP),
        _ => None,
    };
    let host = first(&X_HOST).or_else(|| of_hop("host")).filter(|host| !host.contains('@'));
    let mut known = public.clone().into_parts();
    known.scheme = scheme.or(known.scheme);
    known.authority = host.and_then(|host| host.parse().ok()).or(known.authority);
    known.path_and_query = Some(PathAndQuery::from_static("/"));
    let known = Uri::from_parts(known).ok()?;
    (known.scheme() != public.scheme() || known.authority() != public.authority()).then_some(known)
}

/// The address as its own `Display` tells it, without what formatting costs: for each request.
fn text_of(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
    text
}

/// Puts one value in place of whatever there was; nothing, if it is none.
fn set<E>(headers: &mut HeaderMap, name: HeaderName, value: Result<HeaderValue, E>) {
    match value {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

/// Puts a field's values in place of what another map has of it. A map of fields that is full goes without.
pub fn take_over(headers: &mut HeaderMap, name: &HeaderName, from: &HeaderMap) {
    headers.remove(name);
    from.get_all(name).iter().for_each(|value| drop(headers.try_append(name.clone(), value.clone())));
}

/// By which version a message came here (RFC 9110 §7.6.3).
const fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2 everfresh",
        Version::HTTP_10 => "1.0 everfresh",
        _ => "1.1 everfresh",
    }
}

/// Sets what every request to an origin carries, those of a refresh too.
pub fn address(parts: &mut request::Parts, origin: &Uri, public: &Uri, preserve_host: bool) {
    append(&mut parts.headers, VIA, via(parts.version));
    let public_host = public.authority().map_or("", Authority::as_str);
    for (name, value) in [(X_HOST, public_host), (X_PROTO, public.scheme_str().unwrap_or("http"))] {
        if !parts.headers.contains_key(&name) {
            append(&mut parts.headers, name, value);
        }
    }
    let own = origin.authority().map_or("", Authority::as_str);
    let host = if preserve_host { public_host } else { own };
    if let Ok(host) = HeaderValue::from_str(host) {
        parts.headers.insert(HOST, host);
    }
    let prefix = origin.path().trim_end_matches('/');
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let joined = if prefix.is_empty() { path.to_owned() } else { format!("{prefix}{path}") };
    let mut uri = origin.clone().into_parts();
    if let Ok(path) = joined.parse() {
        uri.path_and_query = Some(path);
    }
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
    }
}

/// The same target, with the host that the client named: what HTTP/2 tells as `:authority` (RFC 9113 §8.3.1).
pub fn at_host(target: Uri, public: &Uri) -> Uri {
    let mut parts = target.clone().into_parts();
    parts.authority = public.authority().cloned().or(parts.authority);
    Uri::from_parts(parts).unwrap_or(target)
}

/// Adds to a field, in one line, as proxies that read only one expect it.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let mut all: Vec<&str> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    all.push(value);
    if let Ok(joined) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(name, joined);
    }
}

/// Takes out the fields of the connection, and those that `Connection` names; never those that decide what a response
/// is and whom it may be shared with, which a hostile `Connection` would hide from the cache.
pub fn strip_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = elements(headers, CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| ![HOST, CACHE_CONTROL, AUTHORIZATION, COOKIE, CONTENT_LENGTH].contains(name))
        .filter(|name| !["set-cookie", "vary", "age", "date", "expires"].contains(&name.as_str()))
        .collect();
    let own: Vec<HeaderName> = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned().collect();
    named.iter().chain(&own).for_each(|name| drop(headers.remove(name)));
}

/// The transfer codings that make other bytes of a content (the registry of RFC 9112 §7.3). What is none of them, nor
/// `chunked`, means nothing to anybody, and is a field of one hop like others.
const TRANSFER_CODINGS: [&[u8]; 5] = [b"compress", b"deflate", b"gzip", b"x-compress", b"x-gzip"];

/// Lets an answer say its length in one way, as it was read.
///
/// # Errors
/// It has a transfer coding beside `chunked`, which this proxy never says that it understands (RFC 9110 §10.1.4): its
/// content would be told as what it is not.
pub fn one_length(status: StatusCode, headers: &mut HeaderMap) -> Result<(), &'static str> {
    let coded = headers.contains_key(TRANSFER_ENCODING);
    let lines = headers.get_all(TRANSFER_ENCODING).iter();
    let mut named = lines.flat_map(|line| line.as_bytes().split(|byte| b",;".contains(byte))).map(<[u8]>::trim_ascii);
    if named.any(|name| TRANSFER_CODINGS.iter().any(|it| name.eq_ignore_ascii_case(it))) {
        return Err("a Transfer-Encoding that nobody asked for");
    }
    // RFC 9112 §6.3: beside a Transfer-Encoding a Content-Length means nothing, and must not be passed on. RFC 9110 §8.6:
    // a 204 has none.
    if coded || status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    } else if let Some(length) = headers.get(CONTENT_LENGTH) {
        // The same length, said several times: otherwise it would not have been read (RFC 9112 §6.3).
        let one = length.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default();
        set(headers, CONTENT_LENGTH, HeaderValue::from_bytes(one.trim_ascii()));
    }
    Ok(())
}

/// What of an answer passes on: not the fields of the connection; with `Via`.
pub fn clean_answer(headers: &mut HeaderMap, version: Version) {
    strip_hop(headers);
    headers.remove(PROXY_AUTHENTICATE);
    append(headers, VIA, via(version));
    own_values(headers);
}

/// Lets an answer that leads to the origin's own address lead here: a client may not reach that, and what a write names of
/// it is what is stored for `public` (RFC 9111 §4.4).
pub fn relocate(headers: &mut HeaderMap, origin: &Uri, public: &Uri) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let value = headers.get(&name).and_then(|value| value.to_str().ok());
        if let Some(Ok(value)) = value.and_then(|value| relocated(value, origin, public)).map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
}

fn relocated(location: &str, origin: &Uri, public: &Uri) -> Option<String> {
    let (scheme, rest) = location.split_once("://")?;
    let (named, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let usual = if origin.scheme() == Some(&Scheme::HTTPS) { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(usual).unwrap_or(authority).to_ascii_lowercase();
    let is_own = origin.scheme_str().is_some_and(|own| own.eq_ignore_ascii_case(scheme))
        && origin.authority().is_some_and(|own| bare(own.as_str()) == bare(named));
    let rest = rest.strip_prefix(origin.path().trim_end_matches('/')).filter(|_| is_own)?;
    // Of what does not lie below the origin's path nothing is served here.
    let below = rest.is_empty() || rest.starts_with(['/', '?', '#']);
    below.then(|| {
        format!(
            "{}://{}{rest}",
            public.scheme_str().unwrap_or("http"),
            public.authority().map_or("", Authority::as_str)
        )
    })
}

/// Copies the values out of the buffer that the answer was read into, 8 KiB and more, of which each is a slice: what is
/// stored would keep all of it alive.
fn own_values(headers: &mut HeaderMap) {
    let mut all = Vec::with_capacity(headers.values().map(HeaderValue::len).sum());
    headers.values().for_each(|value| all.extend_from_slice(value.as_bytes()));
    let mut all = Bytes::from(all);
    for value in headers.values_mut() {
        let (own, sensitive) = (all.split_to(value.len()), value.is_sensitive());
        if let Ok(own) = HeaderValue::from_maybe_shared(own) {
            *value = own;
            value.set_sensitive(sensitive);
        }
    }
}

/// Whether a path is the same to whoever resolves dots and decodes what is encoded, and to who does not.
pub fn is_one_path_to_all(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let plain = lower.replace("%2e", ".");
    !["%2f", "%5c", "\\", "%00", "%25", "//", ";"].iter().any(|odd| lower.contains(odd))
        && !plain.split('/').any(|segment| segment == "." || segment == "..")
}

/// A query without the parameters that the operator told to ignore; `utm_*` is all that begin so.
pub fn without_parameters(uri: &Uri, ignored: &[String]) -> Option<Uri> {
    let query = uri.query().filter(|_| !ignored.is_empty())?;
    let is_ignored = |name: &str| {
        ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
    };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| !is_ignored(pair.split('=').next().unwrap_or_default())).collect();
    let path = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{}", uri.path(), kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode, Version};

    #[test]
    fn an_answer_keeps_nothing_of_what_it_was_read_into() {
        let read = Bytes::from(vec![b'a'; 8192]);
        let mut headers = HeaderMap::new();
        for (name, part) in [("x-one", 0..10), ("x-two", 10..500), ("x-none", 500..500)] {
            headers.append(name, HeaderValue::from_maybe_shared(read.slice(part)).expect("a value"));
        }
        assert!(!read.is_unique());
        super::clean_answer(&mut headers, Version::HTTP_11);
        assert!(read.is_unique());
        assert_eq!(headers["x-one"], "a".repeat(10));
        assert_eq!(headers["x-two"], "a".repeat(490));
        assert_eq!(headers["x-none"], "");
        assert_eq!(headers["via"], "1.1 everfresh");
    }

    #[test]
    fn a_coding_that_is_none_is_let_pass() {
        let none = ["Identity", "chunked", "identity, chunked", "whatever"].map(|coding| (coding, true));
        let one = ["GZIP", "deflate;q=1", "chunked, gzip", "x-compress , chunked"].map(|coding| (coding, false));
        for (coding, passes) in none.into_iter().chain(one) {
            let mut headers = HeaderMap::new();
            headers.insert("transfer-encoding", HeaderValue::from_static(coding));
            headers.insert("content-length", HeaderValue::from_static("5"));
            assert_eq!(super::one_length(StatusCode::OK, &mut headers).is_ok(), passes, "{coding}");
            assert_eq!(headers.contains_key("content-length"), !passes, "{coding}");
        }
    }

    #[test]
    fn an_address_reads_as_it_displays() {
        let fours = (0..=255).map(|octet| IpAddr::from(Ipv4Addr::new(octet, 255 - octet, octet / 2, octet % 10)));
        for address in fours.chain([IpAddr::from(Ipv6Addr::LOCALHOST)]) {
            assert_eq!(super::text_of(address), address.to_string());
        }
    }
}
