//! The function, its companions, and the cache between them, as code.

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::{Attribute, ItemFn, Meta, Result, parse_quote};

use crate::Kind;
use crate::arguments::Arguments;
use crate::signature::Function;

/// Code whose variables are its own: no name that the user has given to anything can meet them.
macro_rules! code {
    ($($token:tt)*) => { ::quote::quote_spanned!(::proc_macro2::Span::mixed_site()=> $($token)*) };
}

mod cache;
mod call;
mod companions;
mod load;
mod plan;

pub(crate) use plan::{MOST_KEY_ARGUMENTS, TOO_MANY_IN_KEY, mentions_self, names_self, owned_type};

use plan::Plan;

/// What only we have written keeps the lints of the user's crate quiet. By their own names: to allow a group is an error
/// where any lint of it is forbidden.
pub(crate) fn quiet() -> TokenStream {
    code! {
        #[allow(
            dead_code, unused_lifetimes, unused_variables, clippy::fn_params_excessive_bools, clippy::impl_trait_in_params,
            clippy::let_unit_value, clippy::min_ident_chars, clippy::shadow_reuse, clippy::shadow_same, clippy::shadow_unrelated,
            clippy::single_call_fn, clippy::too_many_arguments, clippy::trivially_copy_pass_by_ref,
            clippy::type_complexity, clippy::unit_arg, clippy::unused_unit, clippy::used_underscore_binding
        )]
    }
}

/// The attributes of the function that stands in the place of the user's. What is expected of its body is met by
/// [`within`], and of its signature perhaps here, too.
pub(crate) fn outside(item: &ItemFn) -> Vec<Attribute> {
    item.attrs.iter().cloned().map(|attribute| allowing(attribute, |_| true)).collect()
}

/// With `allow` in place of an `expect` of such lints.
fn allowing(mut attribute: Attribute, which: impl Fn(&str) -> bool) -> Attribute {
    if let Meta::List(list) = &mut attribute.meta
        && list.path.is_ident("expect")
        && list.tokens.clone().into_iter().any(|token| which(&token.to_string()))
    {
        list.path = parse_quote!(allow);
    }
    attribute
}

/// The attributes of the function that has the user's body: its lints, and what it cannot be told to have.
pub(crate) fn within(item: &ItemFn) -> TokenStream {
    let names = ["allow", "expect", "warn", "deny", "forbid", "cfg", "must_use"];
    let kept = item.attrs.iter().filter(|attribute| names.iter().any(|name| attribute.path().is_ident(name)));
    // It is called by its companions, whoever calls those.
    let kept = kept.cloned().map(|attribute| allowing(attribute, |lint| ["dead_code", "unused"].contains(&lint)));
    code! {
        #(#kept)*
        #[allow(
            dead_code, clippy::missing_const_for_fn, clippy::missing_errors_doc, clippy::missing_panics_doc,
            clippy::must_use_candidate
        )]
    }
}

/// One line about the type beside a function.
pub(crate) fn about(kind: &str, function: &Ident) -> String {
    format!("Companions of the {kind} function [`{0}`](fn@{0}).", function.unraw())
}

/// Writes everything.
pub(crate) fn expand(kind: Kind, arguments: Arguments, function: Function) -> Result<TokenStream> {
    let plan = Plan::new(kind, arguments, function)?;
    let (outer, members, cfgs) = (plan.outer(), plan.members(), plan.attributes(&["cfg"]));
    if plan.associated {
        // What is wrong with a type is told by the first function that meets it: that is `answer`, with its checks.
        let members = members.iter().map(|member| code!(#(#cfgs)* #member));
        return Ok(code!(#(#members)* #outer));
    }
    let (vis, companion) = (&plan.function.item.vis, &plan.companion);
    let about = about("cached", plan.name());
    // First of all, so that what is wrong with a type is told in our words before the compiler's.
    let beside = (!plan.is_async()).then(|| {
        let (checks, (generics, bounds), quiet) = (plan.checks(), plan.generics(), quiet());
        code! {
            #(#cfgs)*
            const _: () = {
                #quiet
                fn check #generics () #bounds { #checks }
            };
        }
    });
    Ok(code! {
        #beside
        #outer
        #(#cfgs)*
        #[doc = #about]
        #[allow(non_camel_case_types, dead_code, missing_debug_implementations, missing_copy_implementations)]
        #vis struct #companion { _companions: () }
        #(#cfgs)*
        #[allow(dead_code)]
        impl #companion { #(#members)* }
    })
}
