//! What a second level must do: the seam to a store that outlives the process or is shared by a fleet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::load::Loaded;
use crate::loader::BoxError;

/// A future of a second level.
pub type LevelFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A slower, larger store behind the cache: asked by the one flight of a key before its loader is, and told what became of the
/// key here (contract S1).
///
/// # What it is told
/// * [`put`](SecondLevel::put): what a loader made, or said to hold still ([`Load::NotModified`](crate::Load::NotModified)),
///   after it was stored here; nothing that was rejected or overtaken.
/// * [`remove`](SecondLevel::remove): a key that was inserted by hand, removed, invalidated, expired, or found absent, or whose
///   new value could not be kept here.
/// * [`remove_tag`](SecondLevel::remove_tag), [`clear`](SecondLevel::clear): the same by tag, and of all. A predicate cannot be
///   asked about what is only there, so that `invalidate_matching` and `expire_matching` clear it.
///
/// All but `put` is told in the background, one after the other. Until it has been told, no flight is given what it may still
/// hold of the keys and tags concerned: those loads go to the loader (contract I1).
///
/// # What it may do
/// It may forget anything at any time. It may fail: an error, or a panic, is counted, told, and otherwise ignored; what it could
/// not be told is told again later, before anything that this may concern is asked of it. A future that is dropped must have no
/// effect afterwards.
///
/// # What it owes
/// It bounds its own time, and fails when that is over: whoever leads a flight waits for `get` before the loader is run, and for
/// `put` before it has the value. Nothing but [`load_timeout`](crate::Builder::load_timeout) ends that wait, as it ends a load.
///
/// A value that it gives is stored with the lifetime that it carries, counted from now: an implementation keeps a stamp of its
/// own and gives what is left of it. As nobody knows then how long it would live if it still held, a loader is not shown such a
/// value ([`Previous`](crate::Previous)) and makes it anew. Whoever shares it with other processes keeps the moments at which keys, tags and all were
/// struck for as long as a load may take, and refuses a `put` whose load began before (contract S2).
pub trait SecondLevel<K, V>: Send + Sync + 'static {
    /// The value of a key, with what is left of its lifetime. One that may be served only after a failure is not taken, nor one
    /// that [`store_if`](crate::Builder::store_if) rejects: then the loader is asked.
    fn get<'a>(&'a self, key: &'a K) -> LevelFuture<'a, Option<Loaded<V>>>;

    /// Keeps what a loader made, whose load began so long ago. It always carries a lifetime: its own, or the cache's.
    fn put<'a>(&'a self, key: &'a K, loaded: &'a Loaded<V>, begun_ago: Duration) -> LevelFuture<'a, ()>;

    /// Forgets a key. When this has completed, `get` must not give a value of which the `put` had completed before.
    fn remove<'a>(&'a self, key: &'a K) -> LevelFuture<'a, ()>;

    /// Forgets, as [`remove`](SecondLevel::remove) does, all that carries the tag.
    ///
    /// It need not find them: it may note the moment, and compare when one is asked for.
    fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()>;

    /// Forgets all, as [`remove`](SecondLevel::remove) does.
    fn clear(&self) -> LevelFuture<'_, ()>;
}

/// A level to which the program keeps a handle, or that is chosen while it runs (`Arc<dyn SecondLevel<K, V>>`).
impl<K, V, L: SecondLevel<K, V> + ?Sized> SecondLevel<K, V> for Arc<L> {
    fn get<'a>(&'a self, key: &'a K) -> LevelFuture<'a, Option<Loaded<V>>> {
        (**self).get(key)
    }

    fn put<'a>(&'a self, key: &'a K, loaded: &'a Loaded<V>, begun_ago: Duration) -> LevelFuture<'a, ()> {
        (**self).put(key, loaded, begun_ago)
    }

    fn remove<'a>(&'a self, key: &'a K) -> LevelFuture<'a, ()> {
        (**self).remove(key)
    }

    fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()> {
        (**self).remove_tag(tag)
    }

    fn clear(&self) -> LevelFuture<'_, ()> {
        (**self).clear()
    }
}
