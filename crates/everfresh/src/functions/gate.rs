//! A loader with a gate before it: what the cache holds is served only if it is still good.

use crate::event::RefreshStatus;
use crate::load::Previous;
use crate::loader::{Detached, Gate, Loader, Made};

/// A loader, and the question that the old value has to pass (contract V2).
pub(crate) struct Gated<L, V> {
    pub(crate) loader: L,
    pub(crate) gate: Option<Gate<V>>,
}

impl<K, V, L: Loader<K, V>> Loader<K, V> for Gated<L, V> {
    type Error = L::Error;

    fn wants_previous(&self) -> bool {
        self.loader.wants_previous()
    }

    fn gate(&self) -> Option<Gate<V>> {
        self.gate
    }

    async fn run(self, key: &K, previous: Option<Previous<V>>) -> Made<V, L::Error> {
        self.loader.run(key, previous).await
    }

    fn can_detach(&self) -> bool {
        self.loader.can_detach()
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        self.loader.detach()
    }
}
