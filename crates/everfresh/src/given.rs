//! What those who waited for a load are given.

use crate::error::Failure;
use crate::moment::Moment;
use crate::sync::raced::{Mutex, lock};

/// What those who waited get.
#[derive(Debug)]
pub(crate) enum Landing<V> {
    Value {
        value: V,
        loaded_at: Moment,
        /// Else one of its tags may have been invalidated after it began, and who joined after that must load anew.
        good_for_all: bool,
        from_second_level: bool,
    },
    Failed(Handed),
    Absent,
    TimedOut,
}

/// An error for those who waited: of several each gets a handle, and one who is alone the only one, whoever still holds the flight.
#[derive(Debug)]
pub(crate) struct Handed(Mutex<Option<Failure>>);

impl Handed {
    pub(crate) fn new(failure: Failure) -> Handed {
        Handed(Mutex::new(Some(failure)))
    }

    /// The error, for one of those who waited, or for the only one.
    pub(crate) fn failure(&self, only: bool) -> Option<Failure> {
        let mut held = lock(&self.0);
        if only { held.take() } else { held.clone() }
    }
}
