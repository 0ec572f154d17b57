//! Every choice of a policy, its default, its check.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::bulkhead::Bulkhead;
use crate::circuit::CircuitBreaker;
use crate::clock::{Clock, Timepiece};
use crate::error::{ConfigError, Error};
use crate::event::{Event, Teller};
use crate::policy::{Behind, Direct, Policy};
use crate::preset::Preset;
use crate::rate::RateLimit;
use crate::registry::{Parts, Registry};
use crate::retry::{Retry, RetryBudget};
use crate::stack::{Fallback, Judge, Stack};
use crate::timeout::{Hedge, Timeout};

/// Builds a [`Policy`]. Every layer is left out unless told; the order of the calls does not matter.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<V, E, F = Direct> {
    teller: Teller,
    clock: Timepiece,
    registry: Option<(Registry, String)>,
    preset: Preset,
    budget: Option<RetryBudget>,
    judge: Judge<V, E>,
    front: F,
}

impl<V, E> Policy<V, E> {
    /// A policy without layers, to which the builder's methods add them.
    pub fn builder() -> Builder<V, E> {
        Builder {
            teller: Teller::default(),
            clock: Timepiece::System,
            registry: None,
            preset: Preset::default(),
            budget: None,
            judge: Judge { retry_if: None, failure_if: None, delay_hint: None, fallback: None },
            front: Direct,
        }
    }
}

impl<V, E, F> Builder<V, E, F> {
    /// The name under which it tells its events.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.teller.name = name.into();
        self
    }

    /// Shares circuit, rate limit and bulkhead with all policies of this name in the registry, and lives in its time.
    ///
    /// It becomes the policy's own name, too, unless that has one already.
    pub fn registry(mut self, registry: &Registry, name: impl Into<String>) -> Self {
        self.registry = Some((registry.clone(), name.into()));
        self
    }

    /// All layers at once; those that the preset leaves out are left out.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// Leaves a backend that fails alone for a while.
    pub fn circuit_breaker(mut self, circuit_breaker: CircuitBreaker) -> Self {
        self.preset.circuit_breaker = Some(circuit_breaker);
        self
    }

    /// Bounds how many calls begin in a span of time.
    pub fn rate_limit(mut self, rate_limit: RateLimit) -> Self {
        self.preset.rate_limit = Some(rate_limit);
        self
    }

    /// Bounds how many calls run at once.
    pub fn bulkhead(mut self, bulkhead: Bulkhead) -> Self {
        self.preset.bulkhead = Some(bulkhead);
        self
    }

    /// Tries again what failed.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.preset.retry = Some(retry);
        self
    }

    /// Bounds the retries and hedges of all policies that are given the same budget.
    pub fn retry_budget(mut self, budget: &RetryBudget) -> Self {
        self.budget = Some(budget.clone());
        self
    }

    /// Bounds the time of each attempt, or of the whole call.
    pub fn timeout(mut self, timeout: impl Into<Timeout>) -> Self {
        self.preset.timeout = Some(timeout.into());
        self
    }

    /// Starts another call beside one that takes long.
    pub fn hedge(mut self, hedge: Hedge) -> Self {
        self.preset.hedge = Some(hedge);
        self
    }

    /// Which results are worth another attempt: by default every error. An attempt that took too long always is.
    ///
    /// A value of which this says so is *rejected*: it counts as a failure, is never stored, and is returned if no
    /// attempt makes a better one.
    pub fn retry_if(mut self, predicate: impl Fn(&Result<V, E>) -> bool + Send + Sync + 'static) -> Self {
        self.judge.retry_if = Some(Box::new(predicate));
        self
    }

    /// Which results count as failures with the circuit breaker: by default every error and every rejected value.
    pub fn failure_if(mut self, predicate: impl Fn(&Result<V, E>) -> bool + Send + Sync + 'static) -> Self {
        self.judge.failure_if = Some(Box::new(predicate));
        self
    }

    /// How long to pause before the next attempt if the result says so, such as by a `Retry-After` field
    /// (RFC 9110 §10.2.3). One longer than [`Retry::max_delay`] ends the attempts.
    pub fn delay_hint(mut self, hint: impl Fn(&Result<V, E>) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.judge.delay_hint = Some(Box::new(hint));
        self
    }

    /// A value in place of an error, refusals included; `None` lets the error through. It is given to the caller and to
    /// nobody else: never stored, never told to the circuit, never used by a refresh.
    pub fn fallback(mut self, fallback: impl Fn(&Error<E>) -> Option<V> + Send + Sync + 'static) -> Self {
        self.judge.fallback = Some(Fallback::AtOnce(Box::new(fallback)));
        self
    }

    /// As [`fallback`](Builder::fallback), with a value that takes its time, such as one from another backend. It takes
    /// the place of a fallback given before.
    ///
    /// No layer bounds it: give it a timeout of its own. It is counted among the calls under way, and a blocking call
    /// waits for it on its thread. What it needs of the error it takes along before it is first polled.
    pub fn fallback_async<Fut>(mut self, fallback: impl Fn(&Error<E>) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Option<V>> + Send + 'static,
    {
        self.judge.fallback = Some(Fallback::InTime(Box::new(move |error| Box::pin(fallback(error)))));
        self
    }

    /// Gets every event, after the fact and outside of all locks, with the policy's name. Any number of them.
    ///
    /// It should be quick: whoever caused the event waits for it. Its panics are contained.
    pub fn listener(mut self, listener: impl Fn(&str, &Event) + Send + Sync + 'static) -> Self {
        self.teller.listeners.push(Box::new(listener));
        self
    }

    /// The time in which it lives; the system's by default. Policies of a registry live in the registry's: give the clock
    /// to [`Registry::with_clock`] then.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Timepiece::of(clock);
        self
    }

    /// The policy.
    ///
    /// # Errors
    /// If a choice cannot work, if the registry has other settings under this name, or if a clock is given here and none
    /// to the registry.
    pub fn build(mut self) -> Result<Policy<V, E, F>, ConfigError> {
        self.preset.check()?;
        self.budget.as_ref().map_or(Ok(()), RetryBudget::check)?;
        ConfigError::refuse(
            self.budget.is_some() && self.preset.retry.is_none() && self.preset.hedge.is_none(),
            "a retry budget bounds retries and hedges; add retry(..) or hedge(..), or leave it out",
        )?;
        ConfigError::refuse(
            self.judge.delay_hint.is_some() && self.preset.retry.is_none(),
            "a delay hint says when to retry; add retry(..), or leave it out",
        )?;
        let (parts, clock) = match self.registry {
            Some((registry, name)) => {
                ConfigError::refuse(
                    registry.clock().is_system() && !self.clock.is_system(),
                    "policies of a registry live in its time, and this one's is the system's; give the clock to \
                     Registry::with_clock(..), or leave out the registry or the clock",
                )?;
                let parts = registry.parts(&name, &self.preset)?;
                if self.teller.name.is_empty() {
                    self.teller.name = name;
                }
                (parts, registry.clock().clone())
            }
            None => (Parts::alone(&self.preset, &self.clock)?, self.clock),
        };
        let stack = Stack {
            teller: self.teller,
            clock,
            in_flight: parts.in_flight,
            circuit: parts.circuit,
            limiter: parts.limiter,
            places: parts.places,
            retry: self.preset.retry,
            budget: self.budget,
            timeout: self.preset.timeout,
            hedge: self.preset.hedge,
            judge: self.judge,
        };
        Ok(Policy { stack: Arc::new(stack), front: self.front })
    }
}

impl<V, E> Builder<V, E> {
    /// Puts a cache in front of all layers: calls have a key then, and share the cache's one load per key.
    ///
    /// The cache is this policy's own business; do not give one cache to the policies of two functions.
    pub fn cache<C>(self, cache: C) -> Builder<V, E, Behind<C>> {
        Builder {
            teller: self.teller,
            clock: self.clock,
            registry: self.registry,
            preset: self.preset,
            budget: self.budget,
            judge: self.judge,
            front: Behind(cache),
        }
    }
}

impl<V, E, F> fmt::Debug for Builder<V, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("preset", &self.preset).finish_non_exhaustive()
    }
}
