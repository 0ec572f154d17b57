//! Wrong use of the macros, and of what keys and loaders a cache takes, is refused at compile time, in words that name the cure.
#![cfg(all(feature = "macros", not(any(everfresh_shuttle, everfresh_loom))))]
#![allow(missing_docs, reason = "tests")]

/// What the compiler says of unmet bounds differs a little from version to version; `TRYBUILD=overwrite` writes it anew.
/// No type that the compiler names by its file (a closure, an async block) may stand in these: in a long folder it says it in other words.
#[test]
fn wrong_use_is_refused_with_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}

/// As above, of `#[resilient]`.
#[cfg(feature = "resilience")]
#[test]
fn wrong_use_of_layers_is_refused_with_the_cure() {
    trybuild::TestCases::new().compile_fail("tests/ui_resilient/*.rs");
}
