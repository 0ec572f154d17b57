//! What the proxy tells of itself: counters, recent waits, the keys most asked for.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::apart::{Apart, Gauge};

/// What became of a request, in the order of [`NAMES`].
pub const NAMES: [&str; 10] =
    ["hit", "stale", "revalidated", "replaced", "miss", "coalesced", "fallback", "uncacheable", "bypass", "error"];

/// Seconds that the percentiles look back.
const SECONDS: usize = 10;
/// Buckets of a histogram: eight to each doubling, from a microsecond to more than an hour.
const BUCKETS: usize = 8 * 33;
/// Seconds that are told to who opens the live page late.
const PAST: usize = 300;
/// Of the keys, how many are looked at for the stalest.
const LOOKED_AT: usize = 64;
const SHARDS: usize = 16;
const KEYS_A_SHARD: usize = 256;
/// Longer keys are not remembered for the live page: a client makes them as long as it is let.
pub(crate) const LONGEST_KEY: usize = 1024;

/// The upper bounds of the histograms in `/metrics`, in milliseconds.
const METRIC_BOUNDS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The waits of the last seconds, and all of them in coarse buckets.
#[derive(Debug, Default)]
pub struct Waits(Apart<Own>);

/// What one thread counted.
#[derive(Debug)]
struct Own {
    slots: Vec<Slot>,
    bounds: [AtomicU64; METRIC_BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    counts: Vec<AtomicU64>,
    max: AtomicU64,
}

/// Two percentiles and the longest, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct Waited {
    /// Half of all waited no longer.
    pub p50: f64,
    /// All but one of a hundred waited no longer.
    pub p99: f64,
    /// Nobody waited longer.
    pub max: f64,
}

impl Default for Own {
    fn default() -> Self {
        let slot = || Slot { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) };
        Self {
            slots: (0..SECONDS).map(|_| slot()).collect(),
            bounds: [const { AtomicU64::new(0) }; METRIC_BOUNDS.len()],
            count: AtomicU64::new(0),
            micros: AtomicU64::new(0),
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    let micros = micros.max(1);
    let doubling = micros.ilog2() as usize;
    let eighth = if doubling >= 3 { (micros >> (doubling - 3)) & 7 } else { (micros << (3 - doubling)) & 7 };
    (doubling * 8 + eighth as usize).min(BUCKETS - 1)
}

fn middle_of(bucket: usize) -> f64 {
    let (doubling, eighth) = (bucket / 8, bucket % 8);
    (1u64 << doubling) as f64 * (1.0 + (eighth as f64 + 0.5) / 8.0) / 1000.0
}

impl Waits {
    /// Counts one wait, in the second that runs.
    pub fn note(&self, second: u64, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let own = self.0.own();
        let slot = &own.slots[second as usize % SECONDS];
        slot.counts[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        slot.max.fetch_max(micros, Ordering::Relaxed);
        own.count.fetch_add(1, Ordering::Relaxed);
        own.micros.fetch_add(micros, Ordering::Relaxed);
        if let Some(at) = METRIC_BOUNDS.iter().position(|bound| micros <= bound * 1000) {
            own.bounds[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn forget(&self, second: u64) {
        for own in self.0.all() {
            let slot = &own.slots[second as usize % SECONDS];
            slot.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            slot.max.store(0, Ordering::Relaxed);
        }
    }

    /// Of the last ten seconds.
    pub fn recent(&self) -> Waited {
        let slots = || self.0.all().flat_map(|own| &own.slots);
        let sum = |at: usize| -> u64 { slots().map(|slot| slot.counts[at].load(Ordering::Relaxed)).sum() };
        let counts: Vec<u64> = (0..BUCKETS).map(sum).collect();
        let total: u64 = counts.iter().sum();
        let max = slots().map(|slot| slot.max.load(Ordering::Relaxed)).max().unwrap_or(0) as f64 / 1000.0;
        if total == 0 {
            return Waited::default();
        }
        let quantile = |share: f64| {
            let mut left = (total as f64 * share).ceil() as u64;
            let at = counts.iter().position(|&count| {
                left = left.saturating_sub(count);
                left == 0
            });
            at.map_or(max, middle_of).min(max)
        };
        Waited { p50: quantile(0.5), p99: quantile(0.99), max }
    }

    fn prometheus(&self, name: &str, help: &str, out: &mut String) {
        use std::fmt::Write as _;
        let mut below = 0;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let sum =
            |of: &dyn Fn(&Own) -> &AtomicU64| -> u64 { self.0.all().map(|own| of(own).load(Ordering::Relaxed)).sum() };
        for (at, bound) in METRIC_BOUNDS.iter().enumerate() {
            below += sum(&|own| &own.bounds[at]);
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", *bound as f64 / 1000.0);
        }
        let (count, sum) = (sum(&|own| &own.count), sum(&|own| &own.micros) as f64 / 1e6);
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

#[derive(Clone, Debug)]
struct Seen {
    hits: u64,
    born: Instant,
    state: &'static str,
}

/// Key, kind and beginning of a request to an origin.
type Flying = (Box<str>, &'static str, Instant);

/// All counters of a proxy.
#[derive(Debug)]
pub struct Stats {
    began: Instant,
    outcomes: Apart<[AtomicU64; NAMES.len()]>,
    last: Mutex<([u64; NAMES.len()], [u64; NAMES.len()])>,
    /// One JSON object for each second gone by, the oldest first.
    past: Mutex<VecDeque<Box<str>>>,
    /// How long clients waited for the head of their answer.
    pub reader_wait: Waits,
    /// How long origins took to the head of theirs.
    pub origin_wait: Waits,
    /// How old responses from the store were when they were served.
    pub age: Waits,
    origin_requests: AtomicU64,
    origin_errors: AtomicU64,
    /// Requests whose answer has not begun.
    pub waiters: AtomicUsize,
    /// Connections of clients.
    pub connections: AtomicUsize,
    /// Requests from their head to the last byte of their answer.
    pub running: Gauge,
    seen: Vec<Mutex<HashMap<Box<str>, Seen, RandomState>>>,
    hasher: RandomState,
    flights: Mutex<HashMap<u64, Flying>>,
    next_flight: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            outcomes: Apart::default(),
            last: Mutex::default(),
            past: Mutex::default(),
            reader_wait: Waits::default(),
            origin_wait: Waits::default(),
            age: Waits::default(),
            origin_requests: AtomicU64::new(0),
            origin_errors: AtomicU64::new(0),
            waiters: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            running: Gauge::default(),
            seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            flights: Mutex::default(),
            next_flight: AtomicU64::new(0),
        }
    }
}

/// Counts down when dropped.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// Counts one up, and down again when dropped.
    pub fn up(gauge: &'a AtomicUsize) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request to an origin, told as in flight until it is dropped.
#[derive(Debug)]
pub struct Flight<'a> {
    stats: &'a Stats,
    id: u64,
    began: Instant,
}

impl Flight<'_> {
    /// Its answer began, or never will.
    pub fn landed(self, failed: bool) {
        let stats = self.stats;
        stats.origin_wait.note(stats.second(), self.began.elapsed());
        if failed {
            stats.origin_errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        lock(&self.stats.flights).remove(&self.id);
    }
}

impl Stats {
    fn second(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// For how long this proxy has been running.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// How many requests had this outcome.
    pub fn outcome(&self, name: &str) -> u64 {
        let at = NAMES.iter().position(|known| *known == name);
        at.map_or(0, |at| self.counted(at))
    }

    fn counted(&self, at: usize) -> u64 {
        self.outcomes.all().map(|own| own[at].load(Ordering::Relaxed)).sum()
    }

    /// Requests sent to origins.
    pub fn origin_requests(&self) -> u64 {
        self.origin_requests.load(Ordering::Relaxed)
    }

    /// Counts what could not be read as a request: nobody waited for anything.
    pub fn unreadable(&self) {
        if let Some(at) = NAMES.iter().position(|name| *name == "error") {
            self.outcomes.own()[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an answer of an origin that broke off after its head.
    pub fn broke_off(&self) {
        self.origin_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one answered request.
    pub fn answered(&self, outcome: &str, key: Option<&str>, age: Option<Duration>, wait: Duration) {
        let second = self.second();
        if let Some(at) = NAMES.iter().position(|name| *name == outcome) {
            self.outcomes.own()[at].fetch_add(1, Ordering::Relaxed);
        }
        self.reader_wait.note(second, wait);
        let Some(state) = state_of(outcome) else { return };
        if let Some(age) = age.filter(|_| outcome != "miss") {
            self.age.note(second, age);
        }
        if let Some(key) = key.filter(|key| key.len() <= LONGEST_KEY) {
            self.see(key, age.unwrap_or_default(), state);
        }
    }

    fn see(&self, key: &str, age: Duration, state: &'static str) {
        let now = Instant::now();
        let born = now.checked_sub(age).unwrap_or(now);
        let mut seen = lock(&self.seen[self.hasher.hash_one(key) as usize % SHARDS]);
        if let Some(known) = seen.get_mut(key) {
            *known = Seen { hits: known.hits + 1, born, state };
            return;
        }
        if seen.len() >= KEYS_A_SHARD {
            // The one least asked for makes room; the new one takes over its count, so that what is hot gets in.
            let least = seen.iter().min_by_key(|(_, seen)| seen.hits).map(|(key, seen)| (key.clone(), seen.hits));
            if let Some((least, hits)) = least {
                seen.remove(&least);
                seen.insert(key.into(), Seen { hits: hits + 1, born, state });
                return;
            }
        }
        seen.insert(key.into(), Seen { hits: 1, born, state });
    }

    /// Forgets what is told of keys: after a purge.
    pub fn forget_keys(&self, gone: impl Fn(&str) -> bool) {
        self.seen.iter().for_each(|shard| lock(shard).retain(|key, _| !gone(key)));
    }

    /// A request goes to an origin.
    pub fn takes_off(&self, key: &str, kind: &'static str) -> Flight<'_> {
        self.origin_requests.fetch_add(1, Ordering::Relaxed);
        let (id, began) = (self.next_flight.fetch_add(1, Ordering::Relaxed), Instant::now());
        lock(&self.flights).insert(id, (key.into(), kind, began));
        Flight { stats: self, id, began }
    }

    /// To be called each second: rates are those of the last one.
    pub fn tick(&self) {
        let now: [u64; NAMES.len()] = std::array::from_fn(|at| self.counted(at));
        let mut last = lock(&self.last);
        last.1 = std::array::from_fn(|at| now[at].saturating_sub(last.0[at]));
        last.0 = now;
        drop(last);
        let second = Value::Object(self.second_now()).to_string().into();
        let mut past = lock(&self.past);
        if past.len() == PAST {
            past.pop_front();
        }
        past.push_back(second);
        drop(past);
        for waits in [&self.reader_wait, &self.origin_wait, &self.age] {
            waits.forget(self.second() + 1);
        }
    }

    /// The seconds gone by, the oldest first, as a JSON list: of `GET /stats` what is drawn over time.
    pub fn history(&self) -> String {
        format!("[{}]", lock(&self.past).make_contiguous().join(","))
    }

    /// What is drawn over time.
    fn second_now(&self) -> Map<String, Value> {
        let named = |counts: [u64; NAMES.len()]| -> Map<String, Value> {
            NAMES.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), json!(count))).collect()
        };
        let counts = std::array::from_fn(|at| self.counted(at));
        let per_second = lock(&self.last).1;
        Map::from_iter([
            ("uptime_s".to_owned(), json!((self.uptime().as_secs_f64() * 10.0).round() / 10.0)),
            ("requests".to_owned(), json!(named(counts))),
            ("per_second".to_owned(), json!(named(per_second))),
            ("reader_wait_ms".to_owned(), json!(self.reader_wait.recent())),
            ("origin_ms".to_owned(), json!(self.origin_wait.recent())),
            ("origin_requests".to_owned(), json!(self.origin_requests())),
        ])
    }

    /// The part of `GET /stats` that the proxy itself knows; `stored` says of a key how old what is stored for it is, and
    /// for how long it has been stale.
    pub fn json(&self, stored: impl Fn(&str) -> Option<(Duration, Duration)>) -> Map<String, Value> {
        let now = Instant::now();
        let mut all: Vec<(Box<str>, Seen)> = Vec::new();
        for shard in &self.seen {
            all.extend(lock(shard).iter().map(|(key, seen)| (key.clone(), seen.clone())));
        }
        // What is not stored any more, or under more than its URL, is told as it was served last.
        let stand = |(key, seen): &(Box<str>, Seen)| match stored(key) {
            Some((age, stale)) if stale.is_zero() => (age, stale, "fresh"),
            Some((age, stale)) => (age, stale, if seen.state == "fallback" { "fallback" } else { "stale" }),
            None => (now.saturating_duration_since(seen.born), Duration::ZERO, seen.state),
        };
        let told = |(key, seen): &(Box<str>, Seen), (age, _, state): (Duration, Duration, &str)| json!({ "key": key, "hits": seen.hits, "age_s": (age.as_secs_f64() * 10.0).round() / 10.0, "state": state });
        all.sort_by(|one, two| two.1.hits.cmp(&one.1.hits).then_with(|| one.0.cmp(&two.0)));
        let hottest: Vec<Value> = all.iter().take(10).map(|row| told(row, stand(row))).collect();
        // Those that have lived for longest are looked at, once: each costs a look into the store.
        all.sort_by_key(|(_, seen)| seen.born);
        let mut stale: Vec<_> = all.iter().take(LOOKED_AT).map(|row| (row, stand(row))).collect();
        stale.retain(|(_, (_, _, state))| *state != "fresh");
        stale.sort_by_key(|(_, (_, stale_for, _))| std::cmp::Reverse(*stale_for));
        let stalest: Vec<Value> = stale.iter().take(10).map(|(row, standing)| told(row, *standing)).collect();
        let mut flights: Vec<_> = lock(&self.flights).values().cloned().collect();
        flights.sort_by_key(|flight| flight.2);
        let flight = |(key, kind, since): &Flying| {
            let since = u64::try_from(now.saturating_duration_since(*since).as_millis()).unwrap_or(u64::MAX);
            json!({ "key": key, "kind": kind, "since_ms": since })
        };
        let in_flight: Vec<Value> = flights.iter().take(20).map(flight).collect();
        let mut told = self.second_now();
        told.extend([
            ("origin_errors".to_owned(), json!(self.origin_errors.load(Ordering::Relaxed))),
            ("waiters".to_owned(), json!(self.waiters.load(Ordering::Relaxed))),
            ("connections".to_owned(), json!(self.connections.load(Ordering::Relaxed))),
            ("hottest".to_owned(), json!(hottest)),
            ("stalest".to_owned(), json!(stalest)),
            ("in_flight".to_owned(), json!(in_flight)),
        ]);
        told
    }

    /// The part of `/metrics` that the proxy itself knows.
    pub fn prometheus(&self, out: &mut String) {
        use std::fmt::Write as _;
        let _ = writeln!(out, "# HELP everfresh_requests_total Requests by what became of them.");
        let _ = writeln!(out, "# TYPE everfresh_requests_total counter");
        for (at, name) in NAMES.iter().enumerate() {
            let count = self.counted(at);
            let _ = writeln!(out, "everfresh_requests_total{{outcome=\"{name}\"}} {count}");
        }
        for (name, kind, help, value) in [
            ("origin_requests_total", "counter", "Requests sent to origins.", self.origin_requests()),
            (
                "origin_errors_total",
                "counter",
                "Requests to origins that failed, got a 5xx, or whose answer broke off.",
                self.origin_errors.load(Ordering::Relaxed),
            ),
            ("waiters", "gauge", "Requests whose answer has not begun.", self.waiters.load(Ordering::Relaxed) as u64),
            ("connections", "gauge", "Connections of clients.", self.connections.load(Ordering::Relaxed) as u64),
        ] {
            let _ = writeln!(out, "# HELP everfresh_{name} {help}\n# TYPE everfresh_{name} {kind}");
            let _ = writeln!(out, "everfresh_{name} {value}");
        }
        self.reader_wait.prometheus("everfresh_reader_wait_seconds", "What clients waited for a head.", out);
        self.origin_wait.prometheus("everfresh_origin_seconds", "What origins took to a head.", out);
        self.age.prometheus("everfresh_age_at_serve_seconds", "Age of stored responses when served.", out);
    }
}

fn state_of(outcome: &str) -> Option<&'static str> {
    match outcome {
        "hit" | "revalidated" | "replaced" | "miss" | "coalesced" => Some("fresh"),
        "stale" => Some("stale"),
        "fallback" => Some("fallback"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{NAMES, Stats, Waits};

    #[test]
    fn percentiles_are_within_an_eighth() {
        let waits = Waits::default();
        for millis in 1..=100 {
            waits.note(0, Duration::from_millis(millis));
        }
        let told = waits.recent();
        assert!((told.p50 - 50.0).abs() < 50.0 / 8.0, "{told:?}");
        assert!((told.p99 - 99.0).abs() < 99.0 / 8.0, "{told:?}");
        assert!((told.max - 100.0).abs() < 1e-9, "{told:?}");
    }

    #[test]
    fn a_hot_key_gets_in_among_thousands_that_come_once() {
        let stats = Stats::default();
        for round in 0..20_000 {
            stats.answered("miss", Some(&format!("GET http://x/{round}")), None, Duration::ZERO);
            stats.answered("hit", Some("GET http://x/hot"), Some(Duration::from_secs(1)), Duration::ZERO);
        }
        let told = stats.json(|_| None);
        assert_eq!(told["hottest"][0]["key"], "GET http://x/hot");
        assert_eq!(told["requests"]["miss"], 20_000);
        let held: usize = stats.seen.iter().map(|shard| super::lock(shard).len()).sum();
        assert!(held <= super::SHARDS * super::KEYS_A_SHARD);
    }

    #[test]
    fn keys_of_any_length_take_a_bounded_room() {
        let stats = Stats::default();
        let long = "x".repeat(60_000);
        for round in 0..10_000 {
            stats.answered("miss", Some(&format!("GET http://x/{round}?{long}")), None, Duration::ZERO);
        }
        stats.answered("miss", Some("GET http://x/short"), None, Duration::ZERO);
        let held: usize = stats
            .seen
            .iter()
            .flat_map(|shard| super::lock(shard).keys().map(|key| key.len()).collect::<Vec<_>>())
            .sum();
        assert!(held <= super::SHARDS * super::KEYS_A_SHARD * super::LONGEST_KEY, "{held} bytes");
        assert_eq!(stats.json(|_| None)["hottest"][0]["key"], "GET http://x/short");
        assert_eq!(stats.outcome("miss"), 10_001);
    }

    #[test]
    fn what_was_fresh_when_it_was_served_is_stale_when_its_time_has_passed() {
        let stats = Stats::default();
        for key in ["GET http://x/one", "GET http://x/two", "GET http://x/gone"] {
            stats.answered("miss", Some(key), None, Duration::ZERO);
        }
        let told = stats.json(|key| match key {
            "GET http://x/one" => Some((Duration::from_secs(70), Duration::from_secs(10))),
            "GET http://x/two" => Some((Duration::from_secs(20), Duration::ZERO)),
            _ => None,
        });
        let stalest = told["stalest"].as_array().expect("a list");
        assert_eq!(
            (stalest.len(), &stalest[0]["key"], &stalest[0]["age_s"]),
            (1, &"GET http://x/one".into(), &70.0.into())
        );
        let states: Vec<_> = told["hottest"].as_array().expect("a list").iter().map(|row| &row["state"]).collect();
        assert_eq!(states, ["fresh", "stale", "fresh"]);
    }

    #[test]
    fn the_seconds_gone_by_are_told_and_those_of_long_ago_forgotten() {
        let stats = Stats::default();
        assert_eq!(stats.history(), "[]");
        for _ in 0..super::PAST + 5 {
            stats.answered("hit", None, None, Duration::from_millis(1));
            stats.tick();
        }
        let past: Vec<serde_json::Value> = serde_json::from_str(&stats.history()).expect("JSON");
        assert_eq!(past.len(), super::PAST);
        assert_eq!((&past[0]["requests"]["hit"], &past[0]["per_second"]["hit"]), (&6.into(), &1.into()));
        assert_eq!(past[super::PAST - 1]["requests"]["hit"], super::PAST + 5);
    }

    #[test]
    fn each_outcome_is_counted_under_its_name() {
        let stats = Stats::default();
        for name in NAMES {
            stats.answered(name, None, None, Duration::ZERO);
            assert_eq!(stats.outcome(name), 1);
        }
        stats.tick();
        let told = stats.json(|_| None);
        assert!(NAMES.iter().all(|name| told["per_second"][name] == 1), "{told:?}");
    }
}
