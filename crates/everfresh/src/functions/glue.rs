//! What the code that the macros write needs by name. Not for anybody else: it may change with every release.

use std::borrow::Borrow;
use std::fmt::Display;
use std::sync::Arc;

pub use super::argument::{KeyArgument, Parts};
pub use super::failure::{ByBoth, ByClone, ByError, ByLoadError, ByNothing, Way, mapped, unfailing};
pub use super::function::CachedFunction;
pub use super::instances::Instances;
use super::registry::registry;
pub use super::registry::{Kind, runtime};
pub use super::shared::Shared;
use crate::builder::Builder;
use crate::cache::Cache;
use crate::engine::{Key, Value};
use crate::handle::Refreshing;

/// A refresh that was asked for.
pub type Renewal<K, V> = Refreshing<K, V, ahash::RandomState>;

/// A result by whatever name.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`",
    note = "layers refuse calls and give up, so let a `#[resilient]` function return a `Result`; at `#[cache_data]` leave out \
            `fallible`, which says that the function returns one under another name"
)]
pub trait Fallible {
    /// Its value.
    type Ok;
    /// Its error.
    type Error;
    /// As itself.
    ///
    /// # Errors
    /// Its own.
    fn into_result(self) -> Result<Self::Ok, Self::Error>;
}

impl<T, E> Fallible for Result<T, E> {
    type Ok = T;
    type Error = E;

    fn into_result(self) -> Result<T, E> {
        self
    }
}

/// Holds once for every type, and twice for a `Result`: inference then stops with the name of this trait in its message.
pub trait ResultByAnotherNameNeedsTheArgumentFallible<A> {}
impl<T> ResultByAnotherNameNeedsTheArgumentFallible<()> for T {}
impl<T, E> ResultByAnotherNameNeedsTheArgumentFallible<Result<T, E>> for Result<T, E> {}

/// Checked by its call.
pub const fn not_a_result<T: ResultByAnotherNameNeedsTheArgumentFallible<A>, A>() {}

/// What a `#[cache_data]` function may return.
#[diagnostic::on_unimplemented(
    message = "a value of type `{Self}` cannot be kept by `#[cache_data]`",
    label = "not `Clone + Send + Sync + 'static`",
    note = "each caller gets a clone of its own: derive `Clone`, put the value in an `Arc`, or let all callers share one \
            with `#[cache_resource]`"
)]
pub trait DataValue: Value {}
#[diagnostic::do_not_recommend]
impl<T: Value> DataValue for T {}

/// What a `#[cache_resource]` function may return.
#[diagnostic::on_unimplemented(
    message = "a value of type `{Self}` cannot be kept by `#[cache_resource]`",
    label = "not `Send + Sync + 'static`",
    note = "callers on all threads share it: put what is not `Sync` into a `Mutex`"
)]
pub trait ResourceValue: Send + Sync + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> ResourceValue for T {}

/// What a cached function may fail with.
#[diagnostic::on_unimplemented(
    message = "an error of type `{Self}` cannot be shared by all callers that wait for one load",
    label = "not `Send + Sync + 'static`",
    note = "say that it is: `Box<dyn Error + Send + Sync>` in place of `Box<dyn Error>`"
)]
pub trait CachedError: Send + Sync + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> CachedError for T {}

/// The name of a function that stands in an `impl`. Made once for each, and never given back.
pub fn name_within<T: ?Sized>(function: &str) -> &'static str {
    format!("{}::{function}", std::any::type_name::<T>()).leak()
}

/// An argument that is handed to a refresh behind the caller's back.
#[diagnostic::on_unimplemented(
    message = "the argument of type `{Self}` cannot be taken along by a refresh in the background",
    label = "it has no owned form that is `Send + 'static`",
    note = "make it `Clone` (a handle such as a pool or an `Arc`), or let the function be refreshed in the foreground: \
            leave out `refresh = \"background\"`, the windows and `timeout`"
)]
pub trait TakenAlong: ToOwned<Owned: Send + 'static> {}
#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + 'static> + ?Sized> TakenAlong for T {}

/// An argument that a function in the foreground is lent, asked for by a companion that runs behind its caller. The lifetime
/// makes it a question about each call of the companion, not about the function.
#[diagnostic::on_unimplemented(
    message = "the argument of type `{Self}` cannot be taken along, so nothing can run behind the caller here",
    label = "it has no owned form that is `Send + Sync + 'static`",
    note = "the function itself is only lent it; to refresh or warm it make `{Self}` `Clone` (a handle such as a pool or an \
            `Arc`), or call the function instead"
)]
pub trait CanRunBehind<'a> {
    /// Its owned form.
    type Owned: Borrow<Self> + Send + Sync + 'static;
    /// The owned form, for a loader that outlives the call.
    fn take_along(&self) -> Self::Owned;
}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + Sync + 'static> + ?Sized> CanRunBehind<'_> for T {
    type Owned = T::Owned;

    fn take_along(&self) -> T::Owned {
        self.to_owned()
    }
}

/// As [`CanRunBehind`], for an argument that is given by value.
#[diagnostic::on_unimplemented(
    message = "the argument of type `{Self}` cannot be taken along, so nothing can run behind the caller here",
    label = "not `Clone + Send + 'static`",
    note = "to refresh or warm the function make `{Self}` `Clone` (a handle such as a pool or an `Arc`), or call the function \
            instead"
)]
pub trait CanMoveBehind<'a>: Sized {
    /// As itself.
    type Owned: Clone + Send + 'static;
    /// Another one of it, for a loader that outlives the call.
    fn take_along(&self) -> Self::Owned;
    /// As the function wants it.
    fn give_back(owned: Self::Owned) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + 'static> CanMoveBehind<'_> for T {
    type Owned = T;

    fn take_along(&self) -> T {
        self.clone()
    }

    fn give_back(owned: T) -> T {
        owned
    }
}

/// An argument of a `#[resilient]` function, of which each attempt gets one.
#[diagnostic::on_unimplemented(
    message = "the argument of type `{Self}` cannot be given to one attempt after another",
    label = "not `Clone`",
    note = "derive `Clone` for it, or put it in an `Arc`, as a method does with `self: Arc<Self>`; only an `async` function without \
            `cache(..)` may borrow: let that take it by `&`"
)]
pub trait ForEachAttempt: ToOwned {}
#[diagnostic::do_not_recommend]
impl<T: ToOwned + ?Sized> ForEachAttempt for T {}

/// What an argument of a `#[resilient]` function must be able to do to be part of its key.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be part of the key of a `#[resilient]` function with `cache(..)`",
    label = "not `Hash + Eq`, or it cannot be owned (`Clone + Send + Sync + 'static`)",
    note = "derive `Hash`, `PartialEq`, `Eq` and `Clone` for it, leave it out with `skip(argument)`, or take a type that can (for a \
            float: its bits, `x.to_bits()`)"
)]
pub trait ResilientKeyArgument: KeyArgument {}
#[diagnostic::do_not_recommend]
impl<T: KeyArgument + ?Sized> ResilientKeyArgument for T {}

/// What a `#[resilient]` function with a cache may make.
#[diagnostic::on_unimplemented(
    message = "a value of type `{Self}` cannot be kept by the cache of a `#[resilient]` function",
    label = "not `Clone + Send + Sync + 'static`",
    note = "each caller gets a clone of its own: derive `Clone`, put the value in an `Arc`, or leave out `cache(..)`"
)]
pub trait ResilientValue: Value {}
#[diagnostic::do_not_recommend]
impl<T: Value> ResilientValue for T {}

/// What a `#[resilient]` function with a cache may fail with.
#[diagnostic::on_unimplemented(
    message = "an error of type `{Self}` cannot be shared by all who waited for one call of a `#[resilient]` function",
    label = "not `Send + Sync + 'static`",
    note = "say that it is: `Box<dyn Error + Send + Sync>` in place of `Box<dyn Error>`; or leave out `cache(..)`"
)]
pub trait ResilientError: Send + Sync + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + Sync + 'static> ResilientError for T {}

/// What a blocking `#[resilient]` function may make or fail with.
#[diagnostic::on_unimplemented(
    message = "a blocking `#[resilient]` function cannot give back a `{Self}`",
    label = "not `Send + 'static`",
    note = "it runs on a worker if its time is bounded; take a type that may leave that (`Arc` in place of `Rc`, `Box<dyn Error + Send \
            + Sync>` in place of `Box<dyn Error>`), or write an `async fn`"
)]
pub trait FromAWorker: Send + 'static {}
#[diagnostic::do_not_recommend]
impl<T: Send + 'static> FromAWorker for T {}

/// Checked by its call.
pub const fn resilient_value<T: ResilientValue>() {}

/// Checked by its call.
pub const fn resilient_error<T: ResilientError>() {}

/// Checked by its call.
pub const fn from_a_worker<T: FromAWorker>() {}

/// Checked by its call.
pub const fn for_each_attempt<T: ForEachAttempt + ?Sized>() {}

/// Checked by its call.
pub const fn resilient_key_argument<T: ResilientKeyArgument + ?Sized>() {}

/// Checked by its call.
pub const fn key_argument<T: KeyArgument + ?Sized>() {}

/// Checked by its call.
pub const fn data_value<T: DataValue>() {}

/// Checked by its call.
pub const fn cached_error<T: CachedError>() {}

/// Checked by its call.
pub const fn resource_value<T: ResourceValue>() {}

/// Checked by its call.
pub const fn taken_along<T: TakenAlong + ?Sized>() {}

/// The owned form of an argument, for a loader that outlives the call.
pub fn take_along<T: ToOwned + ?Sized>(argument: &T) -> T::Owned {
    argument.to_owned()
}

/// Asks with the type that the question expects, so that closures need none.
pub fn ask<T: ?Sized, A>(value: &T, question: impl FnOnce(&T) -> A) -> A {
    question(value)
}

/// Somebody who can give a resource back: by value, or by reference and then dropping it.
#[diagnostic::on_unimplemented(
    message = "`on_release` cannot give a `{T}` back with this",
    label = "not `fn({T})` or `fn(&{T})`",
    note = "it is a function that takes the resource or a reference to it and returns nothing; it is not asynchronous, for \
            it runs wherever the last holder lets go"
)]
pub trait Release<T, By> {
    /// Gives it back.
    fn release(self, value: T);
}

/// A release that takes the resource.
#[derive(Debug)]
pub struct ByValue;
/// A release that looks at the resource, which is dropped afterwards.
#[derive(Debug)]
pub struct ByReference;

impl<T, F: FnOnce(T)> Release<T, ByValue> for F {
    fn release(self, value: T) {
        self(value);
    }
}

impl<T, F: FnOnce(&T)> Release<T, ByReference> for F {
    fn release(self, value: T) {
        self(&value);
    }
}

/// Gives a resource back.
pub fn release<T, By>(value: T, by: impl Release<T, By>) {
    by.release(value);
}

/// What a `#[resilient]` function is made of, at its first call.
///
/// # Panics
/// If the choices make no sense and could not be refused at compile time; the message names the cure.
pub fn resilient<T>(function: &str, made: Result<T, impl Display>) -> T {
    match made {
        Ok(made) => made,
        Err(error) => panic!("the resilient function {function} cannot have these arguments: {error}"),
    }
}

/// The cache in front of a `#[resilient]` function, which enters the registry as that of any other function does.
///
/// # Panics
/// As [`resilient`].
pub fn resilient_cache<K: Key, V: Value>(
    function: &'static str,
    builder: Builder<K, V>,
    ends_in_time: bool,
) -> Cache<K, V> {
    // Attempts, pauses and queues may add up to more than the cache would wait for a refresh, and each of them has its end.
    let builder = if ends_in_time { builder.refresh_timeout(None) } else { builder.outlasts_others() };
    let cache = resilient(function, builder.build());
    registry().enter(Kind::Data, function, &cache);
    cache
}

/// Never called: stands where a type is to be known and no value is to be had.
///
/// # Panics
/// Always.
pub fn never<T>() -> T {
    unreachable!("only its type is looked at")
}

/// The type of a key, found without making one.
#[derive(Debug)]
pub struct KeyType<K>(std::marker::PhantomData<fn() -> K>);

/// The type of this key.
pub fn type_of<K: Key>(_key: &K) -> KeyType<K> {
    KeyType(std::marker::PhantomData)
}

/// The type of the key that this would make.
pub fn type_made_by<K: Key>(_make: impl FnOnce() -> K) -> KeyType<K> {
    KeyType(std::marker::PhantomData)
}

/// A tag from whatever can be shown.
pub fn tag(tag: impl Display) -> Arc<str> {
    Arc::from(tag.to_string())
}
