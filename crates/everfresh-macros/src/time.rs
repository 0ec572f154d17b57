//! Durations as people write them.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, Result};

/// A duration: known now, or an expression of the user's.
pub(crate) struct Time {
    expression: Expr,
    tokens: TokenStream,
    /// It is written out, and zero.
    is_zero: bool,
}

impl Time {
    /// A duration above zero, as nearly all are.
    pub(crate) fn parse(input: ParseStream<'_>) -> Result<Time> {
        let time = Time::parse_any(input)?;
        if time.is_zero {
            return Err(Error::new(
                time.span(),
                "a duration of zero would end everything at once; leave the argument out, or give more than zero",
            ));
        }
        Ok(time)
    }

    /// A duration that may be zero: a pause, a wait, a window.
    pub(crate) fn parse_any(input: ParseStream<'_>) -> Result<Time> {
        let expression: Expr = input.parse()?;
        let Expr::Lit(ExprLit { lit, .. }) = peeled(&expression) else {
            return Ok(Time { tokens: expression.to_token_stream(), expression, is_zero: false });
        };
        let Lit::Str(text) = lit else {
            return Err(Error::new(
                lit.span(),
                "a duration needs a unit: write it as \"90s\", \"1h30m\" or \"2 days\", or name a `Duration`",
            ));
        };
        let written = text.value();
        if written.trim().parse::<f64>().is_ok() {
            return Err(Error::new(
                lit.span(),
                format!("\"{written}\" has no unit: is it \"{written}s\", \"{written}m\" (minutes) or \"{written}h\"?"),
            ));
        }
        let duration = humantime::parse_duration(&written).map_err(|error| {
            Error::new(
                lit.span(),
                format!("\"{written}\" is not a duration ({error}); write it as \"90s\", \"1h30m\", \"2m\" (minutes)"),
            )
        })?;
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        let tokens = quote!(::core::time::Duration::new(#seconds, #nanos));
        Ok(Time { tokens, expression, is_zero: duration.is_zero() })
    }

    pub(crate) fn span(&self) -> proc_macro2::Span {
        self.expression.span()
    }
}

/// The expression without the invisible group that it comes in where another macro has been given it.
pub(crate) fn peeled(expression: &Expr) -> &Expr {
    match expression {
        Expr::Group(group) => peeled(&group.expr),
        other => other,
    }
}

impl ToTokens for Time {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.tokens.to_tokens(tokens);
    }
}
