//! One run of the function as a loader: its arguments made ready, what is kept of its value, its error.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::spanned::Spanned;

use super::plan::{Plan, this_ident, without_self};
use crate::Kind;
use crate::signature::Argument;

/// How a loader comes to its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// It runs here, and is lent them.
    Lent,
    /// It owns them: the function asks of their types that they can be owned.
    Owned,
    /// It owns them: whoever calls a companion that runs behind is asked for that.
    OwnedIfAsked,
}

impl Plan {
    /// How the function's own loads do.
    pub(super) fn taking(&self) -> Taking {
        if self.owned { Taking::Owned } else { Taking::Lent }
    }

    /// How the loads of companions do that run behind their callers.
    pub(super) fn taking_behind(&self) -> Taking {
        if self.owned { Taking::Owned } else { Taking::OwnedIfAsked }
    }

    /// An argument made ready for a loader; `again` says that more loaders are to come.
    pub(super) fn own(&self, argument: &Argument, taking: Taking, again: bool) -> Option<TokenStream> {
        let (glue, ident, plain) = (&self.glue, &argument.ident, argument.plain());
        let (kept, in_key) = (owned_ident(argument), self.is_in_key(argument));
        let clone = || Some(code!(let #kept = ::core::clone::Clone::clone(&#ident);));
        let is_lent = argument.behind_reference.is_some();
        match taking {
            Taking::Lent if in_key && !is_lent => clone(),
            Taking::Lent => None,
            Taking::OwnedIfAsked if !in_key => {
                let way = way_behind(argument);
                let lent = (!is_lent).then(|| code!(&));
                Some(code!(let #kept = <#plain as #glue::#way<'everfresh>>::take_along(#lent #ident);))
            }
            _ if is_lent => {
                let span = plain.span();
                let take = quote_spanned!(span=> #glue::take_along::<#plain>);
                Some(code!(let #kept = #take(#ident);))
            }
            _ if in_key || again => clone(),
            _ => argument.is_self.then(|| code!(let #kept = #ident;)),
        }
    }

    /// A loader, of arguments that `own` has made ready.
    pub(super) fn loader(&self, taking: Taking) -> TokenStream {
        let (glue, uncached, turbofish) = (&self.glue, self.member("uncached"), self.turbofish());
        let mut borrow = Vec::new();
        let mut pass = Vec::new();
        for argument in &self.function.arguments {
            let (in_key, is_lent, plain) =
                (self.is_in_key(argument), argument.behind_reference.is_some(), argument.plain());
            let kept = match taking == Taking::Lent && (is_lent || !in_key) {
                true => argument.ident.clone(),
                false => owned_ident(argument),
            };
            if taking != Taking::Lent && is_lent {
                borrow.push(code!(let #kept = ::core::borrow::Borrow::<#plain>::borrow(&#kept);));
            } else if taking == Taking::OwnedIfAsked && !in_key {
                let way = way_behind(argument);
                borrow.push(code!(let #kept = <#plain as #glue::#way<'everfresh>>::give_back(#kept);));
            }
            pass.push(kept);
        }
        let renamed = |tag: &syn::Expr| match pass.iter().any(|name| *name == this_ident()) {
            true => without_self(tag.to_token_stream()),
            false => tag.to_token_stream(),
        };
        let tags = self.arguments.tags.iter().map(|tag| {
            let tag = renamed(tag);
            code!(#glue::tag(&(#tag)))
        });
        let wait = self.is_async().then(|| code!(.await));
        let error = match self.error() {
            Some(error) => code!(#error),
            None => code!(::core::convert::Infallible),
        };
        let keep = self.keep();
        let result = match self.error() {
            Some(_) => code!(#glue::Fallible::into_result(made)),
            None => code!(::core::result::Result::<_, #error>::Ok(made)),
        };
        let body = code! {
            #(#borrow)*
            let tags = [#(#tags),*];
            let made = Self::#uncached #turbofish (#(#pass),*) #wait;
            #result.map(|value| #keep)
        };
        let body = match self.arguments.tags.is_empty() {
            true => code! {
                #(#borrow)*
                let made = Self::#uncached #turbofish (#(#pass),*) #wait;
                #result.map(|value| #keep)
            },
            false => body,
        };
        match self.is_async() {
            true => code!(move || async move { #body }),
            false => code!(move || { #body }),
        }
    }

    /// Makes what is kept of a value.
    pub(super) fn keep(&self) -> TokenStream {
        let (glue, everfresh) = (&self.glue, &self.everfresh);
        let value = match (self.kind, &self.arguments.on_release) {
            (Kind::Data, _) => code!(value),
            (Kind::Resource, None) => code!(#everfresh::Shared::new(value)),
            (Kind::Resource, Some(release)) => {
                code!(#everfresh::Shared::with_release(value, |value| #glue::release(value, #release)))
            }
        };
        let loaded = match self.arguments.tags.is_empty() {
            true => code!(#everfresh::Loaded::new(#value)),
            false => code!(#everfresh::Loaded::new(#value).tags(tags)),
        };
        match (&self.arguments.negative_ttl, self.given.is_option) {
            (Some(ttl), true) => code! {{
                let is_there = ::core::option::Option::is_some(&value);
                let loaded = #loaded;
                if is_there { loaded } else { loaded.lifetime(#everfresh::Lifetime::ttl(#ttl)) }
            }},
            _ => loaded,
        }
    }

    /// From the cache's error to the function's own.
    pub(super) fn settle(&self) -> TokenStream {
        let glue = &self.glue;
        let Some(error) = self.error() else {
            return code! {
                match result {
                    ::core::result::Result::Ok(answer) => answer,
                    ::core::result::Result::Err(error) => #glue::unfailing(&error),
                }
            };
        };
        if let Some(map) = &self.arguments.map_error {
            return code!(result.map_err(|error| #glue::mapped(error, #map)));
        }
        let own = match self.arguments.timeout {
            Some(_) => code!(own_in_time),
            None => code!(own),
        };
        let span = self.function.returns.span();
        let shared = Ident::new("error", Span::mixed_site());
        let own = quote_spanned!(span=> (&&&&&#glue::Way::<#error>::new()).#own(#shared));
        code! {{
            #[allow(unused_imports)]
            use #glue::{ByBoth as _, ByClone as _, ByError as _, ByLoadError as _, ByNothing as _};
            result.map_err(|error| #own)
        }}
    }
}

/// What an argument is called once it is the loader's own.
fn owned_ident(argument: &Argument) -> Ident {
    if argument.is_self { this_ident() } else { argument.ident.clone() }
}

/// What is asked of an argument that is not in the key, for a companion that runs behind its caller.
pub(super) fn way_behind(argument: &Argument) -> Ident {
    let way = if argument.behind_reference.is_some() { "CanRunBehind" } else { "CanMoveBehind" };
    Ident::new(way, Span::mixed_site())
}
