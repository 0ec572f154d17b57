//! What stands in the brackets of the attribute: every argument, and what is wrong with it.

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, ExprUnary, Lit, LitStr, Path, Result, Token, Type, UnOp, parenthesized};

use crate::Kind;
use crate::time::{Time, peeled};

/// All arguments that were given.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) ttl: Option<Time>,
    pub(crate) time_to_idle: Option<Time>,
    pub(crate) background: Option<(bool, Span)>,
    pub(crate) stale_while_revalidate: Option<Time>,
    pub(crate) stale_if_error: Option<Time>,
    pub(crate) refresh_ahead: Option<Expr>,
    pub(crate) jitter: Option<Expr>,
    pub(crate) capacity: Option<Expr>,
    pub(crate) weight_capacity: Option<Expr>,
    pub(crate) unbounded: Option<Span>,
    pub(crate) weigher: Option<Expr>,
    pub(crate) eviction: Option<Ident>,
    pub(crate) key: Option<(Option<Type>, Expr)>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) include_self: Option<Span>,
    pub(crate) store_if: Option<Expr>,
    pub(crate) negative_ttl: Option<Time>,
    pub(crate) timeout: Option<Time>,
    pub(crate) refresh_timeout: Option<Time>,
    pub(crate) max_refreshes: Option<Expr>,
    pub(crate) pool: Option<Expr>,
    pub(crate) tags: Vec<Expr>,
    pub(crate) name: Option<Expr>,
    pub(crate) companion: Option<Ident>,
    pub(crate) clock: Option<Expr>,
    pub(crate) map_error: Option<Expr>,
    pub(crate) fallible: bool,
    pub(crate) associated: bool,
    pub(crate) local: Option<Span>,
    pub(crate) everfresh: Option<Path>,
    pub(crate) validate: Option<Expr>,
    pub(crate) on_release: Option<Expr>,
}

const KNOWN: &[&str] = &[
    "ttl",
    "time_to_idle",
    "refresh",
    "stale_while_revalidate",
    "stale_if_error",
    "refresh_ahead",
    "jitter",
    "capacity",
    "weight_capacity",
    "unbounded",
    "weigher",
    "eviction",
    "key",
    "skip",
    "include",
    "store_if",
    "negative_ttl",
    "timeout",
    "refresh_timeout",
    "max_refreshes",
    "pool",
    "tags",
    "name",
    "companion",
    "clock",
    "map_error",
    "fallible",
    "associated",
    "local",
    "crate",
];

/// What other caches call it, and what it is here.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["persist"], "`persist` is reserved: keeping values on disk comes later; leave it out, values live in memory"),
    (&["scope"], "`scope` is reserved: caches per session come later; put the session's id into the arguments instead"),
    (
        &["show_spinner", "show_time"],
        "what is shown while a function runs is a listener's business: `function::subscribe(..)`; the guide shows one \
         that draws a progress bar",
    ),
    (
        &["hash_funcs", "hash_with", "convert"],
        "how an argument becomes part of the key is said by `key: Type = expression`, or leave it out with `skip(..)`",
    ),
    (
        &["max_entries", "max_size", "maxsize", "size"],
        "the bound on entries is `capacity = 1024`, the bound on weight \
         `weight_capacity = ..` with `weigher = ..`",
    ),
    (&["refresh_mode", "refresh_type"], "it is called `refresh = \"background\"` here"),
    (
        &["max_stale", "grace", "soft_ttl"],
        "it is called `stale_while_revalidate = \"12h\"` here, and counts from the end \
         of the ttl",
    ),
    (&["cache_if", "condition"], "it is called `store_if = path` here"),
    (&["duration", "expires", "expire", "ttl_secs", "time", "time_to_live"], "it is called `ttl = \"90s\"` here"),
    (
        &["result", "option", "result_fallback"],
        "errors are never stored and need no argument; `stale_if_error = \"1h\"` \
         serves an old value after an error, `negative_ttl = \"5s\"` remembers errors and `None`",
    ),
    (&["sync_writes", "sync"], "callers of the same key always share one run; leave it out"),
    (&["ty", "create"], "the cache is made from `capacity`, `eviction` and the other arguments; leave it out"),
    (&["background"], "it is called `refresh = \"background\"` here"),
    (&["swr"], "it is called `stale_while_revalidate = \"12h\"` here, and counts from the end of the ttl"),
    (
        &["cache", "retry", "circuit_breaker", "rate_limit", "bulkhead", "hedge", "fallback"],
        "layers are written above a function with `#[resilient(cache(..), retry(..), ..)]`; this one has the choices of its cache as \
         arguments",
    ),
];

impl Arguments {
    pub(crate) fn parser(kind: Kind) -> impl Parser<Output = Arguments> {
        move |input: ParseStream<'_>| {
            let mut arguments = Arguments::default();
            let mut seen: Vec<String> = Vec::new();
            while !input.is_empty() {
                let name = Ident::parse_any(input).map_err(|error| {
                    Error::new(error.span(), "an argument begins with its name, as in `ttl = \"90s\", capacity = 1024`")
                })?;
                if seen.contains(&name.to_string()) {
                    return Err(Error::new(name.span(), format!("`{name}` is given twice; leave one of them out")));
                }
                seen.push(name.to_string());
                let nothing_follows = nothing_follows(input);
                arguments.take(kind, &name, input).map_err(|error| written(&name, error, nothing_follows))?;
                if !input.is_empty() {
                    let comma: Result<Token![,]> = input.parse();
                    comma.map_err(|error| {
                        Error::new(error.span(), format!("after `{name}` comes a comma or nothing"))
                    })?;
                }
            }
            arguments.check()?;
            Ok(arguments)
        }
    }

    fn take(&mut self, kind: Kind, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        match name.to_string().as_str() {
            "ttl" => self.ttl = Some(time(input)?),
            "time_to_idle" => self.time_to_idle = Some(time(input)?),
            "stale_while_revalidate" => self.stale_while_revalidate = Some(time(input)?),
            "stale_if_error" => self.stale_if_error = Some(time(input)?),
            "negative_ttl" => self.negative_ttl = Some(time(input)?),
            "timeout" => self.timeout = Some(time(input)?),
            "refresh_timeout" => self.refresh_timeout = Some(time(input)?),
            "refresh" => {
                let mode: LitStr = value(input)?;
                self.background = match mode.value().as_str() {
                    "background" => Some((true, mode.span())),
                    "foreground" => Some((false, mode.span())),
                    other => {
                        let words = format!(
                            "\"{other}\" is no way to refresh: \"background\" serves the old value at once and loads \
                             behind, \"foreground\" lets the caller wait for the new one"
                        );
                        return Err(Error::new(mode.span(), words));
                    }
                };
            }
            "refresh_ahead" => {
                let fraction = value(input)?;
                let cure = "`refresh_ahead` is the fraction of the ttl after which a refresh may start: above 0.0 and \
                            below 1.0";
                literal_number(&fraction, |it| it > 0.0 && it < 1.0, cure)?;
                self.refresh_ahead = Some(fraction);
            }
            "jitter" => {
                let fraction = value(input)?;
                let cure = "`jitter` is the fraction by which lives are shortened: from 0.0 and below 1.0";
                literal_number(&fraction, |it| (0.0..1.0).contains(&it), cure)?;
                self.jitter = Some(fraction);
            }
            "capacity" | "weight_capacity" => {
                let bound = value(input)?;
                if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = peeled(&bound) {
                    return Err(Error::new(text.span(), format!("a bound is a number, as in `{name} = 1024`")));
                }
                let cure = "a capacity of zero would hold nothing; give at least 1, or leave the attribute out";
                literal_number(&bound, |it| it > 0.0, cure)?;
                match name == "capacity" {
                    true => self.capacity = Some(bound),
                    false => self.weight_capacity = Some(bound),
                }
            }
            "unbounded" => self.unbounded = Some(name.span()),
            "weigher" => self.weigher = Some(value(input)?),
            "eviction" => {
                self.eviction = Some(eviction(&value(input)?)?);
            }
            "key" => {
                let ty = match input.peek(Token![:]) {
                    true => {
                        input.parse::<Token![:]>()?;
                        Some(input.parse()?)
                    }
                    false => None,
                };
                let key: Expr = value(input)?;
                if let Expr::Lit(literal) = peeled(&key) {
                    let cure = "this key would be the same for all calls; it is an expression of the arguments, not a text: \
                                `key: String = name.to_lowercase()`";
                    return Err(Error::new(literal.span(), cure));
                }
                self.key = Some((ty, key));
            }
            "skip" => self.skip = list(input)?,
            "include" => {
                let span = name.span();
                let included: Vec<Token![self]> = list(input)?;
                self.include_self = (!included.is_empty()).then_some(span);
            }
            "store_if" => self.store_if = Some(value(input)?),
            "max_refreshes" => self.max_refreshes = Some(value(input)?),
            "pool" => self.pool = Some(value(input)?),
            "tags" => self.tags = list(input)?,
            "name" => self.name = Some(value(input)?),
            "companion" => self.companion = Some(value(input)?),
            "clock" => self.clock = Some(value(input)?),
            "map_error" => self.map_error = Some(value(input)?),
            "fallible" => self.fallible = true,
            "associated" => self.associated = true,
            "local" => self.local = Some(name.span()),
            "crate" => self.everfresh = Some(value(input)?),
            "validate" | "on_release" if kind == Kind::Data => {
                let words = format!("`{name}` is for what callers share: use #[cache_resource], or leave it out");
                return Err(Error::new(name.span(), words));
            }
            "validate" => self.validate = Some(value(input)?),
            "on_release" => self.on_release = Some(value(input)?),
            other => return Err(Error::new(name.span(), unknown(other))),
        }
        Ok(())
    }

    /// What does not go together.
    fn check(&self) -> Result<()> {
        let window = [
            (self.stale_while_revalidate.as_ref().map(Time::span), "stale_while_revalidate"),
            (self.stale_if_error.as_ref().map(Time::span), "stale_if_error"),
            (self.refresh_ahead.as_ref().map(Spanned::span), "refresh_ahead"),
            (self.jitter.as_ref().map(Spanned::span), "jitter"),
        ];
        if self.ttl.is_none() {
            if let Some((true, span)) = self.background {
                let cure = "a value without a ttl never becomes stale, so there is nothing to refresh in the background; \
                            say for how long it is fresh: `ttl = \"1h\"`";
                return Err(Error::new(span, cure));
            }
            if let Some((span, name)) = window.into_iter().find_map(|(span, name)| Some((span?, name))) {
                let cure = format!(
                    "`{name}` counts from the end of the ttl, and there is none; say for how long a value is fresh: \
                     `ttl = \"1h\"`"
                );
                return Err(Error::new(span, cure));
            }
        }
        if let (Some((false, span)), true) =
            (self.background, self.stale_while_revalidate.is_some() || self.refresh_ahead.is_some())
        {
            let cure = "`stale_while_revalidate` and `refresh_ahead` are refreshes in the background; leave out \
                        `refresh = \"foreground\"`, or them";
            return Err(Error::new(span, cure));
        }
        let bounds = [
            self.capacity.as_ref().map(Spanned::span),
            self.weight_capacity.as_ref().map(Spanned::span),
            self.unbounded,
        ];
        if let Some(span) = bounds.into_iter().flatten().nth(1) {
            let cure = "only one of `capacity`, `weight_capacity` and `unbounded` can hold; leave the others out";
            return Err(Error::new(span, cure));
        }
        if let (Some(_), Some(policy)) = (self.unbounded, &self.eviction) {
            let cure = "nothing is pushed out of a cache without a bound; leave out `eviction` or `unbounded`";
            return Err(Error::new(policy.span(), cure));
        }
        match (&self.weight_capacity, &self.weigher) {
            (Some(bound), None) => {
                let cure = "`weight_capacity` needs to know what a value weighs: give `weigher = path`, a function \
                            `fn(&Value) -> u64`";
                return Err(Error::new(bound.span(), cure));
            }
            (None, Some(weigher)) => {
                let cure = "a weigher counts only with `weight_capacity = ..`; give that, or leave the weigher out";
                return Err(Error::new(weigher.span(), cure));
            }
            _ => {}
        }
        if let (Some(_), Some(pool)) = (&self.max_refreshes, &self.pool) {
            let cure = "a pool brings its own bound; leave out `max_refreshes` or `pool`";
            return Err(Error::new(pool.span(), cure));
        }
        if let (Some((_, key)), false) = (&self.key, self.skip.is_empty()) {
            let cure = "with `key = ..` only that is the key, so there is nothing to skip; leave out `skip(..)`";
            return Err(Error::new(key.span(), cure));
        }
        Ok(())
    }

    /// Whether something may run behind the caller's back to renew a value.
    pub(crate) fn refreshes_behind(&self) -> bool {
        matches!(self.background, Some((true, _)))
            || self.stale_while_revalidate.is_some()
            || self.refresh_ahead.is_some()
    }
}

/// The variant of `Eviction` that is called so.
pub(crate) fn eviction(policy: &LitStr) -> Result<Ident> {
    match policy.value().as_str() {
        "lru" => Ok(format_ident!("Lru", span = policy.span())),
        "s3-fifo" | "s3fifo" => Ok(format_ident!("S3Fifo", span = policy.span())),
        other => {
            let words = format!("\"{other}\" is no eviction: there is \"s3-fifo\", the default, and \"lru\"");
            Err(Error::new(policy.span(), words))
        }
    }
}

/// How an argument is written, for those who have written it otherwise.
const WRITTEN: &[(&[&str], &str)] = &[
    (
        &[
            "ttl",
            "time_to_idle",
            "stale_while_revalidate",
            "stale_if_error",
            "negative_ttl",
            "timeout",
            "refresh_timeout",
        ],
        " = \"90s\"",
    ),
    (&["refresh"], " = \"background\""),
    (&["refresh_ahead", "jitter"], " = 0.8"),
    (&["capacity", "weight_capacity", "max_refreshes"], " = 1024"),
    (&["eviction"], " = \"lru\""),
    (&["key"], ": Type = expression"),
    (&["skip"], "(argument, ..)"),
    (&["include"], "(self)"),
    (&["tags"], "(\"prices\", symbol)"),
    (&["companion", "crate"], " = name"),
];

/// A parser's complaint, with what it should have found.
fn written(name: &Ident, error: Error, nothing_follows: bool) -> Error {
    let rest =
        WRITTEN.iter().find(|(names, _)| names.iter().any(|it| name == it)).map_or(" = expression", |(_, rest)| rest);
    in_our_words(name, error, nothing_follows, &format!("{name}{rest}"))
}

/// How it is written in place of a parser's complaint; what is told by us stays. Where nothing follows there is no place to point at.
pub(crate) fn in_our_words(name: &Ident, error: Error, nothing_follows: bool, written: &str) -> Error {
    let complaint = error.to_string();
    if !complaint.starts_with("expected") && !complaint.starts_with("unexpected end") {
        return error;
    }
    let span = if nothing_follows || complaint.starts_with("unexpected end") { name.span() } else { error.span() };
    Error::new(span, format!("`{name}` is written `{written}`"))
}

/// Whether an argument ends with its name, or behind the sign.
pub(crate) fn nothing_follows(input: ParseStream<'_>) -> bool {
    let rest = input.fork();
    rest.is_empty() || (rest.parse::<Token![=]>().is_ok() && rest.is_empty())
}

fn value<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn time(input: ParseStream<'_>) -> Result<Time> {
    input.parse::<Token![=]>()?;
    Time::parse(input)
}

fn list<T: Parse>(input: ParseStream<'_>) -> Result<Vec<T>> {
    let inside;
    parenthesized!(inside in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&inside)?.into_iter().collect())
}

/// Checks a number that can be seen now; others are checked when the cache is made.
pub(crate) fn literal_number(expression: &Expr, is_good: impl Fn(f64) -> bool, cure: &str) -> Result<()> {
    let (negative, literal) = match peeled(expression) {
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => (true, &**expr),
        other => (false, other),
    };
    let number = match literal {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse::<f64>().ok(),
        Expr::Lit(ExprLit { lit: Lit::Float(number), .. }) => number.base10_parse::<f64>().ok(),
        Expr::Lit(ExprLit { lit, .. }) => return Err(Error::new(lit.span(), cure)),
        _ => return Ok(()),
    };
    match number.map(|number| if negative { -number } else { number }) {
        Some(number) if !is_good(number) => Err(Error::new(expression.span(), cure)),
        _ => Ok(()),
    }
}

fn unknown(name: &str) -> String {
    if let Some((_, cure)) = ELSEWHERE.iter().find(|(names, _)| names.contains(&name)) {
        return (*cure).to_owned();
    }
    match nearest(KNOWN.iter().chain(&["validate", "on_release"]).copied(), name) {
        Some(near) => format!("there is no argument `{name}`; is it `{near}`?"),
        None => format!("there is no argument `{name}`; there are: {}", KNOWN.join(", ")),
    }
}

/// The word that was probably meant: with at most three letters wrong, and no more than half of them.
pub(crate) fn nearest<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let name = &name.to_lowercase();
    let far = |known: &&str| distance(known, name);
    known.min_by_key(far).filter(|near| far(near) <= 3 && 2 * far(near) <= near.len().max(name.len()))
}

/// How many letters have to be put, taken or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, &there) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != there);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
