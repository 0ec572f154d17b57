//! The attributes `#[cache_data]`, `#[cache_resource]` and `#[resilient]`: a cache, or layers, above a function.
//!
//! Use them through the crate `everfresh`, whose guide page `functions` tells what they do; the code that they write calls it.

mod arguments;
mod expand;
mod grouped;
mod layers;
mod place;
mod resilient;
mod signature;
mod time;

use proc_macro::TokenStream;
use quote::ToTokens;

use crate::arguments::Arguments;
use crate::expand::{expand, names_self};
use crate::layers::Layers;

/// What a function makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Resource,
}

/// Caches what a function returns; each caller gets a clone of its own.
///
/// The call stays the call. Beside the function stands a type of the same name with its companions: `clear()`,
/// `clear_for(..)`, `expire()`, `expire_for(..)`, `refresh(..)`, `warm(..)`, `peek(..)`, `answer(..)`, `stats()`,
/// `subscribe(..)`, `uncached(..)`, `handle()`. Methods and associated functions have `name_handle()`, `name_answer(..)`,
/// `name_refresh(..)`, `name_warm(..)`, `name_clear_for(..)` and `name_uncached(..)` instead.
///
/// Errors and panics are never stored. Several callers of one missing key share one run. All arguments are explained in the
/// guide page `functions` of `everfresh`; wrong ones are refused at compile time, with the cure in the message.
#[proc_macro_attribute]
pub fn cache_data(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Kind::Data, arguments, item)
}

/// Caches what a function returns as one resource that all callers share: the function then returns an `everfresh::Shared`.
///
/// As `#[cache_data]`, with two more arguments. `validate = path` is asked before each serve, and a resource for which it
/// does not hold is let go and made anew; `on_release = path` gets each resource once, when it has left the cache and nobody
/// holds it any more.
#[proc_macro_attribute]
pub fn cache_resource(arguments: TokenStream, item: TokenStream) -> TokenStream {
    attribute(Kind::Resource, arguments, item)
}

/// Puts layers around a function that returns a `Result`, and a cache in front of them if it has `cache(..)`.
///
/// The function then returns the same value with an `everfresh::resilience::Error<E>` in place of its error `E`; with a
/// cache an `Arc` of it, which all who waited share. Beside it stands a type of the same name with `policy()`, with a
/// cache `cache()`, and `uncached(..)`, the function as it was written. The order of the layers is fixed, whatever the
/// order of the arguments; all of them are explained in the guide page `layers` of the crate `everfresh-resilience`.
/// Wrong ones are refused at compile time, or where that cannot be seen then at each call, with the cure in the message.
///
/// The cache is in `everfresh::registry()` by the function's path, and with all others in `everfresh::data::clear_all()` and
/// `everfresh::close(..)`. Where the function's name is taken by a module or a type, `companion = ident` names that beside it.
///
/// The policy is called by the function's path, `shop::Client::fetch` for a method, unless it has `name = ".."`; in a
/// `registry` that is the name by which it shares.
///
/// In an `impl` the companions are functions named after the method: `name_policy()`, `name_cache()`, `name_uncached(..)`;
/// a function without `self` that does not name `Self` says `associated` there. All instances share one policy and one
/// cache; `self` is part of the key only with `include(self)`, and then kept by the cache. An `async` method without a
/// cache borrows `self`; otherwise `Self` has to be `Clone`, or the receiver an `Arc`. A generic function, whose types
/// have to be `'static`, has a policy of its own for each of them: `name::policy::<T>()`.
#[proc_macro_attribute]
pub fn resilient(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let untouched = proc_macro2::TokenStream::from(item.clone());
    let arguments = grouped::kept(arguments.into());
    let names_self = names_self(arguments.clone());
    let expanded = syn::parse2::<Layers>(arguments).and_then(|mut layers| {
        layers.associated |= names_self;
        resilient::expand(layers, signature::parse(item.into(), signature::CANNOT_FAIL)?)
    });
    expanded
        .unwrap_or_else(|error| {
            let mut tokens = error.into_compile_error();
            untouched.to_tokens(&mut tokens);
            tokens
        })
        .into()
}

fn attribute(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    // Without the attribute the function still stands, so that the only error told is ours.
    let untouched = proc_macro2::TokenStream::from(item.clone());
    let arguments = grouped::kept(arguments.into());
    let names_self = names_self(arguments.clone());
    let expanded = syn::parse::Parser::parse2(Arguments::parser(kind), arguments).and_then(|mut arguments| {
        arguments.associated |= names_self;
        expand(kind, arguments, signature::parse(item.into(), signature::NOTHING_TO_KEEP)?)
    });
    match expanded {
        Ok(tokens) => tokens.into(),
        Err(error) => {
            let mut tokens = error.into_compile_error();
            untouched.to_tokens(&mut tokens);
            tokens.into()
        }
    }
}
