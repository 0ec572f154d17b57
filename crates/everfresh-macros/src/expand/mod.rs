//! The function, its companions, and the cache between them, as code.

use proc_macro2::TokenStream;
use syn::Result;

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

pub(crate) use plan::{mentions_self, owned_type};

use plan::Plan;

/// Writes everything.
pub(crate) fn expand(kind: Kind, arguments: Arguments, function: Function) -> Result<TokenStream> {
    let plan = Plan::new(kind, arguments, function)?;
    let (outer, members, cfgs) = (plan.outer(), plan.members(), plan.attributes(&["cfg"]));
    if plan.associated {
        // What is wrong with a type is told by the first function that meets it: that is `answer`, with its checks.
        let members = members.iter().map(|member| code!(#(#cfgs)* #member));
        return Ok(code!(#(#members)* #outer));
    }
    let (checks, (generics, bounds)) = (plan.checks(), plan.generics());
    let (vis, companion) = (&plan.function.item.vis, &plan.companion);
    let about = format!("Companions of the cached function [`{0}`](fn@{0}).", plan.name());
    Ok(code! {
        #(#cfgs)*
        const _: () = {
            // First of all, so that what is wrong with a type is told in our words before the compiler's.
            #[allow(dead_code, clippy::all)]
            fn check #generics () #bounds { #checks }
        };
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
