//! The small grammars that fields share: lists, delta-seconds, dates, entity tags (RFC 9110 §5.6, §8.8.3; RFC 9111
//! §1.2).

use std::time::{Duration, SystemTime};

use http::header::{GetAll, HeaderMap, HeaderName, HeaderValue};

/// The largest delta-seconds; greater ones count as this one (RFC 9111 §1.2.2).
pub(crate) const MOST_SECONDS: u64 = 1 << 31;

/// Digits only, saturating at 2³¹ (RFC 9111 §1.2.2); `None` for a sign, a fraction, a space or nothing.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = text.iter().fold(0_u64, |sum, digit| (sum * 10 + u64::from(digit - b'0')).min(MOST_SECONDS));
    Some(Duration::from_secs(seconds))
}

/// Reads an HTTP date in any of its three formats (RFC 9110 §5.6.7).
///
/// `None` for everything else, and for the years before 1970, which a cache never needs to tell apart.
pub fn parse_date(value: &HeaderValue) -> Option<SystemTime> {
    // What HTTP calls a date is never longer than `Wednesday, 09-Nov-94 08:49:37 GMT`.
    let text = value.to_str().ok().filter(|text| text.len() <= 40)?;
    httpdate::parse_http_date(text).ok()
}

/// Copies a value out of the buffer that it is a view into.
pub(crate) fn detach(value: &mut HeaderValue) {
    if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
        own.set_sensitive(value.is_sensitive());
        *value = own;
    }
}

/// The one date of a field; absent, malformed, or several that differ are told apart.
pub(crate) enum DateField {
    Absent,
    Valid(SystemTime),
    Invalid,
}

pub(crate) fn date_field(headers: &HeaderMap, name: &HeaderName) -> DateField {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return DateField::Absent };
    // RFC 9111 §4.2.1: of several, use the first or call it stale; the same one said twice is still one.
    if values.any(|other| other != first) {
        return DateField::Invalid;
    }
    parse_date(first).map_or(DateField::Invalid, DateField::Valid)
}

pub(crate) fn valid_date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    match date_field(headers, name) {
        DateField::Valid(date) => Some(date),
        DateField::Absent | DateField::Invalid => None,
    }
}

/// Cuts white space (SP, HTAB) at both ends (RFC 9110 §5.6.3).
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list, white space cut, empty ones left out; commas in quoted strings do not count.
///
/// An unclosed quoted string reaches to the end of the line.
pub(crate) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    pieces(line).filter(|element| !element.is_empty())
}

/// What stands between the commas of a line that may be no list: the empty pieces, too.
pub(crate) fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_element(text);
        rest = text.get(end + 1..);
        Some(trim(&text[..end]))
    })
}

fn end_of_element(text: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether every quoted string of the line is closed.
pub(crate) fn is_well_quoted(line: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for &byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// All elements of all lines of a field (RFC 9110 §5.3: several lines are one list).
pub(crate) fn list<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    lines.flat_map(|value| elements(value.as_bytes()))
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// Reads one entity tag; `None` if it is not of the form `"…"` or `W/"…"`.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        tag(value.as_bytes()).filter(|(_, _, rest)| rest.is_empty())?;
        Some(Self(value.clone()))
    }

    /// Whether it is weak: equal weak tags promise the same meaning, not the same bytes.
    pub fn is_weak(&self) -> bool {
        self.0.as_bytes().starts_with(b"W/")
    }

    /// The tag as it stands in the field.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    fn opaque(&self) -> &[u8] {
        let bytes = self.0.as_bytes();
        bytes.strip_prefix(b"W/").unwrap_or(bytes)
    }

    /// The strong comparison of RFC 9110 §8.8.3.2: neither is weak, both are the same.
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.is_weak() && !other.is_weak() && self.opaque() == other.opaque()
    }

    /// The weak comparison of RFC 9110 §8.8.3.2: the same but for their weakness.
    pub fn weakly_equals(&self, other: &Self) -> bool {
        self.opaque() == other.opaque()
    }

    /// Whether the field lists this tag (weak comparison) or `*` (RFC 9110 §13.1.2); a malformed field lists nothing.
    pub(crate) fn is_listed_in(field: GetAll<'_, HeaderValue>, own: Option<&Self>) -> bool {
        let mut lines = field.iter();
        if let (Some(only), None) = (lines.next(), lines.next())
            && trim(only.as_bytes()) == b"*"
        {
            return true;
        }
        let Some(own) = own else { return false };
        let mut found = false;
        for line in field {
            let mut rest = trim(line.as_bytes());
            while !rest.is_empty() {
                if let [b',' | b' ' | b'\t', after @ ..] = rest {
                    rest = after;
                    continue;
                }
                let Some((_, opaque, after)) = tag(rest) else { return false };
                found |= opaque == own.opaque();
                rest = trim(after);
                if !rest.is_empty() && !rest.starts_with(b",") {
                    return false;
                }
            }
        }
        found
    }
}

/// Splits a leading entity tag off: (weak, `"opaque"` with its quotes, what follows).
fn tag(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (weak, body) = match text.strip_prefix(b"W/") {
        Some(body) => (true, body),
        None => (false, text),
    };
    let inner = body.strip_prefix(b"\"")?;
    let end = inner
        .iter()
        .position(|&byte| byte == b'"' || !(byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80))?;
    (inner[end] == b'"').then(|| (weak, &body[..end + 2], &inner[end + 1..]))
}

/// A map of fields holds 32,768 at most; a full one goes without ours.
pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    drop(headers.try_insert(name, value));
}

/// Puts a field's values in place of what another map has of it.
pub(crate) fn replace(headers: &mut HeaderMap, name: &HeaderName, from: &HeaderMap) {
    headers.remove(name);
    from.get_all(name).iter().for_each(|value| add(headers, name, value));
}

/// The digests of the very bytes that a message carried (RFC 9530 §2, and its forerunner of RFC 1864).
const CONTENT_DIGESTS: [&str; 2] = ["content-digest", "content-md5"];

pub(crate) fn is_content_digest(name: &HeaderName) -> bool {
    CONTENT_DIGESTS.contains(&name.as_str())
}

/// Takes the digests out of what is sent with other bytes than it came with: whoever checks them would call it broken.
pub(crate) fn without_content_digests(headers: &mut HeaderMap) {
    CONTENT_DIGESTS.iter().for_each(|name| drop(headers.remove(*name)));
}

pub(crate) fn add(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    drop(headers.try_append(name.clone(), value.clone()));
}
