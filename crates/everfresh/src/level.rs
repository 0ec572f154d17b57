//! What a second level must do: the seam to a store that outlives the process or is shared by a fleet.

use std::future::Future;
use std::pin::Pin;

use crate::load::Loaded;
use crate::loader::BoxError;

/// A future of a second level.
pub type LevelFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A slower, larger store behind the cache: asked by the one flight of a key before its loader is, and told what the loader
/// made (contract S1).
///
/// An error is counted, told, and otherwise ignored: the lookup goes on as if there were no second level. A value that it
/// gives is stored with the lifetime that it carries; an implementation that keeps wall-clock stamps gives what is left of it.
///
/// This is a seam, and it has limits that its first real implementation will have to lift: `remove` and `invalidate` of a key
/// reach it in the background, so that a load which begins at once may still find the old value there; invalidation by tag, by
/// predicate and of all do not reach it at all.
pub trait SecondLevel<K, V>: Send + Sync + 'static {
    /// The value of a key, with what is left of its lifetime.
    fn get<'a>(&'a self, key: &'a K) -> LevelFuture<'a, Option<Loaded<V>>>;

    /// Keeps what a loader made.
    fn put<'a>(&'a self, key: &'a K, loaded: &'a Loaded<V>) -> LevelFuture<'a, ()>;

    /// Forgets a key that was removed, invalidated or found absent.
    fn remove<'a>(&'a self, key: &'a K) -> LevelFuture<'a, ()>;
}
