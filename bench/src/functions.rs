//! What a macro adds to a hit: cached functions beside the same cache called directly, and beside the macros of `cached`.

use std::hint::black_box;
use std::sync::LazyLock;

use cached::macros::{cached, concurrent_cached};
use everfresh::{Cache, cache_data};

use crate::keys::{median, zipf};
use crate::race::{Contestant, Course, Row, race};

const KEYS: usize = 1_000;
const CAPACITY: usize = 10_000;

#[cache_data(capacity = CAPACITY)]
fn by_number(number: u64) -> u64 {
    number + 1
}

#[cached(max_size = 10_000)]
fn cached_by_number(number: u64) -> u64 {
    number + 1
}

#[concurrent_cached(max_size = 10_000)]
fn concurrent_by_number(number: u64) -> u64 {
    number + 1
}

static BY_NUMBER: LazyLock<Cache<u64, u64>> =
    LazyLock::new(|| Cache::builder().capacity(CAPACITY).build().expect("the choices make sense"));

#[cache_data(capacity = CAPACITY)]
fn by_name(name: &str, day: u32) -> u64 {
    name.len() as u64 + u64::from(day)
}

#[cached(max_size = 10_000, key = "(String, u32)", convert = { (name.to_owned(), day) })]
fn cached_by_name(name: &str, day: u32) -> u64 {
    name.len() as u64 + u64::from(day)
}

#[concurrent_cached(max_size = 10_000, key = "(String, u32)", convert = { (name.to_owned(), day) })]
fn concurrent_by_name(name: &str, day: u32) -> u64 {
    name.len() as u64 + u64::from(day)
}

/// One row for a number as the key, one for a borrowed name and a number.
pub fn rows(course: Course) -> Vec<Row> {
    let Course { threads, each, .. } = course;
    let keys: Vec<Vec<u64>> = (0..threads as u64).map(|seed| zipf(KEYS, 0.99, each, seed)).collect();
    let names: Vec<String> = (0..KEYS).map(|rank| format!("product:{rank:016x}")).collect();
    let (keys, names) = (&keys, &names);
    let number = |name: &str, call: fn(u64) -> u64| -> Contestant<'_> {
        (0..KEYS as u64).for_each(|key| assert_eq!(call(key), key + 1));
        let work = move |thread: usize| keys[thread].iter().filter(|&&key| black_box(call(key)) > 0).count();
        (name.to_owned(), Box::new(work), true)
    };
    let named = |name: &str, call: fn(&str, u32) -> u64| -> Contestant<'_> {
        names.iter().for_each(|name| assert_eq!(call(name, 1), name.len() as u64 + 1));
        let work = move |thread: usize| {
            keys[thread].iter().filter(|&&key| black_box(call(&names[key as usize], 1)) > 0).count()
        };
        (name.to_owned(), Box::new(work), true)
    };
    let numbers = [
        number("everfresh", by_number),
        number("direct", |key| BY_NUMBER.get_or_load(&key, move || key + 1).expect("a number")),
        number("cached", cached_by_number),
        number("concurrent", concurrent_by_number),
    ];
    let by_names =
        [named("everfresh", by_name), named("cached", cached_by_name), named("concurrent", concurrent_by_name)];
    let rows = vec![race("macro", course, &numbers), race("macro, borrowed key", course, &by_names)];
    if threads == 1 {
        println!("a macro adds {:.1} ns to a hit", added(&rows[0]));
    }
    rows
}

/// Nanoseconds that a macro adds, the median of the rounds.
fn added(row: &Row) -> f64 {
    let rates = |wanted: &str| row.peers.iter().find(|(name, _)| name == wanted).map(|(_, rates)| rates.clone());
    let (Some(by_macro), Some(direct)) = (rates("everfresh"), rates("direct")) else { return f64::NAN };
    median(&mut by_macro.iter().zip(&direct).map(|(one, other)| 1e3 / one - 1e3 / other).collect::<Vec<_>>())
}
