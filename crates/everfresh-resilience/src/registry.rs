//! Circuits, limits and bulkheads that several policies share by name. Never a cache: two functions have two meanings
//! of a key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::bulkhead::{BulkheadHealth, Places};
use crate::circuit::{Circuit, CircuitHealth};
use crate::clock::{Clock, Timepiece};
use crate::error::ConfigError;
use crate::inflight::InFlight;
use crate::preset::Preset;
use crate::rate::Limiter;

/// Policies that stand before the same backend share its circuit, its rate limit and its bulkhead by the backend's
/// name.
///
/// Clones are handles to the same registry. Caches are never shared: a key means something else to each function. All
/// policies of a registry live in its time.
///
/// ```
/// use everfresh_resilience::{Policy, Registry, presets};
///
/// let registry = Registry::new();
/// let (name, http) = ("github", presets::http());
/// let users = Policy::<String, std::io::Error>::builder().registry(&registry, name).preset(http).build()?;
/// let repos = Policy::<Vec<u8>, std::io::Error>::builder().registry(&registry, name).preset(http).build()?;
/// assert_eq!(registry.health()["github"].in_flight, 0);
/// # let _ = (users, repos);
/// # Ok::<(), everfresh_resilience::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    clock: Timepiece,
    shared: Mutex<BTreeMap<String, Shared>>,
}

#[derive(Default)]
struct Shared {
    circuit: Option<Arc<Circuit>>,
    limiter: Option<Arc<Limiter>>,
    places: Option<Arc<Places>>,
    in_flight: Vec<Weak<InFlight>>,
}

/// What the policies of one name have in common.
pub(crate) struct Parts {
    pub(crate) circuit: Option<Arc<Circuit>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) places: Option<Arc<Places>>,
    pub(crate) in_flight: Arc<InFlight>,
}

impl Parts {
    /// Parts of a policy's own.
    pub(crate) fn alone(preset: &Preset, clock: &Timepiece) -> Result<Parts, ConfigError> {
        Ok(Parts {
            circuit: preset.circuit_breaker.map(|settings| Arc::new(Circuit::new(settings))),
            limiter: match preset.rate_limit {
                Some(settings) => Some(Arc::new(Limiter::new(settings, clock.clone())?)),
                None => None,
            },
            places: preset.bulkhead.map(|settings| Arc::new(Places::new(settings))),
            in_flight: Arc::default(),
        })
    }
}

/// How the policies of one name are.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Health {
    /// How many calls are under way, refreshes among them.
    pub in_flight: usize,
    /// The circuit, if there is one.
    pub circuit: Option<CircuitHealth>,
    /// The bulkhead, if there is one.
    pub bulkhead: Option<BulkheadHealth>,
}

impl Registry {
    /// A registry that lives in the system's time.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// A registry that lives in another time, and all its policies with it.
    pub fn with_clock(clock: impl Clock) -> Registry {
        Registry { inner: Arc::new(Inner { clock: Timepiece::of(clock), shared: Mutex::default() }) }
    }

    /// How everything is, by name; names of which no policy was built are not among them.
    pub fn health(&self) -> BTreeMap<String, Health> {
        let now = self.inner.clock.now();
        let mut shared = self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let health = |(name, shared): (&String, &mut Shared)| {
            shared.in_flight.retain(|policy| policy.strong_count() > 0);
            let in_flight = shared.in_flight.iter().filter_map(Weak::upgrade).map(|policy| policy.count()).sum();
            let circuit = shared.circuit.as_ref().map(|circuit| circuit.health(now));
            let bulkhead = shared.places.as_ref().map(|places| places.health());
            (name.clone(), Health { in_flight, circuit, bulkhead })
        };
        shared.iter_mut().map(health).collect()
    }

    pub(crate) fn clock(&self) -> &Timepiece {
        &self.inner.clock
    }

    /// The parts of a name: those that others have already, if they were made alike.
    pub(crate) fn parts(&self, name: &str, preset: &Preset) -> Result<Parts, ConfigError> {
        let fresh = Parts::alone(preset, &self.inner.clock)?;
        let mut all = self.inner.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(name);
        let circuit =
            agree(name, "circuit breaker", known.and_then(|it| it.circuit.as_ref()), fresh.circuit, |it| it.settings)?;
        let limiter =
            agree(name, "rate limit", known.and_then(|it| it.limiter.as_ref()), fresh.limiter, |it| it.settings)?;
        let places = agree(name, "bulkhead", known.and_then(|it| it.places.as_ref()), fresh.places, |it| it.settings)?;
        let shared = all.entry(name.to_owned()).or_default();
        shared.circuit = shared.circuit.take().or_else(|| circuit.clone());
        shared.limiter = shared.limiter.take().or_else(|| limiter.clone());
        shared.places = shared.places.take().or_else(|| places.clone());
        shared.in_flight.retain(|policy| policy.strong_count() > 0);
        shared.in_flight.push(Arc::downgrade(&fresh.in_flight));
        Ok(Parts { circuit, limiter, places, in_flight: fresh.in_flight })
    }
}

/// What a name has already in place of what was asked for, if both were made alike.
fn agree<T, S: PartialEq>(
    name: &str,
    what: &str,
    known: Option<&Arc<T>>,
    asked: Option<Arc<T>>,
    settings: impl Fn(&T) -> S,
) -> Result<Option<Arc<T>>, ConfigError> {
    match (known, asked) {
        (Some(known), Some(asked)) if settings(known) == settings(&asked) => Ok(Some(Arc::clone(known))),
        (Some(_), Some(_)) => Err(ConfigError::new(format!(
            "{name:?} has a {what} with other settings already; use the same, or another name"
        ))),
        (_, asked) => Ok(asked),
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.health()).finish()
    }
}
