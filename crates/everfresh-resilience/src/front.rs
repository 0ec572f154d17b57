//! What may stand in front of a policy: a cache, of which this crate knows no more than this.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// A cache that stands in front of a policy: it answers what it can, and lets the layers do the rest.
///
/// `everfresh::Cache` is one, with the feature `resilience` of the crate `everfresh`. Whoever implements it promises
/// that only what `load` returned as `Ok` is stored, and that no error is remembered that may not be
/// ([`Failed::may_be_remembered`]).
pub trait Front<Q: ?Sized, V>: Send + Sync + 'static {
    /// A value that is fresh, at once. Nothing else is done for it, and `None` says nothing: `serve` looks again.
    fn fresh(&self, key: &Q) -> Option<V>;

    /// A value that can be served, or what `load` makes; once for everybody who asks meanwhile.
    ///
    /// `refuses` says whether `load` would fail at once. It is asked when a stale value is served and its refresh is
    /// about to start; if it holds, none is.
    fn serve<L, Fut, X>(
        &self,
        key: &Q,
        refuses: impl Fn() -> bool + Send,
        load: L,
    ) -> impl Future<Output = Result<Served<V>, Missed<X>>> + Send
    where
        L: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, X>> + Send + 'static,
        X: Failed;

    /// As [`serve`](Front::serve) on a thread.
    ///
    /// # Errors
    /// As [`serve`](Front::serve).
    fn serve_blocking<L, X>(&self, key: &Q, refuses: impl Fn() -> bool, load: L) -> Result<Served<V>, Missed<X>>
    where
        L: FnOnce() -> Result<V, X> + Send + 'static,
        X: Failed;

    /// What has to stand around a blocking function that `load` runs on another thread; called where `load` runs.
    ///
    /// Nothing unless told: it is for a front that knows by its thread who asks from inside a load.
    fn carried() -> Carried {
        Carried::default()
    }
}

/// What stands around a function of which another knows by its thread what it belongs to.
#[derive(Default)]
pub struct Carried {
    /// Dropped when whoever waits for the function waits no longer.
    _while_waiting: Option<Box<dyn Any>>,
    pub(crate) around: Option<Around>,
}

pub(crate) type Around = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

impl Carried {
    /// `around` is called on the other thread, with what it has to call there; `while_waiting` is kept for as long as
    /// somebody waits for that.
    pub fn new(while_waiting: impl Any, around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) -> Carried {
        Carried { _while_waiting: Some(Box::new(while_waiting)), around: Some(Arc::new(around)) }
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("is_around", &self.around.is_some()).finish_non_exhaustive()
    }
}

/// What a front has to know of an error.
pub trait Failed: Send + Sync + 'static {
    /// Whether it may be answered with for a while in place of another load: the function was called, and failed.
    ///
    /// What a layer refused, or a predicate rejected, says nothing about the key.
    fn may_be_remembered(&self) -> bool;
}

/// A value from the front, and how it came about.
#[derive(Clone, Debug)]
pub struct Served<V> {
    /// The value.
    pub value: V,
    /// How it came about.
    pub how: How,
}

/// How a value from the front came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum How {
    /// It was there, and fresh.
    Fresh,
    /// It was there, and stale.
    Stale,
    /// It was loaded by this call.
    Loaded,
    /// It was loaded by another call that was under way.
    Coalesced,
    /// A load failed, now or a moment ago, and an old value was served.
    Fallback,
}

/// Why the front has no value.
#[derive(Debug)]
#[non_exhaustive]
pub enum Missed<X> {
    /// The load failed; shared by everybody who waited for it.
    Load(Arc<X>),
    /// An earlier load failed, and that is remembered.
    Remembered(Arc<X>),
    /// The front gave up by itself.
    Front(Arc<dyn StdError + Send + Sync>),
    /// The front gave up by itself after the call had waited for another's load.
    Waited(Arc<dyn StdError + Send + Sync>),
}
