//! Why an exchange with an origin came to nothing, and what the client is told then.

use std::fmt;

use http::StatusCode;
use http_body_util::LengthLimitError;

use crate::body::Stalled;

/// Why the origin gave no answer.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// No connection.
    Unreachable(String),
    /// Connected, but the connection broke before an answer, or what came is none.
    Broken(String),
    /// Connected, but no answer in time.
    Late,
    /// The client sent more than it may.
    TooLarge,
    /// The client did not send the rest of its content.
    Stalled,
    /// The client's content broke off, or what came is none.
    Garbled(String),
    /// It was not asked: too many wait for it already.
    Busy,
}

impl Trouble {
    /// What the client is told: 502, 504, 413, 408, 400 or 503 (RFC 9110 §15.6.3, §15.6.5, §15.5.14, §15.5.9, §15.5.1,
    /// §15.6.4).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::Garbled(_) => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether it is the client's, and says nothing of the origin.
    pub fn is_of_the_client(&self) -> bool {
        matches!(self, Self::TooLarge | Self::Stalled | Self::Garbled(_))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(out, "the origin cannot be reached: {why}"),
            Self::Broken(why) => write!(out, "the origin gave no valid answer: {why}"),
            Self::Late => out.write_str("the origin did not answer in time"),
            Self::TooLarge => out.write_str("the request has more content than this proxy lets through"),
            Self::Stalled => out.write_str("the rest of the request did not come in time"),
            Self::Garbled(why) => write!(out, "the content of the request cannot be read to its end: {why}"),
            Self::Busy => out.write_str("too many requests wait for an answer already"),
        }
    }
}

/// What the content of a client's request died of.
pub(crate) fn of_the_client(error: &(dyn std::error::Error + 'static)) -> Trouble {
    let (mut cause, mut last) = (Some(error), String::new());
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            return Trouble::TooLarge;
        }
        if inner.is::<Stalled>() {
            return Trouble::Stalled;
        }
        last = inner.to_string();
        cause = inner.source();
    }
    Trouble::Garbled(last)
}
