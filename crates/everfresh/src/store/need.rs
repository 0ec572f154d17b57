//! What a policy is told by whoever needs room.

use crate::store::table::Place;

/// Where somebody needs room.
#[derive(Clone, Copy)]
pub(super) struct Need {
    pub(super) home: usize,
    /// Must stay: it is being replaced.
    pub(super) spared: Option<Place>,
    /// The entries of the shard.
    pub(super) len: usize,
}
