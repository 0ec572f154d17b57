//! What an unsafe request makes unservable (RFC 9111 §4.4).

use http::header::{CONTENT_LOCATION, HOST, HeaderMap, HeaderName, LOCATION};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, request, response};

/// The stored responses that this exchange makes invalid: those of the target, and of `Location` and `Content-Location`
/// where they are of the same origin (RFC 9111 §4.4).
///
/// Empty unless [`invalidates`]. URIs are given in the form of the target: absolute if it is, else as path and query.
pub fn invalidated_by(request: &request::Parts, response: &response::Parts) -> Vec<Uri> {
    if !invalidates(request, response) {
        return Vec::new();
    }
    let mut found = vec![request.uri.clone()];
    for field in [LOCATION, CONTENT_LOCATION] {
        if let Some(uri) = named(request, &response.headers, &field).filter(|uri| !found.contains(uri)) {
            found.push(uri);
        }
    }
    found
}

/// Whether this exchange makes stored responses invalid: an unsafe or unknown method, and an answer of 2xx or 3xx
/// (RFC 9111 §4.4).
pub fn invalidates(request: &request::Parts, response: &response::Parts) -> bool {
    // RFC 9110 §9.2.1, and the registry of methods (§16.1.1) for the others.
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(&request.method)
        || ["PROPFIND", "QUERY", "REPORT", "SEARCH"].contains(&request.method.as_str());
    !safe && (response.status.is_success() || response.status.is_redirection())
}

/// Whether the field names the request's own target (RFC 9110 §9.3.3).
pub(crate) fn names_itself(request: &request::Parts, headers: &HeaderMap, field: &HeaderName) -> bool {
    named(request, headers, field).is_some_and(|uri| uri == request.uri)
}

/// The URI that a field names, resolved against the target, if it is of the target's origin.
fn named(request: &request::Parts, headers: &HeaderMap, field: &HeaderName) -> Option<Uri> {
    let mut lines = headers.get_all(field).iter();
    let text = lines.next()?.to_str().ok()?.trim_matches([' ', '\t']);
    // Several of them name nothing certain.
    if lines.next().is_some() {
        return None;
    }
    let (reference, _fragment) = text.split_once('#').unwrap_or((text, ""));
    let target = &request.uri;
    let host = headers_host(&request.headers);
    let own = target.authority().cloned().or(host);

    let (authority, path_and_query) = match absolute(reference) {
        Some((scheme, authority, rest)) => {
            // An origin-form target does not tell its scheme; then the port alone decides.
            let known = target.scheme();
            if known.is_some_and(|known| !known.as_str().eq_ignore_ascii_case(scheme)) {
                return None;
            }
            let secure = scheme.eq_ignore_ascii_case("https");
            (Some((authority, if secure { Scheme::HTTPS } else { Scheme::HTTP })), rest)
        }
        None => match reference.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let scheme = target.scheme().cloned().unwrap_or(Scheme::HTTP);
                (Some((&rest[..end], scheme)), &rest[end..])
            }
            None => (None, reference),
        },
    };
    let merged = match &authority {
        Some((authority, scheme)) => {
            let named: Authority = authority.parse().ok()?;
            // §4.4: never beyond the origin, or one origin could empty another's cache.
            if !same_authority(&named, own.as_ref()?, scheme) {
                return None;
            }
            let rooted =
                if path_and_query.starts_with('/') { path_and_query.to_owned() } else { format!("/{path_and_query}") };
            without_dots(&rooted)
        }
        None => resolve(target, path_and_query),
    };
    let path: PathAndQuery = merged.parse().ok()?;
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn headers_host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

/// Splits `scheme://authority` off; `None` for a relative reference (RFC 3986 §4.1).
fn absolute(reference: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = reference.split_once("://")?;
    let first = scheme.chars().next()?;
    if !first.is_ascii_alphabetic() || !scheme.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it)) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

/// RFC 9110 §4.3.2: host without case, and port, where the scheme's own port may be left out.
fn same_authority(one: &Authority, other: &Authority, scheme: &Scheme) -> bool {
    let usual = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

/// Resolves a relative reference against the target's path (RFC 3986 §5.2).
fn resolve(target: &Uri, reference: &str) -> String {
    let base = target.path();
    let merged = match reference.as_bytes().first() {
        None => return target.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        Some(b'/') => reference.to_owned(),
        Some(b'?') => format!("{base}{reference}"),
        Some(_) => {
            let folder = base.rfind('/').map_or("/", |at| &base[..=at]);
            format!("{folder}{reference}")
        }
    };
    without_dots(&merged)
}

/// Takes `.` and `..` out of the path (RFC 3986 §5.2.4); the query stays as it is.
fn without_dots(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.find('?') {
        Some(at) => path_and_query.split_at(at),
        None => (path_and_query, ""),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}{query}", kept.join("/"))
}
