//! `#[resilient]`: the function around its policy of layers, with or without a cache in front, as code.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, Pat, Result, Type, parse_quote};

use crate::expand::{MOST_KEY_ARGUMENTS, TOO_MANY_IN_KEY, about, mentions_self, outside, owned_type, quiet, within};
use crate::layers::Layers;
use crate::place::{here, located};
use crate::signature::{self, Argument, Function};

/// Writes the function around its policy.
pub(crate) fn expand(layers: Layers, function: Function) -> Result<TokenStream> {
    check(&layers, &function)?;
    let Function { item, arguments, returns } = &function;
    let (vis, name) = (&item.vis, &item.sig.ident);
    let associated = is_associated(&layers, &function);
    let everfresh = layers.everfresh.as_ref().map_or_else(|| quote!(::everfresh), |path| quote!(#path));
    // What is wrong with the result is told there.
    let within_result = located(&everfresh, here(returns));
    let of_result = |part: &str| -> Type {
        let part = Ident::new(part, here(returns));
        Type::Verbatim(quote_spanned!(here(returns)=> <#returns as #within_result::__private::Fallible>::#part))
    };
    let (value, error) = (of_result("Ok"), of_result("Error"));
    let key: Vec<&Argument> = arguments.iter().filter(|it| in_key(&layers, &function, it)).collect();
    let owned_key: Vec<Type> = key.iter().map(|argument| owned_type(argument)).collect();
    let key_type: Type = match &owned_key[..] {
        [one] => one.clone(),
        many => parse_quote!((#(#many),*)),
    };
    let cached = layers.cache.is_some();
    let (front, failure): (Type, Type) = match cached {
        true => (
            parse_quote!(#everfresh::resilience::Behind<#everfresh::Cache<#key_type, #value>>),
            parse_quote!(::std::sync::Arc<#everfresh::resilience::Error<#error>>),
        ),
        false => (parse_quote!(#everfresh::resilience::Direct), parse_quote!(#everfresh::resilience::Error<#error>)),
    };
    let policy: Type = parse_quote!(#everfresh::resilience::Policy<#value, #error, #front>);

    let mut signature = function.passing_on();
    signature.output = parse_quote!(-> ::core::result::Result<#value, #failure>);
    let span = name.span().resolved_at(Span::call_site());
    let member = |what: &str| match associated {
        true => format_ident!("{name}_{what}", span = span),
        false => Ident::new(what, span),
    };
    let (the_policy, the_cache, uncached) = (member("policy"), member("cache"), member("uncached"));
    let companion = layers.companion.as_ref().unwrap_or(name);
    let owner = if associated { quote!(Self) } else { quote!(#companion) };
    let parameters = signature::turbofish(item);
    let turbofish = (!parameters.is_empty()).then(|| quote!(::<#(#parameters),*>));
    let (generics, bounds) = (&item.sig.generics, &item.sig.generics.where_clause);
    let mut bare = item.sig.clone();
    bare.ident = uncached.clone();

    let parts: Vec<TokenStream> = key
        .iter()
        .map(|Argument { ident, behind_reference, .. }| match behind_reference {
            Some(_) => quote!(#ident),
            None => quote!(&#ident),
        })
        .collect();
    let look_up = match (cached, &parts[..]) {
        (false, _) => None,
        (true, []) => Some(quote!(&(),)),
        (true, [one]) => Some(quote!(#one,)),
        (true, many) => Some(quote!(&#everfresh::__private::Parts((#(#many),*)),)),
    };
    // A load may outlive the call, and every attempt needs its own: owned once, cloned for each. A task without a cache
    // is the caller's own, and may borrow.
    let lends = may_borrow(&layers, &function);
    let (mut checks, mut own, mut again, mut passed) = (vec![], vec![], vec![], vec![]);
    for (at, argument) in arguments.iter().enumerate() {
        let Argument { ident, behind_reference, .. } = argument;
        let owned = format_ident!("owned_{at}", span = Span::mixed_site());
        match behind_reference {
            Some(_) if lends || is_static(argument) => {
                passed.push(quote!(#ident));
                continue;
            }
            Some(plain) => {
                own.push(quote!(let #owned = #everfresh::__private::take_along::<#plain>(#ident);));
                passed.push(quote!(::core::borrow::Borrow::<#plain>::borrow(&#owned)));
            }
            None => {
                own.push(match cached && key.iter().any(|it| it.ident == *ident) {
                    true => quote!(let #owned = ::core::clone::Clone::clone(&#ident);),
                    false => quote!(let #owned = #ident;),
                });
                passed.push(quote!(#owned));
            }
        }
        again.push(quote!(let #owned = ::core::clone::Clone::clone(&#owned);));
        let plain = argument.plain();
        checks.push(quote_spanned!(plain.span()=> #everfresh::__private::for_each_attempt::<#plain>();));
    }
    let run = quote!(#owner::#uncached #turbofish (#(#passed),*));
    let (call, wait, attempt) = match item.sig.asyncness {
        Some(_) => (quote!(call), Some(quote!(.await)), quote!(move || { #(#again)* async move { #run.await } })),
        None => (quote!(call_blocking), None, quote!(move || { #(#again)* #run })),
    };

    let body = &item.block;
    let (build, about) =
        (build(&layers, &everfresh, (name, associated), &key_type, &value, &error), about("resilient", name));
    let quiet = quiet();
    let cache = cached.then(|| {
        quote! {
            /// The cache in front: to invalidate, and to ask for its statistics.
            #quiet
            #vis fn #the_cache #generics () -> &'static #everfresh::Cache<#key_type, #value> #bounds {
                Self::#the_policy #turbofish ().cache()
            }
        }
    });
    // What is wrong with an argument is told in our words before the compiler's.
    let keys = key.iter().filter(|_| cached).map(|argument| {
        let plain = argument.plain();
        quote_spanned!(plain.span()=> #everfresh::__private::resilient_key_argument::<#plain>();)
    });
    // A `static` is shared by all types of a generic function or `impl`, and each of them has a policy of its own.
    let made = match associated || !parameters.is_empty() {
        true => quote! {
            static __POLICIES: #everfresh::__private::Instances = #everfresh::__private::Instances::new();
            __POLICIES.get(&Self::#uncached #turbofish, || -> #policy { #build })
        },
        false => quote! {
            // Not lazy by itself: that would tell only the first caller what is wrong with the arguments.
            static __POLICY: ::std::sync::OnceLock<#policy> = ::std::sync::OnceLock::new();
            __POLICY.get_or_init(|| { #build })
        },
    };
    let kept = within(item);
    let members = quote! {
        /// The policy of the function, made at its first call.
        #quiet
        #vis fn #the_policy #generics () -> &'static #policy #bounds {
            #made
        }

        #cache

        /// The function as it was written: no layer, no cache.
        #kept
        #vis #bare #body
    };
    let members = match associated {
        true => members,
        false => quote! {
            #[doc = #about]
            #[allow(non_camel_case_types, dead_code, missing_debug_implementations, missing_copy_implementations)]
            #vis struct #companion { _companions: () }

            #[allow(dead_code)]
            impl #companion { #members }
        },
    };
    let results = match (cached, item.sig.asyncness) {
        (true, _) => vec![("resilient_value", &value), ("resilient_error", &error)],
        (false, None) => vec![("from_a_worker", &value), ("from_a_worker", &error)],
        (false, Some(_)) => vec![],
    };
    let results = results.into_iter().map(|(check, ty)| {
        let check = Ident::new(check, here(returns));
        quote_spanned!(here(returns)=> #within_result::__private::#check::<#ty>();)
    });
    let (arguments_fit, results_fit) = (quote!(#(#keys)* #(#checks)*), quote!(#(#results)*));
    let beside = |checks: TokenStream| quote!(const _: () = { #quiet fn check #generics () #bounds { #checks } };);
    // Where they are told before what the compiler finds by itself.
    let (beside, checks) = match (associated, item.sig.asyncness) {
        (true, _) => (None, quote!(#arguments_fit #results_fit)),
        (false, Some(_)) => (cached.then(|| beside(results_fit)), arguments_fit),
        (false, None) => (Some(beside(quote!(#arguments_fit #results_fit))), quote!()),
    };
    // No name of the user's may meet ours. A hit needs nothing of its own.
    let (by, value) = (Ident::new("policy", Span::mixed_site()), Ident::new("value", Span::mixed_site()));
    let hit = cached.then(|| {
        quote! {
            if let ::core::option::Option::Some(#value) = #by.hit(#look_up) {
                return ::core::result::Result::Ok(#value);
            }
        }
    });
    let attributes = outside(item);
    Ok(quote! {
        #beside

        #(#attributes)*
        #[allow(clippy::used_underscore_binding)]
        #vis #signature {
            #checks
            let #by = #owner::#the_policy #turbofish ();
            #hit
            #by.#call(#look_up { #(#own)* #attempt }) #wait
        }

        #members
    })
}

fn build(
    layers: &Layers,
    everfresh: &TokenStream,
    (name, associated): (&Ident, bool),
    key: &Type,
    value: &Type,
    error: &Type,
) -> TokenStream {
    let calls = &layers.policy;
    let own = name.unraw().to_string();
    let path = quote!(::core::concat!(::core::module_path!(), "::", #own));
    let full = match associated {
        true => quote!(#everfresh::__private::name_within::<Self>(#own)),
        false => path.clone(),
    };
    let named = layers.name.as_ref().map_or_else(|| full.clone(), |name| quote!(#name));
    let place = match &layers.registry {
        Some(registry) => quote_spanned!(here(registry)=> .registry(&#registry, #named)),
        None => quote!(.name(#named)),
    };
    // No name of the user's, which stand in the arguments, may meet ours.
    let [clock, cache, preset] = ["clock", "cache", "preset"].map(|name| Ident::new(name, Span::mixed_site()));
    let (let_clock, with_clock) = match &layers.clock {
        Some(given) => {
            let told = quote_spanned!(here(given)=> .clock(::core::clone::Clone::clone(&#clock)));
            (Some(quote!(let #clock = #given;)), Some(told))
        }
        None => (None, None),
    };
    let let_preset = layers.preset.as_ref().map(|given| quote!(let #preset: __resilience::Preset = #given;));
    let with_preset = layers.preset.is_some().then(|| quote!(.preset(#preset)));
    let ends_in_time = match (layers.timeout, layers.preset.is_some()) {
        _ if layers.refresh_timeout => quote!(false),
        (true, _) => quote!(true),
        (false, true) => quote!(#preset.timeout.is_some()),
        (false, false) => quote!(false),
    };
    let make_cache = layers.cache.as_ref().map(|choices| {
        quote! {
            let #cache = #everfresh::__private::resilient_cache(
                #full, #everfresh::Cache::<#key, #value>::builder() #(#choices)* #with_clock, #ends_in_time
            );
        }
    });
    let with_cache = layers.cache.is_some().then(|| quote!(.cache(#cache)));
    quote! {
        #[allow(unused_imports)]
        use #everfresh::{self as __everfresh, resilience as __resilience};
        #let_clock
        #let_preset
        #make_cache
        #everfresh::__private::resilient(
            #path, __resilience::Policy::<#value, #error>::builder() #place #with_clock #with_preset #(#calls)* #with_cache .build()
        )
    }
}

/// `self` only if told: it would be kept alive by the cache.
fn in_key(layers: &Layers, function: &Function, argument: &Argument) -> bool {
    if argument.is_self {
        return layers.include_self.is_some();
    }
    let unnamed = |input: &FnArg| matches!(input, FnArg::Typed(typed) if matches!(*typed.pat, Pat::Wild(_)));
    let at = function.arguments.iter().position(|it| it.ident == argument.ident);
    let hidden = at.and_then(|at| function.item.sig.inputs.get(at)).is_some_and(unnamed);
    !hidden && !layers.skip.contains(&argument.ident) && !argument.ident.to_string().starts_with('_')
}

fn is_associated(layers: &Layers, function: &Function) -> bool {
    layers.associated || function.arguments.iter().any(|it| it.is_self) || mentions_self(&function.item)
}

fn is_static(argument: &Argument) -> bool {
    let Type::Reference(reference) = &argument.ty else { return false };
    reference.lifetime.as_ref().is_some_and(|it| it.ident == "static")
}

fn may_borrow(layers: &Layers, function: &Function) -> bool {
    layers.cache.is_none() && function.item.sig.asyncness.is_some()
}

fn check(layers: &Layers, function: &Function) -> Result<()> {
    let refuse = |span: Span, cure: &str| Err(Error::new(span, cure));
    signature::refuse_another(&function.item, layers.companion.as_ref())?;
    if let Some(span) = layers.include_self {
        if !function.arguments.iter().any(|argument| argument.is_self) {
            return refuse(span, "there is no `self` to include in the key; leave out `include(self)`");
        }
        if layers.cache.is_none() {
            return refuse(span, "without a cache there is no key; leave out `include(self)`, or add `cache(..)`");
        }
    }
    if let (true, Some(companion)) = (is_associated(layers, function), &layers.companion) {
        let cure = "in an `impl` the companions are functions named after this one; leave out `companion`";
        return refuse(companion.span(), cure);
    }
    if let Some(skipped) = layers.skip.iter().find(|it| !function.arguments.iter().any(|known| known.ident == **it)) {
        return refuse(skipped.span(), "there is no such argument to skip");
    }
    if layers.cache.is_none() && !layers.skip.is_empty() {
        return refuse(
            layers.skip[0].span(),
            "without a cache there is no key; leave out `skip(..)`, or add `cache(..)`",
        );
    }
    let parts = function.arguments.iter().filter(|argument| in_key(layers, function, argument)).count();
    if layers.cache.is_some() && parts > MOST_KEY_ARGUMENTS {
        return refuse(function.item.sig.inputs.span(), TOO_MANY_IN_KEY);
    }
    for argument in &function.arguments {
        if let (true, Some(span)) = (layers.cache.is_some() && in_key(layers, function, argument), argument.float()) {
            let cure = "a float cannot be part of a key, as it is not `Eq + Hash` (NaN differs from itself); leave it out \
                        with `skip(..)`, or take its bits or a type of your own that is `Eq + Hash`";
            return refuse(span, cure);
        }
        if let Some(span) = argument.borrows_inside()
            && !may_borrow(layers, function)
        {
            let cure = "this argument borrows inside of its type, so it cannot be kept for another attempt; take an \
                        owned type or a plain `&str`, `&[T]`, `&T`";
            return refuse(span, cure);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str, function: &str) -> String {
        let layers = match syn::parse_str::<Layers>(arguments) {
            Ok(layers) => layers,
            Err(error) => return error.to_string(),
        };
        let parsed = function.parse().map(|tokens| signature::parse(tokens, signature::CANNOT_FAIL));
        let function = match parsed.unwrap_or_else(|error| panic!("{error}")) {
            Ok(function) => function,
            Err(error) => return error.to_string(),
        };
        match expand(layers, function) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn parsed(function: &str) -> Function {
        let tokens = function.parse().unwrap_or_else(|error| panic!("{error}"));
        signature::parse(tokens, signature::CANNOT_FAIL).unwrap_or_else(|error| panic!("{error}"))
    }

    const PLAIN: &str = "fn f(id: u64, name: &str) -> Result<u32, E> { Ok(1) }";

    #[test]
    fn what_is_right_is_written_in_any_order() {
        for arguments in [
            "",
            "timeout = \"10s\", preset = http",
            "preset = OURS",
            "preset = ours::slow()",
            "retry(max_attempts = TRIES, factor = FACTOR)",
            "bulkhead(max_concurrent = 3, max_wait = \"1s\", max_waiting = 0), cache(max_refreshes = 0)",
            "timeout = LIMIT, cache(), skip(name)",
            "retry(max_attempts = 3, jitter = false), listener = a, listener = b",
            "cache(ttl = \"5m\", stale_while_revalidate = \"1h\", capacity = 10)",
            "cache(eviction = \"lru\")",
            "cache(time_to_idle = \"5m\")",
            "cache(eviction = POLICY)",
            "cache(ttl = \"5m\", stale_while_revalidate = \"0s\"), hedge(after = \"0s\")",
            "retry(max_attempts = 3, base = \"0s\", max_delay = \"0s\")",
            "bulkhead(max_concurrent = 3, max_wait = \"0s\"), rate_limit(calls = 1, per = \"1s\", max_wait = \"0s\")",
        ] {
            assert_eq!(refused(arguments, PLAIN), "", "{arguments}");
        }
        let layers: Layers =
            syn::parse_str("timeout = \"10s\", preset = http").unwrap_or_else(|error| panic!("{error}"));
        let written = expand(layers, parsed(PLAIN)).unwrap_or_else(|error| panic!("{error}")).to_string();
        let (preset, timeout) = (written.find(". preset"), written.find(". timeout"));
        assert!(preset.is_some() && preset < timeout, "a preset comes first, or it would overwrite");
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_cure() {
        for (arguments, cure) in [
            ("retries = 3", "is it `retry`?"),
            ("http", "is written `preset = http`"),
            ("preset = \"http\"", "is written `preset = http`"),
            ("preset = web", "there are: http, db"),
            ("ttl = \"5m\"", "a choice of the cache"),
            ("cache(), key = id", "`skip(argument)` leaves one out"),
            ("retry(max_attempts = 3, retry_if = f)", "an argument of its own"),
            ("retry(max_attempts = 0)", "at least 1"),
            ("retry(max_attempts = -1)", "at least 1"),
            ("retry(max_attempts = 3.0)", "a whole number"),
            ("retry(max_attempts = \"3\")", "a whole number"),
            ("retry(max_attempts = 3, factor = 0.5)", "at least 1.0"),
            ("circuit_breaker(failure_rate = 50, window = 100)", "a half is 0.5"),
            ("circuit_breaker(failure_rate = \"50%\", window = 100)", "a half is 0.5"),
            ("cache(ttl = \"5m\", capacity = 0)", "at least 1"),
            ("cache(ttl = \"5m\", jitter = 1.0)", "below 1.0"),
            ("cache(ttl = \"5m\", refresh_ahead = true)", "below 1.0"),
            ("rate_limit(max_calls = 3, per = \"1s\")", "needs `calls = ..`, and has no choice `max_calls`"),
            ("concurrency = 3", "there are: cache(..)"),
            ("timeout = \"10\"", "is it \"10s\""),
            ("timeout = \"10s\", timeout = \"5s\"", "given twice"),
            ("timeout = \"0s\"", "more than zero"),
            ("fallback = a, fallback_async = b", "leave the other out"),
            ("timeout(whole = \"0s\")", "more than zero"),
            ("cache(ttl = \"0s\")", "more than zero"),
            ("rate_limit(calls = 1, per = \"0s\")", "more than zero"),
            ("timeout()", "say of what"),
            ("retry(attempts = 3)", "needs `max_attempts"),
            ("retry(max_attempts = 3, pause = 1)", "base, factor, max_delay"),
            ("retry(max_attempts = 3, jitter = 0.5)", "`jitter = false`"),
            ("retry = 3", "is written `retry(max_attempts = 3)`"),
            ("timeot = \"1s\"", "is it `timeout`?"),
            ("retry(3)", "is written `retry(max_attempts = 3)`"),
            ("retry(max_attempts: 3)", "is written `retry(max_attempts = 3)`"),
            ("rate_limit(calls = 10 per = \"1s\")", "is written `rate_limit(calls = 100, per = \"1s\")`"),
            ("timeout \"1s\"", "`timeout = \"10s\"` or `timeout(per_attempt"),
            ("timeout(each = \"1s\")", "there are: per_attempt, whole"),
            ("fallback", "is written `fallback = expression`"),
            ("cache(), include(id)", "is written `include(self)`"),
            ("cache() skip(id)", "a comma or nothing"),
            ("\"10s\"", "begins with its name"),
            ("cache(ttl = \"5m\", refresh = \"background\")", "stale_while_revalidate"),
            ("circuit_breaker(failure_threshold = 5, openfor = \"1s\")", "open_for"),
            ("circuit_breaker()", "by count"),
            ("circuit_breaker(failure_rate = 0.5)", "by rate"),
            ("circuit_breaker(failure_rate = 0.5, window = 9, slow_call = \"1s\")", "need both"),
            ("circuit_breaker(failure_threshold = 5, slow_call = \"1s\", slow_call_rate = 0.5)", "are of a rate"),
            ("circuit_breaker(failure_threshold = 5, minimum_calls = 20)", "are of a rate"),
            ("bulkhead(max_concurrent = 3, max_waiting = 5)", "say for how long"),
            ("rate_limit(calls = 3)", "needs `per"),
            ("cache(stale_while_revalidate = \"1h\")", "say for how long a value is fresh"),
            ("cache(jitter = 0.1)", "say for how long a value is fresh"),
            ("cache(refresh_ahead = 0.8)", "say for how long a value is fresh"),
            ("cache(capacity = 1, capacity = 2)", "given twice"),
            ("cache(), skip(nobody)", "no such argument"),
            ("skip(id)", "add `cache(..)`"),
            ("cache(), include(self)", "no `self` to include"),
            ("companion = \"f\"", "is written `companion = name`"),
            ("cache(eviction = \"fifo\")", "there is \"s3-fifo\""),
        ] {
            let told = refused(arguments, PLAIN);
            assert!(told.contains(cure), "{arguments}: {told}");
        }
        for (function, cure) in [
            ("fn f(&mut self) -> Result<u32, E> { Ok(1) }", "take `&self`"),
            ("fn f(it: impl Clone) -> Result<u32, E> { Ok(1) }", "fn function<T: Trait>(x: T)"),
            ("fn f(it: Option<&str>) -> Result<u32, E> { Ok(1) }", "an owned type"),
            ("fn f(it: u32) {}", "return a `Result`"),
            ("fn f(it: u32) -> ! { panic!() }", "return a `Result`"),
            ("const fn f(it: u32) -> Result<u32, E> { Ok(1) }", "leave out `const`"),
            ("extern \"C\" fn f(it: u32) -> Result<u32, E> { Ok(1) }", "write a Rust function"),
            ("fn f(#[cfg(unix)] it: u32) -> Result<u32, E> { Ok(1) }", "above the whole function"),
            ("#[cache_data(ttl = \"1m\")] fn f(it: u32) -> Result<u32, E> { Ok(1) }", "#[resilient(cache(ttl"),
            (
                "#[everfresh::cache_resource] fn f(it: u32) -> Result<u32, E> { Ok(1) }",
                "let one function call the other",
            ),
        ] {
            let told = refused("timeout = \"1s\"", function);
            assert!(told.contains(cure), "{function}: {told}");
        }
        let others = "#[other::resilient] #[cache_data(companion = g)] fn f(it: u32) -> Result<u32, E> { Ok(1) }";
        assert_eq!(refused("timeout = \"1s\"", others), "");
        let thirteen: String = (0..13).map(|at| format!("a{at}: u8, ")).collect();
        let thirteen = format!("fn f({thirteen}) -> Result<u32, E> {{ Ok(1) }}");
        assert!(refused("cache()", &thirteen).contains("at most 12"));
        for arguments in ["cache(), skip(a3)", "timeout = \"1s\""] {
            assert_eq!(refused(arguments, &thirteen), "", "{arguments}");
        }
        for (floats, is_told) in [
            ("f64", true),
            ("&f32", true),
            ("Option<(u32, f64)>", true),
            ("&[[std::primitive::f64; 3]]", true),
            ("OrderedFloat<f64>", false),
            ("fn(f64) -> f64", false),
        ] {
            let function = format!("fn f(id: u32, x: {floats}) -> Result<u32, E> {{ Ok(1) }}");
            assert_eq!(refused("cache()", &function).contains("a float cannot"), is_told, "{floats}");
            for arguments in ["cache(), skip(x)", "timeout = \"1s\""] {
                assert_eq!(refused(arguments, &function), "", "{arguments}");
            }
        }
        let told = refused("companion = g", "fn f(&self) -> Result<u32, E> { Ok(1) }");
        assert!(told.contains("leave out `companion`"), "{told}");
        let told = refused("include(self)", "fn f(&self) -> Result<u32, E> { Ok(1) }");
        assert!(told.contains("add `cache(..)`"), "{told}");
    }
}
