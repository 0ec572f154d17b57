//! The call: the function with its own signature, the one that tells more, and the one around the cache.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::parse_quote;
use syn::spanned::Spanned;

use super::plan::{Plan, key_ident};
use super::{outside, quiet, within};
use crate::Kind;
use crate::place::{here, located};
use crate::signature::Value;

impl Plan {
    /// The user's function with its own signature, which asks the cache first.
    pub(super) fn outer(&self) -> TokenStream {
        let item = &self.function.item;
        let (attributes, vis) = (outside(item), &item.vis);
        let owner = self.owner();
        let (answer, handle) = (self.member("answer"), self.member("handle"));
        let (turbofish, key) = (self.turbofish(), key_ident());
        let mut signature = self.function.passing_on();
        let returns = self.returns(&self.kept());
        if self.kind == Kind::Resource {
            signature.output = parse_quote!(-> #returns);
        }
        let (value, unwrap) = match self.error() {
            Some(_) => (code!(::core::result::Result::Ok(value)), code!(.map(|answer| answer.value))),
            None => (code!(value), code!(.value)),
        };
        let fast = self.arguments.key.is_none().then(|| {
            let let_key = self.let_key();
            code! {{
                #let_key
                if let ::core::option::Option::Some(value) = #owner::#handle #turbofish ().hit(#key) {
                    return #value;
                }
            }}
        });
        let passed = self.function.arguments.iter().map(|argument| &argument.ident);
        let wait = self.is_async().then(|| code!(.await));
        // Of what is asynchronous the compiler looks at the bodies first, before anything that stands beside.
        let checks = (self.is_async() && !self.associated).then(|| self.checks());
        code! {
            #(#attributes)*
            #[allow(clippy::used_underscore_binding)]
            #vis #signature {
                #checks
                #fast
                #owner::#answer #turbofish (#(#passed),*) #wait #unwrap
            }
        }
    }

    pub(super) fn uncached(&self) -> TokenStream {
        let item = &self.function.item;
        let kept = within(item);
        let (vis, block, uncached) = (&item.vis, &item.block, self.member("uncached"));
        let mut signature = item.sig.clone();
        signature.ident = uncached;
        code! {
            /// The function itself, around the cache.
            #kept
            #vis #signature #block
        }
    }

    /// The call that tells more than the value.
    pub(super) fn answer(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, everfresh) = (&self.function.item.vis, &self.everfresh);
        let (asyncness, wait) = (&self.function.item.sig.asyncness, self.is_async().then(|| code!(.await)));
        let (answer, inputs) = (self.member("answer"), self.inputs(self.function.arguments.iter()));
        let kept = self.kept();
        let returns = self.returns(&parse_quote!(#everfresh::Answer<#kept>));
        let (generics, bounds) = self.generics();
        let checks = self.associated.then(|| self.checks());
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        let taking = self.taking();
        let own = self.function.arguments.iter().filter_map(|argument| self.own(argument, taking, false));
        let (loader, settle) = (self.loader(taking), self.settle());
        let ask = match (self.owned, self.is_async()) {
            (true, false) => code!(answer),
            (true, true) => code!(answer_async),
            (false, false) => code!(answer_here),
            (false, true) => code!(answer_here_async),
        };
        code! {
            /// As the function itself, and tells what the lookup was, how old the value is, and what became of a refresh.
            #quiet
            #vis #asyncness fn #answer #generics (#(#inputs),*) -> #returns #bounds {
                #checks
                #let_key
                let function = #handle;
                let load = { #(#own)* #loader };
                let result = function.#ask(#key, load) #wait;
                #settle
            }
        }
    }

    /// What is best told before anything else goes wrong.
    pub(super) fn checks(&self) -> TokenStream {
        let (glue, made) = (&self.glue, self.made());
        let keys = self.arguments.key.is_none().then(|| {
            let keys = self.key_arguments().map(|argument| {
                let plain = argument.plain();
                quote_spanned!(plain.span()=> #glue::key_argument::<#plain>();)
            });
            code!(#(#keys)*)
        });
        let span = self.function.returns.span();
        let value = match self.kind {
            Kind::Data => quote_spanned!(span=> #glue::data_value::<#made>();),
            Kind::Resource => quote_spanned!(span=> #glue::resource_value::<#made>();),
        };
        let error = self.error().map(|_| {
            let (returns, place) = (&self.function.returns, here(&self.function.returns));
            let there = located(glue, place);
            quote_spanned!(place=> #there::cached_error::<<#returns as #there::Fallible>::Error>();)
        });
        let plain = matches!(self.given.value, Value::Always(_))
            .then(|| quote_spanned!(span=> #glue::not_a_result::<#made, _>();));
        let others = self.owned.then(|| {
            let others = self.other_arguments().map(|argument| {
                let plain = argument.plain();
                quote_spanned!(plain.span()=> #glue::taken_along::<#plain>();)
            });
            code!(#(#others)*)
        });
        code!(#keys #value #error #plain #others)
    }
}
