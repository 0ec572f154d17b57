//! `#[resilient(..)]`: all of it as one line above a function.

use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use everfresh::resilience::{CircuitState, Error, Preset, Registry};
use everfresh::resilient;
use everfresh::{ManualClock, Stats};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::support::{Broken, MINUTE, SECOND};

static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
static RUNS: AtomicU32 = AtomicU32::new(0);
static BROKEN: AtomicU32 = AtomicU32::new(0);

/// A product, by its number.
#[resilient(
    cache(capacity = 256, ttl = "5m", stale_while_revalidate = "1h"),
    retry(max_attempts = 3, base = "1ns", max_delay = "1s", jitter = false),
    circuit_breaker(failure_threshold = 5),
    timeout = "10s",
    clock = CLOCK.clone()
)]
async fn get_product(id: u64, language: &str) -> Result<String, Broken> {
    tokio::task::yield_now().await;
    if BROKEN.load(Ordering::SeqCst) > 0 {
        return Err(Broken(BROKEN.fetch_sub(1, Ordering::SeqCst)));
    }
    Ok(format!("{id} in {language}, {}", RUNS.fetch_add(1, Ordering::SeqCst)))
}

#[tokio::test]
async fn the_one_line_of_the_issue() {
    // Pauses of a nanosecond pass when the clock is moved; here nothing fails at first.
    let products = join_all((0..100).map(|_| get_product(7, "de"))).await;
    assert!(products.iter().all(|product| product.as_ref().unwrap() == "7 in de, 0"));
    assert_eq!(get_product(7, "en").await.unwrap(), "7 in en, 1");
    assert_eq!(get_product::uncached(7, "de").await.unwrap(), "7 in de, 2");
    assert_eq!(get_product::cache().stats().loads.stored, 2);
    CLOCK.advance(5 * MINUTE);
    assert_eq!(get_product(7, "de").await.unwrap(), "7 in de, 0");
    while get_product::cache().stats().refreshes.stored == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get_product(7, "de").await.unwrap(), "7 in de, 3");
    get_product::cache().invalidate(&(7, "de".to_owned()));
    assert_eq!(get_product(7, "de").await.unwrap(), "7 in de, 4");
    assert!(get_product::policy().name().ends_with("attribute::get_product"));
    BROKEN.store(2, Ordering::SeqCst);
    let (mended, ()) = tokio::join!(get_product(8, "de"), async {
        while BROKEN.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
            CLOCK.advance(SECOND / 1000);
        }
        CLOCK.advance(SECOND / 1000);
    });
    assert_eq!(mended.unwrap(), "8 in de, 5", "at the third attempt");
}

/// Never moved: what another test does to its clock must not end a timeout here.
static STILL: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::with_clock(STILL.clone()));

#[resilient(
    preset = strict,
    registry = REGISTRY,
    name = "backend",
    fallback = |error| matches!(error, Error::Inner(Broken(1))).then_some(0)
)]
fn size_of(name: &str) -> Result<usize, Broken> {
    match name {
        "one" => Err(Broken(1)),
        "two" => Err(Broken(2)),
        name => Ok(name.len()),
    }
}

const STRICT: Preset = everfresh::resilience::presets::strict();

#[resilient(preset = STRICT, registry = REGISTRY, name = "backend")]
fn name_of(_id: u32) -> Result<String, Broken> {
    Ok("x".to_owned())
}

#[test]
fn a_blocking_function_with_a_preset_that_shares_its_circuit_by_name() {
    assert_eq!(size_of("four").unwrap(), 4);
    assert_eq!(name_of(1).unwrap(), "x");
    assert_eq!(size_of("one").unwrap(), 0);
    assert!(matches!(size_of("two"), Err(Error::Inner(Broken(2)))));
    assert!(matches!(size_of("two"), Err(Error::Inner(Broken(2)))));
    assert_eq!(REGISTRY.health()["backend"].circuit.unwrap().state, CircuitState::Open);
    assert!(matches!(name_of(1), Err(Error::CircuitOpen { .. })));
}

#[resilient(
    rate_limit(calls = 60, per = "1m", burst = 2),
    bulkhead(max_concurrent = 4, max_wait = "1s", max_waiting = 8),
    circuit_breaker(
        failure_rate = 0.5, window = 10, minimum_calls = 5, slow_call = "2s", slow_call_rate = 0.8, probes = 2
    ),
    timeout(per_attempt = "2s", whole = "10s"),
    hedge(after = "1s", up_to = 2),
    retry_if = |result| result.is_err(),
    clock = STILL.clone()
)]
async fn every_layer(number: u32) -> Result<u32, Broken> {
    Ok(number)
}

#[tokio::test]
async fn every_layer_can_be_written() {
    assert_eq!((every_layer(1).await.unwrap(), every_layer(2).await.unwrap()), (1, 2));
    assert!(matches!(every_layer(3).await, Err(Error::RateLimited { retry_after: SECOND })));
    assert_eq!(every_layer::policy().health().bulkhead.unwrap().places, 4);
}

#[resilient(cache(capacity = 2), skip(connection))]
fn load(connection: &str, key: u32) -> Result<usize, Broken> {
    Ok(connection.len() + key as usize)
}

#[test]
fn what_is_skipped_is_not_part_of_the_key() {
    assert_eq!(load("abc", 1).unwrap(), 4);
    assert_eq!(load("abcdef", 1).unwrap(), 4);
    assert_eq!(load::cache().get(&1), Some(4));
}

/// Neither `Clone` nor `Hash`: a call without a cache borrows it.
struct Backend {
    calls: AtomicU32,
}

impl Backend {
    #[resilient(retry(max_attempts = 3, base = "0s", jitter = false), bulkhead(max_concurrent = 9, max_wait = "0s"))]
    async fn ask(&self, what: Option<&str>, list: &[u32]) -> Result<String, Broken> {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(Broken(1)),
            _ => Ok(format!("{} {}", what.unwrap_or_default(), list.len())),
        }
    }
}

#[tokio::test]
async fn a_method_without_a_cache_borrows_what_it_needs() {
    let backend = Backend { calls: AtomicU32::new(0) };
    let text = String::from("ab");
    assert_eq!(backend.ask(Some(&text), &[1, 2]).await.unwrap(), "ab 2");
    assert_eq!(backend.calls.load(Ordering::SeqCst), 3);
    assert!(Backend::ask_policy().name().ends_with("::ask"));
    assert_eq!(backend.ask_uncached(None, &[]).await.unwrap(), " 0");
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Shop(&'static str);

impl Shop {
    #[resilient(cache(capacity = 8), timeout = "10s", clock = STILL.clone())]
    async fn price(&self, item: u32, _currency: &str) -> Result<String, Broken> {
        Ok(format!("{item} at {}", self.0))
    }

    #[resilient(cache(capacity = 8), include(self))]
    fn own_price(&self, item: u32) -> Result<String, Broken> {
        Ok(format!("{item} at {}", self.0))
    }

    #[resilient(cache(capacity = 8))]
    fn open(name: &'static str) -> Result<Self, Broken> {
        Ok(Shop(name))
    }

    #[resilient(bulkhead(max_concurrent = 1))]
    fn shared(self: &Arc<Self>) -> Result<usize, Broken> {
        Ok(Arc::strong_count(self))
    }

    #[resilient(cache(), associated)]
    fn fixed(item: u32) -> Result<u32, Broken> {
        Ok(item)
    }

    const PATIENCE: std::time::Duration = SECOND;

    #[resilient(timeout = Self::PATIENCE)]
    fn in_time(item: u32) -> Result<u32, Broken> {
        Ok(item)
    }
}

#[tokio::test]
async fn a_methods_self_is_part_of_the_key_only_if_told() {
    assert_eq!(Shop("a").price(1, "eur").await.unwrap(), "1 at a");
    assert_eq!(Shop("b").price(1, "usd").await.unwrap(), "1 at a", "one cache for all shops, by the item alone");
    assert_eq!(Shop::price_cache().get(&1).as_deref(), Some("1 at a"));
    assert_eq!(Shop("a").own_price(1).unwrap(), "1 at a");
    assert_eq!(Shop("b").own_price(1).unwrap(), "1 at b");
    assert_eq!(Shop::own_price_cache().get(&(Shop("b"), 1)).as_deref(), Some("1 at b"));
    assert!(Shop::open("c").unwrap() == Shop("c") && Shop::open_cache().len() == 1);
    assert_eq!((Shop::fixed(3).unwrap(), Shop::fixed_cache().len()), (3, 1));
    assert_eq!((Shop::in_time(3).unwrap(), Shop::in_time_policy().health().in_flight), (3, 0));
    let shop = Arc::new(Shop("d"));
    assert!(shop.shared().unwrap() >= 1);
    assert_eq!(Arc::strong_count(&shop), 1, "nothing of it is kept");
}

#[resilient(cache(capacity = 8), circuit_breaker(failure_threshold = 1))]
async fn doubled<T>(it: T, fails: bool) -> Result<T, Broken>
where
    T: std::ops::Add<Output = T> + Copy + Eq + Hash + Send + Sync + 'static,
{
    if fails { Err(Broken(1)) } else { Ok(it + it) }
}

#[allow(clippy::needless_lifetimes, reason = "a named lifetime is what is tried here")]
#[resilient(retry(max_attempts = 2, base = std::time::Duration::ZERO))]
async fn lengths<'a, T: AsRef<str> + 'static, const N: usize>(these: &'a [T; N]) -> Result<usize, Broken> {
    Ok(these.iter().map(|it| it.as_ref().len()).sum())
}

#[tokio::test]
async fn a_generic_function_has_a_policy_and_a_cache_for_each_of_its_types() {
    assert_eq!((doubled(1_u32, false).await.unwrap(), doubled(1_i64, false).await.unwrap()), (2, 2));
    assert!(doubled(2_u32, true).await.is_err());
    assert_eq!(doubled::policy::<u32>().health().circuit.unwrap().state, CircuitState::Open);
    assert_eq!(doubled::policy::<i64>().health().circuit.unwrap().state, CircuitState::Closed);
    assert_eq!(doubled::cache::<u32>().len() + doubled::cache::<i64>().len(), 2);
    assert_eq!(doubled::uncached(3_u8, false).await.unwrap(), 6);
    assert_eq!(lengths(&["a".to_owned(), "bc".to_owned()]).await.unwrap(), 3);
}

#[resilient(fallback_async = |error| {
    let closed = error.is_refusal();
    async move { (!closed).then_some(7) }
})]
async fn with_another_backend(_number: u32) -> Result<u32, Broken> {
    Err(Broken(1))
}

#[tokio::test]
async fn a_fallback_may_take_its_time() {
    assert_eq!(with_another_backend(1).await.unwrap(), 7);
}

/// Names that the attributes might have used themselves.
mod resilience {
    use everfresh::resilience::{Error, RetryBudget};

    use super::{Broken, LazyLock, ManualClock, STILL};

    pub(super) static POLICY: LazyLock<RetryBudget> = LazyLock::new(|| RetryBudget::new(1, 0.0));

    pub(super) fn is_transient<T>(result: &Result<T, Broken>) -> bool {
        result.is_err()
    }

    pub(super) fn cache(error: &Error<Broken>) -> Option<u32> {
        matches!(error, Error::Inner(Broken(7))).then_some(9)
    }

    pub(super) fn clock() -> ManualClock {
        STILL.clone()
    }
}
use resilience::{POLICY, cache, clock};

#[resilient(
    cache(capacity = 2, eviction = "lru"),
    retry(max_attempts = 3, base = "0s"),
    retry_if = resilience::is_transient,
    retry_budget = POLICY,
    fallback = cache,
    clock = clock()
)]
fn meets(cache: u32, clock: &str, key: &[u8], policy: u32, r#type: (u32, u32), owned_0: u32) -> Result<u32, Broken> {
    RUNS_OF_MEETS.fetch_add(1, Ordering::SeqCst);
    Err(Broken(cache + policy + r#type.0 + r#type.1 + owned_0 + (clock.len() + key.len()) as u32))
}

static RUNS_OF_MEETS: AtomicU32 = AtomicU32::new(0);

#[test]
fn no_name_of_the_users_meets_those_of_the_attribute() {
    assert_eq!(meets(1, "a", &[1], 1, (1, 1), 1).unwrap(), 9);
    assert_eq!(RUNS_OF_MEETS.load(Ordering::SeqCst), 2, "one retry, which the budget allows");
    assert!(meets(2, "a", &[1], 1, (1, 1), 1).is_err());
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Count(u32);

impl Count {
    #[resilient(cache(), include(self))]
    fn raised(mut self, mut by: u32) -> Result<u32, Broken> {
        by += 1;
        self.0 += by;
        Ok(self.0)
    }
}

#[test]
fn a_body_may_change_what_it_was_given_by_value() {
    assert_eq!((Count(1).raised(1).unwrap(), Count(1).raised(1).unwrap(), Count(2).raised(1).unwrap()), (3, 3, 4));
    assert_eq!(Count::raised_cache().stats().loads.stored, 2);
}

#[resilient(cache())]
async fn sum(number: u64) -> Result<u64, Broken> {
    Ok(if number == 0 { 0 } else { number + sum_later(number - 1).await })
}

/// What a function in a task that calls itself needs: between two of them the compiler has to be told that it is `Send`.
fn sum_later(number: u64) -> std::pin::Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move { sum(number).await.unwrap() })
}

#[tokio::test]
async fn a_function_in_a_task_may_call_itself_through_a_box() {
    assert_eq!((sum(9).await.unwrap(), sum::cache().len()), (45, 10));
}

static HAND: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

/// `jitter` was among the choices, and did not compile; `time_to_idle` was refused without a ttl.
#[resilient(
    cache(
        ttl = "10m",
        stale_if_error = "1h",
        time_to_idle = "1h",
        jitter = 0.5,
        refresh_ahead = 0.9,
        negative_ttl = "1m",
        max_refreshes = 1,
        capacity = 100,
        eviction = "lru",
        store_if = |number: &u32| *number > 0
    ),
    clock = HAND.clone()
)]
fn chosen(number: u32) -> Result<u32, Broken> {
    Ok(number)
}

#[resilient(cache(time_to_idle = "1m"), clock = HAND.clone())]
fn while_it_is_read(number: u32) -> Result<u32, Broken> {
    Ok(number)
}

#[test]
fn a_cache_in_front_takes_every_choice_that_is_named() {
    for number in 0..20 {
        assert_eq!(chosen(number).unwrap(), number);
        assert_eq!(while_it_is_read(number).unwrap(), number);
    }
    HAND.advance(MINUTE / 2);
    assert_eq!(while_it_is_read(7).unwrap(), 7);
    HAND.advance(MINUTE / 2);
    let held = |number: &u32| while_it_is_read::cache().contains(number);
    assert_eq!((0..20).filter(held).collect::<Vec<u32>>(), [7], "nobody has read the others for a minute");
    HAND.advance(7 * MINUTE);
    let fresh = |number: &u32| {
        let held = chosen::cache().lookup(number).peek();
        held.is_some_and(|held| held.outcome == everfresh::Outcome::Hit)
    };
    let fresh = (1..20).filter(fresh).count();
    assert!(
        (1..19).contains(&fresh),
        "jitter has shortened the lives of some below 8 minutes: {fresh} of 19 are fresh"
    );
    assert!(!chosen::cache().contains(&0), "store_if said no");
}

struct Users;
struct Orders<T>(std::marker::PhantomData<T>);

impl Users {
    #[resilient(registry = REGISTRY, circuit_breaker(failure_threshold = 1))]
    async fn fetch(&self, id: u32) -> Result<u32, Broken> {
        Err(Broken(id))
    }
}

impl<T: Send + Sync + 'static> Orders<T> {
    #[resilient(registry = REGISTRY, circuit_breaker(failure_threshold = 2))]
    async fn fetch(&self, id: u32) -> Result<u32, Broken> {
        Ok(id)
    }
}

/// They shared a circuit, or panicked at their first call because the other one's is made otherwise.
#[tokio::test]
async fn methods_of_the_same_name_are_told_apart_by_their_types() {
    let path = std::any::type_name::<Users>();
    assert_eq!(Users::fetch_policy().name(), format!("{path}::fetch"));
    let orders = Orders::<u8>(std::marker::PhantomData);
    assert!(Users.fetch(1).await.is_err());
    assert!(matches!(Users.fetch(1).await, Err(Error::CircuitOpen { .. })));
    assert_eq!(orders.fetch(1).await.unwrap(), 1);
    let health = REGISTRY.health();
    let state = |name: &str| health[name].circuit.unwrap().state;
    assert_eq!(state(&format!("{path}::fetch")), CircuitState::Open);
    assert_eq!(state(&format!("{}::fetch", std::any::type_name::<Orders<u8>>())), CircuitState::Closed);
}

/// Behind a name it cannot be seen when it is compiled.
const NEVER: u32 = 0;

#[resilient(retry(max_attempts = NEVER))]
fn never_tried() -> Result<u32, Broken> {
    Ok(1)
}

#[test]
fn a_choice_that_cannot_work_is_told_in_words_at_each_call() {
    // The second call read that something "has previously been poisoned".
    for _ in 0..2 {
        let told = std::panic::catch_unwind(never_tried).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(
            told.ends_with("these arguments: zero attempts call nothing; Retry::attempts(1) is a single try"),
            "{told}"
        );
        assert!(told.contains("attribute::never_tried cannot"), "{told}");
    }
}

mod elsewhere {
    pub mod orders {
        #[derive(Clone, PartialEq, Debug)]
        pub struct Order(pub u32);
    }

    /// Beside a module of its name it could not be written at all.
    #[everfresh::resilient(cache(capacity = 2), timeout = "1m", companion = resilient_orders, crate = ::everfresh)]
    pub fn orders<T: Into<u32> + super::Hash + Eq + Clone + Send + Sync + 'static>(
        id: T,
    ) -> Result<orders::Order, super::Broken> {
        Ok(orders::Order(id.into()))
    }
}

#[test]
fn a_companion_can_have_another_name_where_its_own_is_taken() {
    assert_eq!(elsewhere::orders(7_u32).unwrap(), elsewhere::orders::Order(7));
    assert!(elsewhere::resilient_orders::cache::<u32>().contains(&7));
    assert!(elsewhere::resilient_orders::policy::<u8>().name().ends_with("::elsewhere::orders"));
    assert_eq!(elsewhere::resilient_orders::uncached(9_u8).unwrap(), elsewhere::orders::Order(9));
}

static CLONES: AtomicU32 = AtomicU32::new(0);

#[derive(PartialEq, Eq, Hash)]
struct Heavy(u32);

impl Clone for Heavy {
    fn clone(&self) -> Heavy {
        CLONES.fetch_add(1, Ordering::SeqCst);
        Heavy(self.0)
    }
}

impl Heavy {
    #[resilient(cache(ttl = "5m"), timeout = "1m", clock = STILL.clone())]
    fn weighed(&self, by: Heavy) -> Result<u32, Broken> {
        Ok(self.0 + by.0)
    }

    #[resilient(cache(ttl = "5m"), clock = STILL.clone())]
    async fn weighed_later(&self, by: &Heavy) -> Result<u32, Broken> {
        Ok(self.0 + by.0)
    }
}

/// They were cloned for a load that a hit never begins. One key in 256, and the first look of a thread, are looked for once more.
#[tokio::test]
async fn a_hit_clones_none_of_the_arguments() {
    let heavy = Heavy(1);
    let mut clones_of_a_hit = Vec::new();
    for round in 0..8 {
        assert_eq!(heavy.weighed(Heavy(round)).unwrap(), 1 + round);
        assert_eq!(heavy.weighed_later(&Heavy(round)).await.unwrap(), 1 + round);
        CLONES.store(0, Ordering::SeqCst);
        assert_eq!(heavy.weighed(Heavy(round)).unwrap(), 1 + round);
        assert_eq!(heavy.weighed_later(&Heavy(round)).await.unwrap(), 1 + round);
        clones_of_a_hit.push(CLONES.load(Ordering::SeqCst));
    }
    assert!(clones_of_a_hit.iter().filter(|clones| **clones == 0).count() >= 5, "{clones_of_a_hit:?}");
    for stats in [Heavy::weighed_cache().stats(), Heavy::weighed_later_cache().stats()] {
        assert_eq!((stats.hits, stats.loaded), (8, 8), "one lookup counts once");
    }
}

/// Moved by its one test alone.
static SLOWLY: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
static ANSWERS: Semaphore = Semaphore::const_new(0);

#[resilient(cache(ttl = "1m", stale_while_revalidate = "1h"), preset = llm, clock = SLOWLY.clone())]
async fn completion(prompt: &str) -> Result<usize, Broken> {
    ANSWERS.acquire().await.unwrap().forget();
    Ok(prompt.len())
}

#[resilient(cache(ttl = "1m", stale_while_revalidate = "1h"), timeout = "45s", clock = SLOWLY.clone())]
async fn embedding(prompt: &str) -> Result<usize, Broken> {
    ANSWERS.acquire().await.unwrap().forget();
    Ok(prompt.len())
}

#[resilient(cache(ttl = "1m", stale_while_revalidate = "1h"), retry(max_attempts = 2), clock = SLOWLY.clone())]
async fn without_a_timeout(prompt: &str) -> Result<usize, Broken> {
    ANSWERS.acquire().await.unwrap().forget();
    Ok(prompt.len())
}

#[tokio::test]
async fn a_refresh_may_take_as_long_as_the_layers_let_it() {
    ANSWERS.add_permits(3);
    for made in [completion("why").await, embedding("why").await, without_a_timeout("why").await] {
        assert_eq!(made.unwrap(), 3);
    }
    SLOWLY.advance(MINUTE);
    for stale in [completion("why").await, embedding("why").await, without_a_timeout("why").await] {
        assert_eq!(stale.unwrap(), 3, "at once");
    }
    for _ in 0..8 {
        tokio::task::yield_now().await; // they have begun
    }
    SLOWLY.advance(40 * SECOND);
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    let ended = |stats: Stats| (stats.refreshes.stored, stats.refreshes.timed_out);
    assert_eq!(ended(without_a_timeout::cache().stats()), (0, 1), "where nothing else ends it, the cache does");
    ANSWERS.add_permits(2);
    completion::cache().settle_async().await;
    embedding::cache().settle_async().await;
    assert_eq!((ended(completion::cache().stats()), ended(embedding::cache().stats())), ((1, 0), (1, 0)));
}

/// Takes two minutes from the second time on.
async fn takes_longer_and_longer(runs: &AtomicU32) -> Result<u32, Broken> {
    let run = runs.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(2 * MINUTE * run.min(1)).await;
    Ok(run)
}

#[tokio::test(start_paused = true)]
async fn a_refresh_takes_as_long_as_its_layers_let_it_or_as_is_said() {
    #[resilient(cache(ttl = "1m", stale_while_revalidate = "1h"), clock = everfresh::TokioClock::new())]
    async fn unbounded() -> Result<u32, Broken> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        takes_longer_and_longer(&RUNS).await
    }
    #[resilient(cache(ttl = "1m", stale_while_revalidate = "1h"), timeout = "3m", clock = everfresh::TokioClock::new())]
    async fn ended_by_its_layers() -> Result<u32, Broken> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        takes_longer_and_longer(&RUNS).await
    }
    #[resilient(
        cache(ttl = "1m", stale_while_revalidate = "1h", refresh_timeout = "3m"),
        clock = everfresh::TokioClock::new()
    )]
    async fn said() -> Result<u32, Broken> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        takes_longer_and_longer(&RUNS).await
    }
    #[resilient(
        cache(ttl = "1m", stale_while_revalidate = "1h", refresh_timeout = "1m"),
        timeout = "3m",
        clock = everfresh::TokioClock::new()
    )]
    async fn said_beside_a_timeout() -> Result<u32, Broken> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        takes_longer_and_longer(&RUNS).await
    }
    for _ in 0..2 {
        let values = (unbounded().await, ended_by_its_layers().await, said().await, said_beside_a_timeout().await);
        assert!(matches!(values, (Ok(0), Ok(0), Ok(0), Ok(0))), "at first, and then stale: {values:?}");
        tokio::time::sleep(MINUTE + SECOND).await;
    }
    tokio::time::sleep(2 * MINUTE).await;
    let [unbounded, ended, said, beside] =
        [unbounded::cache(), ended_by_its_layers::cache(), said::cache(), said_beside_a_timeout::cache()]
            .map(|cache| cache.peek(&()).unwrap());
    assert_eq!((unbounded, ended, said, beside), (0, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_refresh_that_is_given_up_calls_the_function_itself() {
    #[resilient(cache(ttl = "1m", stale_while_revalidate = "1m"), clock = everfresh::TokioClock::new())]
    async fn report() -> Result<u32, Broken> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        takes_longer_and_longer(&RUNS).await
    }
    assert!(matches!(report().await, Ok(0)));
    tokio::time::sleep(MINUTE * 19 / 10).await;
    assert!(matches!(report().await, Ok(0)), "stale");
    tokio::time::sleep(MINUTE / 10 + SECOND).await;
    // It waits for the refresh, which is given up after half a minute, and then for its own.
    assert!(matches!(report().await, Ok(2)));
}
