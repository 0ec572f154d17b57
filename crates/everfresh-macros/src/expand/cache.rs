//! The cache behind a function: how it is made, and how its function finds it.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse_quote;

use super::plan::{Plan, key_ident, this_ident, without_self};
use super::quiet;
use crate::Kind;
use crate::signature::{self, Argument};

const DEFAULT_CAPACITY: usize = 1024;

impl Plan {
    pub(super) fn handle(&self) -> TokenStream {
        let quiet = quiet();
        let (vis, glue, handle) = (&self.function.item.vis, &self.glue, self.member("handle"));
        let (kept, key) = (self.kept(), self.named_key());
        let (generics, bounds) = self.generics();
        let body = match (self.has_untyped_key(), self.per_instance) {
            (true, _) => self.handle_by_type(),
            (false, true) => self.instance(&self.make()),
            (false, false) => {
                let make = self.make();
                code! {
                    // Not lazy by itself: that would tell only the first caller what is wrong with the arguments.
                    static __FUNCTION: ::std::sync::OnceLock<#glue::CachedFunction<#key, #kept>> = ::std::sync::OnceLock::new();
                    __FUNCTION.get_or_init(|| #make)
                }
            }
        };
        code! {
            /// The cache behind the function, and everything that can be done with it.
            #quiet
            #[inline]
            #vis fn #handle #generics () -> &'static #glue::CachedFunction<#key, #kept> #bounds { #body }
        }
    }

    pub(super) fn instance(&self, make: &TokenStream) -> TokenStream {
        let (glue, uncached, turbofish) = (&self.glue, self.member("uncached"), self.turbofish());
        code! {
            static __INSTANCES: #glue::Instances = #glue::Instances::new();
            __INSTANCES.get(&Self::#uncached #turbofish, || #make)
        }
    }

    /// As `handle`, when only the compiler knows the type of the key.
    pub(super) fn of_key(&self) -> TokenStream {
        let quiet = quiet();
        let (glue, everfresh, kept) = (&self.glue, &self.everfresh, self.kept());
        let instance = self.instance(&self.make());
        let mut generics = self.function.item.sig.generics.clone();
        generics.params.push(parse_quote!(__Key: #everfresh::Key));
        let (bounds, of_key) = (&generics.where_clause, self.member("of_key"));
        code! {
            #quiet
            #[inline]
            fn #of_key #generics (_: #glue::KeyType<__Key>) -> &'static #glue::CachedFunction<__Key, #kept> #bounds {
                #instance
            }
        }
    }

    /// Makes the cache.
    fn make(&self) -> TokenStream {
        let (glue, choices, name) = (&self.glue, self.choices(), self.name().unraw().to_string());
        let kind = match self.kind {
            Kind::Data => code!(Data),
            Kind::Resource => code!(Resource),
        };
        let name = match &self.arguments.name {
            Some(name) => code!(#name),
            None if self.associated => code!(#glue::name_within::<Self>(#name)),
            None => code!(::core::concat!(::core::module_path!(), "::", #name)),
        };
        let validate = self.arguments.validate.as_ref().map(|validate| {
            let made = self.made();
            code!(.validate(|value| #glue::ask::<#made, bool>(value, #validate)))
        });
        // Named, for behind `validate` nothing says it any more, and a weigher's own type would be taken for it.
        let kept = self.kept();
        code!(#glue::CachedFunction::<_, #kept>::new(#glue::Kind::#kind, #name, |builder| builder #choices) #validate)
    }

    /// The choices, as calls on the builder.
    pub(super) fn choices(&self) -> TokenStream {
        let Plan { arguments, everfresh, glue, .. } = self;
        let made = self.made();
        let mut calls = Vec::new();
        let mut call = |tokens: TokenStream| calls.push(tokens);
        match (&arguments.capacity, &arguments.weight_capacity, arguments.unbounded) {
            (_, _, Some(_)) => call(code!(.unbounded())),
            (_, Some(weight), _) => call(code!(.weight_capacity(#weight))),
            (Some(entries), ..) => call(code!(.capacity(#entries))),
            _ => call(code!(.capacity(#DEFAULT_CAPACITY))),
        }
        if let Some(weigher) = &arguments.weigher {
            call(code!(.weigher(|_key, value| #glue::ask::<#made, u64>(value, #weigher))));
        }
        if let Some(eviction) = &arguments.eviction {
            call(code!(.eviction(#everfresh::Eviction::#eviction)));
        }
        call(self.lifetime());
        if let Some(fraction) = &arguments.refresh_ahead {
            call(code!(.refresh_ahead(#fraction)));
        }
        if let Some(store_if) = &arguments.store_if {
            call(code!(.store_if(|value| #glue::ask::<#made, bool>(value, #store_if))));
        }
        if let Some(ttl) = &arguments.negative_ttl {
            call(code!(.negative_ttl(#ttl)));
        }
        if let Some(bound) = &arguments.timeout {
            call(code!(.load_timeout(#bound).refresh_timeout(#bound)));
        }
        if let Some(bound) = &arguments.refresh_timeout {
            call(code!(.refresh_timeout(#bound)));
        }
        if let Some(refreshes) = &arguments.max_refreshes {
            call(code!(.refresh_pool(#glue::runtime().pool_of(#refreshes))));
        }
        if let Some(pool) = &arguments.pool {
            call(code!(.refresh_pool(#pool)));
        }
        if let Some(clock) = &arguments.clock {
            call(code!(.clock(#clock)));
        }
        if self.kind == Kind::Resource {
            call(code!(.prompt_drop(true)));
        }
        code!(#(#calls)*)
    }

    pub(super) fn lifetime(&self) -> TokenStream {
        let Plan { arguments, everfresh, .. } = self;
        let mut lifetime = match &arguments.ttl {
            Some(ttl) => code!(#everfresh::Lifetime::ttl(#ttl)),
            None => code!(#everfresh::Lifetime::forever()),
        };
        let window = match (&arguments.stale_while_revalidate, &arguments.ttl) {
            (Some(window), _) => Some(code!(#window)),
            (None, Some(ttl)) if matches!(arguments.background, Some((true, _))) => Some(code!(#ttl)),
            _ => None,
        };
        lifetime.extend(window.map(|window| code!(.stale_while_revalidate(#window))));
        lifetime.extend(arguments.stale_if_error.as_ref().map(|window| code!(.stale_if_error(#window))));
        lifetime.extend(arguments.time_to_idle.as_ref().map(|bound| code!(.time_to_idle(#bound))));
        lifetime.extend(arguments.jitter.as_ref().map(|fraction| code!(.jitter(#fraction))));
        code!(.lifetime(#lifetime))
    }

    /// The function behind the calls, where a key is at hand.
    pub(super) fn handle_by_key(&self) -> TokenStream {
        let (handle, turbofish, glue, key) = (self.member("handle"), self.turbofish(), &self.glue, key_ident());
        match self.has_untyped_key() {
            true => {
                let (of_key, generics) = (self.member("of_key"), signature::turbofish(&self.function.item));
                code!(Self::#of_key::<#(#generics,)* _>(#glue::type_of(#key)))
            }
            false => code!(Self::#handle #turbofish ()),
        }
    }

    /// The function behind the calls, where no key is at hand.
    pub(super) fn handle_by_type(&self) -> TokenStream {
        let (handle, turbofish, glue) = (self.member("handle"), self.turbofish(), &self.glue);
        let Some((None, expression)) = &self.arguments.key else { return code!(Self::#handle #turbofish ()) };
        let (of_key, generics) = (self.member("of_key"), signature::turbofish(&self.function.item));
        let expression = without_self(expression.to_token_stream());
        let arguments = self.function.arguments.iter().map(|Argument { ident, ty, is_self, .. }| {
            let ident = if *is_self { this_ident() } else { ident.clone() };
            code!(#[allow(unused_variables)] let #ident: #ty = #glue::never();)
        });
        code!(Self::#of_key::<#(#generics,)* _>(#glue::type_made_by(|| { #(#arguments)* #expression })))
    }

    /// Makes `key`, something to look up by.
    pub(super) fn let_key(&self) -> TokenStream {
        let key = key_ident();
        if let Some((ty, expression)) = &self.arguments.key {
            let ty = ty.as_ref().map(|ty| code!(: #ty));
            return code!(let #key #ty = #expression; let #key = &#key;);
        }
        let glue = &self.glue;
        let parts: Vec<TokenStream> = self
            .key_arguments()
            .map(|Argument { ident, behind_reference, .. }| match behind_reference {
                Some(_) => code!(#ident),
                None => code!(&#ident),
            })
            .collect();
        match &parts[..] {
            [] => code!(let #key = &();),
            [one] => code!(let #key = #one;),
            many => code!(let #key = &#glue::Parts((#(#many),*));),
        }
    }
}
