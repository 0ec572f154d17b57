//! Where a cached function may stand, and what of it is kept as it was.

use std::fmt::Debug;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use everfresh::{Outcome, cache_data};

use crate::kit::Count;

static RUNS: AtomicUsize = AtomicUsize::new(0);

/// What a symbol costs.
#[cache_data]
pub fn price(symbol: &str) -> u64 {
    RUNS.fetch_add(1, Ordering::SeqCst);
    symbol.len() as u64
}

#[test]
fn a_call_is_the_call_and_the_body_runs_once_for_each_key() {
    assert_eq!((price("AAPL"), price("AAPL"), price("MSFTX")), (4, 4, 5));
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);
    assert_eq!((price::peek("AAPL"), price::peek("GOOG")), (Some(4), None));
    assert_eq!(price::answer("AAPL").outcome, Outcome::Hit);
    price::clear_for("AAPL");
    assert_eq!(price::peek("AAPL"), None);
    price::clear();
    assert_eq!(price::peek("MSFTX"), None);
    assert_eq!(price::uncached("AAPL"), 4);
    assert_eq!(RUNS.load(Ordering::SeqCst), 3);
    assert_eq!(price::warm(["A", "BB"]), 2);
    assert_eq!(price::refresh("A").wait(), Some(everfresh::Ending::Stored));
}

#[test]
fn arguments_that_borrow_become_owned_keys() {
    #[cache_data]
    fn sum(path: &Path, parts: &[u64], name: String, pair: (u8, u8)) -> (PathBuf, u64) {
        (path.join(name), parts.iter().sum::<u64>() + u64::from(pair.0))
    }
    let of = |last: u64| sum(Path::new("/a"), &[1, 2, last], "b".to_owned(), (4, 5));
    assert_eq!(
        (of(3), of(3), of(4)),
        ((PathBuf::from("/a/b"), 10), (PathBuf::from("/a/b"), 10), (PathBuf::from("/a/b"), 11))
    );
    assert_eq!((sum::stats().loads.stored, sum::stats().entries), (2, 2));
}
