//! Answers of the proxy's own.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::body::{Body, full};
use crate::forward::Refused;
use crate::trouble::Trouble;

/// An answer of our own.
pub(crate) fn say(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{status}\n{why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer to a request that is turned away before anybody is asked.
pub(crate) fn say_refused(Refused { status, why, allow }: Refused) -> Response<Body> {
    let mut response = say(status, why);
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// What becomes of a request that the origin did not answer well.
pub(crate) fn say_trouble(trouble: &Trouble) -> Response<Body> {
    // What exactly broke is for the operator's log, not for the world.
    let mut response = say(
        trouble.status(),
        match trouble {
            Trouble::Unreachable(_) => "the origin cannot be reached",
            Trouble::Broken(_) => "the origin gave no valid answer",
            Trouble::Late => "the origin did not answer in time",
            Trouble::TooLarge => "the request has more content than this proxy lets through",
            Trouble::Stalled => "the rest of the request did not come in time",
            Trouble::Garbled(_) => "the content of the request cannot be read to its end",
            Trouble::Busy => "too many requests wait here already",
        },
    );
    if matches!(trouble, Trouble::Busy) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
