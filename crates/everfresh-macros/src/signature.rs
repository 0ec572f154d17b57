//! The function that is to be cached: its arguments, what it returns, and what cannot be cached.

use proc_macro2::{Ident, Span, TokenStream};
use quote::format_ident;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Error, FnArg, GenericArgument, GenericParam, ItemFn, Lifetime, Meta, Pat, PathArguments, Result,
    ReturnType, Signature, Type, TypeImplTrait, TypeParamBound, TypePath, TypeReference, TypeTraitObject, parse_quote,
};

use crate::grouped::keep_in;

/// A function with its arguments told apart.
pub(crate) struct Function {
    pub(crate) item: ItemFn,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) returns: Type,
}

pub(crate) struct Argument {
    /// What it is called in the code that we write.
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// What `&` stands before, if anything.
    pub(crate) behind_reference: Option<Type>,
    pub(crate) is_self: bool,
}

/// What is to be told of a function that returns nothing, or never.
pub(crate) const NOTHING_TO_KEEP: &str = "the function returns nothing, so there is nothing to keep";
pub(crate) const CANNOT_FAIL: &str = "layers refuse calls and give up, and a function that returns nothing cannot tell; let \
                                      it return a `Result`";

/// The function, if it is one; `nothing` is told of one that returns nothing.
pub(crate) fn parse(item: TokenStream, nothing: &str) -> Result<Function> {
    let mut item: ItemFn = syn::parse2(item).map_err(|error| {
        let cure = "this stands above a function with a body: a free one, or one in an `impl` of a type";
        Error::new(error.span(), cure)
    })?;
    keep_in(&mut item.block);
    let signature = &item.sig;
    let refuse = |span: Span, cure: &str| Err(Error::new(span, cure));
    if let Some(word) = &signature.constness {
        return refuse(
            word.span,
            "a `const fn` can neither look into a cache nor go through layers; leave out `const`",
        );
    }
    if let Some(word) = &signature.unsafety {
        return refuse(
            word.span,
            "a call may skip or repeat the body that `unsafe` speaks of; wrap the function in a safe one",
        );
    }
    if let Some(abi) = &signature.abi {
        return refuse(
            abi.span(),
            "an `extern` function cannot be cached or have layers; write a Rust function that calls it",
        );
    }
    let arguments =
        signature.inputs.iter().enumerate().map(|(at, input)| argument(at, input)).collect::<Result<_>>()?;
    let returns = match &signature.output {
        ReturnType::Type(_, ty) if !is_unit(peeled(ty)) && !matches!(peeled(ty), Type::Never(_)) => peeled(ty).clone(),
        _ => return refuse(signature.ident.span(), nothing),
    };
    refuse_returns(&returns)?;
    Ok(Function { arguments, returns, item })
}

/// Refuses a second attribute of ours above the function: both would write the same companions. With another name for one of them
/// that is the user's affair.
pub(crate) fn refuse_another(item: &ItemFn, companion: Option<&Ident>) -> Result<()> {
    const OURS: &[&str] = &["cache_data", "cache_resource", "resilient"];
    let is_ours = |attribute: &&Attribute| {
        let path = &attribute.path().segments;
        let by_path = path.len() == 1 || path.first().is_some_and(|first| first.ident == "everfresh");
        by_path && path.last().is_some_and(|last| OURS.iter().any(|name| last.ident == name))
    };
    let names_companion = |attribute: &&Attribute| match &attribute.meta {
        Meta::List(list) => list.tokens.clone().into_iter().any(|token| token.to_string() == "companion"),
        _ => false,
    };
    match item.attrs.iter().find(is_ours).filter(|other| companion.is_none() && !names_companion(other)) {
        None => Ok(()),
        Some(other) => Err(Error::new(
            other.path().span(),
            "of these attributes only one can stand above a function: layers with a cache in front are \
             `#[resilient(cache(ttl = \"5m\"), retry(max_attempts = 3))]`; for anything else let one function call the other",
        )),
    }
}

/// The type without the invisible group that it comes in where another macro has been given it.
fn peeled(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peeled(&group.elem),
        Type::Paren(paren) => peeled(&paren.elem),
        other => other,
    }
}

fn is_static(reference: &TypeReference) -> bool {
    reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static")
}

fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

fn argument(at: usize, input: &FnArg) -> Result<Argument> {
    match input {
        FnArg::Receiver(receiver) => {
            let (reference, ty) = match &*receiver.ty {
                Type::Reference(reference) => (Some(reference), (*reference.elem).clone()),
                other => (None, other.clone()),
            };
            if reference.is_some_and(|reference| reference.mutability.is_some()) {
                let cure =
                    "`&mut self` is changed by each run of the body, which a call may skip or repeat; take `&self`";
                return Err(Error::new(receiver.span(), cure));
            }
            Ok(Argument {
                ident: Ident::new("self", receiver.self_token.span),
                ty: (*receiver.ty).clone(),
                behind_reference: reference.map(|_| ty),
                is_self: true,
            })
        }
        FnArg::Typed(typed) => {
            if let Some(cfg) = typed.attrs.iter().find(|attribute| attribute.path().is_ident("cfg")) {
                let cure = "whether this argument is there is decided after us; put `#[cfg(..)]` above the whole function, \
                            once for each case";
                return Err(Error::new(cfg.span(), cure));
            }
            let ident = match &*typed.pat {
                Pat::Ident(pat) => pat.ident.clone(),
                other => format_ident!("argument_{at}", span = other.span().resolved_at(Span::mixed_site())),
            };
            if let Some(part) = Inside::of(&typed.ty).impl_trait {
                let cure =
                    "`impl Trait` has no name that a key could have; name the type: `fn function<T: Trait>(x: T)`";
                return Err(Error::new(part, cure));
            }
            let ty = peeled(&typed.ty);
            let behind_reference = match ty {
                Type::Reference(TypeReference { mutability: Some(word), .. }) => {
                    let cure = "`&mut` arguments are changed by each run of the body, which a call may skip or repeat; take \
                                the value or `&`, and return what is new";
                    return Err(Error::new(word.span, cure));
                }
                // What is there for ever is a value like any other, and it has to stay what it is: no owned form is `'static`.
                Type::Reference(reference) if is_static(reference) => None,
                Type::Reference(reference) => Some(peeled(&reference.elem).clone()),
                _ => None,
            };
            Ok(Argument { ident, ty: ty.clone(), behind_reference, is_self: false })
        }
    }
}

impl Function {
    /// The signature for those who pass the arguments on: how the body takes them apart or changes them is its own affair.
    pub(crate) fn passing_on(&self) -> Signature {
        let mut signature = self.item.sig.clone();
        for (input, argument) in signature.inputs.iter_mut().zip(&self.arguments) {
            match input {
                FnArg::Typed(typed) => {
                    let ident = &argument.ident;
                    *typed.pat = parse_quote!(#ident);
                }
                FnArg::Receiver(receiver) if receiver.reference.is_none() => receiver.mutability = None,
                FnArg::Receiver(_) => {}
            }
        }
        signature
    }
}

impl Argument {
    /// What the owned form is made of: the type without its `&`.
    pub(crate) fn plain(&self) -> &Type {
        self.behind_reference.as_ref().unwrap_or(&self.ty)
    }

    /// Whether an owned form can be written down; whether the type has one is for the compiler to say.
    pub(crate) fn can_be_owned(&self) -> bool {
        self.borrows_inside().is_none() && !matches!(self.behind_reference, Some(Type::TraitObject(_)))
    }

    /// Where it borrows inside of its type, so that it has no owned form that could be written down.
    pub(crate) fn borrows_inside(&self) -> Option<Span> {
        Inside::of(self.plain()).borrow
    }

    /// Where it is a float, or nothing but a container of floats, which no key can be made of.
    pub(crate) fn float(&self) -> Option<Span> {
        float(&self.ty)
    }
}

fn float(ty: &Type) -> Option<Span> {
    match peeled(ty) {
        Type::Reference(reference) => float(&reference.elem),
        Type::Slice(slice) => float(&slice.elem),
        Type::Array(array) => float(&array.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(float),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            match &last.arguments {
                PathArguments::None => ["f32", "f64"].iter().any(|it| last.ident == it).then(|| last.span()),
                PathArguments::AngleBracketed(generic) if HASHED_AS_THEIR_OWN.iter().any(|it| last.ident == it) => {
                    generic.args.iter().find_map(|argument| match argument {
                        GenericArgument::Type(ty) => float(ty),
                        _ => None,
                    })
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Containers that are `Hash` only if what they hold is.
const HASHED_AS_THEIR_OWN: &[&str] = &["Option", "Vec", "Box", "Arc", "Rc"];

/// What stands inside of a type.
#[derive(Default)]
struct Inside {
    borrow: Option<Span>,
    impl_trait: Option<Span>,
    used_up: Option<Span>,
}

impl Inside {
    fn of(ty: &Type) -> Inside {
        let mut inside = Inside::default();
        inside.visit_type(ty);
        inside
    }
}

impl<'ast> Visit<'ast> for Inside {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.borrow.get_or_insert(lifetime.span());
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if reference.lifetime.is_none() {
            self.borrow.get_or_insert(reference.span());
        }
        visit::visit_type_reference(self, reference);
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.impl_trait.get_or_insert(ty.span());
    }

    fn visit_type_trait_object(&mut self, object: &'ast TypeTraitObject) {
        const USED_UP: &[&str] = &["Iterator", "DoubleEndedIterator", "ExactSizeIterator", "Stream", "Future", "Read"];
        for bound in &object.bounds {
            if let TypeParamBound::Trait(bound) = bound
                && bound.path.segments.last().is_some_and(|last| USED_UP.iter().any(|name| last.ident == name))
            {
                self.used_up.get_or_insert(object.span());
            }
        }
        visit::visit_type_trait_object(self, object);
    }

    // What a function pointer borrows is its caller's affair.
    fn visit_type_bare_fn(&mut self, _: &'ast syn::TypeBareFn) {}
}

fn refuse_returns(returns: &Type) -> Result<()> {
    let inside = Inside::of(returns);
    let refuse = |span: Option<Span>, cure: &str| span.map_or(Ok(()), |span| Err(Error::new(span, cure)));
    refuse(
        inside.impl_trait,
        "an `impl Trait` result cannot be kept: the first caller would use it up, and its type has no name; collect an \
         iterator or a stream into a `Vec`, write an `async fn` for a future, name the type of anything else",
    )?;
    refuse(
        inside.used_up,
        "an iterator, a stream or a future is used up by its first caller and cannot be kept; collect it into a `Vec`, or \
         write an `async fn`",
    )?;
    refuse(
        inside.borrow,
        "a borrowed result cannot outlive the call that made it; return an owned value (`String`, `Vec`, `Arc`)",
    )
}

/// What a function gives, seen through `Result`.
pub(crate) struct Given {
    /// What is kept of it, and the error, if it can fail.
    pub(crate) value: Value,
    /// Whether the value is an `Option`.
    pub(crate) is_option: bool,
}

pub(crate) enum Value {
    Always(Type),
    /// A `Result` that names its value first, by this or another path.
    OrError(Type),
    /// A `Result` by another name.
    OrErrorSomehow,
}

pub(crate) fn given(returns: &Type, fallible: bool) -> Given {
    let last = match returns {
        Type::Path(TypePath { path, .. }) => path.segments.last(),
        _ => None,
    };
    let value = match last {
        Some(segment) if segment.ident == "Result" => match first_argument(&segment.arguments) {
            Some(ty) => Value::OrError(ty),
            None => Value::OrErrorSomehow,
        },
        _ if fallible => Value::OrErrorSomehow,
        _ => Value::Always(returns.clone()),
    };
    let is_option = match &value {
        Value::Always(ty) | Value::OrError(ty) => {
            matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
        }
        Value::OrErrorSomehow => false,
    };
    Given { value, is_option }
}

fn first_argument(arguments: &PathArguments) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    })
}

/// The same type with another value in its `Result`.
pub(crate) fn with_value(returns: &Type, value: &Type) -> Type {
    let mut returns = returns.clone();
    if let Type::Path(TypePath { path, .. }) = &mut returns
        && let Some(last) = path.segments.last_mut()
        && let PathArguments::AngleBracketed(arguments) = &mut last.arguments
        && let Some(first) = arguments.args.iter_mut().find(|argument| matches!(argument, GenericArgument::Type(_)))
    {
        *first = GenericArgument::Type(value.clone());
    }
    returns
}

/// The generic parameters that a call may name, as it names them.
pub(crate) fn turbofish(item: &ItemFn) -> Vec<&Ident> {
    item.sig
        .generics
        .params
        .iter()
        .filter_map(|parameter| match parameter {
            GenericParam::Type(parameter) => Some(&parameter.ident),
            GenericParam::Const(parameter) => Some(&parameter.ident),
            GenericParam::Lifetime(_) => None,
        })
        .collect()
}
