//! `#[resilient(..)]`: all of it as one line above a function.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use everfresh::ManualClock;
use everfresh::resilience::{CircuitState, Error, Registry};
use everfresh::resilient;
use futures_util::future::join_all;

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

#[resilient(preset = strict, registry = REGISTRY, name = "backend")]
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
