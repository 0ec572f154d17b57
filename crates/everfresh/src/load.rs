//! How a value is made or made again: what a loader is told, and what it may answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::lifetime::Lifetime;

/// What the cache still has of a value that is being loaded again (contract R9); nothing of one that a second level gave with what
/// was left of its lifetime, whose length is not known.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Previous<V> {
    /// The old value.
    pub value: V,
    /// The time since the load that made it ended.
    pub age: Duration,
    /// What the loader said to recognise it by; see [`Loaded::token`].
    pub token: Option<Arc<str>>,
}

/// A loader's answer, where a plain value does not say enough.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Load<V> {
    /// A value, with what it brings along.
    Loaded(Loaded<V>),
    /// The previous value still holds: its life starts anew. Without a previous value this counts as [`Absent`](Load::Absent).
    NotModified,
    /// There is no such value: what is stored is removed.
    Absent,
}

/// A loaded value with a lifetime, weight, tags or token of its own (contract T5).
///
/// ```
/// use std::time::Duration;
/// use everfresh::{Lifetime, Loaded};
///
/// let loaded = Loaded::new("body")
///     .lifetime(Lifetime::ttl(Duration::from_secs(5)))
///     .tag("products")
///     .token("\"33a64df5\"");
/// # let _ = loaded;
/// ```
#[derive(Clone, Debug)]
pub struct Loaded<V> {
    pub(crate) value: V,
    pub(crate) traits: Traits,
}

/// What a value may bring along; also what `insert_with` takes.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) weight: Option<u64>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) token: Option<Arc<str>>,
    /// The lifetime is what is left of one.
    pub(crate) is_rest: bool,
}

impl Traits {
    /// Nothing of its own: the cache's lifetime, the weigher's weight, no tags.
    pub fn new() -> Traits {
        Traits::default()
    }

    /// Whether there are none.
    #[inline]
    pub(crate) fn are_none(&self) -> bool {
        self.lifetime.is_none() && self.weight.is_none() && self.tags.is_empty() && self.token.is_none()
    }

    /// A lifetime of its own, instead of the cache's.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Traits {
        self.lifetime = Some(lifetime);
        self.is_rest = false;
        self
    }

    /// A weight of its own, instead of the weigher's.
    pub fn weight(mut self, weight: u64) -> Traits {
        self.weight = Some(weight);
        self
    }

    /// One more tag under which it can be invalidated.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Traits {
        self.tags.push(tag.into());
        self
    }

    /// More tags under which it can be invalidated.
    pub fn tags<T: Into<Arc<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Traits {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// What to recognise this version of the value by, such as an entity tag (RFC 9110 §8.8.3).
    pub fn token(mut self, token: impl Into<Arc<str>>) -> Traits {
        self.token = Some(token.into());
        self
    }

    /// The lifetime of its own, if it has one.
    pub fn own_lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// The weight of its own, if it has one.
    pub fn own_weight(&self) -> Option<u64> {
        self.weight
    }

    /// The tags under which it can be invalidated.
    pub fn own_tags(&self) -> &[Arc<str>] {
        &self.tags
    }

    /// What to recognise this version of the value by, if that was said.
    pub fn own_token(&self) -> Option<&Arc<str>> {
        self.token.as_ref()
    }
}

impl From<Lifetime> for Traits {
    fn from(lifetime: Lifetime) -> Traits {
        Traits::new().lifetime(lifetime)
    }
}

impl<V> Loaded<V> {
    /// A value with the cache's lifetime, the weigher's weight and no tags.
    pub fn new(value: V) -> Loaded<V> {
        Loaded { value, traits: Traits::new() }
    }

    /// A value with traits that were put together before.
    pub fn with_traits(value: V, traits: Traits) -> Loaded<V> {
        Loaded { value, traits }
    }

    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// What it brings along: for a [`SecondLevel`](crate::SecondLevel), which keeps it with the value.
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// The value, and what it brings along.
    pub fn into_parts(self) -> (V, Traits) {
        (self.value, self.traits)
    }

    /// A lifetime of its own, instead of the cache's.
    pub fn lifetime(self, lifetime: Lifetime) -> Loaded<V> {
        Loaded { traits: self.traits.lifetime(lifetime), ..self }
    }

    /// A weight of its own, instead of the weigher's.
    pub fn weight(self, weight: u64) -> Loaded<V> {
        Loaded { traits: self.traits.weight(weight), ..self }
    }

    /// One more tag under which it can be invalidated.
    pub fn tag(self, tag: impl Into<Arc<str>>) -> Loaded<V> {
        Loaded { traits: self.traits.tag(tag), ..self }
    }

    /// More tags under which it can be invalidated.
    pub fn tags<T: Into<Arc<str>>>(self, tags: impl IntoIterator<Item = T>) -> Loaded<V> {
        Loaded { traits: self.traits.tags(tags), ..self }
    }

    /// What to recognise this version of the value by; a later load finds it in [`Previous::token`].
    pub fn token(self, token: impl Into<Arc<str>>) -> Loaded<V> {
        Loaded { traits: self.traits.token(token), ..self }
    }
}

impl<V> From<Loaded<V>> for Load<V> {
    fn from(loaded: Loaded<V>) -> Load<V> {
        Load::Loaded(loaded)
    }
}

/// What a loader may return for a cache of `V`: a plain `V`, an `Option<V>` (`None` is [`Load::Absent`]), a [`Loaded`], a
/// [`Load`], or a `Result` of any of these.
#[diagnostic::on_unimplemented(
    message = "a loader of `{V}` cannot answer with `{Self}`",
    note = "it answers with `{V}`, `Option<{V}>`, `Loaded<{V}>`, `Load<{V}>`, or a `Result` of one of them; what answers with a \
            future goes to `get_or_load_async`, `load_async` or `async_loader`"
)]
pub trait IntoLoad<V> {
    /// The loader's own error; [`Infallible`] if it cannot fail.
    type Error: Send + Sync + 'static;

    /// The answer in its full form.
    ///
    /// # Errors
    /// The loader's own.
    fn into_load(self) -> Result<Load<V>, Self::Error>;
}

impl<V> IntoLoad<V> for V {
    type Error = Infallible;

    fn into_load(self) -> Result<Load<V>, Infallible> {
        Ok(Load::Loaded(Loaded::new(self)))
    }
}

impl<V> IntoLoad<V> for Option<V> {
    type Error = Infallible;

    fn into_load(self) -> Result<Load<V>, Infallible> {
        Ok(self.map_or(Load::Absent, |value| Load::Loaded(Loaded::new(value))))
    }
}

impl<V> IntoLoad<V> for Loaded<V> {
    type Error = Infallible;

    fn into_load(self) -> Result<Load<V>, Infallible> {
        Ok(Load::Loaded(self))
    }
}

impl<V> IntoLoad<V> for Load<V> {
    type Error = Infallible;

    fn into_load(self) -> Result<Load<V>, Infallible> {
        Ok(self)
    }
}

impl<V, E: Send + Sync + 'static> IntoLoad<V> for Result<V, E> {
    type Error = E;

    fn into_load(self) -> Result<Load<V>, E> {
        self.map(|value| Load::Loaded(Loaded::new(value)))
    }
}

impl<V, E: Send + Sync + 'static> IntoLoad<V> for Result<Option<V>, E> {
    type Error = E;

    fn into_load(self) -> Result<Load<V>, E> {
        self.map(|value| value.map_or(Load::Absent, |value| Load::Loaded(Loaded::new(value))))
    }
}

impl<V, E: Send + Sync + 'static> IntoLoad<V> for Result<Loaded<V>, E> {
    type Error = E;

    fn into_load(self) -> Result<Load<V>, E> {
        self.map(Load::Loaded)
    }
}

impl<V, E: Send + Sync + 'static> IntoLoad<V> for Result<Load<V>, E> {
    type Error = E;

    fn into_load(self) -> Result<Load<V>, E> {
        self
    }
}
