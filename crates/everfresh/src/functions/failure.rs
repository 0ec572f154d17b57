//! How a cached function tells in its own error type what the cache, or a load that it shared, failed with.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{Error, LoadError};

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = if error.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
        io::Error::new(kind, error)
    }
}

impl From<LoadError<io::Error>> for io::Error {
    /// Keeps the kind of the shared error.
    fn from(error: LoadError<io::Error>) -> io::Error {
        match error {
            LoadError::Load(shared) => io::Error::new(shared.kind(), LoadError::Load(shared)),
            LoadError::Cache(error) => error.into(),
        }
    }
}

/// An error that several callers of one failed load can get.
#[diagnostic::on_unimplemented(
    message = "the error type `{Self}` cannot be told to all callers that wait for one load",
    label = "neither `Clone` nor `From<everfresh::LoadError<{Self}>>`",
    note = "derive `Clone` for it, implement `From<everfresh::LoadError<{Self}>>`, wrap it in an `Arc`, or give \
            `map_error = function` that makes one from an `everfresh::LoadError<{Self}>`"
)]
pub trait SharedError {}

/// An error that can say that the cache gave up.
#[diagnostic::on_unimplemented(
    message = "the error type `{Self}` cannot say that the cache gave up, which `timeout` lets it do",
    label = "not `From<everfresh::Error>`",
    note = "implement `From<everfresh::Error>` or `From<everfresh::LoadError<{Self}>>` for it, or give \
            `map_error = function` that makes one from an `everfresh::LoadError<{Self}>`"
)]
pub trait TellsGivingUp: Sized {
    /// The error that says so.
    fn told(error: Error) -> Self;
}

#[diagnostic::do_not_recommend]
impl<E: From<Error>> TellsGivingUp for E {
    fn told(error: Error) -> E {
        error.into()
    }
}

/// Chooses by method resolution, at the call that the macro writes, the best way from a shared error to an own one: the first
/// of the `By…` traits below that holds for `E`.
#[derive(Debug)]
pub struct Way<E>(PhantomData<fn() -> E>);

impl<E> Way<E> {
    #[allow(clippy::new_without_default, reason = "written by the macro")]
    /// For this error type.
    pub const fn new() -> Way<E> {
        Way(PhantomData)
    }
}

fn give_up<E>(error: &Error) -> E {
    panic!("a cached function gave up: {error}")
}

fn cloned<E: Clone>(error: Arc<E>) -> E {
    Arc::unwrap_or_clone(error)
}

/// `Clone` for the shared error, `From<LoadError<E>>` for what the cache says.
pub trait ByBoth<E> {
    /// The error for this caller.
    fn own(&self, error: LoadError<E>) -> E;
    /// As `own`, for a function with a timeout.
    fn own_in_time(&self, error: LoadError<E>) -> E {
        self.own(error)
    }
}

impl<E: Clone + From<LoadError<E>>> ByBoth<E> for &&&&Way<E> {
    fn own(&self, error: LoadError<E>) -> E {
        match error {
            LoadError::Load(error) => cloned(error),
            LoadError::Cache(_) => error.into(),
        }
    }
}

/// `From<LoadError<E>>` for all: what `anyhow::Error` and boxed errors have.
pub trait ByLoadError<E> {
    /// The error for this caller.
    fn own(&self, error: LoadError<E>) -> E;
    /// As `own`, for a function with a timeout.
    fn own_in_time(&self, error: LoadError<E>) -> E {
        self.own(error)
    }
}

impl<E: From<LoadError<E>>> ByLoadError<E> for &&&Way<E> {
    fn own(&self, error: LoadError<E>) -> E {
        match error {
            LoadError::Load(error) => Arc::try_unwrap(error).unwrap_or_else(|error| LoadError::Load(error).into()),
            LoadError::Cache(_) => error.into(),
        }
    }
}

/// `Clone` for the shared error, `From<Error>` for what the cache says.
pub trait ByError<E> {
    /// The error for this caller.
    fn own(&self, error: LoadError<E>) -> E;
    /// As `own`, for a function with a timeout.
    fn own_in_time(&self, error: LoadError<E>) -> E {
        self.own(error)
    }
}

impl<E: Clone + From<Error>> ByError<E> for &&Way<E> {
    fn own(&self, error: LoadError<E>) -> E {
        match error {
            LoadError::Load(error) => cloned(error),
            LoadError::Cache(error) => error.into(),
        }
    }
}

/// `Clone` only. What the cache says without a timeout is that the function calls itself for the same key for ever.
pub trait ByClone<E> {
    /// The error for this caller.
    fn own(&self, error: LoadError<E>) -> E;
    /// As `own`, for a function with a timeout.
    fn own_in_time(&self, error: LoadError<E>) -> E
    where
        E: TellsGivingUp;
}

impl<E: Clone> ByClone<E> for &Way<E> {
    fn own(&self, error: LoadError<E>) -> E {
        match error {
            LoadError::Load(error) => cloned(error),
            LoadError::Cache(error) => give_up(&error),
        }
    }

    fn own_in_time(&self, error: LoadError<E>) -> E
    where
        E: TellsGivingUp,
    {
        match error {
            LoadError::Load(error) => cloned(error),
            LoadError::Cache(error) => E::told(error),
        }
    }
}

/// No way: told at compile time.
pub trait ByNothing<E> {
    /// Never called: no type has it.
    fn own(&self, error: LoadError<E>) -> E
    where
        E: SharedError;
    /// Never called: no type has it.
    fn own_in_time(&self, error: LoadError<E>) -> E
    where
        E: SharedError;
}

impl<E> ByNothing<E> for Way<E> {
    fn own(&self, error: LoadError<E>) -> E
    where
        E: SharedError,
    {
        give_up(&Error::config(error.cache_error().map_or_else(String::new, ToString::to_string)))
    }

    fn own_in_time(&self, error: LoadError<E>) -> E
    where
        E: SharedError,
    {
        self.own(error)
    }
}

/// By the function's `map_error`, unless the caller is alone: he gets his very error back.
pub fn mapped<E>(error: LoadError<E>, map: impl FnOnce(LoadError<E>) -> E) -> E {
    match error {
        LoadError::Load(error) => Arc::try_unwrap(error).unwrap_or_else(|error| map(LoadError::Load(error))),
        LoadError::Cache(_) => map(error),
    }
}

/// What a function without an error of its own does when the cache gives up: it can only be that it calls itself for the same
/// key, which without the cache would never end.
pub fn unfailing<E>(error: &LoadError<E>) -> ! {
    match error.cache_error() {
        Some(error) => give_up(error),
        None => unreachable!("a function that cannot fail has failed"),
    }
}
