//! The function, its companions, and the cache between them, as code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, Generics, Pat, Result, Type, parse_quote};

use crate::Kind;
use crate::arguments::Arguments;
use crate::signature::{self, Argument, Function, Given, Value};

const DEFAULT_CAPACITY: usize = 1024;
const MOST_KEY_ARGUMENTS: usize = 12;

/// Writes everything.
pub(crate) fn expand(kind: Kind, arguments: Arguments, function: Function) -> Result<TokenStream> {
    let plan = Plan::new(kind, arguments, function)?;
    let outer = plan.outer();
    let members = plan.members();
    Ok(match plan.associated {
        // What is wrong with a type is told by the first function that meets it: that is `answer`, with its checks.
        true => quote!(#members #outer),
        false => {
            let (checks, (generics, bounds)) = (plan.checks(), plan.generics());
            let (vis, companion, cfgs) = (&plan.function.item.vis, &plan.companion, plan.attributes(&["cfg"]));
            let about = format!("Companions of the cached function [`{0}`](fn@{0}).", plan.name());
            quote! {
                #(#cfgs)*
                const _: () = {
                    // First of all, so that what is wrong with a type is told in our words before the compiler's.
                    #[allow(dead_code, clippy::all)]
                    fn check #generics () #bounds { #checks }
                };
                #outer
                #(#cfgs)*
                #[doc = #about]
                #[allow(non_camel_case_types, dead_code)]
                #vis struct #companion { _companions: () }
                #(#cfgs)*
                #[allow(dead_code)]
                impl #companion { #members }
            }
        }
    })
}

/// Everything that was decided about one function.
struct Plan {
    kind: Kind,
    arguments: Arguments,
    function: Function,
    given: Given,
    /// For each argument, whether it is part of the key.
    in_key: Vec<bool>,
    /// What a load needs is owned, so that it can outlive the call.
    owned: bool,
    /// Whether a load may be asked for that runs behind the caller.
    detachable: bool,
    associated: bool,
    per_instance: bool,
    companion: Ident,
    everfresh: TokenStream,
    glue: TokenStream,
}

impl Plan {
    fn new(kind: Kind, arguments: Arguments, function: Function) -> Result<Plan> {
        let everfresh = match &arguments.everfresh {
            Some(path) => quote!(#path),
            None => quote!(::everfresh),
        };
        let item = &function.item;
        let is_method = function.arguments.iter().any(|argument| argument.is_self);
        let associated = is_method || arguments.associated || mentions_self(item);
        let in_key = in_key(&arguments, &function)?;
        let owned = arguments.refreshes_behind() || arguments.timeout.is_some();
        let given = signature::given(&function.returns, arguments.fallible);
        let plan = Plan {
            detachable: owned
                || (in_key.iter().all(|&in_key| in_key) && arguments.key.is_none() && arguments.local.is_none()),
            glue: quote!(#everfresh::__private),
            companion: arguments.companion.clone().unwrap_or_else(|| item.sig.ident.clone()),
            per_instance: associated || !signature::turbofish(item).is_empty() || untyped_key(&arguments),
            kind,
            given,
            in_key,
            owned,
            associated,
            everfresh,
            arguments,
            function,
        };
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        let refuse = |span: Span, cure: &str| Err(Error::new(span, cure));
        let arguments = &self.arguments;
        if let Some(span) = arguments.include_self
            && !self.function.arguments.iter().any(|argument| argument.is_self)
        {
            return refuse(span, "there is no `self` to include in the key; leave out `include(self)`");
        }
        for (argument, in_key) in self.function.arguments.iter().zip(&self.in_key) {
            let Some(span) = argument.borrows_inside() else { continue };
            if *in_key {
                let cure = "this argument borrows inside of its type, so no owned key can be made of it; take an owned \
                            type or a plain `&str`, `&[T]`, `&T`, leave it out with `skip(..)`, or make the key yourself \
                            with `key: Type = expression`";
                return refuse(span, cure);
            }
            if self.owned && !argument.is_self {
                let cure = "this argument borrows inside of its type, so a load that outlives the call (refresh in the \
                            background, `timeout`) cannot take it along; take an owned type or a plain reference, or \
                            leave out `refresh = \"background\"`, the windows and `timeout`";
                return refuse(span, cure);
            }
        }
        if self.in_key.iter().filter(|&&in_key| in_key).count() > MOST_KEY_ARGUMENTS {
            let cure = "at most 12 arguments can be the key; put some into a struct, or leave some out with `skip(..)`";
            return refuse(self.function.item.sig.inputs.span(), cure);
        }
        let can_fail = !matches!(self.given.value, Value::Always(_));
        if let (Some(time), false) = (&arguments.timeout, can_fail) {
            let cure = "`timeout` ends a call without a value, which this function cannot tell; let it return a `Result` \
                        whose error is `From<everfresh::Error>`";
            return refuse(time.span(), cure);
        }
        if let (Some(map), false) = (&arguments.map_error, can_fail) {
            return refuse(map.span(), "the function has no error to map; let it return a `Result`, or leave this out");
        }
        if let (Some(time), false) = (&arguments.negative_ttl, can_fail || self.given.is_option) {
            let cure = "`negative_ttl` remembers errors and `None`, and this function returns neither; leave it out";
            return refuse(time.span(), cure);
        }
        if let Some(span) = arguments.local
            && (self.owned || self.function.item.sig.asyncness.is_none())
        {
            let cure = "`local` is for an `async fn` that is refreshed in the foreground and whose future is not `Send`; \
                        leave it out";
            return refuse(span, cure);
        }
        if let Some((None, key)) = &arguments.key
            && self.associated
        {
            let cure = "in an `impl` the type of the key has to be said: `key: Type = expression`";
            return refuse(key.span(), cure);
        }
        if let (true, Some(companion)) = (self.associated, &arguments.companion) {
            let cure = "in an `impl` the companions are functions named after this one; leave out `companion`";
            return refuse(companion.span(), cure);
        }
        Ok(())
    }

    fn name(&self) -> &Ident {
        &self.function.item.sig.ident
    }

    /// What a companion is called: beside a free function within its type, in an `impl` after the function.
    fn member(&self, what: &str) -> Ident {
        let span = self.name().span().resolved_at(Span::call_site());
        match self.associated {
            true => format_ident!("{}_{}", self.name(), what, span = span),
            false => Ident::new(what, span),
        }
    }

    fn attributes(&self, names: &[&str]) -> Vec<&Attribute> {
        let item = &self.function.item;
        item.attrs.iter().filter(|attribute| names.iter().any(|name| attribute.path().is_ident(name))).collect()
    }

    fn is_async(&self) -> bool {
        self.function.item.sig.asyncness.is_some()
    }

    /// The type that the function makes, without its `Result`.
    fn made(&self) -> Type {
        let (glue, returns) = (&self.glue, &self.function.returns);
        match &self.given.value {
            Value::Always(ty) | Value::OrError(ty) => ty.clone(),
            Value::OrErrorSomehow => parse_quote!(<#returns as #glue::Fallible>::Ok),
        }
    }

    /// The type that is kept.
    fn kept(&self) -> Type {
        let (made, everfresh) = (self.made(), &self.everfresh);
        match self.kind {
            Kind::Data => made,
            Kind::Resource => parse_quote!(#everfresh::Shared<#made>),
        }
    }

    fn error(&self) -> Option<Type> {
        let (glue, returns) = (&self.glue, &self.function.returns);
        match &self.given.value {
            Value::Always(_) => None,
            _ => Some(parse_quote!(<#returns as #glue::Fallible>::Error)),
        }
    }

    /// What the cached function returns when its value is of this type.
    fn returns(&self, value: &Type) -> Type {
        match &self.given.value {
            Value::Always(_) => value.clone(),
            Value::OrError(_) => signature::with_value(&self.function.returns, value),
            Value::OrErrorSomehow => {
                let error = self.error();
                parse_quote!(::core::result::Result<#value, #error>)
            }
        }
    }

    fn key_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.function.arguments.iter().zip(&self.in_key).filter(|(_, in_key)| **in_key).map(|(argument, _)| argument)
    }

    fn other_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.function.arguments.iter().zip(&self.in_key).filter(|(_, in_key)| !**in_key).map(|(argument, _)| argument)
    }

    /// The type of the key, if it can be written down.
    fn key_type(&self) -> Option<Type> {
        if let Some((ty, _)) = &self.arguments.key {
            return ty.clone();
        }
        let mut owned: Vec<Type> = self.key_arguments().map(owned_type).collect();
        Some(match owned.len() {
            1 => owned.remove(0),
            _ => parse_quote!((#(#owned),*)),
        })
    }

    /// Makes `key`, something to look up by.
    fn let_key(&self) -> TokenStream {
        let key = key_ident();
        if let Some((ty, expression)) = &self.arguments.key {
            let ty = ty.as_ref().map(|ty| quote!(: #ty));
            return quote!(let #key #ty = #expression; let #key = &#key;);
        }
        let glue = &self.glue;
        let parts: Vec<TokenStream> = self
            .key_arguments()
            .map(|Argument { ident, behind_reference, .. }| match behind_reference {
                Some(_) => quote!(#ident),
                None => quote!(&#ident),
            })
            .collect();
        match &parts[..] {
            [] => quote!(let #key = &();),
            [one] => quote!(let #key = #one;),
            many => quote!(let #key = &#glue::Parts((#(#many),*));),
        }
    }

    /// The function behind the calls, where a key is at hand.
    fn handle_by_key(&self) -> TokenStream {
        let (handle, turbofish, glue, key) = (self.member("handle"), self.turbofish(), &self.glue, key_ident());
        match untyped_key(&self.arguments) {
            true => {
                let generics = signature::turbofish(&self.function.item);
                quote!(Self::of_key::<#(#generics,)* _>(#glue::type_of(#key)))
            }
            false => quote!(Self::#handle #turbofish ()),
        }
    }

    /// The function behind the calls, where no key is at hand.
    fn handle_by_type(&self) -> TokenStream {
        let (handle, turbofish, glue) = (self.member("handle"), self.turbofish(), &self.glue);
        let Some((None, expression)) = &self.arguments.key else { return quote!(Self::#handle #turbofish ()) };
        let generics = signature::turbofish(&self.function.item);
        let arguments = self
            .function
            .arguments
            .iter()
            .map(|Argument { ident, ty, .. }| quote!(#[allow(unused_variables)] let #ident: #ty = #glue::never();));
        quote!(Self::of_key::<#(#generics,)* _>(#glue::type_made_by(|| { #(#arguments)* #expression })))
    }

    fn turbofish(&self) -> Option<TokenStream> {
        let generics = signature::turbofish(&self.function.item);
        (!generics.is_empty()).then(|| quote!(::<#(#generics),*>))
    }

    fn generics(&self) -> (&Generics, Option<&syn::WhereClause>) {
        let generics = &self.function.item.sig.generics;
        (generics, generics.where_clause.as_ref())
    }

    fn inputs<'a>(&'a self, arguments: impl Iterator<Item = &'a Argument>) -> Vec<TokenStream> {
        arguments
            .map(|argument| match self.function.item.sig.receiver() {
                Some(receiver) if argument.is_self => quote!(#receiver),
                _ => {
                    let (ident, ty) = (&argument.ident, &argument.ty);
                    quote!(#ident: #ty)
                }
            })
            .collect()
    }

    /// The arguments by which a value is named: the key's, or all that a key of the user's own may look at.
    fn naming(&self) -> Vec<TokenStream> {
        match self.arguments.key {
            Some(_) => self.inputs(self.function.arguments.iter()),
            None => self.inputs(self.key_arguments()),
        }
    }

    /// The user's function with its own signature, which asks the cache first.
    fn outer(&self) -> TokenStream {
        let item = &self.function.item;
        let (attributes, vis) = (item.attrs.iter().filter(|it| !it.path().is_ident("expect")), &item.vis);
        let owner = self.owner();
        let (answer, handle) = (self.member("answer"), self.member("handle"));
        let (turbofish, key) = (self.turbofish(), key_ident());
        let mut signature = item.sig.clone();
        for (input, argument) in signature.inputs.iter_mut().zip(&self.function.arguments) {
            if let FnArg::Typed(typed) = input {
                let ident = &argument.ident;
                *typed.pat = parse_quote!(#ident);
            }
        }
        let returns = self.returns(&self.kept());
        if self.kind == Kind::Resource {
            signature.output = parse_quote!(-> #returns);
        }
        let (value, unwrap) = match self.error() {
            Some(_) => (quote!(::core::result::Result::Ok(value)), quote!(.map(|answer| answer.value))),
            None => (quote!(value), quote!(.value)),
        };
        let fast = (self.arguments.key.is_none() && self.arguments.validate.is_none()).then(|| {
            let let_key = self.let_key();
            quote! {{
                #let_key
                if let ::core::option::Option::Some(value) = #owner::#handle #turbofish ().hit(#key) {
                    return #value;
                }
            }}
        });
        let passed = self.function.arguments.iter().map(|argument| &argument.ident);
        let wait = self.is_async().then(|| quote!(.await));
        quote! {
            #(#attributes)*
            #vis #signature {
                #fast
                #owner::#answer #turbofish (#(#passed),*) #wait #unwrap
            }
        }
    }

    fn owner(&self) -> TokenStream {
        let companion = &self.companion;
        if self.associated { quote!(Self) } else { quote!(#companion) }
    }

    /// All companions.
    fn members(&self) -> TokenStream {
        let mut members = vec![self.answer(), self.uncached(), self.clear_for()];
        members.push(match untyped_key(&self.arguments) {
            true => self.of_key(),
            false => self.handle(),
        });
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
        quote!(#(#members)*)
    }

    fn uncached(&self) -> TokenStream {
        let item = &self.function.item;
        let lints = self.attributes(&["allow", "expect", "warn", "deny", "forbid", "cfg"]);
        let (vis, block, uncached) = (&item.vis, &item.block, self.member("uncached"));
        let mut signature = item.sig.clone();
        signature.ident = uncached;
        quote! {
            /// The function itself, around the cache.
            #(#lints)*
            #[allow(dead_code)]
            #vis #signature #block
        }
    }

    /// The choices, as calls on the builder.
    fn choices(&self) -> TokenStream {
        let Plan { arguments, everfresh, glue, .. } = self;
        let made = self.made();
        let mut calls = Vec::new();
        let mut call = |tokens: TokenStream| calls.push(tokens);
        match (&arguments.capacity, &arguments.weight_capacity, arguments.unbounded) {
            (_, _, Some(_)) => call(quote!(.unbounded())),
            (_, Some(weight), _) => call(quote!(.weight_capacity(#weight))),
            (Some(entries), ..) => call(quote!(.capacity(#entries))),
            _ => call(quote!(.capacity(#DEFAULT_CAPACITY))),
        }
        if let Some(weigher) = &arguments.weigher {
            call(quote!(.weigher(|_key, value| #glue::ask::<#made, u64>(value, #weigher))));
        }
        if let Some(eviction) = &arguments.eviction {
            call(quote!(.eviction(#everfresh::Eviction::#eviction)));
        }
        call(self.lifetime());
        if let Some(fraction) = &arguments.refresh_ahead {
            call(quote!(.refresh_ahead(#fraction)));
        }
        if let Some(store_if) = &arguments.store_if {
            call(quote!(.store_if(|value| #glue::ask::<#made, bool>(value, #store_if))));
        }
        if let Some(ttl) = &arguments.negative_ttl {
            call(quote!(.negative_ttl(#ttl)));
        }
        if let Some(bound) = &arguments.timeout {
            call(quote!(.load_timeout(#bound).refresh_timeout(#bound)));
        }
        if let Some(refreshes) = &arguments.max_refreshes {
            call(quote!(.refresh_pool(#glue::runtime().pool_of(#refreshes))));
        }
        if let Some(pool) = &arguments.pool {
            call(quote!(.refresh_pool(#pool)));
        }
        if let Some(clock) = &arguments.clock {
            call(quote!(.clock(#clock)));
        }
        if self.kind == Kind::Resource {
            call(quote!(.prompt_drop(true)));
        }
        quote!(#(#calls)*)
    }

    fn lifetime(&self) -> TokenStream {
        let Plan { arguments, everfresh, .. } = self;
        let mut lifetime = match &arguments.ttl {
            Some(ttl) => quote!(#everfresh::Lifetime::ttl(#ttl)),
            None => quote!(#everfresh::Lifetime::forever()),
        };
        let window = match (&arguments.stale_while_revalidate, &arguments.ttl) {
            (Some(window), _) => Some(quote!(#window)),
            (None, Some(ttl)) if matches!(arguments.background, Some((true, _))) => Some(quote!(#ttl)),
            _ => None,
        };
        lifetime.extend(window.map(|window| quote!(.stale_while_revalidate(#window))));
        lifetime.extend(arguments.stale_if_error.as_ref().map(|window| quote!(.stale_if_error(#window))));
        lifetime.extend(arguments.time_to_idle.as_ref().map(|bound| quote!(.time_to_idle(#bound))));
        lifetime.extend(arguments.jitter.as_ref().map(|fraction| quote!(.jitter(#fraction))));
        quote!(.lifetime(#lifetime))
    }

    /// Makes the cache, given the type of its key.
    fn make(&self) -> TokenStream {
        let (glue, choices, name) = (&self.glue, self.choices(), self.name().to_string());
        let kind = match self.kind {
            Kind::Data => quote!(Data),
            Kind::Resource => quote!(Resource),
        };
        let name = match &self.arguments.name {
            Some(name) => quote!(#name),
            None => quote!(::core::concat!(::core::module_path!(), "::", #name)),
        };
        quote!(#glue::CachedFunction::new(#glue::Kind::#kind, #name, |builder| builder #choices))
    }

    fn handle(&self) -> TokenStream {
        let (vis, glue, handle) = (&self.function.item.vis, &self.glue, self.member("handle"));
        let (kept, make, key) = (self.kept(), self.make(), self.key_type());
        let (generics, bounds) = self.generics();
        let body = match self.per_instance {
            true => self.instance(&make),
            false => quote! {
                static FUNCTION: ::std::sync::LazyLock<#glue::CachedFunction<#key, #kept>> =
                    ::std::sync::LazyLock::new(|| #make);
                &FUNCTION
            },
        };
        quote! {
            /// The cache behind the function, and everything that can be done with it.
            #[allow(dead_code, clippy::all)]
            #[inline]
            #vis fn #handle #generics () -> &'static #glue::CachedFunction<#key, #kept> #bounds { #body }
        }
    }

    fn instance(&self, make: &TokenStream) -> TokenStream {
        let (glue, uncached, turbofish) = (&self.glue, self.member("uncached"), self.turbofish());
        quote! {
            static INSTANCES: #glue::Instances = #glue::Instances::new();
            INSTANCES.get(&Self::#uncached #turbofish, || #make)
        }
    }

    /// As `handle`, when only the compiler knows the type of the key.
    fn of_key(&self) -> TokenStream {
        let (glue, everfresh, kept) = (&self.glue, &self.everfresh, self.kept());
        let instance = self.instance(&self.make());
        let mut generics = self.function.item.sig.generics.clone();
        generics.params.push(parse_quote!(__Key: #everfresh::Key));
        let bounds = &generics.where_clause;
        quote! {
            #[inline]
            fn of_key #generics (_: #glue::KeyType<__Key>) -> &'static #glue::CachedFunction<__Key, #kept> #bounds {
                #instance
            }
        }
    }

    /// Arguments made ready for a loader of their own.
    fn own<'a>(&'a self, argument: &'a Argument, in_key: bool, again: bool) -> Option<TokenStream> {
        let (glue, ident, plain) = (&self.glue, &argument.ident, argument.plain());
        let kept = if argument.is_self { this_ident() } else { ident.clone() };
        match &argument.behind_reference {
            Some(_) => {
                let span = plain.span();
                let take = quote_spanned!(span=> #glue::take_along::<#plain>);
                Some(quote!(let #kept = #take(#ident);))
            }
            None if in_key || again => Some(quote!(let #kept = ::core::clone::Clone::clone(&#ident);)),
            None if argument.is_self => Some(quote!(let #kept = #ident;)),
            None => None,
        }
    }

    /// A loader; `owned` says that the arguments were made ready by `own` first.
    fn loader(&self, owned: bool) -> TokenStream {
        let (glue, uncached, turbofish) = (&self.glue, self.member("uncached"), self.turbofish());
        let mut borrow = Vec::new();
        let mut pass = Vec::new();
        for argument in &self.function.arguments {
            let kept = if argument.is_self && owned { this_ident() } else { argument.ident.clone() };
            if owned && argument.behind_reference.is_some() {
                let plain = argument.plain();
                borrow.push(quote!(let #kept = ::core::borrow::Borrow::<#plain>::borrow(&#kept);));
            }
            pass.push(kept);
        }
        let tags = self.arguments.tags.iter().map(|tag| quote!(#glue::tag(&(#tag))));
        let wait = self.is_async().then(|| quote!(.await));
        let error = match self.error() {
            Some(error) => quote!(#error),
            None => quote!(::core::convert::Infallible),
        };
        let keep = self.keep();
        let result = match self.error() {
            Some(_) => quote!(#glue::Fallible::into_result(made)),
            None => quote!(::core::result::Result::<_, #error>::Ok(made)),
        };
        let body = quote! {
            #(#borrow)*
            let tags = [#(#tags),*];
            let made = Self::#uncached #turbofish (#(#pass),*) #wait;
            #result.map(|value| #keep)
        };
        let body = match self.arguments.tags.is_empty() {
            true => quote! {
                #(#borrow)*
                let made = Self::#uncached #turbofish (#(#pass),*) #wait;
                #result.map(|value| #keep)
            },
            false => body,
        };
        match self.is_async() {
            true => quote!(move || async move { #body }),
            false => quote!(move || { #body }),
        }
    }

    /// Makes what is kept of a value.
    fn keep(&self) -> TokenStream {
        let (glue, everfresh) = (&self.glue, &self.everfresh);
        let value = match (self.kind, &self.arguments.on_release) {
            (Kind::Data, _) => quote!(value),
            (Kind::Resource, None) => quote!(#everfresh::Shared::new(value)),
            (Kind::Resource, Some(release)) => {
                quote!(#everfresh::Shared::with_release(value, |value| #glue::release(value, #release)))
            }
        };
        let loaded = match self.arguments.tags.is_empty() {
            true => quote!(#everfresh::Loaded::new(#value)),
            false => quote!(#everfresh::Loaded::new(#value).tags(tags)),
        };
        match (&self.arguments.negative_ttl, self.given.is_option) {
            (Some(ttl), true) => quote! {{
                let is_there = ::core::option::Option::is_some(&value);
                let loaded = #loaded;
                if is_there { loaded } else { loaded.lifetime(#everfresh::Lifetime::ttl(#ttl)) }
            }},
            _ => loaded,
        }
    }

    /// From the cache's error to the function's own.
    fn settle(&self) -> TokenStream {
        let glue = &self.glue;
        let Some(error) = self.error() else {
            return quote! {
                match result {
                    ::core::result::Result::Ok(answer) => answer,
                    ::core::result::Result::Err(error) => #glue::unfailing(&error),
                }
            };
        };
        if let Some(map) = &self.arguments.map_error {
            return quote!(result.map_err(#map));
        }
        let own = match self.arguments.timeout {
            Some(_) => quote!(own_in_time),
            None => quote!(own),
        };
        let span = self.function.returns.span();
        let own = quote_spanned!(span=> (&&&&&#glue::Way::<#error>::new()).#own(error));
        quote! {{
            #[allow(unused_imports)]
            use #glue::{ByBoth as _, ByClone as _, ByError as _, ByLoadError as _, ByNothing as _};
            result.map_err(|error| #own)
        }}
    }

    /// The call that tells more than the value.
    fn answer(&self) -> TokenStream {
        let (vis, everfresh) = (&self.function.item.vis, &self.everfresh);
        let (asyncness, wait) = (&self.function.item.sig.asyncness, self.is_async().then(|| quote!(.await)));
        let (answer, inputs) = (self.member("answer"), self.inputs(self.function.arguments.iter()));
        let kept = self.kept();
        let returns = self.returns(&parse_quote!(#everfresh::Answer<#kept>));
        let (generics, bounds) = self.generics();
        let checks = self.associated.then(|| self.checks());
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        let own = self.function.arguments.iter().zip(&self.in_key).filter_map(|(argument, &in_key)| match self.owned {
            true => self.own(argument, in_key, false),
            false if in_key && argument.behind_reference.is_none() && !argument.is_self => {
                let ident = &argument.ident;
                Some(quote!(let #ident = ::core::clone::Clone::clone(&#ident);))
            }
            false => None,
        });
        let (loader, settle) = (self.loader(self.owned), self.settle());
        let ask = match (self.owned, self.is_async()) {
            (true, false) => quote!(answer),
            (true, true) => quote!(answer_async),
            (false, false) => quote!(answer_here),
            (false, true) => quote!(answer_here_async),
        };
        let validate = self.arguments.validate.as_ref().map(|validate| {
            let (glue, made) = (&self.glue, self.made());
            quote!(function.discard_unless(#key, |value| #glue::ask::<#made, bool>(value, #validate));)
        });
        quote! {
            /// As the function itself, and tells what the lookup was, how old the value is, and what became of a refresh.
            #[allow(dead_code, clippy::all)]
            #vis #asyncness fn #answer #generics (#(#inputs),*) -> #returns #bounds {
                #checks
                #let_key
                let function = #handle;
                #validate
                let load = { #(#own)* #loader };
                let result = function.#ask(#key, load) #wait;
                #settle
            }
        }
    }

    /// What is best told before anything else goes wrong.
    fn checks(&self) -> TokenStream {
        let (glue, made) = (&self.glue, self.made());
        let keys = self.arguments.key.is_none().then(|| {
            let keys = self.key_arguments().map(|argument| {
                let plain = argument.plain();
                quote_spanned!(plain.span()=> #glue::key_argument::<#plain>();)
            });
            quote!(#(#keys)*)
        });
        let span = self.function.returns.span();
        let value = match self.kind {
            Kind::Data => quote_spanned!(span=> #glue::data_value::<#made>();),
            Kind::Resource => quote_spanned!(span=> #glue::resource_value::<#made>();),
        };
        let plain = matches!(self.given.value, Value::Always(_))
            .then(|| quote_spanned!(span=> #glue::not_a_result::<#made, _>();));
        let others = self.owned.then(|| {
            let others =
                self.other_arguments().filter(|argument| argument.behind_reference.is_some()).map(|argument| {
                    let plain = argument.plain();
                    quote_spanned!(plain.span()=> #glue::taken_along::<#plain>();)
                });
            quote!(#(#others)*)
        });
        quote!(#keys #value #plain #others)
    }

    fn refresh(&self) -> TokenStream {
        let (vis, glue, kept) = (&self.function.item.vis, &self.glue, self.kept());
        let (refresh, inputs) = (self.member("refresh"), self.inputs(self.function.arguments.iter()));
        let (generics, bounds) = self.generics();
        let (let_key, handle, key, loader) = (self.let_key(), self.handle_by_key(), key_ident(), self.loader(true));
        let own =
            self.function.arguments.iter().zip(&self.in_key).filter_map(|(it, &in_key)| self.own(it, in_key, false));
        let key_type = self.named_key();
        let with = self.refresh_with();
        quote! {
            /// Starts a load behind the caller, whether the value is stale or not; the handle says what became of that, and
            /// waits for its end.
            #[allow(dead_code, clippy::all)]
            #vis fn #refresh #generics (#(#inputs),*) -> #glue::Renewal<#key_type, #kept> #bounds {
                #let_key
                let function = #handle;
                let load = { #(#own)* #loader };
                function.cache().#with(#key, load)
            }
        }
    }

    fn refresh_with(&self) -> Ident {
        format_ident!("{}", if self.is_async() { "refresh_with_async" } else { "refresh_with" })
    }

    /// The type of the key in a result.
    fn named_key(&self) -> TokenStream {
        match self.key_type() {
            Some(ty) => quote!(#ty),
            None => {
                let (everfresh, generics) = (&self.everfresh, signature::turbofish(&self.function.item));
                quote!(impl #everfresh::Key + use<#(#generics),*>)
            }
        }
    }

    fn warm(&self) -> TokenStream {
        let (vis, warm, with) = (&self.function.item.vis, self.member("warm"), self.refresh_with());
        let (generics, bounds) = self.generics();
        let (handle, key_type, glue) = (self.handle_by_type(), self.key_type(), &self.glue);
        let keys: Vec<&Argument> = self.key_arguments().collect();
        let others = self.inputs(self.other_arguments());
        let items = keys.iter().map(|argument| match &argument.behind_reference {
            Some(plain) => quote!(impl ::core::borrow::Borrow<#plain>),
            None => {
                let ty = &argument.ty;
                quote!(#ty)
            }
        });
        let names: Vec<Ident> =
            keys.iter().map(|it| if it.is_self { this_ident() } else { it.ident.clone() }).collect();
        let owned = keys.iter().zip(&names).map(|(argument, name)| match &argument.behind_reference {
            Some(plain) => quote!(#glue::take_along::<#plain>(::core::borrow::Borrow::borrow(&#name))),
            None => quote!(#name),
        });
        let (item, pattern, owned, from_key) = match names.len() {
            1 => (quote!(#(#items)*), quote!(#(#names)*), quote!(#(#owned)*), quote!(let #(#names)* = key;)),
            _ => {
                (quote!((#(#items),*)), quote!((#(#names),*)), quote!((#(#owned),*)), quote!(let (#(#names),*) = key;))
            }
        };
        let clones = names.iter().map(|name| quote!(let #name = ::core::clone::Clone::clone(#name);));
        let own = self.other_arguments().filter_map(|argument| self.own(argument, false, true));
        let loader = self.loader(true);
        let (asyncness, warm_all) = match self.is_async() {
            true => (Some(quote!(async)), quote!(function.warm_async(keys, refresh).await)),
            false => (None, quote!(function.warm(keys, refresh))),
        };
        quote! {
            /// Loads those that have no fresh value, in the background and as many at once as may be refreshed at once;
            /// returns how many of all have a value that may be served when that is done.
            #[allow(dead_code, unused_variables, clippy::all)]
            #vis #asyncness fn #warm #generics (
                #(#others,)*
                items: impl ::core::iter::IntoIterator<Item = #item>
            ) -> usize #bounds {
                let function = #handle;
                let keys = items.into_iter().map(|#pattern| -> #key_type { #owned });
                let refresh = |key: &#key_type| {
                    let load = { #from_key #(#clones)* #(#own)* #loader };
                    function.cache().#with(key, load)
                };
                #warm_all
            }
        }
    }

    fn clear_for(&self) -> TokenStream {
        let (vis, clear_for, inputs) = (&self.function.item.vis, self.member("clear_for"), self.naming());
        let (generics, bounds) = self.generics();
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        quote! {
            /// Forgets what is held for these arguments; if it is being loaded, the result is not stored.
            #[allow(dead_code, unused_variables, clippy::all)]
            #vis fn #clear_for #generics (#(#inputs),*) #bounds {
                #let_key
                #handle.clear_for(#key);
            }
        }
    }

    fn by_key(&self) -> TokenStream {
        let (vis, inputs, kept) = (&self.function.item.vis, self.naming(), self.kept());
        let (generics, bounds) = self.generics();
        let (let_key, handle, key) = (self.let_key(), self.handle_by_key(), key_ident());
        quote! {
            /// Makes stale what is held for these arguments: the next caller gets it once more if a window allows.
            #[allow(dead_code, unused_variables, clippy::all)]
            #vis fn expire_for #generics (#(#inputs),*) #bounds {
                #let_key
                #handle.expire_for(#key);
            }

            /// What is held for these arguments and may be served, without running, counting or refreshing anything.
            #[allow(dead_code, unused_variables, clippy::all)]
            #vis fn peek #generics (#(#inputs),*) -> ::core::option::Option<#kept> #bounds {
                #let_key
                #handle.peek(#key)
            }
        }
    }

    fn of_all(&self) -> TokenStream {
        let (vis, everfresh, kept) = (&self.function.item.vis, &self.everfresh, self.kept());
        let (generics, bounds) = self.generics();
        let handle = self.handle_by_type();
        let subscribe = (!untyped_key(&self.arguments)).then(|| {
            let key = self.key_type();
            quote! {
                /// Gets every event of this function from now on, after the fact and outside of all locks.
                #[allow(dead_code, clippy::all)]
                #vis fn subscribe #generics (
                    listener: impl Fn(&#everfresh::Event<'_, #key, #kept>) + Send + Sync + 'static
                ) -> #everfresh::Subscription #bounds {
                    #handle.subscribe(listener)
                }
            }
        });
        quote! {
            /// Forgets everything that this function holds; what is being loaded is not stored.
            #[allow(dead_code, clippy::all)]
            #vis fn clear #generics () #bounds {
                #handle.clear();
            }

            /// Makes stale everything that this function holds.
            #[allow(dead_code, clippy::all)]
            #vis fn expire #generics () #bounds {
                #handle.expire();
            }

            /// A snapshot of the counters of this function.
            #[allow(dead_code, clippy::all)]
            #vis fn stats #generics () -> #everfresh::Stats #bounds {
                #handle.stats()
            }

            #subscribe
        }
    }
}

/// Hygienic: no name of the user's can meet it.
fn key_ident() -> Ident {
    Ident::new("key", Span::mixed_site())
}

fn this_ident() -> Ident {
    Ident::new("this", Span::mixed_site())
}

fn untyped_key(arguments: &Arguments) -> bool {
    matches!(arguments.key, Some((None, _)))
}

/// For each argument whether it is part of the key.
fn in_key(arguments: &Arguments, function: &Function) -> Result<Vec<bool>> {
    let inputs = &function.item.sig.inputs;
    for skipped in &arguments.skip {
        if !function.arguments.iter().any(|argument| argument.ident == *skipped) {
            let cure = format!("there is no argument `{skipped}` to skip");
            return Err(Error::new(skipped.span(), cure));
        }
    }
    let unnamed = |input: &FnArg| matches!(input, FnArg::Typed(typed) if matches!(*typed.pat, Pat::Wild(_)));
    Ok(function
        .arguments
        .iter()
        .zip(inputs)
        .map(|(argument, input)| {
            let skipped = arguments.skip.contains(&argument.ident);
            let hidden = argument.ident.to_string().starts_with('_') || unnamed(input);
            match argument.is_self {
                true => arguments.include_self.is_some() && arguments.key.is_none(),
                false => arguments.key.is_none() && !skipped && !hidden,
            }
        })
        .collect())
}

pub(crate) fn owned_type(argument: &Argument) -> Type {
    match &argument.behind_reference {
        None => argument.ty.clone(),
        Some(Type::Path(path)) if path.path.is_ident("str") => parse_quote!(::std::string::String),
        Some(Type::Slice(slice)) => {
            let element = &slice.elem;
            parse_quote!(::std::vec::Vec<#element>)
        }
        Some(plain) => parse_quote!(<#plain as ::std::borrow::ToOwned>::Owned),
    }
}

/// Whether `Self` stands anywhere, which it can only in an `impl`.
pub(crate) fn mentions_self(item: &syn::ItemFn) -> bool {
    fn within(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            proc_macro2::TokenTree::Ident(ident) => ident == "Self",
            proc_macro2::TokenTree::Group(group) => within(group.stream()),
            _ => false,
        })
    }
    let (signature, block): (_, &syn::Block) = (&item.sig, &item.block);
    // Within the body a `struct` may have an `impl` of its own, so only its signature and plain statements count.
    let statements = block.stmts.iter().filter(|statement| !matches!(statement, syn::Stmt::Item(_)));
    within(quote!(#signature)) || within(quote!(#(#statements)*))
}
