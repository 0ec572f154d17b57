//! The key of a request: what says which resource it means, written so that no sender can make one look like another.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::{Authority, Parts, Scheme};
use http::{Method, Request, Uri, request};

/// Longer keys do not keep their room for the next one.
pub(crate) const LONGEST_ROOM: usize = 4096;

/// Method, target and fields: what the rules look at.
pub(crate) fn head_of(parts: &request::Parts) -> request::Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = parts.method.clone();
    head.uri = parts.uri.clone();
    head.headers = parts.headers.clone();
    head
}

/// Scheme, authority (of a request in origin form its `Host`), path and query.
pub(crate) fn write_key(text: &mut String, parts: &request::Parts) {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    write_origin(text, &parts.uri, &parts.headers, path.len());
    if text.is_empty() && path.starts_with("//") {
        // Without a host the path begins the key, and would be read as one.
        text.push_str("//");
    }
    if path.starts_with('?') {
        // RFC 9110 §4.2.3: an empty path is the root.
        text.push('/');
    }
    text.push_str(path);
    // No target has a space in it.
    write_other_host(text, ' ', &parts.uri, &parts.headers);
}

/// Scheme and authority in their one form (RFC 9110 §4.2.3); for a request in origin form its `Host`.
pub(crate) fn origin(uri: &Uri, headers: &HeaderMap) -> String {
    let mut text = String::new();
    write_origin(&mut text, uri, headers, 0);
    // No space: in the tag of a group that is what ends the origin.
    write_other_host(&mut text, '|', uri, headers);
    text
}

/// The forms in which a GET of the same resource may come: HTTP/1.1 gives a server a path and `Host`, HTTP/2 and proxies
/// give a whole URL; a `Host` may name the usual port or not (RFC 9110 §4.2.3). The one that is given comes first.
pub(crate) fn forms(uri: &Uri, headers: &HeaderMap) -> Vec<request::Parts> {
    let mut own = Request::new(()).into_parts().0;
    (own.method, own.uri, own.headers) = (Method::GET, uri.clone(), headers.clone());
    let mut all = vec![own];
    match uri.authority() {
        Some(authority) => {
            let mut other = head_of(&all[0]);
            let Some(path) = uri.path_and_query() else { return all };
            let Ok(host) = HeaderValue::from_str(plain(authority.as_str(), uri.scheme_str())) else { return all };
            if !other.headers.contains_key(HOST) {
                other.headers.insert(HOST, host);
            }
            other.uri = Uri::from(path.clone());
            let more = at_other_ports(&other, uri.scheme_str());
            all.push(other);
            all.extend(more);
        }
        None => {
            let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
            for scheme in [Scheme::HTTP, Scheme::HTTPS] {
                let (Some(authority), Some(path)) = (host.clone(), uri.path_and_query()) else { break };
                let mut parts = Parts::default();
                (parts.scheme, parts.authority) = (Some(scheme), Some(authority));
                parts.path_and_query = Some(path.clone());
                let mut other = head_of(&all[0]);
                other.headers.remove(HOST);
                if let Ok(uri) = Uri::from_parts(parts) {
                    other.uri = uri;
                    all.push(other);
                }
            }
            let more = at_other_ports(&all[0], None);
            all.extend(more);
        }
    }
    all
}

/// The same path and `Host` with the usual port where that has none, and without it where it has; where no scheme is
/// known, with that of each.
fn at_other_ports(form: &request::Parts, scheme: Option<&str>) -> Vec<request::Parts> {
    let usual: &[&str] = match scheme {
        Some("https") => &[":443"],
        Some("http") => &[":80"],
        _ => &[":80", ":443"],
    };
    let mut hosts = form.headers.get_all(HOST).iter();
    let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else { return Vec::new() };
    let Ok(authority) = Authority::try_from(host) else { return Vec::new() };
    let other = |port: &&str| match host.strip_suffix(port) {
        Some(without) => Some(without.to_owned()),
        None => authority.port().is_none().then(|| format!("{host}{port}")),
    };
    let others = usual.iter().filter_map(other).filter_map(|host| HeaderValue::try_from(host).ok());
    let at = |host| {
        let mut other = head_of(form);
        other.headers.insert(HOST, host);
        other
    };
    others.map(at).collect()
}

/// An authority without a user's name and without the port that its scheme has anyway.
fn plain<'a>(authority: &'a str, scheme: Option<&str>) -> &'a str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let usual = match scheme {
        Some("https") => ":443",
        Some("http") => ":80",
        // A path and a `Host` say of no port whether it is the usual one.
        _ => return authority,
    };
    authority.strip_suffix(usual).unwrap_or(authority)
}

/// Writes the origin into an empty string, with room for so much more.
fn write_origin(text: &mut String, uri: &Uri, headers: &HeaderMap, more: usize) {
    let Some(authority) = uri.authority() else { return write_hosts(text, headers, more) };
    let (scheme, authority) = (uri.scheme_str(), plain(authority.as_str(), uri.scheme_str()));
    text.reserve(scheme.map_or(0, str::len) + 3 + authority.len() + more);
    if let Some(scheme) = scheme {
        text.push_str(scheme);
        text.push(':');
    }
    text.push_str("//");
    text.push_str(authority);
    text.make_ascii_lowercase();
}

/// As a client sent them, which may be anything: several, or with a slash.
fn write_hosts(text: &mut String, headers: &HeaderMap, more: usize) {
    let mut hosts = headers.get_all(HOST).iter().peekable();
    let Some(first) = hosts.next().filter(|first| !first.is_empty() || hosts.peek().is_some()) else { return };
    text.reserve(2 + first.len() + more);
    text.push_str("//");
    write_host(text, first);
    for other in hosts {
        text.push(',');
        write_host(text, other);
    }
    text.make_ascii_lowercase();
}

/// What stands in no name of a host is escaped, the sign of the escape too.
fn write_host(text: &mut String, host: &HeaderValue) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    match host.to_str() {
        Ok(host) if host.as_bytes().iter().all(is_plain) => text.push_str(host),
        _ => {
            for byte in host.as_bytes() {
                if is_plain(byte) {
                    text.push(char::from(*byte));
                } else {
                    text.push('%');
                    text.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])));
                }
            }
        }
    }
}

/// A `Host` that is not the target's own is what the origin goes by: another resource at the same address. Before
/// it stands what can be in nothing that is before it.
fn write_other_host(text: &mut String, before: char, uri: &Uri, headers: &HeaderMap) {
    let Some(authority) = uri.authority() else { return };
    let own = plain(authority.as_str(), uri.scheme_str());
    for host in headers.get_all(HOST) {
        let same = host.to_str().is_ok_and(|host| plain(host, uri.scheme_str()).eq_ignore_ascii_case(own));
        if !same || host.as_bytes().contains(&b'@') {
            let begin = text.len();
            text.push(before);
            write_host(text, host);
            text[begin..].make_ascii_lowercase();
        }
    }
}
