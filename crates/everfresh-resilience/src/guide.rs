//! The guide: what each layer does to a call, and how others call it. All code on these pages runs as tests.
//!
//! | page | answers |
//! |---|---|
//! | [`layers`] | When does which layer do what, what does it tell, and what do people trip over? |
//! | [`cached`] | What happens to layers behind a cache: hits, refreshes, failures, shutdown? |
//! | [`from_pyresilience`] | I know pyresilience, or its `ResultCache`: what is it called here? |

#[doc = include_str!("docs/layers.md")]
pub mod layers {}

#[doc = include_str!("docs/cached.md")]
pub mod cached {}

#[doc = include_str!("docs/from_pyresilience.md")]
pub mod from_pyresilience {}
