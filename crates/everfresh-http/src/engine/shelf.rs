//! The store below the engine: one bounded cache of pages, and the order of its writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use everfresh::{Cache, Lifetime, Traits};

use super::fill::BodyError;
use super::flight::{Flight, Flights, Force};
use super::page::{Page, Stored, StoredBody};
use super::time::Time;
use crate::rfc9111::{self, Extent, Meta, Rules, Source};

/// A page without validators is worth nothing past its windows; one with them saves a body for a while longer.
const KEPT_FOR_ITS_VALIDATOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const STRIPES: usize = 64;
/// What the URIs weigh, at most, whose responses cannot be shared: ten thousand of common length.
const MOST_OF_PASSES: u64 = 2 << 20;

/// Why a response that could be stored was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotLanded {
    /// Its key, tag or everything was purged after it was asked for (contract I1).
    Purged,
    /// What it was to renew is gone (contract R4).
    Gone,
    /// A response to a later request is stored already.
    Older,
    /// Its body is not as long as its `Content-Range` says (RFC 9111 §3.3).
    Misfit,
    /// It weighs more than the whole store may.
    TooHeavy,
}

pub(crate) struct Shelf {
    cache: Cache<String, Arc<Page>>,
    /// URIs whose responses cannot be shared: nobody waits for another's.
    passes: Cache<String, ()>,
    /// URIs whose responses to credentials cannot be shared: no other with credentials waits.
    passes_credentials: Cache<String, ()>,
    pub(crate) flights: Flights,
    time: Time,
    rules: Rules,
    capacity: u64,
    max_body: u64,
    max_variants: usize,
    /// Who changes a page holds its stripe: pages are read, changed and written back.
    stripes: [Mutex<()>; STRIPES],
    /// Read by who stores, written by who purges by anything but a key: so neither slips past the other.
    landing: RwLock<()>,
}

impl Shelf {
    pub(crate) fn new(
        rules: Rules,
        time: Time,
        (capacity, max_body): (u64, u64),
        max_variants: usize,
        pass: Duration,
    ) -> Result<Self, everfresh::Error> {
        let cache = Cache::builder()
            .weight_capacity(capacity)
            .weigher(|key: &String, page: &Arc<Page>| page.weight() + 2 * key.len() as u64)
            // A purged body is gone when the purge is over: its memory, and its place in a file, are for others.
            .prompt_drop(true)
            .max_refreshes(0)
            .clock(time.clone())
            .build()?;
        // By weight, for a client makes its URIs as long as it is let.
        let remembered = || {
            Cache::builder()
                .weight_capacity(MOST_OF_PASSES)
                .weigher(|key: &String, (): &()| key.len() as u64 + 128)
                .lifetime(Lifetime::ttl(pass))
                .max_refreshes(0)
                .clock(time.clone())
                .build()
        };
        let (passes, passes_credentials) = (remembered()?, remembered()?);
        Ok(Self {
            cache,
            passes,
            passes_credentials,
            flights: Flights::default(),
            time,
            rules,
            capacity,
            max_body,
            max_variants,
            stripes: std::array::from_fn(|_| Mutex::new(())),
            landing: RwLock::new(()),
        })
    }

    pub(crate) fn page(&self, key: &str) -> Option<Arc<Page>> {
        self.cache.get(key)
    }

    /// As [`page`](Self::page), and nobody has read it.
    pub(crate) fn peek(&self, key: &str) -> Option<Arc<Page>> {
        self.cache.peek(key)
    }

    /// Whether a request of this key, with credentials or without, waits for nobody.
    pub(crate) fn passes(&self, key: &str, credentials: bool) -> bool {
        self.passes.contains(key) || (credentials && self.passes_credentials.contains(key))
    }

    /// A response cannot be shared; with `credentials` that is known of those to credentials alone.
    pub(crate) fn remember_pass(&self, key: &str, credentials: bool) {
        let passes = if credentials { &self.passes_credentials } else { &self.passes };
        passes.insert(key.to_owned(), ());
    }

    /// A response can be shared; one to `credentials` says that of those, too.
    pub(crate) fn forget_pass(&self, key: &str, credentials: bool) {
        let others = credentials.then_some(&self.passes_credentials);
        for passes in [&self.passes].into_iter().chain(others).filter(|passes| passes.contains(key)) {
            passes.invalidate(key);
        }
    }

    fn stripe(&self, key: &str) -> MutexGuard<'_, ()> {
        // FNV-1a: which stripe it is matters to nobody but the writers of one key.
        let hash = key
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        self.stripes[(hash % STRIPES as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &str, page: Page) -> Result<(), NotLanded> {
        if page.variants.is_empty() {
            self.cache.invalidate(key);
            return Ok(());
        }
        if page.weight() + 2 * key.len() as u64 > self.capacity {
            return Err(NotLanded::TooHeavy);
        }
        let now = self.time.now();
        let left = |stored: &Arc<Stored>| {
            let servable = stored.meta.servable_until().map(|until| until.duration_since(now).unwrap_or_default());
            let kept = if stored.meta.has_validator() { KEPT_FOR_ITS_VALIDATOR } else { Duration::from_secs(1) };
            servable.map(|servable| servable.saturating_add(kept))
        };
        let lives: Option<Duration> =
            page.variants.iter().map(left).try_fold(Duration::ZERO, |most, left| Some(most.max(left?)));
        let tags: Vec<Arc<str>> = page.variants.iter().flat_map(|stored| stored.tags.iter().cloned()).collect();
        let lifetime = lives.map_or_else(Lifetime::forever, Lifetime::ttl);
        self.cache.insert_with(key.to_owned(), Arc::new(page), Traits::new().lifetime(lifetime).tags(tags));
        Ok(())
    }

    /// Stores what a flight brought, unless it was purged meanwhile.
    ///
    /// `renews` is what it was asked for; with `only_if_there` it is dropped if that is gone (contract R4).
    pub(crate) fn land(
        &self,
        flight: &Flight,
        new: Arc<Stored>,
        renews: Option<&Arc<Stored>>,
        only_if_there: bool,
    ) -> Result<Arc<Stored>, NotLanded> {
        let key = &*flight.key;
        let _landing = self.landing.read().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(key);
        let strikes = flight.strikes();
        // A 304 may bring other tags; the body is still what was stored with the old ones.
        let same_body = renews.filter(|old| old.body.is(&new.body));
        let force = match (strikes.on(&new.tags), same_body.and_then(|old| strikes.on(&old.tags))) {
            (Some(Force::Remove), _) | (_, Some(Force::Remove)) => Some(Force::Remove),
            (one, other) => one.or(other),
        };
        if force == Some(Force::Remove) {
            return Err(NotLanded::Purged);
        }
        let page = self.peek(key).unwrap_or_default();
        if only_if_there && !renews.is_some_and(|old| page.holds(old)) {
            return Err(NotLanded::Gone);
        }
        let later = |own: &&Arc<Stored>| {
            new.meta.replaces(&own.meta)
                && own.meta.request_time() > new.meta.request_time()
                && !renews.is_some_and(|old| Arc::ptr_eq(own, old))
        };
        if page.variants.iter().any(|own| later(&own)) {
            return Err(NotLanded::Older);
        }
        let new = self.joined(&page, new);
        if force == Some(Force::Expire) {
            new.expire(self.time.elapsed());
        }
        self.write(key, page.with(Arc::clone(&new), renews, self.max_variants))?;
        Ok(new)
    }

    /// Stores for other requests what has just been stored, while that is there and as it is: stale, should it have been
    /// expired.
    pub(crate) fn land_beside(&self, flight: &Flight, stored: &Arc<Stored>, meta: Meta) {
        let key = &*flight.key;
        let _landing = self.landing.read().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(key);
        let Some(page) = self.peek(key).filter(|page| page.holds(stored)) else { return };
        let is_newer = |own: &Arc<Stored>| meta.replaces(&own.meta) && own.meta.request_time() > meta.request_time();
        if meta.vary().is_same(stored.meta.vary()) || page.variants.iter().any(is_newer) {
            return;
        }
        let beside = Arc::new(stored.beside(flight.target(), meta, self.time.elapsed()));
        let _ = self.write(key, page.with(beside, None, self.max_variants));
    }

    /// A part, joined with the part of the same representation that is stored (RFC 9111 §3.4).
    fn joined(&self, page: &Page, new: Arc<Stored>) -> Arc<Stored> {
        if !matches!(new.meta.extent(), Extent::Partial { .. }) {
            return new;
        }
        let found =
            page.variants.iter().find_map(|old| Some((old, rfc9111::combine(&self.rules, &old.meta, &new.meta)?)));
        let Some((old, combined)) = found else { return new };
        let length = combined.pieces.iter().map(|(_, range)| range.end - range.start).sum::<u64>();
        if length > self.max_body {
            return new;
        }
        let pieces: Vec<_> = combined
            .pieces
            .iter()
            .flat_map(|(source, range)| match source {
                Source::Stored => old.body.slices(range.clone()),
                Source::New => new.body.slices(range.clone()),
            })
            .collect();
        let whole = Stored::new(new.target.clone(), combined.meta, StoredBody::new(&pieces, None), new.tags.clone());
        Arc::new(whole.made_at(self.time.elapsed()))
    }

    /// Takes out what a newer response would have replaced that cannot be stored: `old`, for which it was asked, and what it
    /// is another version of. Only of those that `is_over` names.
    pub(crate) fn outdate(
        &self,
        key: &str,
        new: &Meta,
        old: Option<&Arc<Stored>>,
        is_over: impl Fn(&Stored) -> bool,
    ) -> bool {
        let _landing = self.landing.read().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(key);
        let Some(page) = self.peek(key) else { return false };
        let whole = matches!(new.extent(), Extent::Complete(_));
        let stays = |own: &&Arc<Stored>| {
            let asked = whole && old.is_some_and(|old| Arc::ptr_eq(own, old));
            let replaced = new.replaces(&own.meta) && own.meta.request_time() <= new.request_time();
            !(asked || replaced) || !is_over(own)
        };
        let variants: Vec<_> = page.variants.iter().filter(stays).cloned().collect();
        let any = variants.len() < page.variants.len();
        if any {
            let _ = self.write(key, Page { variants });
        }
        any
    }

    /// Takes one variant out, if it is still there.
    pub(crate) fn drop_variant(&self, key: &str, old: &Arc<Stored>) {
        let _landing = self.landing.read().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(key);
        if let Some(page) = self.peek(key).filter(|page| page.holds(old)) {
            let _ = self.write(key, page.without(old));
        }
    }

    /// Puts what a HEAD response says into the stored GET responses (RFC 9111 §4.3.5), but for those that were purged or
    /// expired after it was asked for.
    pub(crate) fn update(&self, flight: &Flight, change: impl Fn(&Meta) -> Option<Option<Meta>>) {
        let key = &*flight.key;
        let _landing = self.landing.read().unwrap_or_else(PoisonError::into_inner);
        let _stripe = self.stripe(key);
        let Some(page) = self.peek(key) else { return };
        let strikes = flight.strikes();
        let mut changed = false;
        let variants = page.variants.iter().map(|own| match change(&own.meta) {
            Some(Some(_)) if strikes.on(&own.tags).is_some() => Arc::clone(own),
            Some(Some(meta)) => {
                changed = true;
                let new = Stored::new(own.target.clone(), meta, own.body.clone(), own.tags.clone());
                Arc::new(new.made_at(self.time.elapsed()))
            }
            Some(None) => {
                own.expire(self.time.elapsed());
                Arc::clone(own)
            }
            None => Arc::clone(own),
        });
        let variants = variants.collect();
        if changed {
            let _ = self.write(key, Page { variants });
        }
    }

    /// Purges a key with all its variants, and what is being fetched for it but for the one flight whose answer
    /// purges. Whether anything was stored.
    pub(crate) fn purge(&self, key: &str, force: Force, but: Option<&Arc<Flight>>) -> bool {
        let _stripe = self.stripe(key);
        self.flights.strike(force, None, |other| *other.key == *key && !is(other, but));
        let page = self.peek(key);
        self.forget_pass(key, true);
        match (&page, force) {
            (Some(_), Force::Remove) => self.cache.invalidate(key),
            (Some(page), Force::Expire) => self.expire(page),
            (None, _) => {}
        }
        page.is_some()
    }

    pub(crate) fn purge_matching(&self, force: Force, matches: impl Fn(&str) -> bool) {
        let _alone = self.landing.write().unwrap_or_else(PoisonError::into_inner);
        self.flights.strike(force, None, |flight| matches(&flight.key));
        match force {
            Force::Remove => self.cache.invalidate_matching(|key, _| matches(key)),
            Force::Expire => self.expire_pages(|key, _| matches(key)),
        }
    }

    pub(crate) fn purge_tag(&self, tag: &str, force: Force, but: Option<&Arc<Flight>>) {
        let _alone = self.landing.write().unwrap_or_else(PoisonError::into_inner);
        let tag: Arc<str> = tag.into();
        self.flights.strike(force, Some(&tag), |flight| !is(flight, but));
        match force {
            Force::Remove => self.cache.invalidate_tag(&tag),
            Force::Expire => {
                self.expire_pages(|_, page| page.variants.iter().any(|stored| stored.tags.contains(&tag)));
            }
        }
    }

    pub(crate) fn purge_all(&self, force: Force) {
        let _alone = self.landing.write().unwrap_or_else(PoisonError::into_inner);
        self.flights.strike(force, None, |_| true);
        self.passes.clear();
        self.passes_credentials.clear();
        match force {
            Force::Remove => self.cache.clear(),
            Force::Expire => self.expire_pages(|_, _| true),
        }
    }

    fn expire(&self, page: &Page) {
        let now = self.time.elapsed();
        page.variants.iter().for_each(|stored| stored.expire(now));
    }

    fn expire_pages(&self, matches: impl Fn(&str, &Page) -> bool) {
        // The pages stay where they are: what is stale is said in them.
        self.cache.expire_matching(|key, page| {
            if matches(key, page) {
                self.expire(page);
            }
            false
        });
    }

    pub(crate) fn pages(&self) -> Vec<(String, Arc<Page>)> {
        self.cache.entries()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.cache.weight()
    }

    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }
}

fn is(flight: &Flight, other: Option<&Arc<Flight>>) -> bool {
    other.is_some_and(|other| std::ptr::eq(flight, &**other))
}

/// Why a body that came whole is none.
pub(crate) fn truncated() -> BodyError {
    BodyError::new("the body is not as long as its head says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_remembered_in_a_bounded_room_however_long_the_uris_are() {
        let shelf =
            Shelf::new(Rules::shared(), Time::System, (1 << 20, 1 << 20), 1, Duration::from_secs(60)).expect("a shelf");
        let long = "x".repeat(60_000);
        for number in 0..1_000 {
            shelf.remember_pass(&format!("{number}{long}"), number % 2 == 0);
        }
        let held = |passes: &Cache<String, ()>| passes.entries().iter().map(|(key, ())| key.len()).sum::<usize>();
        assert!(held(&shelf.passes) + held(&shelf.passes_credentials) <= 2 * MOST_OF_PASSES as usize);
        shelf.remember_pass("short", false);
        shelf.remember_pass("own", true);
        assert!(shelf.passes("short", false) && shelf.passes("own", true) && !shelf.passes("own", false));
        shelf.forget_pass("own", false);
        assert!(shelf.passes("own", true));
        shelf.forget_pass("own", true);
        assert!(!shelf.passes("own", true));
    }
}
