//! How long a response stays fresh (RFC 9111 §4.2.1, §4.2.2).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{EXPIRES, HeaderMap};

use super::control::ResponseControl;
use super::fields::{DateField, date_field};
use super::rules::Choices;

/// What a lifetime was taken from (RFC 9111 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// `s-maxage` (RFC 9111 §5.2.2.10).
    SMaxage,
    /// `max-age` (RFC 9111 §5.2.2.1).
    MaxAge,
    /// `Expires` minus `Date` (RFC 9111 §5.3).
    Expires,
    /// A share of the time since `Last-Modified` (RFC 9111 §4.2.2).
    Heuristic,
    /// Nothing tells how long: stale from the start.
    Nothing,
}

/// Statuses that RFC 9110 §15.1 defines as heuristically cacheable.
pub(crate) fn is_heuristic_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

pub(crate) fn lifetime(
    choices: &Choices,
    control: &ResponseControl,
    targeted: bool,
    status: StatusCode,
    headers: &HeaderMap,
    date: SystemTime,
    last_modified: Option<SystemTime>,
) -> (Duration, Origin) {
    // §4.2.1, first match wins: s-maxage (shared only), max-age, Expires - Date, heuristic.
    if let Some(limit) = control.s_maxage().filter(|_| choices.shared) {
        return (limit, Origin::SMaxage);
    }
    if let Some(limit) = control.max_age() {
        return (limit, Origin::MaxAge);
    }
    // RFC 9213 §2.2: where a targeted field governs, Expires is ignored.
    if !targeted {
        match date_field(headers, &EXPIRES) {
            DateField::Valid(expires) => return (expires.duration_since(date).unwrap_or_default(), Origin::Expires),
            // §5.3: an invalid date, especially "0", is a time in the past.
            DateField::Invalid => return (Duration::ZERO, Origin::Expires),
            DateField::Absent => {}
        }
    }
    // §4.2.2: only where no explicit lifetime is given, for cacheable statuses or public responses.
    if (is_heuristic_status(status) || control.public)
        && let Some(since) = last_modified.and_then(|modified| date.duration_since(modified).ok())
    {
        let share = Duration::try_from_secs_f64(since.as_secs_f64() * choices.heuristic_fraction);
        // Dates know whole seconds only; a guess does not pretend to more.
        let limit = Duration::from_secs(share.unwrap_or(Duration::MAX).as_secs()).min(choices.heuristic_cap);
        return (limit, Origin::Heuristic);
    }
    (Duration::ZERO, Origin::Nothing)
}
