//! What stands beside the call: refresh and warm, forget and look, for some arguments or for all.

use proc_macro2::{Ident, TokenStream};
use quote::format_ident;
use syn::{Generics, parse_quote};

use super::load::way_behind;
use super::plan::{Plan, key_ident, this_ident};
use super::quiet;
use crate::signature::{self, Argument};

impl Plan {
    /// All companions.
    pub(super) fn members(&self) -> Vec<TokenStream> {
        let mut members = vec![self.answer(), self.uncached(), self.clear_for(), self.handle()];
        if self.has_untyped_key() {
            members.push(self.of_key());
        }
        if self.detachable {
            members.push(self.refresh());
            if self.arguments.key.is_none() {
                members.push(self.warm());
            }
        }
        if !self.associated {
            members.push(self.by_key());
            members.push(self.of_all());
        }
        members
    }

    pub(super) fn refresh(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, glue, kept) = (&self.function.item.vis, &self.glue, self.kept());
        let (refresh, inputs) = (self.member("refresh"), self.inputs(self.function.arguments.iter()));
        let generics = self.generics_behind();
        let bounds = &generics.where_clause;
        let taking = self.taking_behind();
        let (let_key, handle, key, loader) = (self.let_key(), self.handle_by_key(), key_ident(), self.loader(taking));
        let own = self.function.arguments.iter().filter_map(|argument| self.own(argument, taking, false));
        let key_type = self.named_key();
        let with = self.refresh_with();
        code! {
            /// Starts a load behind the caller, whether the value is stale or not; the handle says what became of that, and
            /// waits for its end.
            #quiet
            #vis fn #refresh #generics (#(#inputs),*) -> #glue::Renewal<#key_type, #kept> #bounds {
                #let_key
                let function = #handle;
                let load = { #(#own)* #loader };
                function.cache().#with(#key, load)
            }
        }
    }

    pub(super) fn refresh_with(&self) -> Ident {
        format_ident!("{}", if self.is_async() { "refresh_with_async" } else { "refresh_with" })
    }

    /// The generics of a companion that runs behind its caller: what a load in the foreground would only be lent has to be
    /// such that it can be taken along. That is asked of who calls the companion; the lifetime keeps the compiler from asking
    /// it of the function itself.
    fn generics_behind(&self) -> Generics {
        let mut generics = self.function.item.sig.generics.clone();
        if self.owned || self.other_arguments().next().is_none() {
            return generics;
        }
        let glue = &self.glue;
        generics.params.insert(0, parse_quote!('everfresh));
        let bounds = &mut generics.make_where_clause().predicates;
        bounds.extend(self.other_arguments().map(|argument| -> syn::WherePredicate {
            let (plain, way) = (argument.plain(), way_behind(argument));
            parse_quote!(#plain: #glue::#way<'everfresh>)
        }));
        generics
    }

    /// The type of the key in a result.
    pub(super) fn named_key(&self) -> TokenStream {
        match self.key_type() {
            Some(ty) => code!(#ty),
            // The parameters of the `impl` around it, which would have to be named here too, are not to be seen.
            None if self.associated => {
                let everfresh = &self.everfresh;
                code!(impl #everfresh::Key)
            }
            None => {
                let (everfresh, generics) = (&self.everfresh, signature::turbofish(&self.function.item));
                code!(impl #everfresh::Key + use<#(#generics),*>)
            }
        }
    }

    pub(super) fn warm(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, warm, with) = (&self.function.item.vis, self.member("warm"), self.refresh_with());
        let generics = self.generics_behind();
        let bounds = &generics.where_clause;
        let (handle, key_type, glue) = (self.handle_by_type(), self.key_type(), &self.glue);
        let keys: Vec<&Argument> = self.key_arguments().collect();
        let others = self.inputs(self.other_arguments());
        let items = keys.iter().map(|argument| match &argument.behind_reference {
            Some(plain) => code!(impl ::core::borrow::Borrow<#plain>),
            None => {
                let ty = &argument.ty;
                code!(#ty)
            }
        });
        let names: Vec<Ident> =
            keys.iter().map(|it| if it.is_self { this_ident() } else { it.ident.clone() }).collect();
        let owned = keys.iter().zip(&names).map(|(argument, name)| match &argument.behind_reference {
            Some(plain) => code!(#glue::take_along::<#plain>(::core::borrow::Borrow::borrow(&#name))),
            None => code!(#name),
        });
        let (item, pattern, owned, from_key) = match names.len() {
            1 => (code!(#(#items)*), code!(#(#names)*), code!(#(#owned)*), code!(let #(#names)* = key;)),
            _ => (code!((#(#items),*)), code!((#(#names),*)), code!((#(#owned),*)), code!(let (#(#names),*) = key;)),
        };
        let clones = names.iter().map(|name| code!(let #name = ::core::clone::Clone::clone(#name);));
        let taking = self.taking_behind();
        let own = self.other_arguments().filter_map(|argument| self.own(argument, taking, true));
        let loader = self.loader(taking);
        let (asyncness, warm_all) = match self.is_async() {
            true => (Some(code!(async)), code!(function.warm_async(keys, refresh).await)),
            false => (None, code!(function.warm(keys, refresh))),
        };
        code! {
            /// Loads those that have no fresh value, in the background and as many at once as may be refreshed at once;
            /// returns how many of all have a value that may be served when that is done.
            #quiet
            #vis #asyncness fn #warm #generics (
                #(#others,)*
                items: impl ::core::iter::IntoIterator<Item = #item>
            ) -> usize #bounds {
                let function = #handle;
                let keys = ::core::iter::Iterator::map(
                    ::core::iter::IntoIterator::into_iter(items),
                    |#pattern| -> #key_type { #owned },
                );
                let refresh = |key: &#key_type| {
                    let load = { #from_key #(#clones)* #(#own)* #loader };
                    function.cache().#with(key, load)
                };
                #warm_all
            }
        }
    }

    pub(super) fn clear_for(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, clear_for, inputs) = (&self.function.item.vis, self.member("clear_for"), self.naming());
        let (generics, bounds) = self.generics();
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        code! {
            /// Forgets what is held for these arguments; if it is being loaded, the result is not stored.
            #quiet
            #vis fn #clear_for #generics (#(#inputs),*) #bounds {
                #let_key
                #handle.clear_for(#key);
            }
        }
    }

    pub(super) fn by_key(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, inputs, kept) = (&self.function.item.vis, self.naming(), self.kept());
        let (generics, bounds) = self.generics();
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        code! {
            /// Makes stale what is held for these arguments: the next caller gets it once more if a window allows.
            #quiet
            #vis fn expire_for #generics (#(#inputs),*) #bounds {
                #let_key
                #handle.expire_for(#key);
            }

            /// What is held for these arguments and may be served, without running, counting or refreshing anything.
            #quiet
            #vis fn peek #generics (#(#inputs),*) -> ::core::option::Option<#kept> #bounds {
                #let_key
                #handle.peek(#key)
            }
        }
    }

    pub(super) fn of_all(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, everfresh, glue, kept) = (&self.function.item.vis, &self.everfresh, &self.glue, self.kept());
        let (generics, bounds) = self.generics();
        let handle = self.handle_by_type();
        let subscribe = (!self.has_untyped_key()).then(|| {
            let key = self.key_type();
            code! {
                /// Gets every event of this function from now on, after the fact and outside of all locks.
                #quiet
                #vis fn subscribe #generics (
                    listener: impl ::core::ops::Fn(&#everfresh::Event<'_, #key, #kept>)
                        + ::core::marker::Send + ::core::marker::Sync + 'static
                ) -> #everfresh::Subscription #bounds {
                    #glue::CachedFunction::subscribe(#handle, listener)
                }
            }
        });
        code! {
            /// Forgets everything that this function holds; what is being loaded is not stored.
            #quiet
            #vis fn clear #generics () #bounds {
                #handle.clear();
            }

            /// Makes stale everything that this function holds.
            #quiet
            #vis fn expire #generics () #bounds {
                #handle.expire();
            }

            /// A snapshot of the counters of this function.
            #quiet
            #vis fn stats #generics () -> #everfresh::Stats #bounds {
                #handle.stats()
            }

            #subscribe
        }
    }
}
