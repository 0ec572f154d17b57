//! Where code of ours is said to stand, so that what is wrong is told at the user's own.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;

/// Where an expression of the user's stands, in code of ours.
pub(crate) fn here(expression: &impl Spanned) -> Span {
    Span::call_site().located_at(expression.span())
}

/// The same tokens as if they stood elsewhere.
pub(crate) fn located(tokens: &TokenStream, place: Span) -> TokenStream {
    let at = |mut token: TokenTree| {
        token.set_span(token.span().located_at(place));
        token
    };
    tokens.clone().into_iter().map(at).collect()
}
