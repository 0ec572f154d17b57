//! The seam to the cache: one call answers a request, a few more tell and purge.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use everfresh::RefreshStatus;
use everfresh_http::engine::{KeptBody, RefreshEnding};
use everfresh_http::rfc9111::{Rules, invalidated_by};
use everfresh_http::{CacheAnswer, HttpCache, HttpEvent};
use http::{HeaderName, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::arena::{Arena, LEAST};
use crate::body::{Body, BoxError};
use crate::config::CacheSettings;
use crate::forward;
use crate::log::shown;
use crate::stats::LONGEST_KEY;
use crate::trouble::Trouble;

/// What the key of a request has beside its URL.
#[derive(Clone)]
pub(crate) struct KeyParts(pub(crate) String);

/// Scheme and host of a request's target as its client has them, where that is not as they are in the key.
#[derive(Clone)]
pub(crate) struct KnownAs(pub(crate) Uri);

/// Why a refresh that was wanted did not start.
const NOT_STARTED: [RefreshStatus; 4] =
    [RefreshStatus::AlreadyRunning, RefreshStatus::BackingOff, RefreshStatus::Saturated, RefreshStatus::Unavailable];

/// The most keys remembered as backing off.
const MOST_BACKING_OFF: usize = 10_000;

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

impl PurgeMode {
    /// As requests and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Revalidate => "revalidate",
        }
    }
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
    http: HttpCache,
    refreshes: Arc<Refreshes>,
    arena: Option<Arc<Arena>>,
    /// A request has come whose key is longer than its URL: there may be several keys of one.
    longer: AtomicBool,
}

/// What became of refreshes, as the engine tells it.
#[derive(Default)]
struct Refreshes {
    started: AtomicU64,
    not_started: [AtomicU64; NOT_STARTED.len()],
    backing_off: Mutex<HashSet<Box<str>>>,
}

impl Refreshes {
    fn heed(&self, event: &HttpEvent<'_>) {
        match event {
            HttpEvent::Refresh { key: _, status: RefreshStatus::Started, .. } => {
                self.started.fetch_add(1, Ordering::Relaxed);
            }
            HttpEvent::Refresh { status, .. } => {
                if let Some(at) = NOT_STARTED.iter().position(|known| known == status) {
                    self.not_started[at].fetch_add(1, Ordering::Relaxed);
                }
            }
            HttpEvent::Refreshed { key, ending, .. } => {
                let mut backing_off = self.backing_off.lock().unwrap_or_else(PoisonError::into_inner);
                match ending {
                    RefreshEnding::Failed | RefreshEnding::TimedOut => {
                        if backing_off.len() < MOST_BACKING_OFF && key.len() <= LONGEST_KEY {
                            backing_off.insert((*key).into());
                        }
                        tracing::info!(target: "everfresh::refresh", key = shown(key), ending = ending.name());
                    }
                    _ => {
                        backing_off.remove(*key);
                        tracing::debug!(target: "everfresh::refresh", key = shown(key), ending = ending.name());
                    }
                }
            }
            HttpEvent::Purged { what, .. } => {
                let mut backing_off = self.backing_off.lock().unwrap_or_else(PoisonError::into_inner);
                backing_off.retain(|key| !key.starts_with(what));
            }
            _ => {}
        }
    }
}

impl Cache {
    /// An empty one.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn new(settings: &CacheSettings) -> Result<Self, BoxError> {
        let apart = settings.stale_when_disconnected.get();
        let rules = Rules::shared()
            .stale_despite_s_maxage(settings.stale_despite_s_maxage)
            .stale_when_disconnected((!apart.is_zero()).then_some(apart));
        let refreshes = Arc::new(Refreshes::default());
        let heeding = Arc::clone(&refreshes);
        let arena = Arena::new(settings.capacity.get())
            .inspect_err(|error| tracing::info!("large bodies are copied when they are sent: {error}"))
            .ok();
        let keeping = arena.clone();
        let keep = move |chunks: &[Bytes]| {
            let length = chunks.iter().map(Bytes::len).sum();
            let arena = keeping.as_ref().filter(|_| length >= LEAST)?;
            Some(KeptBody { bytes: arena.keep(chunks)?, room: arena.room(length) })
        };
        let builder = HttpCache::builder()
            .rules(rules)
            .capacity_bytes(settings.capacity.get())
            .max_body(settings.max_body.get())
            .max_variants(settings.max_variants)
            .max_refreshes(settings.max_refreshes)
            .tag_fields([HeaderName::from_static("surrogate-key"), HeaderName::from_static("cache-tag")])
            .name("everfresh")
            .key(key)
            .body_keeper(keep)
            .on_event(move |event| heeding.heed(event));
        Ok(Self { http: builder.build()?, refreshes, arena, longer: AtomicBool::new(false) })
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
        let keyed = request.extensions().get::<KeyParts>();
        if keyed.is_some_and(|KeyParts(more)| !more.is_empty()) && !self.longer.load(Ordering::Relaxed) {
            // Release: pairs with the Acquire in purge(), before which what is asked for now began or not.
            self.longer.store(true, Ordering::Release);
        }
        let keyed = keyed.is_some();
        let written = (!request.method().is_safe() && keyed).then(|| {
            let mut head = Request::new(()).into_parts().0;
            (head.method, head.uri, head.headers) =
                (request.method().clone(), request.uri().clone(), request.headers().clone());
            (head, request.extensions().get::<KnownAs>().cloned())
        });
        let response = match self.http.respond(request, fetch).await {
            Ok(response) => response,
            Err(error) => {
                return Err(match error.downcast::<Trouble>() {
                    Ok(trouble) => trouble.as_ref().clone(),
                    Err(other) => Trouble::Broken(other.to_string()),
                });
            }
        };
        let (head, body) = response.into_parts();
        if let Some((asked, known)) = written.filter(|_| !head.status.is_client_error()) {
            // What it names is stored under the host that came here.
            let relocated = known.map(|KnownAs(known)| {
                let mut answered = head.clone();
                forward::relocate(&mut answered.headers, &known, &asked.uri);
                answered
            });
            let mut uris = invalidated_by(&asked, relocated.as_ref().unwrap_or(&head));
            if !uris.contains(&asked.uri) {
                uris.push(asked.uri);
            }
            for uri in uris {
                // What the key has beside the URL makes several keys of it: RFC 9111 §4.4 means them all.
                let plain = key_of("", &uri);
                self.http.purge_prefix(&format!("{plain} "));
                self.http.purge_key(&plain);
            }
        }
        let mut response = Response::from_parts(head, body);
        let told = response.extensions_mut().remove::<CacheAnswer>();
        let told = told.map_or(Told { outcome: "bypass", age: None }, |answer| Told {
            outcome: answer.outcome.name(),
            age: answer.age,
        });
        Ok((response.map(BodyExt::boxed_unsync), told))
    }

    /// Forgets, or makes stale; how many keys that concerned.
    ///
    /// # Errors
    /// What is named is no URL.
    pub fn purge(&self, what: &Purge, mode: PurgeMode) -> Result<usize, String> {
        let hard = mode == PurgeMode::Hard;
        let cache = &self.http;
        Ok(match what {
            Purge::Url(url) => {
                let key = url_of(url)?.to_string();
                // Without longer keys nothing has to be looked for, which takes long where much is stored; and with them
                // one that is on its way is concerned, too, of which nothing is stored yet.
                let longer = self.longer.load(Ordering::Acquire);
                let more = if longer { self.purge_prefix(&format!("{key} "), hard) } else { 0 };
                more + usize::from(if hard { cache.purge_key(&key) } else { cache.expire_key(&key) })
            }
            Purge::Prefix(prefix) => self.purge_prefix(&prefix_of(prefix)?, hard),
            Purge::Group(group) => {
                let concerned = cache.keys_in_group(group).len();
                if hard {
                    cache.purge_tag(group)
                } else {
                    cache.expire_tag(group)
                }
                for origin in self.origins() {
                    if hard { cache.purge_group(&origin, group) } else { cache.expire_group(&origin, group) }
                }
                concerned
            }
        })
    }

    /// Strikes all whose keys begin so, and tells how many those are.
    fn purge_prefix(&self, prefix: &str, hard: bool) -> usize {
        let concerned = self.count(prefix);
        if hard {
            self.http.purge_prefix(prefix)
        } else {
            self.http.expire_prefix(prefix)
        }
        concerned
    }

    /// Renews what is stored for a URL; how many variants were asked about.
    pub async fn revalidate<F, R>(&self, uri: &Uri, fetch: F) -> usize
    where
        F: FnOnce(Request<Body>) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Response<Body>, Trouble>> + Send + 'static,
    {
        self.http.revalidate(uri, fetch).await.len()
    }

    /// The stored URLs that a purge concerns, those most asked for first; not those that have more than a URL in their
    /// key, for what else is in it is the client's to say.
    ///
    /// # Errors
    /// What is named is no URL.
    pub fn urls(&self, what: &Purge) -> Result<Vec<Uri>, String> {
        Ok(match what {
            Purge::Url(url) => vec![url_of(url)?],
            Purge::Prefix(prefix) => {
                let prefix = prefix_of(prefix)?;
                let keys = self.http.hottest(usize::MAX).into_iter().map(|report| report.key);
                keys.filter(|key| key.starts_with(&prefix)).filter_map(|key| key.parse().ok()).collect()
            }
            Purge::Group(group) => self.http.keys_in_group(group).iter().filter_map(|key| key.parse().ok()).collect(),
        })
    }

    /// How old what is stored for a key as [`Stats`](crate::stats::Stats) has it is, and for how long it has been stale.
    pub fn standing(&self, key: &str) -> Option<(Duration, Duration)> {
        let uri = key.split_once(' ').map_or(key, |(_, url)| url).parse().ok()?;
        self.http.inspect(&uri).map(|report| (report.age, report.stale_for))
    }

    /// Where large bodies are kept, if this system has such a place.
    pub fn arena(&self) -> Option<&Arc<Arena>> {
        self.arena.as_ref()
    }

    /// Refreshes under way.
    pub fn refreshing(&self) -> usize {
        self.http.stats().refreshing
    }

    fn count(&self, prefix: &str) -> usize {
        self.http.hottest(usize::MAX).iter().filter(|report| report.key.starts_with(prefix)).count()
    }

    /// Scheme and host of all that is stored: cache groups mean something within one of them only (RFC 9875 §2).
    fn origins(&self) -> HashSet<Uri> {
        let beginning = |uri: &Uri| {
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            format!("{scheme}://{authority}/").parse::<Uri>().ok()
        };
        let reports = self.http.hottest(usize::MAX).into_iter();
        let urls = reports.filter_map(|report| report.key.split(' ').next()?.parse::<Uri>().ok());
        urls.filter_map(|url| beginning(&url)).collect()
    }

    /// Those of which the engine says so still: what a reader's own request renewed, or what is gone, is told by no end
    /// of a refresh.
    fn backing_off(&self) -> usize {
        let mut backing_off = self.refreshes.backing_off.lock().unwrap_or_else(PoisonError::into_inner);
        backing_off.retain(|key| self.http.inspect_key(key).is_some_and(|report| report.left_alone));
        backing_off.len()
    }

    /// The part of `GET /stats` that the cache knows.
    pub fn json(&self) -> Value {
        let told = self.http.stats();
        let ended = |name: &str| -> u64 {
            let at = RefreshEnding::NAMES.iter().position(|known| *known == name);
            at.map_or(0, |at| told.refreshes[at])
        };
        let not_started = |status: RefreshStatus| {
            let at = NOT_STARTED.iter().position(|known| *known == status);
            at.map_or(0, |at| self.refreshes.not_started[at].load(Ordering::Relaxed))
        };
        json!({
            "entries": told.pages,
            "bytes": told.weight,
            "capacity_bytes": told.capacity,
            "refreshes": {
                "started": self.refreshes.started.load(Ordering::Relaxed),
                "running": told.refreshing,
                "renewed": ended("renewed"),
                "replaced": ended("replaced"),
                "failed": ended("failed") + ended("timed_out"),
                "skipped": not_started(RefreshStatus::Saturated) + not_started(RefreshStatus::Unavailable),
                "backing_off": self.backing_off(),
            },
        })
    }

    /// The part of `/metrics` that the cache knows.
    pub fn prometheus(&self, out: &mut String) {
        let told = self.http.stats();
        for (name, kind, help, value) in [
            ("entries", "gauge", "Stored URLs.", told.pages as u64),
            ("stored_bytes", "gauge", "What they weigh.", told.weight),
            ("capacity_bytes", "gauge", "What they may weigh.", told.capacity),
            ("refreshes_running", "gauge", "Refreshes under way.", told.refreshing as u64),
            ("refreshes_started_total", "counter", "Refreshes begun.", self.refreshes.started.load(Ordering::Relaxed)),
            ("waited_total", "counter", "Requests that waited for another's fetch.", told.waited),
            ("served_bytes_total", "counter", "Body bytes served from the store.", told.bytes_from_store),
            ("fetched_bytes_total", "counter", "Body bytes that origins sent for the store.", told.bytes_from_origin),
            (
                "backing_off",
                "gauge",
                "Stored URLs whose origin is left alone for a while after it failed.",
                self.backing_off() as u64,
            ),
            ("log_lines_lost_total", "counter", "Log lines that could not be written.", crate::log::lost()),
        ] {
            let _ = writeln!(out, "# HELP everfresh_{name} {help}\n# TYPE everfresh_{name} {kind}");
            let _ = writeln!(out, "everfresh_{name} {value}");
        }
        let _ = writeln!(out, "# HELP everfresh_refreshes_total Refreshes by how they ended.");
        let _ = writeln!(out, "# TYPE everfresh_refreshes_total counter");
        for (name, count) in RefreshEnding::NAMES.iter().zip(told.refreshes) {
            let _ = writeln!(out, "everfresh_refreshes_total{{ending=\"{name}\"}} {count}");
        }
        let _ =
            writeln!(out, "# HELP everfresh_refreshes_not_started_total Refreshes wanted and not begun, by reason.");
        let _ = writeln!(out, "# TYPE everfresh_refreshes_not_started_total counter");
        for (reason, count) in NOT_STARTED.iter().zip(&self.refreshes.not_started) {
            let (reason, count) = (reason.name(), count.load(Ordering::Relaxed));
            let _ = writeln!(out, "everfresh_refreshes_not_started_total{{reason=\"{reason}\"}} {count}");
        }
    }
}

/// The URL as the client named it, and the fields that the operator put into the key.
fn key(parts: &http::request::Parts) -> String {
    let mut key = key_of("", &parts.uri);
    if let Some(KeyParts(more)) = parts.extensions.get() {
        key.push_str(more);
    }
    key
}

/// `before` and the text of a URL; as formatting both would give it, and several times as fast.
pub(crate) fn key_of(before: &str, uri: &Uri) -> String {
    let (Some(scheme), Some(authority), Some(path)) = (uri.scheme_str(), uri.authority(), uri.path_and_query()) else {
        return format!("{before}{uri}");
    };
    let parts = [before, scheme, "://", authority.as_str(), path.as_str()];
    let mut key = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| key.push_str(part));
    key
}

/// The beginning of URLs as keys have it: of all, of all of a scheme, or of those of a host, which is named whole.
pub(crate) fn prefix_of(text: &str) -> Result<String, String> {
    if matches!(text, "" | "http://" | "https://") {
        return Ok(text.to_owned());
    }
    let host_ends = text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']));
    if !host_ends || text.contains('#') {
        let cure = "write scheme and host whole and a slash after them, http://host/pa, or nothing for all";
        return Err(format!("\"{text}\" begins no URL: {cure}"));
    }
    Ok(url_of(text)?.to_string())
}

/// A URL as keys have it: lower case, without the usual port.
pub(crate) fn url_of(text: &str) -> Result<Uri, String> {
    let wrong = || format!("\"{text}\" is no URL: name it whole, as clients do, http://host/path");
    let request = Request::builder().method(Method::GET).uri(text).body(()).map_err(|_| wrong())?;
    let secure = match request.uri().scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(wrong()),
    };
    let peer = crate::forward::Peer { address: std::net::Ipv4Addr::LOCALHOST.into(), secure };
    let mut request = request;
    *request.version_mut() = http::Version::HTTP_2;
    crate::forward::target(&request, peer).map_err(|_| wrong())
}
