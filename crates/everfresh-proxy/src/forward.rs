//! What of a request reaches the origin, and what of its answer the client: fields of one hop, `Via`, `Forwarded`,
//! `Host`.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
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
}

const fn refused<T>(status: StatusCode, why: &'static str) -> Result<T, Refused> {
    Err(Refused { status, why })
}

/// The target as the client means it: scheme, host and path, from absolute form, `:authority` or `Host`; refuses what
/// can be read in two ways (RFC 9112 §3.2, RFC 9113 §8.3.1).
///
/// # Errors
/// No host, several, or different ones; a method or an expectation that is not served here.
pub fn target<B>(request: &Request<B>, peer: Peer) -> Result<Uri, Refused> {
    let bad = StatusCode::BAD_REQUEST;
    if request.method() == Method::CONNECT {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "this is a reverse proxy: it opens no tunnels");
    }
    if request.method() == Method::TRACE {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "TRACE would show what must not be shown");
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
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return refused(bad, "a host with a user's name, or none");
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return refused(bad, "a scheme other than http and https");
    }
    let path = match request.uri().path_and_query() {
        Some(path) if path.as_str() == "*" => {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "OPTIONS * is not forwarded");
        }
        Some(path) if path.as_str().starts_with('?') => format!("/{path}").parse().ok(),
        Some(path) => Some(path.clone()),
        None => Some(PathAndQuery::from_static("/")),
    };
    let Some(path) = path.filter(|path| path.as_str().starts_with('/')) else {
        return refused(bad, "a target that is no path");
    };
    let scheme = if peer.secure { Scheme::HTTPS } else { Scheme::HTTP };
    let usual = if peer.secure { ":443" } else { ":80" };
    let lower = authority.as_str().to_ascii_lowercase();
    let plain = lower.strip_suffix(usual).unwrap_or(&lower);
    let built = Uri::builder().scheme(scheme).authority(plain).path_and_query(path).build();
    built.map_err(|_| Refused { status: bad, why: "a target that is no URL" })
}

/// Takes out what was meant for this hop, and what could say one thing to the key and another to the origin.
pub fn clean(parts: &mut request::Parts, peer: Peer, host: &str, trust: bool) {
    let headers = &mut parts.headers;
    strip_hop(headers);
    headers.remove(CONTENT_LENGTH_ALIAS);
    if parts.method == Method::GET || parts.method == Method::HEAD {
        CONFUSING.iter().for_each(|name| drop(headers.remove(*name)));
    }
    let proto = if peer.secure { "https" } else { "http" };
    if !trust {
        [FORWARDED, X_FOR, X_HOST, X_PROTO].iter().for_each(|name| drop(headers.remove(name)));
    }
    let address = peer.address;
    let node = if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
    append(headers, FORWARDED, &format!("for={node};host=\"{host}\";proto={proto}"));
    append(headers, X_FOR, &address.to_string());
    for (name, value) in [(X_HOST, host), (X_PROTO, proto)] {
        if !headers.contains_key(&name) {
            append(headers, name, value);
        }
    }
}

/// Not a standard field; some servers take it for `Content-Length`.
const CONTENT_LENGTH_ALIAS: &str = "content_length";

/// Sets what every request to an origin carries, those of a refresh too.
pub fn address(parts: &mut request::Parts, origin: &Uri, public: &Uri, preserve_host: bool) {
    let version = match parts.version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    append(&mut parts.headers, VIA, &format!("{version} everfresh"));
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
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| ![HOST, CACHE_CONTROL, AUTHORIZATION, COOKIE, CONTENT_LENGTH].contains(name))
        .filter(|name| !["set-cookie", "vary", "age", "date", "expires"].contains(&name.as_str()))
        .collect();
    named.iter().chain(&HOP_BY_HOP).for_each(|name| drop(headers.remove(name)));
}

/// What of an answer passes on: not the fields of the connection; with `Via`.
pub fn clean_answer(headers: &mut HeaderMap, version: Version) {
    strip_hop(headers);
    headers.remove(PROXY_AUTHENTICATE);
    append(headers, VIA, if version == Version::HTTP_2 { "2 everfresh" } else { "1.1 everfresh" });
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
