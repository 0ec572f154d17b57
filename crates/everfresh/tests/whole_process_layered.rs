//! What reaches all cached functions of a process at once reaches those with layers, too; a binary of its own, for it closes them.
#![cfg(all(feature = "macros", feature = "resilience"))]
#![allow(missing_docs, reason = "tests")]

use std::sync::LazyLock;
use std::time::Duration;

use everfresh::resilience::CircuitState;
use everfresh::{ManualClock, Outcome, resilient};

const MINUTE: Duration = Duration::from_secs(60);

static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);

#[resilient(
    cache(ttl = "1m", stale_while_revalidate = "1h"),
    circuit_breaker(failure_threshold = 1),
    name = "backend",
    clock = CLOCK.clone()
)]
fn doubled(number: u32) -> Result<u32, String> {
    Ok(2 * number)
}

#[derive(Clone)]
struct Shop;

impl Shop {
    #[resilient(cache(ttl = "1m"), clock = CLOCK.clone())]
    fn price(&self, number: u32) -> Result<u32, String> {
        Ok(number)
    }
}

/// Nothing that reaches all cached functions reached them: their caches were in no registry.
#[test]
fn the_caches_of_resilient_functions_are_reached_as_all_others() {
    assert_eq!((doubled(1).unwrap(), Shop.price(1).unwrap()), (2, 1));
    let paths = ["whole_process_layered::doubled", "whole_process_layered::Shop::price"];
    for path in paths {
        let function = everfresh::registry().get(path).unwrap();
        assert_eq!((function.kind(), function.stats().unwrap().entries), (everfresh::Kind::Data, 1));
    }
    assert_eq!(doubled::policy().name(), "backend", "the registry's name is the function's path whatever the policy's");

    everfresh::data::clear_all();
    assert_eq!((doubled::cache().get(&1), Shop::price_cache().get(&1)), (None, None));
    assert_eq!(doubled(1).unwrap(), 2);
    everfresh::data::expire_all();
    assert_eq!(doubled::cache().lookup(&1).peek().unwrap().outcome, Outcome::Stale);
    doubled::cache().insert(1, 2);

    assert_eq!(everfresh::close(MINUTE), 0);
    CLOCK.advance(2 * MINUTE);
    assert_eq!(doubled(1).unwrap(), 2);
    let stats = doubled::cache().stats();
    assert_eq!((stats.stale, stats.refreshes.stored), (1, 0), "calls go on, and nothing runs behind them");
    assert_eq!(doubled::policy().health().circuit.unwrap().state, CircuitState::Closed);
}
