//! How old a response is (RFC 9111 §4.2.3, §5.1).

use std::time::{Duration, SystemTime};

use http::header::{AGE, HeaderMap, HeaderValue};

use super::fields::{MOST_SECONDS, delta_seconds, trim};

/// The age when the response came: the larger of what its `Date` and what its `Age` make of it.
pub(crate) fn initial_age(headers: &HeaderMap, date: SystemTime, sent: SystemTime, came: SystemTime) -> Duration {
    // §4.2.3: apparent_age = max(0, response_time - date_value)
    let apparent = came.duration_since(date).unwrap_or_default();
    // §4.2.3: corrected_age_value = age_value + response_delay
    let delay = came.duration_since(sent).unwrap_or_default();
    let corrected = age_value(headers).saturating_add(delay);
    apparent.max(corrected)
}

/// §4.2.3: current_age = corrected_initial_age + resident_time
pub(crate) fn current_age(initial: Duration, came: SystemTime, now: SystemTime) -> Duration {
    initial.saturating_add(now.duration_since(came).unwrap_or_default())
}

/// §5.1: of several members the first counts; one that is no non-negative integer is ignored.
fn age_value(headers: &HeaderMap) -> Duration {
    let Some(first) = headers.get(AGE) else { return Duration::ZERO };
    let member = first.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default();
    delta_seconds(trim(member)).unwrap_or_default()
}

/// The value of `Age` for a response of that age: whole seconds, at most 2³¹ (RFC 9111 §1.2.2, §5.1).
pub fn age_field(age: Duration) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(age.as_secs().min(MOST_SECONDS));
    // Copied at its exact length: one allocation, where the conversion from a number makes two.
    HeaderValue::from_str(digits).unwrap_or(HeaderValue::from_static("0"))
}
