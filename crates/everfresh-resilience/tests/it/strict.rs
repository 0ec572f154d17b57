//! What the attributes write passes the lints of a strict crate, and fulfils what was expected of the function.
#![deny(
    missing_docs,
    unused,
    unfulfilled_lint_expectations,
    missing_debug_implementations,
    rust_2018_idioms,
    unused_qualifications,
    unused_results,
    unused_lifetimes,
    single_use_lifetimes,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::expect_used,
    clippy::missing_docs_in_private_items,
    clippy::shadow_reuse,
    clippy::shadow_same,
    clippy::shadow_unrelated,
    clippy::std_instead_of_alloc,
    clippy::let_underscore_untyped
)]
// Nothing that is forbidden may be allowed, not even by the name of a group.
#![forbid(
    clippy::unwrap_used,
    clippy::panic,
    clippy::inefficient_to_string,
    clippy::or_fun_call,
    clippy::redundant_clone
)]

use everfresh::{cache_data, cache_resource, resilient};

/// An error.
#[derive(Clone, Debug)]
pub struct Broken(pub u32);

/// A price.
#[cache_data(ttl = "1h", refresh = "background")]
#[must_use]
pub fn price(symbol: &str, day: u32) -> u64 {
    symbol.len() as u64 + u64::from(day)
}

/// A price.
///
/// # Errors
/// Never.
#[cache_data(ttl = "1h", skip(conn))]
pub async fn report(conn: &Vec<u8>, day: &str, _trace: u32) -> Result<usize, Broken> {
    let given = std::future::ready(conn.capacity() + day.len()).await;
    if given == 0 { Err(Broken(1)) } else { Ok(given) }
}

/// A pool.
///
/// # Errors
/// Never.
#[cache_resource]
pub fn pool(url: &str) -> Result<Vec<u8>, Broken> {
    if url.is_empty() { Err(Broken(1)) } else { Ok(url.as_bytes().to_vec()) }
}

/// Eight.
#[cache_data]
#[must_use]
#[expect(clippy::too_many_arguments, clippy::many_single_char_names, reason = "it has them")]
pub fn eight(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
    a + b + c + d + e + f + g + h
}

/// Flags.
#[cache_data]
#[must_use]
#[expect(clippy::fn_params_excessive_bools, clippy::trivially_copy_pass_by_ref, reason = "it has them")]
pub fn flags(a: bool, b: bool, c: bool, d: bool, by: &u32) -> u32 {
    u32::from(a && b && c && d) * by
}

/// Generic.
#[cache_data]
#[must_use]
pub fn shown<T: std::fmt::Display + std::hash::Hash + Eq + Clone + Send + Sync + 'static>(value: &T) -> String {
    format!("{value}")
}

#[cache_data]
#[expect(dead_code, reason = "nobody calls it")]
fn unused(value: u32) -> u32 {
    value
}

#[cache_data]
#[expect(clippy::needless_pass_by_value, reason = "wanted")]
#[must_use]
/// Owned.
pub fn owned(name: String) -> usize {
    name.len()
}

/// Raw.
#[cache_data]
#[must_use]
pub fn r#match(r#type: &str) -> usize {
    r#type.len()
}

/// A shop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shop {
    /// Its number.
    pub id: u32,
}

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point(pub u32);

impl Point {
    /// Doubled.
    #[cache_data(include(self))]
    #[must_use]
    pub fn doubled(mut self, by: u32) -> u32 {
        self.0 *= by;
        self.0
    }

    /// Doubled.
    ///
    /// # Errors
    /// Never.
    #[resilient(cache(capacity = 3), include(self))]
    pub fn tripled(mut self, mut by: u32) -> Result<u32, Broken> {
        by *= 3;
        self.0 *= by;
        if by == 0 { Err(Broken(1)) } else { Ok(self.0) }
    }
}

impl Shop {
    /// Listed.
    #[cache_data(key: (u32, String) = (self.id, item.to_owned()))]
    #[must_use]
    pub fn listed(&self, item: &str) -> usize {
        self.id as usize + item.len()
    }
}

/// A product.
///
/// # Errors
/// Never.
#[resilient(cache(capacity = 10, ttl = "1h"), retry(max_attempts = 2), timeout = "1s")]
pub async fn product(id: u64, _trace: u32) -> Result<u64, Broken> {
    let given = std::future::ready(id).await;
    if given == 0 { Err(Broken(1)) } else { Ok(given) }
}

/// Two that live as long as each other.
///
/// # Errors
/// Never.
#[resilient(retry(max_attempts = 2))]
pub async fn both<'a>(one: &'a str, other: Option<&'a str>) -> Result<usize, Broken> {
    Ok(std::future::ready(one.len()).await + other.map_or(0, str::len))
}

/// A product.
///
/// # Errors
/// Never.
#[resilient(retry(max_attempts = 2))]
#[expect(clippy::too_many_arguments, clippy::many_single_char_names, reason = "it has them")]
pub fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> Result<u8, Broken> {
    if a == 0 { Err(Broken(1)) } else { Ok(a + b + c + d + e + f + g + h) }
}

/// Raw.
///
/// # Errors
/// Never.
#[resilient(retry(max_attempts = 2))]
pub fn r#loop(r#type: &str) -> Result<usize, Broken> {
    if r#type.is_empty() { Err(Broken(1)) } else { Ok(1) }
}

#[test]
fn what_is_written_is_used_as_it_was_meant() {
    assert_eq!(
        (price("a", 1), eight(1, 1, 1, 1, 1, 1, 1, 1), shown(&7), owned("ab".to_owned())),
        (2, 8, "7".to_owned(), 2)
    );
    assert_eq!((r#match("x"), r#match::stats().loads.stored, Shop { id: 1 }.listed("ab")), (1, 1, 3));
    assert_eq!(flags(true, true, true, true, &2), 2);
    assert!(r#loop("x").is_ok_and(|it| it == 1) && r#loop::policy().name().ends_with("::loop"));
    assert_eq!((Point(2).doubled(3), Point::doubled_handle().stats().entries), (6, 1));
    assert!(Point(2).tripled(3).is_ok_and(|it| it == 18) && Point(2).tripled(3).is_ok_and(|it| it == 18));
    assert!(pool("").is_err_and(|error| error.0 == 1) && pool("a").is_ok() && many(0, 1, 1, 1, 1, 1, 1, 1).is_err());
}

#[tokio::test]
async fn what_is_written_for_tasks_is_used_as_it_was_meant() {
    assert!(report(&vec![1], "mon", 1).await.is_ok());
    assert!(product(0, 1).await.is_err() && product(1, 1).await.is_ok());
    assert!(both("a", Some("bc")).await.is_ok_and(|length| length == 3));
}
