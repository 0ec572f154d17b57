//! Answers of the proxy's own.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::body::{Body, full};
use crate::forward::Refused;
use crate::origin::Trouble;

/// The methods of the registry that are passed on; others are, too, but there is no end of them.
const PASSED_ON: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// An answer of our own.
pub(crate) fn say(status: StatusCode, why: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{status}\n{why}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer to a request that is turned away before anybody is asked.
pub(crate) fn say_refused(Refused { status, why }: Refused) -> Response<Body> {
    let mut response = say(status, why);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        // RFC 9110 §15.5.6: a 405 says what is.
        response.headers_mut().insert(ALLOW, PASSED_ON);
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
