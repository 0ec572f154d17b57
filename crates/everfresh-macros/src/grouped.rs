//! What a `macro_rules!` puts in for one of its variables, kept together.
//!
//! It comes in brackets that nobody sees, and the compiler forgets those on the way back from an attribute: of `$a * 2` with `1 + 1`
//! for `$a` it would make 3 (rust-lang/rust#67062). So an expression that could fall apart gets brackets that stay.

use std::mem::{replace, take};

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use syn::token::Paren;
use syn::visit_mut::{VisitMut, visit_expr_mut, visit_pat_mut};
use syn::{Block, Expr, ExprLit, ExprParen, ExprUnary, Macro, Pat, UnOp};

/// Keeps the expressions of a body together.
pub(crate) fn keep_in(body: &mut Block) {
    Keeping.visit_block_mut(body);
}

struct Keeping;

impl VisitMut for Keeping {
    fn visit_expr_mut(&mut self, expression: &mut Expr) {
        visit_expr_mut(self, expression);
        if let Expr::Group(group) = expression
            && falls_apart(&group.expr)
        {
            let paren_token = Paren(group.group_token.span);
            let expr = replace(&mut *group.expr, Expr::Verbatim(TokenStream::new()));
            *expression = Expr::Paren(ExprParen { attrs: take(&mut group.attrs), paren_token, expr: Box::new(expr) });
        }
    }

    /// The ends of a range want to be numbers and nothing else.
    fn visit_pat_mut(&mut self, pattern: &mut Pat) {
        if !matches!(pattern, Pat::Range(_)) {
            visit_pat_mut(self, pattern);
        }
    }

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        call.tokens = kept(take(&mut call.tokens));
    }
}

/// The same tokens, which nobody has parsed yet, with the expressions kept together. Types and patterns may look like one, and may
/// stand in brackets, too: but for a number below zero, which gets them before the name of a method only.
pub(crate) fn kept(tokens: TokenStream) -> TokenStream {
    let mut rest = tokens.into_iter().peekable();
    let mut all = TokenStream::new();
    while let Some(tree) = rest.next() {
        all.extend([match tree {
            TokenTree::Group(group) => kept_group(&group, rest.peek()).into(),
            tree => tree,
        }]);
    }
    all
}

fn kept_group(group: &Group, next: Option<&TokenTree>) -> Group {
    let inside = kept(group.stream());
    let wants_brackets = group.delimiter() == Delimiter::None
        && match syn::parse2(inside.clone()) {
            Ok(expression) if is_below_zero(&expression) => {
                matches!(next, Some(TokenTree::Punct(dot)) if dot.as_char() == '.' && dot.spacing() == Spacing::Alone)
            }
            Ok(expression) => falls_apart(&expression),
            Err(_) => false,
        };
    let mut kept = Group::new(if wants_brackets { Delimiter::Parenthesis } else { group.delimiter() }, inside);
    kept.set_span(group.span());
    kept
}

fn is_below_zero(expression: &Expr) -> bool {
    matches!(expression, Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) if matches!(**expr, Expr::Lit(ExprLit { .. })))
}

/// Whether something beside it might take a part of it.
fn falls_apart(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::Assign(_)
            | Expr::Binary(_)
            | Expr::Break(_)
            | Expr::Cast(_)
            | Expr::Closure(_)
            | Expr::Range(_)
            | Expr::Reference(_)
            | Expr::Return(_)
            | Expr::Struct(_)
            | Expr::Unary(_)
    )
}
