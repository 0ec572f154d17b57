//! What the log says of a request.

use std::time::{Duration, Instant};

use everfresh_http::engine::BodyError;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::body::{Body, BoxError};
use crate::forward::Peer;
use crate::log::shown;

/// A request that has no answer yet: if it is given up, its line is written all the same.
pub(crate) struct Line {
    asked: Option<Asked>,
    peer: Peer,
    version: Version,
    began: Instant,
}

struct Asked {
    method: Method,
    host: String,
    /// Not `target`: that is the kind of a line, and a key of each where lines are for machines.
    uri: String,
}

impl Line {
    /// For a request that began so, if a line is wanted.
    pub(crate) fn begin<B>(request: &Request<B>, peer: Peer, began: Instant, wanted: bool) -> Self {
        Self { asked: wanted.then(|| Asked::of(request)), peer, version: request.version(), began }
    }

    /// Writes how it was answered.
    pub(crate) fn answered(
        mut self,
        status: StatusCode,
        outcome: &str,
        age: Option<Duration>,
        wait: Duration,
        bytes: Option<u64>,
    ) {
        self.write(outcome, wait, Some(status.as_u16()), age.map(|age| age.as_secs()), bytes);
    }

    /// Once: what is not there is left out.
    fn write(&mut self, outcome: &str, wait: Duration, status: Option<u16>, age_s: Option<u64>, bytes: Option<u64>) {
        let Some(Asked { method, host, uri }) = self.asked.take() else { return };
        tracing::info!(
            target: "everfresh::access",
            client = %self.peer.address,
            method = %method,
            host,
            uri,
            protocol = ?self.version,
            status,
            outcome,
            age_s,
            wait_ms = millis(wait),
            bytes,
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write("unanswered", self.began.elapsed(), None, None, None);
    }
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        let uri = request.uri();
        let named = uri.host().or_else(|| request.headers().get(HOST)?.to_str().ok());
        let asked = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        // Whoever writes user@host as the host may have a password there.
        let host = named.unwrap_or_default().rsplit('@').next().unwrap_or_default().to_owned();
        Self { method: request.method().clone(), host, uri: shown(asked) }
    }
}

/// Says when its client is cut off for being slower than others who read the same answer: nothing else would.
pub(crate) fn telling_of_laggards(answer: Response<Body>, key: String, peer: Peer) -> Response<Body> {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    let told = move |error: BoxError| {
        if error.downcast_ref().is_some_and(BodyError::has_lagged) {
            tracing::warn!(
                target: "everfresh::client",
                client = %peer.address,
                key = shown(&key),
                "cut off: it reads more slowly than others, and the answer is larger than cache.max_body; say its length \
                 at the origin, or raise cache.max_body",
            );
        }
        error
    };
    answer.map(|body| body.map_err(told).boxed_unsync())
}

/// To the microsecond, which a binary fraction of a second would tell with fifteen digits.
fn millis(wait: Duration) -> f64 {
    (wait.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn a_wait_is_told_to_the_microsecond() {
        for (nanos, told) in [(0, "0.0"), (1_234_567, "1.235"), (2_300_000_400, "2300.0")] {
            assert_eq!(format!("{:?}", super::millis(Duration::from_nanos(nanos))), told);
        }
    }
}
