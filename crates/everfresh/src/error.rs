//! What can go wrong: the loader's own error, kept as it is, and what the cache itself causes.

use std::any::Any;
use std::borrow::Cow;
use std::error;
use std::fmt;
use std::sync::Arc;

/// What the cache itself refuses or gives up; ask it with its predicates.
///
/// Small and `Clone`: everybody who waited for the same thing gets the same error.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    Config(Cow<'static, str>),
    TimedOut,
    Overloaded,
    Recursive,
    Panicked,
    Absent,
    NoLoader,
    WrongDoor,
    Unavailable,
    OtherType(&'static str),
}

impl Error {
    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Error {
        Error { kind: Kind::Config(message.into()) }
    }

    pub(crate) const TIMED_OUT: Error = Error { kind: Kind::TimedOut };
    pub(crate) const OVERLOADED: Error = Error { kind: Kind::Overloaded };
    pub(crate) const RECURSIVE: Error = Error { kind: Kind::Recursive };
    pub(crate) const PANICKED: Error = Error { kind: Kind::Panicked };
    pub(crate) const ABSENT: Error = Error { kind: Kind::Absent };
    pub(crate) const NO_LOADER: Error = Error { kind: Kind::NoLoader };
    pub(crate) const UNAVAILABLE: Error = Error { kind: Kind::Unavailable };
    pub(crate) const WRONG_DOOR: Error = Error { kind: Kind::WrongDoor };

    pub(crate) fn other_type(name: &'static str) -> Error {
        Error { kind: Kind::OtherType(name) }
    }

    /// The configuration was refused; the message names the cure.
    pub fn is_config(&self) -> bool {
        matches!(self.kind, Kind::Config(_))
    }

    /// The load, or the time that the caller would wait for it, ran out (contract L4, L5).
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    /// More callers than `max_waiters` wait for this key already (contract L5).
    pub fn is_overloaded(&self) -> bool {
        self.kind == Kind::Overloaded
    }

    /// The loader of a key asked for the same key (contract L8).
    pub fn is_recursive(&self) -> bool {
        self.kind == Kind::Recursive
    }

    /// The loader panicked on a worker, where the panic could not reach the caller.
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panicked
    }

    /// The loader answered that there is no such value.
    pub fn is_absent(&self) -> bool {
        self.kind == Kind::Absent
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Config(message) => f.write_str(message),
            Kind::TimedOut => f.write_str("the load did not end in time"),
            Kind::Overloaded => f.write_str("too many callers wait for this key already"),
            Kind::Recursive => f.write_str("the loader of this key asked the cache for the same key"),
            Kind::Panicked => f.write_str("the loader panicked"),
            Kind::Absent => f.write_str("the loader found no value for this key"),
            Kind::NoLoader => f.write_str("the cache has no loader; give it one in the builder, or to this call"),
            Kind::WrongDoor => f.write_str(
                "the cache's loader is asynchronous and this thread belongs to a runtime; use the async call here",
            ),
            Kind::Unavailable => f.write_str("no thread or runtime could be had for a load whose time is bounded"),
            Kind::OtherType(name) => {
                write!(f, "the load that this call joined failed with an error of another type, {name}")
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Error").field(&self.kind).finish()
    }
}

impl error::Error for Error {}

/// Why a lookup that may load has no value for its caller.
///
/// It reads as the error that it carries. That may be any type, so it names no
/// [`source`](std::error::Error::source): what caused a loader's error, [`load_error`](LoadError::load_error) knows.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader's own error, shared by everybody who waited for that load (contract L2).
    Load(Arc<E>),
    /// The cache gave up; the loader did not fail.
    Cache(Error),
}

impl<E> LoadError<E> {
    /// The loader's own error, if it was the loader that failed.
    pub fn load_error(&self) -> Option<&E> {
        match self {
            LoadError::Load(error) => Some(error),
            LoadError::Cache(_) => None,
        }
    }

    /// What the cache gave up with, if it was not the loader.
    pub fn cache_error(&self) -> Option<&Error> {
        match self {
            LoadError::Load(_) => None,
            LoadError::Cache(error) => Some(error),
        }
    }

    /// Whether the load, or the time that the caller would wait for it, ran out.
    pub fn is_timeout(&self) -> bool {
        self.cache_error().is_some_and(Error::is_timeout)
    }

    /// Whether too many callers wait for this key already.
    pub fn is_overloaded(&self) -> bool {
        self.cache_error().is_some_and(Error::is_overloaded)
    }

    /// Whether the loader of this key asked for the same key.
    pub fn is_recursive(&self) -> bool {
        self.cache_error().is_some_and(Error::is_recursive)
    }

    /// Whether the loader answered that there is no such value.
    pub fn is_absent(&self) -> bool {
        self.cache_error().is_some_and(Error::is_absent)
    }

    /// Whether the loader panicked on a worker.
    pub fn is_panic(&self) -> bool {
        self.cache_error().is_some_and(Error::is_panic)
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> LoadError<E> {
        match self {
            LoadError::Load(error) => LoadError::Load(Arc::clone(error)),
            LoadError::Cache(error) => LoadError::Cache(error.clone()),
        }
    }
}

impl<E> From<Error> for LoadError<E> {
    fn from(error: Error) -> LoadError<E> {
        LoadError::Cache(error)
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Load(error) => error.fmt(f),
            LoadError::Cache(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> error::Error for LoadError<E> {}

/// A loader's error whose type is known only to those who wait for it.
#[derive(Clone)]
pub(crate) struct Failure {
    error: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
    /// It says nothing about the key that would be worth remembering.
    pub(crate) is_passing: bool,
}

impl Failure {
    pub(crate) fn new<E: Send + Sync + 'static>(error: E) -> Failure {
        Failure::shared(Arc::new(error))
    }

    pub(crate) fn shared<E: Send + Sync + 'static>(error: Arc<E>) -> Failure {
        Failure { error, type_name: std::any::type_name::<E>(), is_passing: false }
    }

    pub(crate) fn passing(self, is_passing: bool) -> Failure {
        Failure { is_passing, ..self }
    }

    pub(crate) fn to_load_error<E: Send + Sync + 'static>(&self) -> LoadError<E> {
        match Arc::clone(&self.error).downcast::<E>() {
            Ok(error) => LoadError::Load(error),
            Err(_) => LoadError::Cache(Error::other_type(self.type_name)),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.type_name).finish()
    }
}
