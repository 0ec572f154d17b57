//! The seam to the cache: one call answers a request, a few more tell and purge.

use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};

use crate::body::Body;
use crate::config::CacheSettings;
use crate::origin::Trouble;

/// What the cache did for a request.
#[derive(Clone, Debug)]
pub struct Told {
    /// One of [`NAMES`](crate::stats::NAMES).
    pub outcome: &'static str,
    /// The age of what was served, if it came from the store.
    pub age: Option<Duration>,
}

/// How what is purged goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeMode {
    /// Gone at once.
    #[default]
    Hard,
    /// Stale at once: served while it is refreshed, where a window allows.
    Soft,
    /// As soft, and refreshed now.
    Revalidate,
}

/// What is purged.
#[derive(Clone, Debug)]
pub enum Purge {
    /// One URL with all its variants.
    Url(String),
    /// All URLs that begin so.
    Prefix(String),
    /// All responses of a cache group or surrogate key.
    Group(String),
}

/// The cache between the clients and the origins.
pub struct Cache {
    capacity: u64,
}

impl Cache {
    /// An empty one.
    pub fn new(settings: &CacheSettings) -> Result<Self, crate::body::BoxError> {
        Ok(Self { capacity: settings.capacity.get() })
    }

    /// Answers a request, asking the origin by `fetch` where it must.
    ///
    /// # Errors
    /// The origin gave no answer, and nothing could stand in.
    pub async fn answer<F, R>(&self, request: Request<Body>, fetch: F) -> Result<(Response<Body>, Told), Trouble>
    where
        F: FnOnce(Request<Body>) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Response<Body>, Trouble>> + Send + 'static,
    {
        let response = fetch(request).await?;
        Ok((response, Told { outcome: "miss", age: None }))
    }

    /// Forgets; how many responses, where that can be told.
    pub fn purge(&self, _what: &Purge, _mode: PurgeMode) -> usize {
        0
    }

    /// The part of `GET /stats` that the cache knows.
    pub fn json(&self) -> Value {
        json!({ "entries": 0, "bytes": 0, "capacity_bytes": self.capacity })
    }
}
