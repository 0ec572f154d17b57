//! Cached functions: what `#[cache_data]` and `#[cache_resource]` write calls of.

mod argument;
mod failure;
mod function;
mod gate;
mod instances;
mod registry;
mod shared;

#[doc(hidden)]
pub mod glue;

pub use argument::KeyArgument;
pub use function::CachedFunction;
pub use registry::{Kind, Registered, Registry, Runtime, close, close_async, registry, runtime};
pub use shared::Shared;

pub(crate) use registry::each;
