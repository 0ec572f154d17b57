//! All functions marked `#[cache_resource]` at once.

use crate::functions::{Kind, each};

/// Lets go of all resources: each is released now, or when its last holder lets go of it.
pub fn clear_all() {
    each(Kind::Resource).for_each(|function| function.clear());
}

/// Makes stale all resources: the next caller of each gets the old one once more if a window allows.
pub fn expire_all() {
    each(Kind::Resource).for_each(|function| function.expire());
}
