//! Where a cached function may stand, and what of it is kept as it was.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everfresh::{Ending, Outcome, cache_data};

/// What a symbol costs.
#[cache_data]
pub fn price(symbol: &str) -> u64 {
    RUNS.fetch_add(1, Ordering::SeqCst);
    symbol.len() as u64
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

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
    assert_eq!((RUNS.load(Ordering::SeqCst), price::peek("AAPL")), (3, None));
    assert_eq!(price::warm(["A", "BB"]), 2);
    assert_eq!(price::refresh("A").wait(), Some(Ending::Stored));
    assert_eq!(RUNS.load(Ordering::SeqCst), 6);
}

#[test]
fn it_is_still_a_function_that_can_be_passed_on() {
    #[cache_data]
    fn double(number: u32) -> u32 {
        2 * number
    }
    let pointer: fn(u32) -> u32 = double;
    assert_eq!((pointer(2), [1, 2].map(double)), (4, [2, 4]));
    assert_eq!(double::stats().loads.stored, 2);
}

#[test]
fn arguments_that_borrow_become_owned_keys() {
    #[cache_data]
    fn sum(path: &Path, parts: &[u64], name: String, pair: (u8, u8), map: &BTreeMap<u8, u8>) -> (PathBuf, u64) {
        (path.join(name), parts.iter().sum::<u64>() + u64::from(pair.0) + map.len() as u64)
    }
    let of = |last: u64| sum(Path::new("/a"), &[1, 2, last], "b".to_owned(), (4, 5), &BTreeMap::new()).1;
    assert_eq!((of(3), of(3), of(4)), (10, 10, 11));
    assert_eq!((sum::stats().loads.stored, sum::stats().hits, sum::stats().entries), (2, 1, 2));
}

#[test]
fn a_function_without_arguments_has_one_value() {
    #[cache_data]
    fn answer() -> Vec<u32> {
        vec![42]
    }
    assert_eq!((answer(), answer()), (vec![42], vec![42]));
    assert_eq!((answer::stats().loads.stored, answer::peek()), (1, Some(vec![42])));
    answer::clear_for();
    assert_eq!(answer::peek(), None);
}

#[test]
fn v1_each_caller_owns_what_it_gets_also_the_one_who_made_it() {
    #[cache_data]
    fn list(length: usize) -> Vec<usize> {
        (0..length).collect()
    }
    let mut made = list(2);
    made.push(9);
    let mut hit = list(2);
    hit.clear();
    assert_eq!(list(2), [0, 1]);
}

#[test]
fn patterns_and_mut_are_the_bodys_own_affair() {
    #[cache_data]
    fn add(mut total: u32, (left, right): (u32, u32), _: &str) -> u32 {
        total += left + right;
        total
    }
    assert_eq!((add(1, (2, 3), "a"), add(1, (2, 3), "b")), (6, 6));
    assert_eq!(add::stats().loads.stored, 1);
}

#[test]
fn skipped_arguments_and_those_that_begin_with_an_underscore_are_not_in_the_key() {
    struct Connection(u32); // neither `Clone` nor `Hash`: in the foreground nothing has to own it
    #[cache_data(skip(connection))]
    fn row(connection: &Connection, id: u32, _trace: &str) -> u32 {
        connection.0 + id
    }
    assert_eq!(
        (row(&Connection(10), 1, "a"), row(&Connection(20), 1, "b"), row(&Connection(20), 2, "c")),
        (11, 11, 22)
    );
    row::clear_for(1);
    assert_eq!((row::peek(1), row::peek(2)), (None, Some(22)));
}

#[test]
fn a_key_of_ones_own_decides_what_is_the_same() {
    #[cache_data(key: u64 = x.to_bits())]
    fn root(x: f64) -> f64 {
        x.sqrt()
    }
    #[cache_data(key = (symbol.to_lowercase(), day % 7))]
    fn weekly(symbol: &str, day: u32, names: &[Option<&str>]) -> usize {
        symbol.len() + day as usize + names.len()
    }
    assert_eq!((root(4.0), root(4.0), root::stats().loads.stored), (2.0, 2.0, 1));
    assert_eq!(root::handle().cache().entries(), [(4.0_f64.to_bits(), 2.0)]);
    assert_eq!((weekly("AA", 1, &[None]), weekly("aa", 8, &[]), weekly("aa", 2, &[])), (4, 4, 4));
    assert_eq!((weekly::stats().loads.stored, weekly::peek("Aa", 15, &[])), (2, Some(4)));
    weekly::clear_for("aA", 22, &[]);
    assert_eq!((weekly::peek("aa", 1, &[]), weekly::peek("aa", 2, &[])), (None, Some(4)));
    weekly::clear();
    assert_eq!(weekly::stats().entries, 0);
}

#[test]
fn no_value_crosses_between_instantiations() {
    #[cache_data]
    fn parsed<T, const N: usize>(text: &str) -> [T; N]
    where
        T: std::str::FromStr<Err: std::fmt::Debug> + Clone + Copy + Send + Sync + 'static,
    {
        [text.parse().unwrap(); N]
    }
    #[cache_data]
    fn type_name<T: 'static>(_unused: &T) -> &'static str {
        std::any::type_name::<T>()
    }
    #[cache_data]
    fn shown<'a, T: Display + Hash + Eq + Clone + Send + Sync + 'static>(before: &'a str, value: &'a T) -> String
    where
        T: 'a,
    {
        format!("{before}{value}")
    }
    assert_eq!((parsed::<u8, 2>("7"), parsed::<i64, 1>("7")), ([7, 7], [7]));
    assert_eq!((parsed::stats::<u8, 2>().entries, parsed::stats::<u8, 3>().entries), (1, 0));
    parsed::clear::<u8, 2>();
    assert_eq!((parsed::peek::<u8, 2>("7"), parsed::peek::<i64, 1>("7")), (None, Some([7])));
    // The same key and value types: only the instantiation tells them apart.
    assert_eq!((type_name(&1_u8), type_name(&1_i8), type_name(&2_u8)), ("u8", "i8", "u8"));
    assert_eq!((shown("a", &1), shown("a", &"b".to_owned()), shown("a", &1)), ("a1".into(), "ab".into(), "a1".into()));
}

struct Shop {
    id: u32,
    rates: Arc<Vec<u32>>,
}

impl Shop {
    /// Not kept alive, not in the key.
    #[cache_data]
    pub fn listed(&self, item: &str) -> usize {
        self.rates.len() + item.len()
    }

    #[cache_data(key: (u32, u32) = (self.id, item))]
    fn rate(&self, item: u32) -> u32 {
        self.rates[item as usize]
    }

    #[cache_data(associated)]
    fn opened(day: u32) -> u32 {
        day + 1
    }

    #[cache_data]
    fn named(id: u32) -> Arc<Self> {
        Arc::new(Shop { id, rates: Arc::default() })
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Of<T>(T);

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Of<T> {
    #[cache_data(include(self))]
    fn with(&self, other: u32) -> (T, u32) {
        (self.0.clone(), other)
    }

    #[cache_data(associated)]
    fn size(_for: &str) -> usize {
        size_of::<T>()
    }
}

#[test]
fn methods_do_not_keep_self_alive_and_have_it_in_the_key_only_when_asked() {
    let rates = Arc::new(vec![10, 20]);
    let (one, two) = (Shop { id: 1, rates: Arc::clone(&rates) }, Shop { id: 2, rates: Arc::new(vec![30, 40]) });
    assert_eq!((one.listed("a"), Shop { id: 3, rates: Arc::default() }.listed("a")), (3, 3));
    assert_eq!((one.rate(1), two.rate(1), one.rate(1)), (20, 40, 20));
    drop(one);
    assert_eq!(Arc::strong_count(&rates), 1);
    assert_eq!((Shop::rate_handle().stats().loads.stored, Shop::rate_handle().peek(&(2, 1))), (2, Some(40)));
    two.rate_clear_for(1);
    assert_eq!((two.rate_uncached(0), two.rate_answer(1).outcome), (30, Outcome::Loaded));

    let (number, text) = (Of(7_u8), Of("seven"));
    assert_eq!((number.with(1), text.with(1), Of(8_u8).with(1)), ((7, 1), ("seven", 1), (8, 1)));
    assert_eq!((Of::<u8>::with_handle().stats().entries, Of::<&str>::with_handle().stats().entries), (2, 1));
    assert_eq!((Of::<u8>::size("a"), Of::<u64>::size("b"), Of::<u8>::size("c")), (1, 8, 1));
}

#[test]
fn associated_functions_have_companions_named_after_them() {
    assert_eq!((Shop::opened(1), Shop::opened(1), Shop::opened_answer(1).outcome), (2, 2, Outcome::Hit));
    assert_eq!(Shop::opened_warm([1, 2, 3]), 3);
    assert_eq!(Shop::opened_refresh(2).wait(), Some(Ending::Stored));
    assert!(Arc::ptr_eq(&Shop::named(4), &Shop::named(4)));
    assert_eq!(Shop::named(4).id, 4);
}

mod elsewhere {
    pub mod types {
        #[derive(Clone, PartialEq, Debug)]
        pub struct Sum(pub u32);
    }

    #[everfresh::cache_data(companion = cached_types, crate = ::everfresh)]
    pub fn types(left: u32, right: u32) -> types::Sum {
        types::Sum(left + right)
    }
}

#[test]
fn a_companion_can_have_another_name_where_its_own_is_taken() {
    assert_eq!(elsewhere::types(1, 2), elsewhere::types::Sum(3));
    assert_eq!(elsewhere::cached_types::warm([(1, 2), (3, 4)]), 2);
    assert_eq!(elsewhere::cached_types::stats().entries, 2);
}

#[test]
fn attributes_and_lints_reach_the_body() {
    #[cache_data]
    #[allow(unused_variables, clippy::needless_return)]
    #[must_use]
    #[inline(never)]
    fn constant(ignored: u32) -> u32 {
        return 3;
    }
    assert_eq!(constant(1), 3);
}

#[tokio::test]
async fn asynchronous_functions_are_cached_as_they_are() {
    struct Pool(u32);
    #[cache_data(skip(pool))]
    async fn report(pool: &Pool, day: &str) -> Result<usize, Arc<str>> {
        tokio::task::yield_now().await;
        if day.is_empty() { Err("no day".into()) } else { Ok(day.len() + pool.0 as usize) }
    }
    #[cache_data(local)]
    async fn on_this_thread(number: u32) -> u32 {
        let not_send = std::rc::Rc::new(number);
        tokio::task::yield_now().await;
        *not_send + 1
    }
    #[cache_data]
    async fn plain(number: u32) -> u32 {
        number + 1
    }
    let (first, second) = tokio::join!(report(&Pool(1), "mon"), report(&Pool(2), "mon"));
    assert_eq!((first, second, report(&Pool(3), "mon").await), (Ok(4), Ok(4), Ok(4)));
    assert_eq!(report(&Pool(0), "").await, Err("no day".into()));
    assert_eq!((report::stats().loads.stored, report::stats().coalesced), (1, 1));
    assert_eq!((on_this_thread(1).await, on_this_thread(1).await), (2, 2));
    assert_eq!((plain::warm([1, 2, 3]).await, plain(3).await, plain::stats().hits), (3, 4, 1));
    assert_eq!(plain::refresh(1).await, Some(Ending::Stored));
}

#[test]
fn many_arguments_are_one_key() {
    #[cache_data]
    #[allow(clippy::too_many_arguments)]
    fn twelve(a: u8, b: u8, c: &str, d: u8, e: u8, f: u8, g: &[u8], h: u8, i: u8, j: u8, k: u8, l: String) -> u64 {
        [a, b, d, e, f, h, i, j, k].iter().map(|&it| u64::from(it)).sum::<u64>() + (c.len() + g.len() + l.len()) as u64
    }
    let of = |l: &str| twelve(1, 1, "c", 1, 1, 1, &[1], 1, 1, 1, 1, l.to_owned());
    assert_eq!((of("l"), of("ll"), of("l")), (12, 13, 12));
    assert_eq!(twelve::stats().hits, 1);
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Count(u32);

impl Count {
    #[cache_data(include(self), ttl = "1m", refresh = "background")]
    #[deny(unused_mut)]
    fn raised(mut self, mut r#by: u32) -> u32 {
        by += 1;
        self.0 += by;
        self.0
    }
}

#[test]
fn a_body_may_change_its_self_and_names_may_be_raw() {
    #[cache_data(skip(r#loop), tags(r#type))]
    fn r#match(r#type: &str, r#loop: u32) -> usize {
        r#type.len() + r#loop as usize
    }
    assert_eq!((r#match("a", 1), r#match("a", 2), r#match::peek("a")), (2, 2, Some(2)));
    assert!(r#match::handle().name().ends_with("::match"));
    assert_eq!((Count(1).raised(1), Count(1).raised(1), Count(2).raised(1)), (3, 3, 4));
    assert_eq!(
        (Count::raised_handle().stats().loads.stored, Count::raised_refresh(Count(1), 1).wait()),
        (2, Some(Ending::Stored))
    );
}

type Later = std::pin::Pin<Box<dyn Future<Output = u64> + Send>>;

#[cache_data]
async fn fibonacci(number: u64) -> u64 {
    if number < 2 { number } else { Box::pin(fibonacci(number - 1)).await + Box::pin(fibonacci(number - 2)).await }
}

#[cache_data(ttl = "1m", refresh = "background")]
async fn fibonacci_behind(number: u64) -> u64 {
    fn again(number: u64) -> Later {
        Box::pin(fibonacci_behind(number))
    }
    if number < 2 { number } else { again(number - 1).await + again(number - 2).await }
}

#[tokio::test]
async fn asynchronous_functions_may_call_themselves() {
    assert_eq!((fibonacci(20).await, fibonacci_behind(20).await), (6765, 6765));
    assert_eq!((fibonacci::stats().loads.stored, fibonacci_behind::stats().loads.stored), (21, 21));
}
