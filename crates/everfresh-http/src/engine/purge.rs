//! Purging, and looking at what is stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Uri, request};

use super::cache::HttpCache;
use super::event::{HttpEvent, HttpStats, RefreshEnding};
use super::fetch::{Fetch, erase};
use super::flight::Force;
use super::inner::{group_tag, surrogate_tag};
use super::key;
use super::page::{Page, Stored};

/// Purging wins over what is in flight: a response that was asked for before is not stored after (contract I1); those who
/// wait for it still get it.
///
/// `purge…` makes unservable, `expire…` makes stale from now on: within the window of stale-while-revalidate the next
/// reader gets the old response and starts a refresh (contract I2).
impl HttpCache {
    /// Purges a URI with all its variants; whether anything was stored.
    ///
    /// A whole URI reaches also what a server was asked for by path and `Host`, as HTTP/1.1 gives them; so with
    /// [`expire`](Self::expire), [`revalidate`](Self::revalidate), [`inspect`](Self::inspect) and the groups.
    ///
    /// A request whose `Host` is not its URI's own authority asks for another resource: its key has a space and that host
    /// behind the URI. [`purge_prefix`](Self::purge_prefix) with the URI and a space reaches all of these; their cache
    /// groups are that host's own, and a write to it reaches them.
    pub fn purge(&self, uri: &Uri) -> bool {
        self.in_all_forms(uri, |key| self.purge_key(key))
    }

    /// Purges a key as the cache's own or the operator's key function makes it; whether anything was stored.
    pub fn purge_key(&self, key: &str) -> bool {
        self.told(key, || self.inner.shelf.purge(key, Force::Remove, None))
    }

    /// Makes a URI stale with all its variants; whether anything was stored.
    pub fn expire(&self, uri: &Uri) -> bool {
        self.in_all_forms(uri, |key| self.expire_key(key))
    }

    /// As [`expire`](Self::expire) for a key.
    pub fn expire_key(&self, key: &str) -> bool {
        self.told(key, || self.inner.shelf.purge(key, Force::Expire, None))
    }

    /// Purges all keys that begin with this, as `https://example.com/shop/`, or `//example.com/shop/` where a server is
    /// asked by path and `Host`; looks at every key.
    pub fn purge_prefix(&self, prefix: &str) {
        self.told(prefix, || self.inner.shelf.purge_matching(Force::Remove, |key| key.starts_with(prefix)));
    }

    /// Makes all keys stale that begin with this; looks at every key.
    pub fn expire_prefix(&self, prefix: &str) {
        self.told(prefix, || self.inner.shelf.purge_matching(Force::Expire, |key| key.starts_with(prefix)));
    }

    /// Purges all URIs of which a variant has this surrogate key (`tag_fields`), in one step.
    pub fn purge_tag(&self, tag: &str) {
        self.told(tag, || self.inner.shelf.purge_tag(&surrogate_tag(tag), Force::Remove, None));
    }

    /// Makes all URIs stale of which a variant has this surrogate key; looks at every key.
    pub fn expire_tag(&self, tag: &str) {
        self.told(tag, || self.inner.shelf.purge_tag(&surrogate_tag(tag), Force::Expire, None));
    }

    /// Purges a cache group of the origin of `uri`, in one step for each form in which that may be asked (RFC 9875).
    pub fn purge_group(&self, uri: &Uri, group: &str) {
        let purge = |tag: &Arc<str>| self.inner.shelf.purge_tag(tag, Force::Remove, None);
        self.told(group, || tags_of(uri, group).iter().for_each(purge));
    }

    /// Makes a cache group of the origin of `uri` stale; looks at every key (RFC 9875).
    pub fn expire_group(&self, uri: &Uri, group: &str) {
        let expire = |tag: &Arc<str>| self.inner.shelf.purge_tag(tag, Force::Expire, None);
        self.told(group, || tags_of(uri, group).iter().for_each(expire));
    }

    /// Purges everything, in one step.
    pub fn purge_all(&self) {
        self.told("", || self.inner.shelf.purge_all(Force::Remove));
    }

    /// Makes everything stale; looks at every key.
    pub fn expire_all(&self) {
        self.told("", || self.inner.shelf.purge_all(Force::Expire));
    }

    /// The keys of which a variant has this surrogate key, or is in a cache group of this name of whatever origin: those
    /// that [`purge_tag`](Self::purge_tag) and [`purge_group`](Self::purge_group) concern. Looks at every key.
    pub fn keys_in_group(&self, group: &str) -> Vec<String> {
        let surrogate = surrogate_tag(group);
        let belongs = |tag: &Arc<str>| {
            let grouped = tag.strip_prefix("group ").and_then(|rest| rest.split_once(' '));
            *tag == surrogate || grouped.is_some_and(|(_, name)| name == group)
        };
        let in_group = |page: &Page| page.variants.iter().any(|own| own.tags.iter().any(belongs));
        let pages = self.inner.shelf.pages().into_iter();
        pages.filter(|(_, page)| in_group(page)).map(|(key, _)| key).collect()
    }

    fn in_all_forms(&self, uri: &Uri, purge: impl Fn(&str) -> bool) -> bool {
        // Each of them, whatever the first says.
        self.keys_of(uri).iter().filter(|key| purge(key)).count() > 0
    }

    /// The keys of a URI, one for each form in which it may be asked for.
    fn keys_of(&self, uri: &Uri) -> Vec<String> {
        in_each_form(uri, |parts| self.inner.key(parts))
    }

    fn told<T>(&self, what: &str, purge: impl FnOnce() -> T) -> T {
        let done = purge();
        self.inner.teller.tell(&HttpEvent::Purged { what });
        done
    }
}

/// What is stored under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyReport {
    /// The key.
    pub key: String,
    /// How many variants there are.
    pub variants: usize,
    /// How many requests were answered from them since each was stored.
    pub hits: u64,
    /// What they weigh, in bytes.
    pub weight: u64,
    /// The age of the oldest.
    pub age: Duration,
    /// For how long the stalest has been stale; zero if all are fresh.
    pub stale_for: Duration,
    /// Whether the origin failed to renew one of them and is left alone for a while.
    pub left_alone: bool,
}

/// Watching.
impl HttpCache {
    /// A snapshot of the counters.
    pub fn stats(&self) -> HttpStats {
        let (inner, shelf) = (&self.inner, &self.inner.shelf);
        HttpStats {
            in_flight: shelf.flights.len(),
            refreshing: inner.refreshing.load(Ordering::Relaxed),
            pages: shelf.len(),
            weight: shelf.weight(),
            capacity: shelf.capacity(),
            ..inner.teller.snapshot()
        }
    }

    /// The keys with the most hits, the most first; looks at every key.
    pub fn hottest(&self, most: usize) -> Vec<KeyReport> {
        self.reports(most, |report| report.hits)
    }

    /// The keys that have been stale for longest, the stalest first; looks at every key, leaves fresh ones out.
    pub fn stalest(&self, most: usize) -> Vec<KeyReport> {
        let mut found = self.reports(usize::MAX, |report| report.stale_for);
        found.retain(|report| !report.stale_for.is_zero());
        found.truncate(most);
        found
    }

    /// What is stored for a URI.
    pub fn inspect(&self, uri: &Uri) -> Option<KeyReport> {
        let (key, page) = self.pages_of(uri).into_iter().next()?;
        Some(self.report(key, &page))
    }

    /// What is stored under a key as the cache's own or the operator's key function makes it.
    pub fn inspect_key(&self, key: &str) -> Option<KeyReport> {
        let page = self.inner.shelf.peek(key)?;
        Some(self.report(key.to_owned(), &page))
    }

    /// What is stored for a URI, in whatever form it was asked for.
    fn pages_of(&self, uri: &Uri) -> Vec<(String, Arc<Page>)> {
        self.keys_of(uri).into_iter().filter_map(|key| self.inner.shelf.peek(&key).map(|page| (key, page))).collect()
    }

    fn reports<T: Ord>(&self, most: usize, by: impl Fn(&KeyReport) -> T) -> Vec<KeyReport> {
        let pages = self.inner.shelf.pages().into_iter();
        let mut found: Vec<_> = pages.map(|(key, page)| self.report(key, &page)).collect();
        found.sort_by(|one, other| by(other).cmp(&by(one)).then_with(|| one.key.cmp(&other.key)));
        found.truncate(most);
        found
    }

    fn report(&self, key: String, page: &Arc<Page>) -> KeyReport {
        let (now, elapsed) = (self.inner.time.now(), self.inner.time.elapsed());
        let variants = &page.variants;
        let stale_for = variants.iter().map(|own| {
            let past = own.meta.age(own.moment(now, elapsed)).saturating_sub(own.meta.lifetime());
            past.max(own.expired_for(|| elapsed).unwrap_or_default())
        });
        KeyReport {
            variants: variants.len(),
            hits: variants.iter().map(|own| own.hits.load(Ordering::Relaxed)).sum(),
            weight: page.weight(),
            age: variants.iter().map(|own| own.meta.age(own.moment(now, elapsed))).max().unwrap_or_default(),
            stale_for: stale_for.max().unwrap_or_default(),
            left_alone: variants.iter().any(|own| own.left_alone(|| elapsed).is_some()),
            key,
        }
    }
}

/// Refreshing by hand.
impl HttpCache {
    /// Refreshes all stored variants of a URI now, fresh or stale, and says how each ended.
    ///
    /// Asks with what `Vary` nominated and their validators, without anybody's credentials: a response that needs them is
    /// left out, in a shared cache. Does not ask `on_stale`, and heeds no bound on refreshes.
    pub async fn revalidate<B, F>(&self, uri: &Uri, fetch: F) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        self.renewed(self.pages_of(uri), |_| true, fetch).await
    }

    /// As [`revalidate`](Self::revalidate) for all keys that begin with this, one after the other; looks at every key.
    pub async fn revalidate_prefix<B, F>(&self, prefix: &str, fetch: F) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        let mut pages = self.inner.shelf.pages();
        pages.retain(|(key, _)| key.starts_with(prefix));
        self.renewed(pages, |_| true, fetch).await
    }

    /// As [`revalidate`](Self::revalidate) for all responses with this surrogate key, one after the other; looks at every
    /// key.
    pub async fn revalidate_tag<B, F>(&self, tag: &str, fetch: F) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        self.renewed_with(&[surrogate_tag(tag)], fetch).await
    }

    /// As [`revalidate`](Self::revalidate) for a cache group of the origin of `uri`, one after the other; looks at every
    /// key (RFC 9875).
    pub async fn revalidate_group<B, F>(&self, uri: &Uri, group: &str, fetch: F) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        self.renewed_with(&tags_of(uri, group), fetch).await
    }

    async fn renewed_with<B, F>(&self, tags: &[Arc<str>], fetch: F) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        self.renewed(self.inner.shelf.pages(), |stored| stored.tags.iter().any(|own| tags.contains(own)), fetch).await
    }

    async fn renewed<B, F>(
        &self,
        pages: Vec<(String, Arc<Page>)>,
        which: impl Fn(&Stored) -> bool,
        fetch: F,
    ) -> Vec<RefreshEnding>
    where
        B: Default + Send + 'static,
        F: Fetch<B>,
    {
        let mut endings = Vec::new();
        for (key, page) in pages {
            let key: Arc<str> = key.into();
            for stored in page.variants.iter().filter(|stored| which(stored)) {
                let Some(parts) = self.inner.renewal(&as_it_was_asked(stored), &stored.meta) else { continue };
                let (inner, origin) = (Arc::clone(&self.inner), erase(fetch.clone()));
                let ending = inner.renew(Arc::clone(&key), parts, Arc::clone(stored), origin, None).await;
                self.inner.teller.tell(&HttpEvent::Refreshed { key: &key, ending });
                endings.push(ending);
            }
        }
        endings
    }
}

/// A cache group of the origin of a URI, in whatever form that was asked for.
fn tags_of(uri: &Uri, group: &str) -> Vec<Arc<str>> {
    let origins = in_each_form(uri, |parts| key::origin(&parts.uri, &parts.headers));
    origins.iter().map(|origin| group_tag(origin, group)).collect()
}

/// What `name` makes of each form in which a URI may be asked for, once where it makes the same of two.
fn in_each_form(uri: &Uri, name: impl Fn(&request::Parts) -> String) -> Vec<String> {
    let mut names = Vec::new();
    for name in key::forms(uri, &http::HeaderMap::new()).iter().map(name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The request that a stored response answers, without anybody's own fields.
fn as_it_was_asked(stored: &Stored) -> request::Parts {
    let mut asked = Request::new(()).into_parts().0;
    asked.uri = stored.target.uri.clone();
    asked.headers = stored.meta.vary().fields().map(|(name, value)| (name.clone(), value.clone())).collect();
    if !stored.target.hosts.is_empty() {
        // Among what Vary names it may stand already.
        asked.headers.remove(http::header::HOST);
    }
    for host in &stored.target.hosts {
        asked.headers.append(http::header::HOST, host.clone());
    }
    asked
}
