//! The second level beneath a flight: asked before the loader, told after it, and never in the way (contract S1).

use std::future::Future;
use std::sync::Arc;

use crate::engine::{Engine, Hasher, Key, Value};
use crate::event::Event;
use crate::flight::{Flight, Purpose, leading};
use crate::landing::Origin;
use crate::load::Load;
use crate::loader::{BoxError, Made};

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Makes the value of a flight: a load asks the second level first, then `loader`; a refresh is there to ask the loader.
    pub(crate) async fn make_by<E>(
        &self,
        flight: &Arc<Flight<K, V>>,
        loader: impl Future<Output = Made<V, E>>,
    ) -> (Made<V, E>, Origin) {
        if flight.purpose == Purpose::Load
            && let Some(found) = self.ask_second_level(&flight.key).await
        {
            return (Ok(found), Origin::SecondLevel);
        }
        let made = leading(flight, loader).await;
        if let Ok(load) = &made {
            self.tell_second_level(&flight.key, load).await;
        }
        (made, Origin::Loader)
    }

    async fn ask_second_level(&self, key: &K) -> Option<Load<V>> {
        let level = self.second_level.as_ref()?;
        match level.get(key).await {
            Ok(found) => found.map(Load::Loaded),
            Err(error) => {
                self.note_level_failure(key, &error);
                None
            }
        }
    }

    async fn tell_second_level(&self, key: &K, load: &Load<V>) {
        let Some(level) = &self.second_level else { return };
        let told = match load {
            Load::Loaded(loaded) => level.put(key, loaded).await,
            Load::Absent => level.remove(key).await,
            Load::NotModified => Ok(()),
        };
        if let Err(error) = told {
            self.note_level_failure(key, &error);
        }
    }

    /// Tells the second level in the background that a key is to be forgotten.
    pub(crate) fn forget_in_second_level(self: &Arc<Self>, key: K) {
        if self.second_level.is_none() {
            return;
        }
        let engine = Arc::clone(self);
        let running = self.background.begin();
        let forget = async move {
            let _running = running;
            if let Some(level) = &engine.second_level
                && let Err(error) = level.remove(&key).await
            {
                engine.note_level_failure(&key, &error);
            }
        };
        if let Err(error) = self.pool.spawner().spawn_task(Box::pin(forget)) {
            self.note_unavailable(self.clock.now(), &error);
        }
    }

    fn note_level_failure(&self, key: &K, error: &BoxError) {
        self.counters.level_failed();
        self.listeners.tell(&Event::LevelFailed { key, reason: &error.to_string() });
    }
}
