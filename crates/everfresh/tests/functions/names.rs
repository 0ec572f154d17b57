//! What a user may call things: nothing that the macros write meets it, and nothing that they need has to be in scope.

use std::sync::Arc;

use everfresh::{Ending, cache_data, registry};

#[test]
fn arguments_may_be_called_what_the_macros_call_their_own() {
    #[cache_data(ttl = "1h", refresh = "background", tags("a", tags), negative_ttl = "1s", skip(items, keys, refresh))]
    fn every(tags: u32, error: u32, items: u32, refresh: &str, keys: u32, load: u32, key: &str) -> Result<u32, String> {
        Ok(tags + error + items + keys + load + (refresh.len() + key.len()) as u32)
    }
    #[cache_data]
    fn others(cache: u32, value: u32, function: u32, handle: u32, answer: u32, made: u32, this: u32) -> u32 {
        cache + value + function + handle + answer + made + this
    }
    assert_eq!(every(1, 1, 1, "a", 1, 1, "a"), Ok(7));
    assert_eq!(every::warm(1, "a", 1, [(1, 1, 1, "a"), (2, 1, 1, "b")]), 2);
    assert_eq!(every::refresh(1, 1, 2, "a", 1, 1, "a").wait(), Some(Ending::Stored));
    assert_eq!((every::peek(1, 1, 1, "a"), every::peek(2, 1, 1, "b")), (Some(8), Some(8)));
    assert_eq!((others(1, 1, 1, 1, 1, 1, 1), others::peek(1, 1, 1, 1, 1, 1, 1)), (7, Some(7)));
}

#[test]
fn raw_names_are_told_without_their_mark() {
    #[cache_data(ttl = "1m", refresh = "background", skip(r#fn))]
    fn r#match(r#type: &str, r#fn: u32) -> String {
        format!("{}{}", r#type, r#fn)
    }
    assert_eq!((r#match("a", 1), r#match("a", 2)), ("a1".into(), "a1".into()));
    assert!(registry().get("functions::names::match").is_some());
}

/// No prelude, and names of its own for what that has.
mod bare {
    #![no_implicit_prelude]
    #![allow(non_camel_case_types)]

    pub trait Send {}
    pub trait Sync {}
    pub trait Fn {}
    pub struct String;
    pub struct Vec;

    #[::everfresh::cache_data(ttl = "1h", refresh = "background", negative_ttl = "1s", tags("a"), timeout = "1h")]
    pub fn length(
        of: &::std::primitive::str,
    ) -> ::std::result::Result<::std::primitive::usize, ::everfresh::LoadError<::std::io::Error>> {
        ::std::result::Result::Ok(of.len())
    }

    #[::everfresh::cache_resource(ttl = "1h", validate = |_| true, on_release = ::std::mem::drop)]
    pub fn shared(id: u32) -> u32 {
        id
    }

    #[::everfresh::cache_data(key = id % 2)]
    pub fn parity(id: u32) -> u32 {
        id % 2
    }
}

#[test]
fn nothing_has_to_be_in_scope() {
    assert_eq!((bare::length("abc").unwrap(), *bare::shared(1), bare::parity(3)), (3, 1, 1));
    assert_eq!((bare::length::warm(["ab"]), bare::shared::warm([1, 2])), (1, 2));
    drop(bare::shared::subscribe(|_| {}));
}

/// Functions that another macro writes.
macro_rules! cached {
    ($name:ident, $argument:ident: $type:ty, $result:ty, $life:literal, $room:expr, $body:block) => {
        #[cache_data(ttl = $life, refresh = "background", capacity = $room, skip(extra))]
        fn $name($argument: $type, extra: u32) -> $result $body
    };
}
cached!(of_number, number: u32, Option<String>, "1h", 10, { Some(format!("{number}")) });
cached!(of_text, text: &str, Result<String, String>, "2 days", 20, { Ok(text.to_owned()) });

#[test]
fn a_macro_may_write_a_cached_function() {
    assert_eq!((of_number(1, 0), of_text("a", 0)), (Some("1".into()), Ok("a".into())));
    assert_eq!((of_number::warm(0, [2]), of_text::warm(0, ["b"]), of_text::peek("b")), (1, 1, Some("b".into())));
    assert_eq!((of_number::stats().capacity, of_text::stats().capacity), (Some(10), Some(20)));
}

/// What is put in for a variable stays one operand, as it does in a function without an attribute.
macro_rules! computed {
    ($plain:ident, $cached:ident, $argument:ident, $sum:expr, $make:expr, $below:literal, $reference:ty) => {
        computed!(@ $plain, $argument, $sum, $make, $below, $reference;);
        computed!(@ $cached, $argument, $sum, $make, $below, $reference; #[cache_data(capacity = $sum * 10)]);
    };
    (@ $name:ident, $argument:ident, $sum:expr, $make:expr, $below:literal, $reference:ty; $(#[$attribute:meta])?) => {
        $(#[$attribute])?
        fn $name($argument: i64) -> i64 {
            let one: i64 = 1;
            let borrowed: $reference = "abc";
            let span = match $argument {
                $below..=0 => 7,
                _ => vec![$sum * 2; 2].into_iter().sum::<i64>(),
            };
            $sum * 2 + $make() - $below.pow(2) + if one == $sum * 2 { 0 } else { one } + span + borrowed.len() as i64
        }
    };
}
computed!(by_itself, by_cache, x, 1 + 1, || 5, -3_i64, &'static str);

#[test]
fn what_a_macro_puts_in_stays_one_operand() {
    assert_eq!((by_cache(-1), by_cache(1)), (by_itself(-1), by_itself(1)));
    assert_eq!(by_cache::stats().capacity, Some(20));
}

#[test]
fn what_is_static_stays_static() {
    #[cache_data(ttl = "1h", refresh = "background", skip(greeting))]
    fn greet(name: &'static str, greeting: &'static [&'static str]) -> &'static str {
        greeting.iter().find(|word| word.starts_with(name)).unwrap_or(&name)
    }
    assert_eq!((greet("a", &["abc"]), greet::warm(&["x"], ["b"]), greet::peek("b")), ("abc", 1, Some("b")));
}

#[derive(Clone, Hash, PartialEq, Eq)]
struct Account {
    id: u32,
}

impl Account {
    #[cache_data(include(self))]
    fn closed(self, day: u32) -> u32 {
        self.id + day
    }

    #[cache_data(ttl = "1h", refresh = "background", include(self), tags("account", self.id))]
    fn shared(self: Arc<Self>, day: u32) -> u32 {
        self.id * day
    }

    #[cache_data(key = (self.id, day % 7))]
    fn weekly(&self, day: u32) -> u32 {
        self.id + day % 7
    }

    #[cache_data]
    #[cfg(any())]
    fn gone(&self, with: Nothing) -> u32 {
        0
    }
}

struct Shelf<T>(T);

impl<T: Clone + Send + Sync + 'static> Shelf<T> {
    #[cache_data(key = size_of_val(&self.0) + of)]
    fn size(&self, of: usize) -> usize {
        size_of::<T>() + of
    }
}

#[test]
fn self_may_be_given_away_shared_or_part_of_a_key_of_unknown_type() {
    let account = Account { id: 2 };
    assert_eq!((account.clone().closed(1), Account { id: 3 }.closed(1), account.clone().closed(1)), (3, 4, 3));
    assert_eq!(Account::closed_handle().stats().hits, 1);
    let shared = Arc::new(account);
    assert_eq!(
        (Arc::clone(&shared).shared(5), Arc::clone(&shared).shared_refresh(5).wait()),
        (10, Some(Ending::Stored))
    );
    everfresh::data::invalidate_tag("2");
    assert!(Account::shared_handle().peek(&(Arc::clone(&shared), 5)).is_none());
    assert_eq!((shared.weekly(1), shared.weekly(8), Account::weekly_handle().stats().entries), (3, 3, 1));
    assert_eq!(shared.weekly_refresh(8).wait(), Some(Ending::Stored));
    shared.weekly_clear_for(1);
    assert_eq!(Account::weekly_handle().stats().left.invalidated, 1);
    assert_eq!((Shelf(1_u8).size(1), Shelf(1_u16).size(1)), (2, 3));
    assert_eq!((Shelf::<u8>::size_handle().stats().entries, Shelf::<u32>::size_handle().stats().entries), (1, 0));
}

struct Timed;

impl Timed {
    const LIFE: std::time::Duration = std::time::Duration::from_secs(60);

    #[cache_data(ttl = Self::LIFE)]
    fn of(x: u32) -> u32 {
        x
    }
}

/// It had to say `associated`, too, and the compiler's words did not lead there.
#[test]
fn self_in_an_argument_of_the_attribute_tells_that_it_stands_in_an_impl() {
    assert_eq!((Timed::of(1), Timed::of_handle().peek(&1)), (1, Some(1)));
}

/// A body with an `impl` in one of its blocks was taken for a method's, and the compiler knew no `Self` there.
#[test]
fn the_self_of_a_type_within_a_body_is_not_the_functions() {
    #[cache_data]
    fn within(x: u32) -> u32 {
        let inner = || {
            struct Inner(u32);
            impl Inner {
                fn new(x: u32) -> Self {
                    Self(x)
                }
            }
            Inner::new(x).0
        };
        inner()
    }
    assert_eq!((within(3), within::peek(3)), (3, Some(3)));
}

#[test]
fn methods_are_told_apart_by_their_types() {
    struct One;
    struct Other<T>(T);
    impl One {
        #[cache_data]
        fn same(&self) -> u32 {
            1
        }
    }
    impl<T: 'static> Other<T> {
        #[cache_data]
        fn same(&self) -> u32 {
            2
        }
    }
    assert_eq!((One.same(), Other(1_u8).same()), (1, 2));
    for name in ["::One::same", "::Other<u8>::same"]
        .map(|end| format!("{}{end}", path_of(methods_are_told_apart_by_their_types)))
    {
        let name = &*name;
        assert!(registry().get(name).is_some(), "{name}: {:?}", registry());
    }
}

fn path_of<T>(_item: T) -> &'static str {
    std::any::type_name::<T>()
}
