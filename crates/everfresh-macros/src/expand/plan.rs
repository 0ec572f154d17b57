//! What was decided about one function, and what does not go together.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::visit::{Visit, visit_expr};
use syn::{Attribute, Error, Expr, FnArg, Generics, Item, Macro, Pat, Result, Type, parse_quote};

use crate::Kind;
use crate::arguments::Arguments;
use crate::signature::{self, Argument, Function, Given, Value};

pub(crate) const MOST_KEY_ARGUMENTS: usize = 12;
pub(crate) const TOO_MANY_IN_KEY: &str =
    "at most 12 arguments can be the key; put some into a struct, or leave some out with `skip(..)`";

/// Everything that was decided about one function.
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) arguments: Arguments,
    pub(super) function: Function,
    pub(super) given: Given,
    /// For each argument, whether it is part of the key.
    pub(super) in_key: Vec<bool>,
    /// What a load needs is owned, so that it can outlive the call.
    pub(super) owned: bool,
    /// Whether a load may be asked for that runs behind the caller.
    pub(super) detachable: bool,
    pub(super) associated: bool,
    pub(super) per_instance: bool,
    pub(super) companion: Ident,
    pub(super) everfresh: TokenStream,
    pub(super) glue: TokenStream,
}

impl Plan {
    pub(super) fn new(kind: Kind, arguments: Arguments, function: Function) -> Result<Plan> {
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
            detachable: owned || (arguments.local.is_none() && function.arguments.iter().all(Argument::can_be_owned)),
            glue: quote!(#everfresh::__private),
            companion: arguments.companion.clone().unwrap_or_else(|| item.sig.ident.clone()),
            per_instance: associated || !signature::turbofish(item).is_empty(),
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

    pub(super) fn check(&self) -> Result<()> {
        let refuse = |span: Span, cure: &str| Err(Error::new(span, cure));
        let arguments = &self.arguments;
        signature::refuse_another(&self.function.item, arguments.companion.as_ref())?;
        if let Some(span) = arguments.include_self
            && !self.function.arguments.iter().any(|argument| argument.is_self)
        {
            return refuse(span, "there is no `self` to include in the key; leave out `include(self)`");
        }
        for (argument, in_key) in self.function.arguments.iter().zip(&self.in_key) {
            if let (true, Some(span)) = (*in_key, argument.float()) {
                let cure = "a float cannot be part of a key, as it is not `Eq + Hash` (NaN differs from itself); leave it out \
                            with `skip(..)`, or make the key yourself: `key: u64 = x.to_bits()`";
                return refuse(span, cure);
            }
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
            return refuse(self.function.item.sig.inputs.span(), TOO_MANY_IN_KEY);
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
        if let (true, Some(companion)) = (self.associated, &arguments.companion) {
            let cure = "in an `impl` the companions are functions named after this one; leave out `companion`";
            return refuse(companion.span(), cure);
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &Ident {
        &self.function.item.sig.ident
    }

    /// What a companion is called: beside a free function within its type, in an `impl` after the function.
    pub(super) fn member(&self, what: &str) -> Ident {
        let span = self.name().span().resolved_at(Span::call_site());
        match self.associated {
            true => format_ident!("{}_{}", self.name(), what, span = span),
            false => Ident::new(what, span),
        }
    }

    pub(super) fn attributes(&self, names: &[&str]) -> Vec<&Attribute> {
        let item = &self.function.item;
        item.attrs.iter().filter(|attribute| names.iter().any(|name| attribute.path().is_ident(name))).collect()
    }

    pub(super) fn is_async(&self) -> bool {
        self.function.item.sig.asyncness.is_some()
    }

    /// The type that the function makes, without its `Result`.
    pub(super) fn made(&self) -> Type {
        let (glue, returns) = (&self.glue, &self.function.returns);
        match &self.given.value {
            Value::Always(ty) | Value::OrError(ty) => ty.clone(),
            Value::OrErrorSomehow => parse_quote!(<#returns as #glue::Fallible>::Ok),
        }
    }

    /// The type that is kept.
    pub(super) fn kept(&self) -> Type {
        let (made, everfresh) = (self.made(), &self.everfresh);
        match self.kind {
            Kind::Data => made,
            Kind::Resource => parse_quote!(#everfresh::Shared<#made>),
        }
    }

    pub(super) fn error(&self) -> Option<Type> {
        let (glue, returns) = (&self.glue, &self.function.returns);
        match &self.given.value {
            Value::Always(_) => None,
            _ => Some(parse_quote!(<#returns as #glue::Fallible>::Error)),
        }
    }

    /// What the cached function returns when its value is of this type.
    pub(super) fn returns(&self, value: &Type) -> Type {
        match &self.given.value {
            Value::Always(_) => value.clone(),
            Value::OrError(_) => signature::with_value(&self.function.returns, value),
            Value::OrErrorSomehow => {
                let error = self.error();
                parse_quote!(::core::result::Result<#value, #error>)
            }
        }
    }

    pub(super) fn is_in_key(&self, argument: &Argument) -> bool {
        self.key_arguments().any(|in_key| in_key.ident == argument.ident)
    }

    pub(super) fn key_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.function.arguments.iter().zip(&self.in_key).filter(|(_, in_key)| **in_key).map(|(argument, _)| argument)
    }

    pub(super) fn other_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.function.arguments.iter().zip(&self.in_key).filter(|(_, in_key)| !**in_key).map(|(argument, _)| argument)
    }

    /// The type of the key, if it can be written down.
    pub(super) fn key_type(&self) -> Option<Type> {
        if let Some((ty, _)) = &self.arguments.key {
            return ty.clone();
        }
        let mut owned: Vec<Type> = self.key_arguments().map(owned_type).collect();
        Some(match owned.len() {
            1 => owned.remove(0),
            _ => parse_quote!((#(#owned),*)),
        })
    }

    pub(super) fn turbofish(&self) -> Option<TokenStream> {
        let generics = signature::turbofish(&self.function.item);
        (!generics.is_empty()).then(|| quote!(::<#(#generics),*>))
    }

    pub(super) fn generics(&self) -> (&Generics, Option<&syn::WhereClause>) {
        let generics = &self.function.item.sig.generics;
        (generics, generics.where_clause.as_ref())
    }

    pub(super) fn inputs<'a>(&'a self, arguments: impl Iterator<Item = &'a Argument>) -> Vec<TokenStream> {
        let signature = self.function.passing_on();
        arguments
            .map(|argument| match signature.receiver() {
                Some(receiver) if argument.is_self => quote!(#receiver),
                _ => {
                    let (ident, ty) = (&argument.ident, &argument.ty);
                    quote!(#ident: #ty)
                }
            })
            .collect()
    }

    /// The arguments by which a value is named: the key's, or all that a key of the user's own may look at.
    pub(super) fn naming(&self) -> Vec<TokenStream> {
        match self.arguments.key {
            Some(_) => self.inputs(self.function.arguments.iter()),
            None => self.inputs(self.key_arguments()),
        }
    }

    /// Whether only the compiler knows the type of the key.
    pub(super) fn has_untyped_key(&self) -> bool {
        matches!(self.arguments.key, Some((None, _)))
    }

    pub(super) fn owner(&self) -> TokenStream {
        let companion = &self.companion;
        if self.associated { quote!(Self) } else { quote!(#companion) }
    }
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
    let mut naming = Naming(false);
    naming.visit_signature(&item.sig);
    naming.visit_block(&item.block);
    naming.0
}

/// Looks for the `Self` of what is around the function.
struct Naming(bool);

impl<'ast> Visit<'ast> for Naming {
    fn visit_ident(&mut self, ident: &'ast Ident) {
        self.0 |= ident == "Self";
    }

    /// What a body defines has a `Self` of its own, wherever in the body that stands.
    fn visit_item(&mut self, _: &'ast Item) {}

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.0 |= names_self(call.tokens.clone());
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            // Newer than the parser.
            Expr::Verbatim(tokens) => self.0 |= names_self(tokens.clone()),
            expression => visit_expr(self, expression),
        }
    }
}

/// Whether `Self` stands among these, as it may in the arguments of an attribute, too.
pub(crate) fn names_self(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "Self",
        TokenTree::Group(group) => names_self(group.stream()),
        _ => false,
    })
}

/// Hygienic: no name of the user's can meet it.
pub(super) fn key_ident() -> Ident {
    Ident::new("key", Span::mixed_site())
}

pub(super) fn this_ident() -> Ident {
    Ident::new("this", Span::mixed_site())
}

/// The expression with another name for `self`, which only a method can have.
pub(super) fn without_self(expression: TokenStream) -> TokenStream {
    expression
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) if ident == "self" => this_ident().into(),
            TokenTree::Group(group) => {
                let mut renamed = Group::new(group.delimiter(), without_self(group.stream()));
                renamed.set_span(group.span());
                renamed.into()
            }
            other => other,
        })
        .collect()
}
