//! Ranges of bytes (RFC 9110 §14).

use std::ops::RangeInclusive;

use http::header::{CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE};
use http::request;

use super::fields::{EntityTag, elements, parse_date, trim};
use super::meta::Meta;

/// The most ranges that one request may ask for here; with more, `Range` is ignored (RFC 9110 §14.2, §17.15).
const MOST: usize = 16;

/// One range as it is asked for (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// From a first to a last position, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

impl Asked {
    /// The positions it means in a representation of that length; `None` if it cannot be satisfied.
    pub(crate) fn within(self, length: u64) -> Option<RangeInclusive<u64>> {
        let end = length.checked_sub(1)?;
        match self {
            Self::From(first, _) if first > end => None,
            Self::From(first, last) => Some(first..=last.unwrap_or(end).min(end)),
            Self::Last(0) => None,
            Self::Last(count) => Some(length.saturating_sub(count)..=end),
        }
    }
}

/// Digits only; more than fit saturate.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// Whether `Range` is of a unit other than bytes.
pub(crate) fn is_foreign(headers: &HeaderMap) -> bool {
    let foreign = |line: &[u8]| {
        let unit = line.split(|&byte| byte == b'=').next().unwrap_or_default();
        line.contains(&b'=') && !trim(unit).eq_ignore_ascii_case(b"bytes")
    };
    headers.get_all(RANGE).iter().any(|line| foreign(line.as_bytes()))
}

/// What `Range` asks for; `None` if it is to be ignored (RFC 9110 §14.2): absent, malformed, not in bytes, said twice,
/// or asking for more ranges than are answered here.
pub(crate) fn parse(headers: &HeaderMap) -> Option<Ranges> {
    let mut lines = headers.get_all(RANGE).iter();
    let line = lines.next()?.as_bytes();
    if lines.next().is_some() {
        return None;
    }
    let at = line.iter().position(|&byte| byte == b'=')?;
    if !trim(&line[..at]).eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut found = Ranges { asked: [Asked::Last(0); MOST], count: 0 };
    for spec in elements(&line[at + 1..]) {
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (trim(&spec[..dash]), trim(&spec[dash + 1..]));
        let asked = match (first, last) {
            ([], count) => Asked::Last(digits(count)?),
            (first, []) => Asked::From(digits(first)?, None),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                // RFC 9110 §14.1.1: a last position before the first makes it invalid.
                if last < first {
                    return None;
                }
                Asked::From(first, Some(last))
            }
        };
        *found.asked.get_mut(found.count)? = asked;
        found.count += 1;
    }
    (found.count > 0).then_some(found)
}

/// The ranges of one request, without allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranges {
    asked: [Asked; MOST],
    count: usize,
}

impl Ranges {
    pub(crate) fn as_slice(&self) -> &[Asked] {
        &self.asked[..self.count]
    }
}

/// `Content-Range: bytes first-last/complete` (RFC 9110 §14.4); `None` if absent, malformed or repeated.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(RangeInclusive<u64>, Option<u64>)> {
    let mut lines = headers.get_all(CONTENT_RANGE).iter();
    let line = trim(lines.next()?.as_bytes());
    if lines.next().is_some() || !line.get(..6)?.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let rest = trim(&line[6..]);
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    let (range, complete) = (&rest[..slash], &rest[slash + 1..]);
    let dash = range.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (digits(&range[..dash])?, digits(&range[dash + 1..])?);
    let complete = if complete == b"*" { None } else { Some(digits(complete)?) };
    // §14.4: invalid if the last lies before the first, or the whole is not longer than the last position.
    if last < first || last == u64::MAX || complete.is_some_and(|complete| complete <= last) {
        return None;
    }
    Some((first..=last, complete))
}

/// Whether `If-Range` lets `Range` count: absent, or the very validator of what is stored (RFC 9110 §13.1.5).
pub(crate) fn if_range_holds(headers: &HeaderMap, meta: &Meta) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let Some(value) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    if let Some(tag) = EntityTag::parse(value) {
        // §13.1.5: strong comparison only.
        return meta.etag().is_some_and(|own| own.strongly_equals(&tag));
    }
    // §13.1.5, §8.8.2.2: a date only if it is strong, and equal.
    parse_date(value).is_some_and(|date| meta.last_modified() == Some(date) && meta.last_modified_is_strong())
}

/// Whether what this request asks for lies within a stored part (RFC 9111 §3.3).
pub(crate) fn lies_within(
    request: &request::Parts,
    meta: &Meta,
    part: &RangeInclusive<u64>,
    complete: Option<u64>,
) -> bool {
    if !if_range_holds(&request.headers, meta) {
        return false;
    }
    let Some(ranges) = parse(&request.headers) else { return false };
    ranges.as_slice().iter().all(|asked| in_part(*asked, part, complete).is_some())
}

/// The positions that a range means, if they lie within the part. Without the complete length only ranges with both
/// ends can be placed.
pub(crate) fn in_part(asked: Asked, part: &RangeInclusive<u64>, complete: Option<u64>) -> Option<RangeInclusive<u64>> {
    let range = match (complete, asked) {
        (Some(length), asked) => asked.within(length)?,
        (None, Asked::From(first, Some(last))) => first..=last,
        (None, _) => return None,
    };
    (part.contains(range.start()) && part.contains(range.end())).then_some(range)
}
