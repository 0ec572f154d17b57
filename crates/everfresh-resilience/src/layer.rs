//! A policy as a tower `Layer`, whole or one layer alone (feature `tower`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::bulkhead::{Bulkhead, Place};
use crate::circuit::CircuitBreaker;
use crate::error::{ConfigError, Error};
use crate::policy::Policy;
use crate::rate::RateLimit;
use crate::retry::Retry;
use crate::stack::Stack;
use crate::timeout::{Hedge, Timeout};
use crate::work::Work;

/// A [`Policy`] as a [`Layer`]: clones of it, and all services made by it, share the policy.
///
/// The service's error `E` becomes [`Error<E>`]; layers one in another give `Error<Error<E>>`, which
/// [`flatten`](Error::flatten) makes one again. The error with which a service fails to become ready is that of the next
/// call, so that the layers see it. Requests are cloned for each further attempt; see
/// [`OnceLayer`] for those that cannot be. Each call costs one allocation more than [`Policy::call`].
pub struct PolicyLayer<V, E> {
    policy: Policy<V, E>,
}

/// As [`PolicyLayer`] for requests that cannot be cloned, and so for policies that try once.
pub struct OnceLayer<V, E> {
    policy: Policy<V, E>,
}

impl<V, E> Policy<V, E> {
    /// The policy as a tower layer.
    pub fn layer(&self) -> PolicyLayer<V, E> {
        PolicyLayer { policy: self.clone() }
    }

    /// The policy as a tower layer for requests that cannot be cloned.
    ///
    /// # Errors
    /// If it retries or hedges.
    pub fn once_layer(&self) -> Result<OnceLayer<V, E>, ConfigError> {
        ConfigError::refuse(
            self.stack.retry.is_some_and(|retry| retry.attempts > 1) || self.stack.hedge.is_some(),
            "a policy that retries or hedges has to clone requests; use Policy::layer",
        )?;
        Ok(OnceLayer { policy: self.clone() })
    }
}

/// Leaves a service that fails alone for a while.
///
/// # Errors
/// If the settings cannot work.
pub fn circuit_breaker<V, E>(settings: CircuitBreaker) -> Result<OnceLayer<V, E>, ConfigError> {
    Policy::builder().circuit_breaker(settings).build()?.once_layer()
}

/// Bounds how many calls begin in a span of time.
///
/// # Errors
/// If the settings cannot work.
pub fn rate_limit<V, E>(settings: RateLimit) -> Result<OnceLayer<V, E>, ConfigError> {
    Policy::builder().rate_limit(settings).build()?.once_layer()
}

/// Bounds how many calls run at once.
///
/// # Errors
/// If the settings cannot work.
pub fn bulkhead<V, E>(settings: Bulkhead) -> Result<OnceLayer<V, E>, ConfigError> {
    Policy::builder().bulkhead(settings).build()?.once_layer()
}

/// Bounds the time of a call.
///
/// # Errors
/// If the settings cannot work.
pub fn timeout<V, E>(settings: impl Into<Timeout>) -> Result<OnceLayer<V, E>, ConfigError> {
    Policy::builder().timeout(settings).build()?.once_layer()
}

/// A value in place of an error; `None` lets the error through.
///
/// # Errors
/// Never; for the likeness with the others.
pub fn fallback<V, E>(
    fallback: impl Fn(&Error<E>) -> Option<V> + Send + Sync + 'static,
) -> Result<OnceLayer<V, E>, ConfigError> {
    Policy::builder().fallback(fallback).build()?.once_layer()
}

/// Tries again what failed; for predicates and hints build a [`Policy`] with the retry alone.
///
/// # Errors
/// If the settings cannot work.
pub fn retry<V, E>(settings: Retry) -> Result<PolicyLayer<V, E>, ConfigError> {
    Ok(Policy::builder().retry(settings).build()?.layer())
}

/// Starts another call beside one that takes long.
///
/// # Errors
/// If the settings cannot work.
pub fn hedge<V, E>(settings: Hedge) -> Result<PolicyLayer<V, E>, ConfigError> {
    Ok(Policy::builder().hedge(settings).build()?.layer())
}

/// A service with a policy around it.
pub struct Guarded<S, V, E> {
    service: S,
    stack: Arc<Stack<V, E>>,
    unready: Unasked<E>,
}

/// A service with a policy around it that tries once.
pub struct GuardedOnce<S, V, E> {
    service: S,
    stack: Arc<Stack<V, E>>,
    unready: Unasked<E>,
}

impl<S, V, E> Layer<S> for PolicyLayer<V, E> {
    type Service = Guarded<S, V, E>;

    fn layer(&self, service: S) -> Guarded<S, V, E> {
        Guarded { service, stack: Arc::clone(&self.policy.stack), unready: Unasked::default() }
    }
}

impl<S, V, E> Layer<S> for OnceLayer<V, E> {
    type Service = GuardedOnce<S, V, E>;

    fn layer(&self, service: S) -> GuardedOnce<S, V, E> {
        GuardedOnce { service, stack: Arc::clone(&self.policy.stack), unready: Unasked::default() }
    }
}

/// The answer of a guarded service, still on its way.
pub type Answering<V, E> = Pin<Box<dyn Future<Output = Result<V, Error<E>>> + Send>>;

impl<S, R> Service<R> for Guarded<S, S::Response, S::Error>
where
    R: Clone + Send + 'static,
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Answering<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.unready.keep(self.service.poll_ready(cx))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let other = self.service.clone();
        let ready = Some(match self.unready.told() {
            None => Ok(std::mem::replace(&mut self.service, other.clone())),
            Some(error) => Err(error),
        });
        let stack = Arc::clone(&self.stack);
        Box::pin(async move { stack.answer(Requests { ready, service: other, request }).await })
    }
}

impl<S, R> Service<R> for GuardedOnce<S, S::Response, S::Error>
where
    R: Send + 'static,
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = Error<S::Error>;
    type Future = Answering<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.unready.keep(self.service.poll_ready(cx))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let stack = Arc::clone(&self.stack);
        if let Some(error) = self.unready.told() {
            return Box::pin(async move { stack.answer(Unready(Some(error))).await });
        }
        let other = self.service.clone();
        let ready = std::mem::replace(&mut self.service, other);
        Box::pin(async move { stack.answer(Request(Some((ready, request)))).await })
    }
}

/// Why a service has not become ready, until a call asks. One that finds no connection has failed as one that answers with an
/// error has, and the layers see calls only.
///
/// Nobody locks it: it lets the service be `Sync` whatever its error is.
struct Unasked<E>(Mutex<Option<E>>);

impl<E> Default for Unasked<E> {
    fn default() -> Unasked<E> {
        Unasked(Mutex::new(None))
    }
}

impl<E> Unasked<E> {
    fn keep(&mut self, ready: Poll<Result<(), E>>) -> Poll<Result<(), Error<E>>> {
        ready.map(|ready| {
            *self.0.get_mut().unwrap_or_else(PoisonError::into_inner) = ready.err();
            Ok(())
        })
    }

    fn told(&mut self) -> Option<E> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request that is sent as often as the policy says: first by the service that is ready, or has failed to be.
struct Requests<S, R, E> {
    ready: Option<Result<S, E>>,
    service: S,
    request: R,
}

impl<S, R> Work<S::Response, S::Error> for Requests<S, R, S::Error>
where
    R: Clone + Send + 'static,
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Attempt = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn begin(&mut self, _place: Option<&mut Place<'_>>) -> Self::Attempt {
        let request = self.request.clone();
        match self.ready.take() {
            Some(Ok(mut service)) => Box::pin(service.call(request)),
            Some(Err(error)) => Box::pin(std::future::ready(Err(error))),
            None => {
                let mut service = self.service.clone();
                Box::pin(async move {
                    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                })
            }
        }
    }
}

/// A request that cannot be sent, for the service has failed to become ready.
struct Unready<E>(Option<E>);

impl<V, E> Work<V, E> for Unready<E> {
    type Attempt = std::future::Ready<Result<V, E>>;

    fn begin(&mut self, _place: Option<&mut Place<'_>>) -> Self::Attempt {
        match self.0.take() {
            Some(error) => std::future::ready(Err(error)),
            None => unreachable!("`once_layer` refuses policies that begin a second attempt"),
        }
    }
}

/// A request that is sent once.
struct Request<S, R>(Option<(S, R)>);

impl<S, R> Work<S::Response, S::Error> for Request<S, R>
where
    S: Service<R>,
{
    type Attempt = S::Future;

    fn begin(&mut self, _place: Option<&mut Place<'_>>) -> S::Future {
        match self.0.take() {
            Some((mut service, request)) => service.call(request),
            None => unreachable!("`once_layer` refuses policies that begin a second attempt"),
        }
    }
}

macro_rules! handles {
    ($($name:ident),*) => {$(
        impl<V, E> Clone for $name<V, E> {
            fn clone(&self) -> Self {
                $name { policy: self.policy.clone() }
            }
        }

        impl<V, E> fmt::Debug for $name<V, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.policy).finish()
            }
        }
    )*};
}
handles!(PolicyLayer, OnceLayer);

macro_rules! services {
    ($($name:ident),*) => {$(
        impl<S: Clone, V, E> Clone for $name<S, V, E> {
            fn clone(&self) -> Self {
                // Whether the clone is ready it asks for itself.
                $name { service: self.service.clone(), stack: Arc::clone(&self.stack), unready: Unasked::default() }
            }
        }

        impl<S: fmt::Debug, V, E> fmt::Debug for $name<S, V, E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("service", &self.service).finish_non_exhaustive()
            }
        }
    )*};
}
services!(Guarded, GuardedOnce);
