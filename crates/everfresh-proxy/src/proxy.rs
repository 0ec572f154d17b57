//! The story of one request: checked, sent to its origin or answered by the cache, told.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use http::header::{CACHE_CONTROL, CONNECTION, HOST, HeaderValue, TE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::access::{Line, telling_of_laggards};
use crate::body::{Body, BoxError, Watched, empty, whole};
use crate::cache::{Cache, KeyParts, KnownAs, Purge, PurgeMode, Told, key_of, prefix_of, url_of};
use crate::circle::Mark;
use crate::config::{Config, FieldName, OriginSettings, RuleSettings, Span, host_fits};
use crate::forward::{self, Peer, Refused, TakesTrailers};
use crate::log::shown;
use crate::origin::{Origins, Speak};
use crate::rule;
use crate::say::{say, say_refused, say_trouble};
use crate::stats::{Counted, Flight, Stats};
use crate::trouble::Trouble;
use crate::tunnel;

/// What a configuration makes of the proxy; replaced whole when it is read again.
pub struct Site {
    /// The configuration.
    pub config: Config,
    origins: Origins,
}

/// The proxy: the cache lasts, the configuration may change.
pub struct Proxy {
    site: RwLock<Arc<Site>>,
    /// How often the site was replaced.
    replaced: AtomicU64,
    /// The cache.
    pub cache: Cache,
    /// All counters.
    pub stats: Stats,
    mark: Mark,
    /// What clients are served by, for as long as this runs.
    scheme: &'static str,
    demo: OnceLock<Box<dyn Fn() -> Value + Send + Sync>>,
}

/// The most URLs that one purge asks the origin about, and how many of them at a time.
const MOST_REVALIDATED: usize = 256;
const REVALIDATED_AT_ONCE: usize = 16;

/// What a purge did.
#[derive(Clone, Copy, Debug)]
pub struct Purged {
    /// The stored URLs that it concerned; one for each value of the fields in the key, where a rule puts some there.
    pub concerned: usize,
    /// About how many of them the origin was asked.
    pub asked: usize,
}

/// A request comes for a reader, and not behind one's back.
#[derive(Clone, Copy)]
struct Foreground;

/// The proxy, and the configuration that holds for a request.
pub struct Door {
    proxy: Arc<Proxy>,
    site: Arc<Site>,
    replaced: u64,
}

/// One client's connection: its requests count their hold on the proxy here, and not all where all others do.
pub struct Client(Mutex<Arc<Door>>);

impl Client {
    /// For one connection.
    pub fn new(proxy: Arc<Proxy>) -> Self {
        Self(Mutex::new(proxy.door()))
    }

    /// The proxy with the configuration that holds now.
    pub fn door(&self) -> Arc<Door> {
        let mut door = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Acquire: pairs with the Release in reload().
        if door.proxy.replaced.load(Ordering::Acquire) != door.replaced {
            *door = door.proxy.door();
        }
        Arc::clone(&door)
    }
}

/// Carries on counting a request as running until its answer is done.
pub struct Running(Arc<Door>);

impl Running {
    fn new(door: Arc<Door>) -> Self {
        door.proxy.stats.running.up();
        Self(door)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.proxy.stats.running.down();
    }
}

impl Proxy {
    /// A proxy with an empty cache.
    ///
    /// # Errors
    /// TLS to the origins cannot be set up.
    pub fn new(config: Config) -> Result<Self, BoxError> {
        let cache = Cache::new(&config.cache)?;
        let origins = Origins::new(&config)?;
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        Ok(Self {
            site: RwLock::new(Arc::new(Site { config, origins })),
            replaced: AtomicU64::new(0),
            cache,
            stats: Stats::default(),
            mark: Mark::default(),
            scheme,
            demo: OnceLock::new(),
        })
    }

    /// What a demonstration tells of itself.
    pub(crate) fn demo(&self) -> Value {
        self.demo.get().map_or(Value::Null, |tell| tell())
    }

    /// This is a demonstration, which tells so much of itself.
    pub(crate) fn set_demo(&self, tell: impl Fn() -> Value + Send + Sync + 'static) {
        let _ = self.demo.set(Box::new(tell));
    }

    /// Purges. In the mode `revalidate`, what is concerned is stale at once, and the origin has been asked about the
    /// URLs most asked for, up to a bound, when this returns.
    ///
    /// # Errors
    /// What is named is no URL.
    pub async fn purge(self: &Arc<Self>, what: &Purge, mode: PurgeMode) -> Result<Purged, String> {
        // All keys have the scheme that is served here; that of the clients is another where who stands before us speaks TLS
        // with them.
        let served = |whole: String| match whole.split_once("://") {
            Some((_, rest)) => format!("{}://{rest}", self.scheme),
            None => whole,
        };
        let what = match what {
            // As a request for it would be answered: without the parameters that its rule leaves out.
            Purge::Url(url) => Purge::Url(self.stored_as(url_of(&served(url_of(url)?.to_string()))?).to_string()),
            Purge::Prefix(prefix) => Purge::Prefix(served(prefix_of(prefix)?)),
            Purge::Group(group) => Purge::Group(group.clone()),
        };
        let proxy = Arc::clone(self);
        // All that is stored may have to be looked at: not on a thread that serves.
        let striking = tokio::task::spawn_blocking(move || {
            let urls = proxy.cache.urls(&what)?;
            let concerned = proxy.cache.purge(&what, mode)?;
            if mode == PurgeMode::Hard {
                let gone: HashSet<String> = urls.iter().map(ToString::to_string).collect();
                proxy.stats.forget_keys(|key| gone.contains(key.split_once(' ').map_or(key, |(_, url)| url)));
            }
            Ok((urls, concerned))
        });
        let (urls, concerned) = striking.await.unwrap_or_else(|error| Err(error.to_string()))?;
        let asked = if mode == PurgeMode::Revalidate { self.ask_about(urls).await } else { 0 };
        Ok(Purged { concerned, asked })
    }

    fn stored_as(self: &Arc<Self>, url: Uri) -> Uri {
        Way::to(&self.door(), url.clone()).map_or(url, |way| way.public)
    }

    /// Asks the origins whether what is stored for these URLs still holds, some at a time; about how many it asked.
    async fn ask_about(self: &Arc<Self>, urls: Vec<Uri>) -> usize {
        let (door, mut asking, mut asked) = (self.door(), JoinSet::new(), 0);
        for uri in urls.into_iter().take(MOST_REVALIDATED) {
            let Some(way) = Way::to(&door, uri.clone()) else { continue };
            if asking.len() >= REVALIDATED_AT_ONCE {
                asked += usize::from(matches!(asking.join_next().await, Some(Ok(true))));
            }
            let proxy = Arc::clone(self);
            asking.spawn(async move { proxy.cache.revalidate(&uri, move |request| way.fetch(request)).await > 0 });
        }
        while let Some(done) = asking.join_next().await {
            asked += usize::from(matches!(done, Ok(true)));
        }
        asked
    }

    /// The configuration that holds now.
    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn door(self: &Arc<Self>) -> Arc<Door> {
        // Read first: a site that is replaced in between is looked for again.
        let replaced = self.replaced.load(Ordering::Acquire);
        Arc::new(Door { proxy: Arc::clone(self), site: self.site(), replaced })
    }

    /// Takes on another configuration; what is stored stays.
    ///
    /// Addresses, TLS files and the room of the cache are those of the start.
    ///
    /// # Errors
    /// TLS to the origins cannot be set up; the old configuration holds on.
    pub fn reload(&self, config: Config) -> Result<(), BoxError> {
        let origins = Origins::new(&config)?;
        let site = Arc::new(Site { config, origins });
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = site;
        self.replaced.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Door {
    /// Answers one request of a client.
    pub async fn serve(
        self: Arc<Self>,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Response<Watched<Body, Option<Running>>> {
        let began = Instant::now();
        let (site, stats) = (&self.site, &self.proxy.stats);
        let running = Running::new(Arc::clone(&self));
        let (chunked, version) = (request.headers().contains_key(http::header::TRANSFER_ENCODING), request.version());
        let line = Line::begin(&request, peer, began, site.config.log.access);
        let mut answering = pin!(self.answer(peer, request));
        let mut waiter = None;
        // Who has an answer at once was no waiter.
        let (mut response, told, key) = poll_fn(|context| {
            let answered = answering.as_mut().poll(context);
            if answered.is_pending() {
                waiter.get_or_insert_with(|| Counted::up(&stats.waiters));
            }
            answered
        })
        .await;
        drop(waiter);
        let wait = began.elapsed();
        stats.answered(told.outcome, key.as_deref(), told.age, wait);
        // RFC 9112 §6.3: what came with a Transfer-Encoding may have had a Content-Length too, which the parser drops;
        // nothing that follows on such a connection is to be believed.
        let refused = told.outcome == "error" && response.status().is_client_error();
        // HTTP/1.0 knows the end of what has no length by that of the connection: it must not be told that this goes on.
        let endless = version == Version::HTTP_10 && response.body().size_hint().exact().is_none();
        if version < Version::HTTP_2
            && (chunked || refused || endless)
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            // Otherwise hyper adds to it that the connection goes on, where a client of HTTP/1.0 wished so.
            *response.version_mut() = version;
        }
        line.answered(response.status(), told.outcome, told.age, wait, response.body().size_hint().exact());
        let idle = site.config.timeouts.whole.get();
        // Without a body it is answered.
        let running = (!response.body().is_end_stream()).then_some(running);
        response.map(|body| Watched::new(body, idle, None, running))
    }

    async fn answer(
        self: &Arc<Self>,
        peer: Peer,
        mut request: Request<Incoming>,
    ) -> (Response<Body>, Told, Option<String>) {
        let error = Told { outcome: "error", age: None };
        let site = &self.site;
        let limits = &site.config.limits;
        // Then nobody is let to wait; what is stored is answered all the same.
        let busy = self.proxy.stats.waiters.load(Ordering::Relaxed) >= limits.waiters;
        // RFC 9112 §3.3: before HTTP/1.1 nobody had to name a host; then it is what the configuration says.
        if request.version() == Version::HTTP_10
            && request.uri().authority().is_none()
            && !request.headers().contains_key(HOST)
            && let Some(Ok(host)) = site.config.unnamed_host().map(HeaderValue::from_str)
        {
            request.headers_mut().insert(HOST, host);
        }
        let public = match forward::target(&request, peer) {
            Ok(public) => public,
            Err(refused) => return (say_refused(refused), error, None),
        };
        if request.body().size_hint().lower() > limits.body.get() {
            return (say_trouble(&Trouble::TooLarge), error, None);
        }
        let Some(mut way) = Way::to(self, public) else {
            return (say(StatusCode::MISDIRECTED_REQUEST, "no origin is set up for this URL"), error, None);
        };
        way.busy = busy;
        let public = way.public.clone();
        if self.proxy.mark.was_here(request.headers(), || asked_for(request.method(), &public)) {
            tracing::warn!(target: "everfresh::origin", "{} leads back to this proxy: name the server's own address", way.origin().url);
            return (
                say(StatusCode::LOOP_DETECTED, "what this proxy asks its origin for comes back to it"),
                error,
                None,
            );
        }
        let authority = public.authority().map_or("", |authority| authority.as_str());
        let trusts = way.origin().trust_forwarded;
        way.known = if trusts { forward::known_as(request.headers(), &public) } else { None };
        if let Some(protocol) = wished(&request) {
            let bypass = Told { outcome: "bypass", age: None };
            // Boxed, as all that few requests need: the future of a hit, which is moved for each of them, stays small.
            return match Box::pin(way.tunnel(request, peer, authority, protocol)).await {
                Ok(response) => (response, bypass, None),
                Err(trouble) => (say_trouble(&trouble), error, None),
            };
        }
        let (mut parts, body) = request.into_parts();
        if forward::hops_left(&parts) == Some(0) {
            let why = "Max-Forwards lets it go no further; this is what would be passed on";
            let own = Refused { status: StatusCode::OK, why, allow: Some(forward::PASSED_ON) };
            return (say_refused(own), Told { outcome: "bypass", age: None }, None);
        }
        parts.uri = public.clone();
        // The target says the host; what else a client wrote is part of no key and no tag (RFC 9112 §3.2.2).
        if parts.headers.get(HOST).is_some_and(|host| host.as_bytes() != authority.as_bytes())
            && let Ok(host) = HeaderValue::from_str(authority)
        {
            parts.headers.insert(HOST, host);
        }
        let mut more = if trusts { forward::told_by_trusted(&parts.headers, &public) } else { String::new() };
        forward::clean(&mut parts, peer, authority, trusts);
        parts.extensions.insert(Foreground);
        let mut keyed = if more.is_empty() { HeaderMap::new() } else { forward::told_to_go_on(&parts.headers) };
        let rule = way.rule();
        if !rule.key_headers.is_empty() {
            more.push_str(&rule::key_parts(rule, &parts.headers));
            for name in rule.key_headers.iter().map(FieldName::name) {
                forward::take_over(&mut keyed, name, &parts.headers);
            }
        }
        // A write says so wherever any key has more: it is about all keys of its URL and of those that its answer names.
        if !more.is_empty() || (!parts.method.is_safe() && site.config.has_longer_keys()) {
            parts.extensions.insert(KeyParts(more));
            if let Some(known) = &way.known {
                parts.extensions.insert(KnownAs(known.clone()));
            }
        }
        if rule.ignore_client_no_cache {
            forward::without_reload(&mut parts.headers);
        }
        let key = key_of(if parts.method == Method::HEAD { "HEAD " } else { "GET " }, &public);
        if busy {
            parts.headers.append(CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
        }
        let body = content(body, &site.config);
        let bypass = rule.bypass;
        way.keyed = (!keyed.is_empty()).then(|| Arc::new(keyed));
        let request = Request::from_parts(parts, body);
        let answered = if bypass {
            let fetched = Box::pin(way.fetch(request)).await;
            fetched.map(|response| (response, Told { outcome: "bypass", age: None }))
        } else {
            self.proxy.cache.answer(request, move |request| Box::pin(way.fetch(request))).await
        };
        match answered {
            // 504 for want of something stored: the only answer of this kind that asked nobody.
            Ok((_, told)) if busy && told.outcome == "uncacheable" => (say_trouble(&Trouble::Busy), error, Some(key)),
            Ok((response, told)) => {
                // What is stored already is read by each for himself.
                let is_shared = ["miss", "coalesced", "replaced"].contains(&told.outcome);
                (if is_shared { telling_of_laggards(response, key.clone(), peer) } else { response }, told, Some(key))
            }
            Err(trouble) => (say_trouble(&trouble), error, Some(key)),
        }
    }
}

/// The way of one request to its origin; cloned for a refresh.
#[derive(Clone)]
struct Way {
    door: Arc<Door>,
    /// Which of the site's origins.
    origin: usize,
    /// Which of the site's rules, if one fits.
    rule: Option<usize>,
    public: Uri,
    /// Scheme and host as the client has them, if others are told by a trusted proxy.
    known: Option<Uri>,
    /// The fields of the request that are in its key: a refresh asks with them, too.
    keyed: Option<Arc<HeaderMap>>,
    /// So many wait that this one may not: only a refresh behind it goes.
    busy: bool,
}

/// What holds where no rule does.
static NO_RULE: LazyLock<RuleSettings> = LazyLock::new(RuleSettings::default);

impl Way {
    /// The way of this URL, if there is an origin for it.
    fn to(door: &Arc<Door>, public: Uri) -> Option<Self> {
        let host_fits = |hosts: &[String]| hosts.is_empty() || host_fits(hosts, public.host().unwrap_or_default());
        let path = public.path();
        let fits = |origin: &OriginSettings| {
            host_fits(&origin.hosts) && origin.path.as_ref().is_none_or(|own| own.holds(path))
        };
        let site = &door.site;
        let origin = site.config.origins.iter().position(fits)?;
        let fits = |rule: &RuleSettings| host_fits(&rule.hosts) && rule.path.as_ref().is_none_or(|own| own.holds(path));
        let rule = site.config.rules.iter().position(fits);
        let mut way = Self { door: Arc::clone(door), origin, rule, public, known: None, keyed: None, busy: false };
        if let Some(shorter) = forward::without_parameters(&way.public, &way.rule().ignore_query) {
            way.public = shorter;
        }
        Some(way)
    }

    fn origin(&self) -> &OriginSettings {
        &self.door.site.config.origins[self.origin]
    }

    /// The lifetime that the rule gives to what has none. What the rule's path is to the origin nobody knows here
    /// if not all read it alike: /static/..%2faccount may be the account.
    fn ttl(&self) -> Option<Span> {
        let rule = self.rule();
        rule.ttl.filter(|_| rule.path.is_none() || forward::is_one_path_to_all(self.public.path()))
    }

    fn rule(&self) -> &RuleSettings {
        self.rule.map_or_else(|| &*NO_RULE, |at| &self.door.site.config.rules[at])
    }

    async fn fetch(self, request: Request<Body>) -> Result<Response<Body>, Trouble> {
        let (mut parts, body) = request.into_parts();
        let kind = if parts.extensions.remove::<Foreground>().is_some() { "load" } else { "refresh" };
        if self.busy && kind == "load" {
            return Err(Trouble::Busy);
        }
        let key = asked_for(&parts.method, &self.public);
        self.door.proxy.mark.put(&mut parts.headers, &key);
        let origin = self.origin();
        if let Some(keyed) = self.keyed.as_ref().filter(|_| kind == "refresh") {
            keyed.keys().for_each(|name| forward::take_over(&mut parts.headers, name, keyed));
        }
        let head = parts.method == Method::HEAD;
        forward::address(&mut parts, origin.url.uri(), &self.public, origin.preserve_host);
        let flight = self.door.proxy.stats.takes_off(&key, kind);
        let named = origin.names(&self.public, self.door.site.config.listen.port());
        let speak = Speak::with(origin, named);
        if speak == Speak::Two && parts.extensions.remove::<TakesTrailers>().is_some() {
            parts.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if speak == Speak::Two && origin.preserve_host {
            parts.uri = forward::at_host(parts.uri, &self.public);
        }
        let answer = self.door.site.origins.send(Request::from_parts(parts, body), self.origin, speak).await;
        let answer = match answer {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Trouble::Broken("it switched to another protocol, which nobody asked for".into()))
            }
            answer => answer,
        };
        told(flight, &answer, &key, kind);
        let mut answer = relayed(answer?, key, kind, &self.door);
        self.relocate(&mut answer);
        rule::adopt(self.rule(), self.ttl(), &mut answer);
        Ok(if head { answer.map(|_| empty()) } else { answer })
    }

    /// Where an answer leads to the origin's own address, it leads to the one that the client named.
    fn relocate(&self, answer: &mut Response<Body>) {
        let origin = self.origin();
        if !origin.preserve_host {
            forward::relocate(answer.headers_mut(), origin.url.uri(), self.known.as_ref().unwrap_or(&self.public));
        }
    }

    /// Another protocol: both sides are joined byte for byte once the origin agrees (RFC 9110 §7.8).
    async fn tunnel(
        self,
        mut request: Request<Incoming>,
        peer: Peer,
        host: &str,
        protocol: HeaderValue,
    ) -> Result<Response<Body>, Trouble> {
        if self.busy {
            return Err(Trouble::Busy);
        }
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        parts.uri = self.public.clone();
        let origin = self.origin();
        forward::clean(&mut parts, peer, host, origin.trust_forwarded);
        forward::address(&mut parts, origin.url.uri(), &self.public, origin.preserve_host);
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(UPGRADE, protocol);
        parts.headers.insert(CONNECTION, upgrade.clone());
        let body = content(body, &self.door.site.config);
        let key = asked_for(&parts.method, &self.public);
        self.door.proxy.mark.put(&mut parts.headers, &key);
        let flight = self.door.proxy.stats.takes_off(&key, "load");
        let answer = self.door.site.origins.send(Request::from_parts(parts, body), self.origin, Speak::One).await;
        told(flight, &answer, &key, "load");
        let mut answer = answer?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let mut answer = relayed(answer, key, "load", &self.door);
            self.relocate(&mut answer);
            return Ok(answer);
        }
        let agreed = answer.headers().get(UPGRADE).cloned();
        let origin = hyper::upgrade::on(&mut answer);
        let (running, idle) = (Running::new(Arc::clone(&self.door)), self.door.site.config.timeouts.tunnel.get());
        tokio::spawn(async move {
            let _running = running;
            if let (Ok(client), Ok(origin)) = tokio::join!(client, origin)
                && let Err(error) = tunnel::join(TokioIo::new(client), TokioIo::new(origin), idle).await
            {
                tracing::debug!(target: "everfresh::origin", "a tunnel broke: {error}");
            }
        });
        forward::strip_hop(answer.headers_mut());
        if let Some(agreed) = agreed {
            answer.headers_mut().insert(UPGRADE, agreed);
        }
        answer.headers_mut().insert(CONNECTION, upgrade);
        Ok(answer.map(|_| empty()))
    }
}

fn asked_for(method: &Method, public: &Uri) -> String {
    format!("{method} {public}")
}

/// What a client sends, within its bounds.
fn content(body: Incoming, config: &Config) -> Body {
    if body.is_end_stream() {
        return empty();
    }
    let most = usize::try_from(config.limits.body.get()).unwrap_or(usize::MAX);
    Watched::new(Limited::new(body, most), config.timeouts.idle.get(), None, ()).boxed_unsync()
}

/// Counts how a request to an origin went, and writes down what went wrong.
fn told(flight: Flight<'_>, answer: &Result<Response<Body>, Trouble>, key: &str, kind: &str) {
    flight.landed(match answer {
        Ok(answer) => answer.status().is_server_error(),
        Err(trouble) => !trouble.is_of_the_client(),
    });
    match answer {
        Err(trouble) if trouble.is_of_the_client() => {
            tracing::info!(target: "everfresh::client", key = shown(key), "{trouble}");
        }
        Err(trouble) => tracing::warn!(target: "everfresh::origin", key = shown(key), kind, "{trouble}"),
        Ok(_) => {}
    }
}

/// An origin's answer as it passes on.
fn relayed(mut answer: Response<Body>, key: String, kind: &'static str, door: &Arc<Door>) -> Response<Body> {
    // A 5xx is counted already.
    let counting = (!answer.status().is_server_error()).then(|| Arc::clone(door));
    let version = answer.version();
    forward::clean_answer(answer.headers_mut(), version);
    // Connections to the client and to the origin have each their own version.
    *answer.version_mut() = Version::HTTP_11;
    // Nobody else tells it: the client's connection breaks off, too, and the log of requests has its status already.
    let told = move |error: BoxError| {
        if let Some(door) = &counting {
            door.proxy.stats.broke_off();
        }
        tracing::warn!(target: "everfresh::origin", key = shown(&key), kind, "the answer broke off: {}", whole(&*error));
        error
    };
    answer.map(|body| if body.is_end_stream() { body } else { body.map_err(told).boxed_unsync() })
}

/// The protocols that a client wishes to go over to.
fn wished<B>(request: &Request<B>) -> Option<HeaderValue> {
    let tokens = |name| forward::elements(request.headers(), name);
    // A write must not slip past the cache: it is a plain one for the origin.
    if request.version() != Version::HTTP_11
        || !request.method().is_safe()
        || !tokens(CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
    {
        return None;
    }
    // RFC 9110 §7.8: h2c is agreed on here or not at all. Over one with an origin, requests would pass that nobody here
    // sees: it is left out, wherever it stands in the list.
    let others: Vec<&[u8]> =
        tokens(UPGRADE).filter(|token| !token.is_empty() && !token.eq_ignore_ascii_case(b"h2c")).collect();
    if others.is_empty() { None } else { HeaderValue::from_bytes(&others.join(&b", "[..])).ok() }
}
