//! Who there is: the names, statistics and ends of all cached functions, and the pool that refreshes them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::cache::Cache;
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::pool::RefreshPool;
use crate::spawn::Workers;
use crate::stats::Stats;

const DEFAULT_MAX_REFRESHES: usize = 4;

/// What is registered under a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A function marked `#[cache_data]`, or `#[resilient]` with a cache: each caller owns what it gets.
    Data,
    /// A function marked `#[cache_resource]`: all callers share one.
    Resource,
    /// A cache that was registered by hand.
    Cache,
}

/// All cached functions that have been called, and caches that were registered by hand, while they live.
pub struct Registry {
    members: Mutex<Vec<Registered>>,
}

/// The one registry of the process.
///
/// A function enters it with its first call. It keeps nothing alive: a cache that is gone is not in it any more.
pub fn registry() -> &'static Registry {
    static REGISTRY: Registry = Registry { members: Mutex::new(Vec::new()) };
    &REGISTRY
}

impl Registry {
    /// Registers a cache under a name, for as long as somebody else keeps a handle to it.
    pub fn register<K: Key, V: Value, S: Hasher>(&self, name: &'static str, cache: &Cache<K, V, S>) {
        self.enter(Kind::Cache, name, cache);
    }

    pub(crate) fn enter<K: Key, V: Value, S: Hasher>(&self, kind: Kind, name: &'static str, cache: &Cache<K, V, S>) {
        let handle: Arc<dyn Member> = Arc::new(Arc::downgrade(&cache.engine));
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if members.len() == members.capacity() {
            members.retain(|member| member.handle.is_there());
        }
        members.push(Registered { name, kind, handle });
    }

    /// All that are alive now, in the order of their names.
    pub fn all(&self) -> Vec<Registered> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| member.handle.is_there());
        let mut all = members.clone();
        drop(members);
        all.sort_by_key(|member| member.name);
        all
    }

    /// The names of all that are alive now.
    pub fn names(&self) -> Vec<&'static str> {
        self.all().iter().map(Registered::name).collect()
    }

    /// The one of this name; instantiations of a generic function share theirs, then it is the first of them.
    pub fn get(&self, name: &str) -> Option<Registered> {
        self.all().into_iter().find(|member| member.name == name)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// One function or cache in the [`Registry`]; does not keep it alive.
#[derive(Clone)]
pub struct Registered {
    name: &'static str,
    kind: Kind,
    handle: Arc<dyn Member>,
}

impl Registered {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A snapshot of its counters; `None` if it is gone meanwhile.
    pub fn stats(&self) -> Option<Stats> {
        self.handle.stats()
    }

    /// Forgets everything it holds; resources are let go of now.
    pub fn clear(&self) {
        self.handle.clear(self.kind == Kind::Resource);
    }

    /// Makes stale everything it holds.
    pub fn expire(&self) {
        self.handle.expire();
    }

    /// Forgets what has the tag.
    pub fn invalidate_tag(&self, tag: &str) {
        self.handle.invalidate_tag(tag);
    }

    /// Makes stale what has the tag.
    pub fn expire_tag(&self, tag: &str) {
        self.handle.expire_tag(tag);
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// All of one kind; what is done to them is done outside of the registry's lock.
pub(crate) fn each(kind: Kind) -> impl Iterator<Item = Registered> {
    registry().all().into_iter().filter(move |member| member.kind == kind)
}

/// A cache of whatever types, which may be gone.
trait Member: Send + Sync {
    fn is_there(&self) -> bool;
    fn stats(&self) -> Option<Stats>;
    fn clear(&self, at_once: bool);
    fn expire(&self);
    fn invalidate_tag(&self, tag: &str);
    fn expire_tag(&self, tag: &str);
    fn close(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = usize> + Send>>;
}

impl<K: Key, V: Value, S: Hasher> Member for Weak<Engine<K, V, S>> {
    fn is_there(&self) -> bool {
        self.strong_count() > 0
    }

    fn stats(&self) -> Option<Stats> {
        Some(Cache { engine: self.upgrade()? }.stats())
    }

    fn clear(&self, at_once: bool) {
        let Some(engine) = self.upgrade() else { return };
        let cache = Cache { engine };
        if at_once { cache.clear_at_once() } else { cache.clear() }
    }

    fn expire(&self) {
        if let Some(engine) = self.upgrade() {
            Cache { engine }.expire_all();
        }
    }

    fn invalidate_tag(&self, tag: &str) {
        if let Some(engine) = self.upgrade() {
            Cache { engine }.invalidate_tag(tag);
        }
    }

    fn expire_tag(&self, tag: &str) {
        if let Some(engine) = self.upgrade() {
            Cache { engine }.expire_tag(tag);
        }
    }

    fn close(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = usize> + Send>> {
        let engine = self.upgrade();
        Box::pin(async move {
            match engine {
                Some(engine) => Cache { engine }.close_async(deadline).await,
                None => 0,
            }
        })
    }
}

/// What all cached functions share: the pool that refreshes them.
#[derive(Debug)]
pub struct Runtime {
    pool: RefreshPool,
    workers: Workers,
}

/// The one runtime of all cached functions.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let workers = Workers::new();
        Runtime { pool: RefreshPool::with_spawner(DEFAULT_MAX_REFRESHES, workers.clone()), workers }
    })
}

impl Runtime {
    /// At most so many refreshes of cached functions run at once, all of them together; 4 by default, 0 for none ever. Counts
    /// from the next refresh on.
    pub fn max_refreshes(&self, refreshes: usize) -> &Runtime {
        self.pool.set_max_refreshes(refreshes);
        self
    }

    /// The pool, to share it with caches of your own.
    pub fn pool(&self) -> RefreshPool {
        self.pool.clone()
    }

    /// A pool with a bound of its own on the same workers.
    #[doc(hidden)]
    pub fn pool_of(&self, refreshes: usize) -> RefreshPool {
        RefreshPool::with_spawner(refreshes, self.workers.clone())
    }
}

/// Ends the background work of all cached functions and registered caches: starts no more of it, waits until what runs has
/// ended or `deadline` has passed, and says how much it left running (contract R8).
///
/// Calls go on as before, without refreshes. Resources stay in their caches; let go of them with
/// [`resource::clear_all`](crate::resource::clear_all). It blocks; in a task use [`close_async`]. The deadline is one of the clock of
/// each cache: a [`ManualClock`](crate::ManualClock) must go on meanwhile, or a refresh that hangs is waited for without an end.
pub fn close(deadline: Duration) -> usize {
    drive(close_async(deadline))
}

/// As [`close`] in a task.
pub async fn close_async(deadline: Duration) -> usize {
    let closing: FuturesUnordered<_> =
        registry().all().into_iter().map(|member| member.handle.close(deadline)).collect();
    closing.fold(0, |left, more| async move { left + more }).await
}
