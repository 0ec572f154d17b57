//! All functions marked `#[cache_data]` at once, and those marked `#[resilient]` that have a cache.

use crate::functions::{Kind, each};

/// Forgets everything that any `#[cache_data]` function holds, or a `#[resilient]` one; what is being loaded is not stored.
pub fn clear_all() {
    each(Kind::Data).for_each(|function| function.clear());
}

/// Makes stale everything that any `#[cache_data]` function holds, or a `#[resilient]` one.
pub fn expire_all() {
    each(Kind::Data).for_each(|function| function.expire());
}

/// Forgets what has the tag, in all `#[cache_data]` functions.
pub fn invalidate_tag(tag: &str) {
    each(Kind::Data).for_each(|function| function.invalidate_tag(tag));
}

/// Makes stale what has the tag, in all `#[cache_data]` functions.
pub fn expire_tag(tag: &str) {
    each(Kind::Data).for_each(|function| function.expire_tag(tag));
}
