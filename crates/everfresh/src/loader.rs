//! The loaders that a call or a cache can have, brought into one form: run here, or detached to run elsewhere.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Failure;
use crate::event::RefreshStatus;
use crate::load::{IntoLoad, Load, Previous};

/// The error of a cache-wide loader, whose own type the cache does not carry.
pub type BoxError = Box<dyn StdError + Send + Sync>;

pub(crate) type Made<V, E> = Result<Load<V>, E>;
pub(crate) type MadeLater<V, E> = Pin<Box<dyn Future<Output = Made<V, E>> + Send>>;

/// Asked outside of all locks about what is about to be served.
pub(crate) type Gate<V> = fn(&V) -> bool;

/// Something that makes the value of a key, once.
pub(crate) trait Loader<K, V>: Sized {
    type Error: Send + Sync + 'static;

    /// Whether it looks at what there was.
    fn wants_previous(&self) -> bool;

    /// What the cache holds is asked before it is served; what may not be is removed, and loaded anew.
    fn gate(&self) -> Option<Gate<V>> {
        None
    }

    /// Whether this error says nothing about the key, so that it is not remembered (`negative_ttl`).
    fn is_passing(_error: &Self::Error) -> bool {
        false
    }

    /// Makes the value here and now.
    fn run(self, key: &K, previous: Option<Previous<V>>) -> impl Future<Output = Made<V, Self::Error>>;

    /// Whether [`detach`](Loader::detach) has something to give.
    fn can_detach(&self) -> bool;

    /// The same, able to run behind the caller's back; or why it cannot.
    fn detach(self) -> Result<Detached<K, V>, RefreshStatus>;
}

/// A loader that owns all it needs (contract R5).
pub(crate) struct Detached<K, V> {
    pub(crate) wants_previous: bool,
    pub(crate) work: Work<K, V>,
}

pub(crate) enum Work<K, V> {
    Blocking(BlockingWork<K, V>),
    Async(AsyncWork<K, V>),
}

type BlockingWork<K, V> = Box<dyn FnOnce(&K, Option<Previous<V>>) -> Made<V, Failure> + Send>;
pub(crate) type AsyncWork<K, V> = Box<dyn FnOnce(&K, Option<Previous<V>>) -> MadeLater<V, Failure> + Send>;

/// A closure that blocks. `PREVIOUS` says whether it looks at what there was.
pub(crate) struct Blocking<F, const PREVIOUS: bool>(pub(crate) F);

impl<K, V, F, R, const PREVIOUS: bool> Loader<K, V> for Blocking<F, PREVIOUS>
where
    F: FnOnce(Option<Previous<V>>) -> R + Send + 'static,
    R: IntoLoad<V>,
{
    type Error = R::Error;

    fn wants_previous(&self) -> bool {
        PREVIOUS
    }

    async fn run(self, _key: &K, previous: Option<Previous<V>>) -> Made<V, R::Error> {
        (self.0)(previous).into_load()
    }

    fn can_detach(&self) -> bool {
        true
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        let work = move |_key: &K, previous| (self.0)(previous).into_load().map_err(Failure::new);
        Ok(Detached { wants_previous: PREVIOUS, work: Work::Blocking(Box::new(work)) })
    }
}

/// A closure that blocks and borrows from its caller: it can only run here.
pub(crate) struct Inline<F>(pub(crate) F);

impl<K, V, F, R> Loader<K, V> for Inline<F>
where
    F: FnOnce(Option<Previous<V>>) -> R,
    R: IntoLoad<V>,
{
    type Error = R::Error;

    fn wants_previous(&self) -> bool {
        true
    }

    async fn run(self, _key: &K, previous: Option<Previous<V>>) -> Made<V, R::Error> {
        (self.0)(previous).into_load()
    }

    fn can_detach(&self) -> bool {
        false
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        Err(RefreshStatus::NoLoader)
    }
}

/// A closure that returns a future.
pub(crate) struct Async<F, const PREVIOUS: bool>(pub(crate) F);

impl<K, V, F, Fut, const PREVIOUS: bool> Loader<K, V> for Async<F, PREVIOUS>
where
    F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    V: Send + 'static,
{
    type Error = <Fut::Output as IntoLoad<V>>::Error;

    fn wants_previous(&self) -> bool {
        PREVIOUS
    }

    async fn run(self, _key: &K, previous: Option<Previous<V>>) -> Made<V, Self::Error> {
        (self.0)(previous).await.into_load()
    }

    fn can_detach(&self) -> bool {
        true
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        let work = move |_key: &K, previous| -> MadeLater<V, Failure> {
            Box::pin(async move { (self.0)(previous).await.into_load().map_err(Failure::new) })
        };
        Ok(Detached { wants_previous: PREVIOUS, work: Work::Async(Box::new(work)) })
    }
}

/// The loader that a cache has for all its keys.
pub(crate) struct WideLoader<K, V> {
    wants_previous: bool,
    work: WideWork<K, V>,
}

enum WideWork<K, V> {
    Blocking(Arc<WideBlocking<K, V>>),
    Async(Arc<WideAsync<K, V>>),
}

type WideBlocking<K, V> = dyn Fn(&K, Option<Previous<V>>) -> Made<V, BoxError> + Send + Sync;
type WideAsync<K, V> = dyn Fn(&K, Option<Previous<V>>) -> MadeLater<V, BoxError> + Send + Sync;

impl<K, V> Clone for WideLoader<K, V> {
    fn clone(&self) -> WideLoader<K, V> {
        let work = match &self.work {
            WideWork::Blocking(load) => WideWork::Blocking(Arc::clone(load)),
            WideWork::Async(load) => WideWork::Async(Arc::clone(load)),
        };
        WideLoader { wants_previous: self.wants_previous, work }
    }
}

impl<K: 'static, V: Send + 'static> WideLoader<K, V> {
    pub(crate) fn blocking<F, R>(wants_previous: bool, load: F) -> WideLoader<K, V>
    where
        F: Fn(&K, Option<Previous<V>>) -> R + Send + Sync + 'static,
        R: IntoLoad<V, Error: Into<BoxError>>,
    {
        let load = move |key: &K, previous| load(key, previous).into_load().map_err(Into::into);
        WideLoader { wants_previous, work: WideWork::Blocking(Arc::new(load)) }
    }

    pub(crate) fn asynchronous<F, Fut>(wants_previous: bool, load: F) -> WideLoader<K, V>
    where
        F: Fn(K, Option<Previous<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoLoad<V, Error: Into<BoxError>>> + Send + 'static,
        K: Clone,
    {
        let load = move |key: &K, previous| -> MadeLater<V, BoxError> {
            let later = load(key.clone(), previous);
            Box::pin(async move { later.await.into_load().map_err(Into::into) })
        };
        WideLoader { wants_previous, work: WideWork::Async(Arc::new(load)) }
    }

    pub(crate) fn is_async(&self) -> bool {
        matches!(self.work, WideWork::Async(_))
    }
}

impl<K: 'static, V: Send + 'static> Loader<K, V> for WideLoader<K, V> {
    type Error = BoxError;

    fn wants_previous(&self) -> bool {
        self.wants_previous
    }

    async fn run(self, key: &K, previous: Option<Previous<V>>) -> Made<V, BoxError> {
        match self.work {
            WideWork::Blocking(load) => load(key, previous),
            WideWork::Async(load) => load(key, previous).await,
        }
    }

    fn can_detach(&self) -> bool {
        true
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        let work = match self.work {
            WideWork::Blocking(load) => {
                Work::Blocking(Box::new(move |key: &K, previous| load(key, previous).map_err(Failure::new)))
            }
            WideWork::Async(load) => Work::Async(Box::new(move |key: &K, previous| {
                let later = load(key, previous);
                Box::pin(async move { later.await.map_err(Failure::new) })
            })),
        };
        Ok(Detached { wants_previous: self.wants_previous, work })
    }
}
