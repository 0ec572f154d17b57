//! The guide: one page for each thing that a cache does to the program around it.
//!
//! Every page goes the same way: the short answer, the trouble that it spares you, what happens at which time of the clock,
//! the call, and what people trip over. All code on these pages runs as tests; where a promise is made, the clause of the
//! project's `CONTRACT.md` stands beside it.
//!
//! | page | answers |
//! |---|---|
//! | [`stale`] | How old may a value be, and who waits when it is older? |
//! | [`one_load`] | A thousand callers want the same missing key: what happens, also when the load fails, panics or hangs? |
//! | [`refresh`] | Who renews a value behind its readers, how many at once, and what if that fails? |
//! | [`invalidation`] | The data changed: how does everybody stop seeing the old, whatever is under way? |
//! | [`capacity`] | How much room does it take, and who has to go? |
//! | [`watching`] | What was this lookup? What does the cache do all day? |
//! | [`testing`] | How do I test code that caches, without sleeping? |
//! | [`when_not`] | When is a cache the wrong tool, and what does this one not do? |
//! | [`from_others`] | I know moka, quick_cache, cached, Caffeine, FusionCache, `lru_cache`: what is it called here? |
#![cfg_attr(
    feature = "macros",
    doc = "| [`functions`] | A cache as one line above a function; from Streamlit, `functools`, or the `cached` crate? |"
)]

#[doc = include_str!("docs/stale.md")]
pub mod stale {}

#[doc = include_str!("docs/one_load.md")]
pub mod one_load {}

#[doc = include_str!("docs/refresh.md")]
pub mod refresh {}

#[doc = include_str!("docs/invalidation.md")]
pub mod invalidation {}

#[doc = include_str!("docs/capacity.md")]
pub mod capacity {}

#[doc = include_str!("docs/watching.md")]
pub mod watching {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/when_not.md")]
pub mod when_not {}

#[doc = include_str!("docs/from_others.md")]
pub mod from_others {}

#[cfg(feature = "macros")]
#[doc = include_str!("docs/functions.md")]
pub mod functions {}

/// The README's code, which has to run as it stands there.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
