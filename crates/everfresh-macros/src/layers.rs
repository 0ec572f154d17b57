//! What stands in the brackets of `#[resilient]`: every layer with its choices, and what is wrong with them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, ExprLit, Lit, Path, Result, Token, parenthesized};

use crate::arguments::{eviction, in_our_words, literal_number, nearest, nothing_follows};
use crate::place::here;
use crate::time::{Time, peeled};

/// The layers as calls of the builder, and what is not a layer.
#[derive(Default)]
pub(crate) struct Layers {
    pub(crate) policy: Vec<TokenStream>,
    /// What the policy begins with, whatever the order.
    pub(crate) preset: Option<TokenStream>,
    /// A timeout is given beside the preset.
    pub(crate) timeout: bool,
    pub(crate) cache: Option<Vec<TokenStream>>,
    /// The cache is told when to give up a refresh.
    pub(crate) refresh_timeout: bool,
    pub(crate) skip: Vec<Ident>,
    pub(crate) include_self: Option<Span>,
    pub(crate) associated: bool,
    pub(crate) clock: Option<Expr>,
    pub(crate) name: Option<Expr>,
    pub(crate) companion: Option<Ident>,
    pub(crate) registry: Option<Expr>,
    pub(crate) everfresh: Option<Path>,
}

/// One word with its value: `ttl = "5m"`, `probes = 2`.
struct Choice {
    name: Ident,
    input: Given,
}

enum Given {
    Time(Time),
    Expr(Expr),
}

const ARGUMENTS: &str = "cache(..), circuit_breaker(..), rate_limit(..), bulkhead(..), retry(..), timeout, hedge(..), \
                         fallback, fallback_async, retry_if, failure_if, delay_hint, retry_budget, preset, listener, \
                         skip(..), include(self), associated, companion, clock, name, registry, crate";

/// Each layer as it is written, and all its choices.
const LAYERS: &[(&str, &str, &str)] = &[
    (
        "cache",
        "cache(ttl = \"5m\", capacity = 1024)",
        "ttl, stale_while_revalidate (then it is refreshed in the background), stale_if_error, time_to_idle, capacity, \
         eviction, negative_ttl, refresh_timeout, refresh_ahead, jitter, max_refreshes, store_if",
    ),
    (
        "circuit_breaker",
        "circuit_breaker(failure_threshold = 5)",
        "failure_threshold, or failure_rate with window and minimum_calls; slow_call with slow_call_rate; open_for, \
         close_after, probes",
    ),
    ("rate_limit", "rate_limit(calls = 100, per = \"1s\")", "calls, per, burst, max_wait"),
    ("bulkhead", "bulkhead(max_concurrent = 20)", "max_concurrent, max_wait, max_waiting"),
    ("retry", "retry(max_attempts = 3)", "max_attempts, base, factor, max_delay, jitter = false"),
    ("timeout", "timeout = \"10s\"` or `timeout(per_attempt = \"2s\", whole = \"10s\")", "per_attempt, whole"),
    ("hedge", "hedge(after = \"300ms\")", "after, up_to"),
];

/// How an argument is written.
fn written(name: &Ident) -> String {
    if let Some((_, written, _)) = LAYERS.iter().find(|(layer, ..)| name == layer) {
        return (*written).to_owned();
    }
    match name.to_string().as_str() {
        "skip" => "skip(argument, ..)".to_owned(),
        "include" => "include(self)".to_owned(),
        "preset" => "preset = http".to_owned(),
        "companion" | "crate" => format!("{name} = name"),
        _ => format!("{name} = expression"),
    }
}

impl Parse for Layers {
    fn parse(input: ParseStream<'_>) -> Result<Layers> {
        let mut layers = Layers::default();
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let name: Ident = syn::ext::IdentExt::parse_any(input).map_err(|error: Error| {
                Error::new(
                    error.span(),
                    "an argument begins with its name, as in `timeout = \"10s\", retry(max_attempts = 3)`",
                )
            })?;
            // A preset comes first whatever the order: it would overwrite what stands before it.
            if seen.contains(&name.to_string()) && name != "listener" {
                return Err(Error::new(name.span(), format!("`{name}` is given twice; leave one of them out")));
            }
            seen.push(name.to_string());
            if ["fallback", "fallback_async"].iter().all(|name| seen.iter().any(|it| it == name)) {
                let cure = "one of `fallback` and `fallback_async` answers; leave the other out";
                return Err(Error::new(name.span(), cure));
            }
            let nothing_follows = nothing_follows(input);
            let in_our_words = |error| in_our_words(&name, error, nothing_follows, &written(&name));
            layers.take(&name, input).map_err(in_our_words)?;
            if !input.is_empty() {
                let comma: Result<Token![,]> = input.parse();
                comma.map_err(|error| Error::new(error.span(), format!("after `{name}` comes a comma or nothing")))?;
            }
        }
        Ok(layers)
    }
}

impl Layers {
    fn take(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        match name.to_string().as_str() {
            "cache" => {
                let choices = choices(name, input)?;
                self.refresh_timeout = choices.iter().any(|choice| choice.name == "refresh_timeout");
                self.cache = Some(cache(name, choices)?);
            }
            "circuit_breaker" => self.policy.push(circuit_breaker(name, choices(name, input)?)?),
            "rate_limit" => {
                let mut choices = choices(name, input)?;
                let (calls, per) = (needed(name, &mut choices, "calls")?, needed(name, &mut choices, "per")?);
                let more = rest(name, choices, &["burst", "max_wait"])?;
                self.policy.push(quote!(.rate_limit(__resilience::RateLimit::new(#calls, #per) #more)));
            }
            "bulkhead" => {
                let mut choices = choices(name, input)?;
                let places = needed(name, &mut choices, "max_concurrent")?;
                let given = |name: &str| choices.iter().find(|choice| choice.name == name);
                if let (Some(waiting), None) = (given("max_waiting"), given("max_wait")) {
                    let cure = "without `max_wait` nobody waits; say for how long, `max_wait = \"1s\"`, or leave \
                                `max_waiting` out";
                    return Err(Error::new(waiting.name.span(), cure));
                }
                let more = rest(name, choices, &["max_wait", "max_waiting"])?;
                self.policy.push(quote!(.bulkhead(__resilience::Bulkhead::new(#places) #more)));
            }
            "retry" => {
                let mut choices = choices(name, input)?;
                let attempts = needed(name, &mut choices, "max_attempts")?;
                let jitter = taken(&mut choices, "jitter");
                let steady = match &jitter {
                    None => None,
                    Some(Given::Expr(Expr::Lit(literal))) if quote!(#literal).to_string() == "false" => {
                        Some(quote!(.without_jitter()))
                    }
                    Some(given) => {
                        let cure =
                            "pauses are drawn with full jitter; `jitter = false` takes them in full, else leave it out";
                        return Err(Error::new_spanned(given, cure));
                    }
                };
                let more = rest(name, choices, &["base", "factor", "max_delay"])?;
                self.policy.push(quote!(.retry(__resilience::Retry::attempts(#attempts) #more #steady)));
            }
            "timeout" if input.peek(Token![=]) => {
                input.parse::<Token![=]>()?;
                let bound = Time::parse(input)?;
                self.timeout = true;
                self.policy.push(quote!(.timeout(__resilience::Timeout::per_attempt(#bound))));
            }
            "timeout" => {
                let mut choices = choices(name, input)?;
                let (attempt, whole) = (taken(&mut choices, "per_attempt"), taken(&mut choices, "whole"));
                rest(name, choices, &[])?;
                let timeout = match (attempt, whole) {
                    (Some(attempt), Some(whole)) => quote!(per_attempt(#attempt).and_whole(#whole)),
                    (Some(attempt), None) => quote!(per_attempt(#attempt)),
                    (None, Some(whole)) => quote!(whole(#whole)),
                    (None, None) => {
                        let cure = "say of what: `timeout = \"10s\"`, `timeout(per_attempt = \"2s\", whole = \"10s\")`";
                        return Err(Error::new(name.span(), cure));
                    }
                };
                self.timeout = true;
                self.policy.push(quote!(.timeout(__resilience::Timeout::#timeout)));
            }
            "hedge" => {
                let mut choices = choices(name, input)?;
                let after = needed(name, &mut choices, "after")?;
                let more = rest(name, choices, &["up_to"])?;
                self.policy.push(quote!(.hedge(__resilience::Hedge::after(#after) #more)));
            }
            "preset" => {
                self.preset = Some(preset(&value(input)?)?);
            }
            "fallback" | "fallback_async" | "retry_if" | "failure_if" | "delay_hint" | "listener" => {
                let function: Expr = value(input)?;
                self.policy.push(quote!(.#name(#function)));
            }
            "retry_budget" => {
                let budget: Expr = value(input)?;
                self.policy.push(quote_spanned!(here(&budget)=> .retry_budget(&#budget)));
            }
            "skip" => {
                let inside;
                parenthesized!(inside in input);
                let names = inside.parse_terminated(Ident::parse, Token![,])?;
                self.skip = names.into_iter().collect();
            }
            "include" => {
                let inside;
                parenthesized!(inside in input);
                inside.parse::<Token![self]>()?;
                self.include_self = Some(name.span());
            }
            "associated" => self.associated = true,
            "clock" => self.clock = Some(value(input)?),
            "name" => self.name = Some(value(input)?),
            "companion" => self.companion = Some(value(input)?),
            "registry" => self.registry = Some(value(input)?),
            "crate" => self.everfresh = Some(value(input)?),
            other => return Err(Error::new(name.span(), unknown(other))),
        }
        Ok(())
    }
}

const PRESETS: &[&str] = &["http", "db", "queue", "llm", "strict"];

/// A preset by its name, or an expression.
fn preset(preset: &Expr) -> Result<TokenStream> {
    let told = |words: &str| Err(Error::new_spanned(preset, format!("{words}; there are: {}", PRESETS.join(", "))));
    match peeled(preset) {
        Expr::Lit(_) => told("a preset is written `preset = http`"),
        Expr::Path(path) => match path.path.get_ident() {
            Some(name) if PRESETS.iter().any(|known| name == known) => Ok(quote!(__resilience::presets::#path())),
            Some(name) if name.to_string().starts_with(char::is_lowercase) => {
                told(&format!("there is no preset `{name}`"))
            }
            _ => Ok(quote!(#preset)),
        },
        _ => Ok(quote!(#preset)),
    }
}

/// What others call it, or where it stands here.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["http", "db", "queue", "llm", "strict"], "a preset is written `preset = http`"),
    (
        &[
            "ttl",
            "capacity",
            "stale_while_revalidate",
            "stale_if_error",
            "negative_ttl",
            "store_if",
            "refresh",
            "refresh_timeout",
        ],
        "it is a choice of the cache: `cache(ttl = \"5m\", stale_while_revalidate = \"1h\")`",
    ),
    (&["key"], "the key is made of the arguments; `skip(argument)` leaves one out, `include(self)` adds that"),
    (&["max_attempts", "attempts"], "it is a choice of `retry(max_attempts = 3)`"),
    (&["listeners", "on_event"], "it is called `listener = function` here, and there may be several"),
];

fn unknown(name: &str) -> String {
    if let Some((_, cure)) = ELSEWHERE.iter().find(|(names, _)| names.contains(&name)) {
        return (*cure).to_owned();
    }
    match nearest(names(), name) {
        Some(near) => format!("there is no argument `{name}`; is it `{near}`?"),
        None => format!("there is no argument `{name}`; there are: {ARGUMENTS}"),
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    ARGUMENTS.split(", ").map(|known| known.split('(').next().unwrap_or(known))
}

fn value<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// What is a duration here, so that `"5s"` may be written.
const TIMES: &[&str] = &[
    "ttl",
    "stale_while_revalidate",
    "stale_if_error",
    "time_to_idle",
    "negative_ttl",
    "refresh_timeout",
    "open_for",
    "slow_call",
    "per",
    "max_wait",
    "base",
    "max_delay",
    "per_attempt",
    "whole",
    "after",
];

/// What may be zero among them: no pause, no wait, no window, a second call at once.
const MAY_BE_ZERO: &[&str] = &["stale_while_revalidate", "stale_if_error", "max_wait", "base", "max_delay", "after"];

fn choices(layer: &Ident, input: ParseStream<'_>) -> Result<Vec<Choice>> {
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(layer.span(), format!("`{layer}` is written `{}`", written(layer))));
    }
    let inside;
    parenthesized!(inside in input);
    let mut choices: Vec<Choice> = Vec::new();
    while !inside.is_empty() {
        let name: Ident = inside.parse()?;
        inside.parse::<Token![=]>()?;
        if choices.iter().any(|choice| choice.name == name) {
            return Err(Error::new(name.span(), format!("`{name}` is given twice; leave one of them out")));
        }
        let is = |names: &[&str]| names.iter().any(|known| name == known);
        let input = match (is(TIMES), is(MAY_BE_ZERO)) {
            (true, true) => Given::Time(Time::parse_any(&inside)?),
            (true, false) => Given::Time(Time::parse(&inside)?),
            (false, _) => Given::Expr(number(layer, &name, inside.parse()?)?),
        };
        choices.push(Choice { name, input });
        if !inside.is_empty() {
            inside.parse::<Token![,]>()?;
        }
    }
    Ok(choices)
}

/// A number, which is refused if it can be seen now that it is wrong; others are told of at the first call.
fn number(layer: &Ident, name: &Ident, given: Expr) -> Result<Expr> {
    let whole = |least: f64| {
        let cure = format!("`{name}` is a whole number of at least {least}");
        match peeled(&given) {
            Expr::Lit(ExprLit { lit: Lit::Float(_), .. }) => Err(Error::new_spanned(&given, cure)),
            _ => literal_number(&given, |it| it >= least, &cure),
        }
    };
    let fraction = |is_good: fn(f64) -> bool, which: &str| {
        literal_number(&given, is_good, &format!("`{name}` is a fraction {which}: a half is 0.5"))
    };
    match (layer.to_string().as_str(), name.to_string().as_str()) {
        (_, "failure_threshold" | "window" | "minimum_calls" | "close_after" | "probes" | "calls" | "burst")
        | (_, "max_concurrent" | "max_attempts" | "capacity" | "up_to") => whole(1.0),
        (_, "max_waiting" | "max_refreshes") => whole(0.0),
        (_, "factor") => literal_number(&given, |it| it >= 1.0, "`factor` is at least 1.0, which pauses evenly"),
        (_, "failure_rate" | "slow_call_rate") => fraction(|it| it > 0.0 && it <= 1.0, "above 0.0 and at most 1.0"),
        (_, "refresh_ahead") => fraction(|it| it > 0.0 && it < 1.0, "of the ttl, above 0.0 and below 1.0"),
        ("cache", "jitter") => fraction(|it| (0.0..1.0).contains(&it), "of the ttl, from 0.0 and below 1.0"),
        _ => Ok(()),
    }?;
    Ok(given)
}

impl quote::ToTokens for Given {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Given::Time(time) => time.to_tokens(tokens),
            Given::Expr(expression) => expression.to_tokens(tokens),
        }
    }
}

fn taken(choices: &mut Vec<Choice>, name: &str) -> Option<Given> {
    let at = choices.iter().position(|choice| choice.name == name)?;
    Some(choices.remove(at).input)
}

fn needed(layer: &Ident, choices: &mut Vec<Choice>, name: &str) -> Result<Given> {
    taken(choices, name).ok_or_else(|| {
        // What stands there instead is probably what was meant.
        let all = LAYERS.iter().find(|(it, ..)| layer == it).map_or("", |(.., all)| all);
        let other = choices.iter().find(|choice| !all.contains(&choice.name.to_string()));
        match other {
            Some(other) => Error::new(
                other.name.span(),
                format!("`{layer}` needs `{name} = ..`, and has no choice `{}`", other.name),
            ),
            None => Error::new(layer.span(), format!("`{layer}` needs `{name} = ..`")),
        }
    })
}

/// The other choices as calls, if they are among those that the layer knows.
fn rest(layer: &Ident, choices: Vec<Choice>, known: &[&str]) -> Result<TokenStream> {
    let mut calls = TokenStream::new();
    for Choice { name, input } in choices {
        if !known.iter().any(|known| name == known) {
            let all = LAYERS.iter().find(|(it, ..)| layer == it).map_or("none", |(.., all)| all);
            let words = match names().find(|argument| name == argument) {
                Some(_) => format!("`{name}` is an argument of its own, beside `{layer}(..)`"),
                None => format!("`{layer}` has no choice `{name}`; there are: {all}"),
            };
            return Err(Error::new(name.span(), words));
        }
        calls.extend(quote!(.#name(#input)));
    }
    Ok(calls)
}

fn circuit_breaker(layer: &Ident, mut choices: Vec<Choice>) -> Result<TokenStream> {
    let by_count = taken(&mut choices, "failure_threshold");
    let by_rate = taken(&mut choices, "failure_rate");
    let window = taken(&mut choices, "window");
    let (slow, slow_rate) = (taken(&mut choices, "slow_call"), taken(&mut choices, "slow_call_rate"));
    let minimum = choices.iter().find(|choice| choice.name == "minimum_calls");
    if by_count.is_some() && by_rate.is_none() && (minimum.is_some() || slow.is_some()) {
        let cure = "`minimum_calls` and `slow_call` are of a rate: open by `failure_rate = 0.5, window = 100`, or leave them out";
        return Err(Error::new(minimum.map_or(layer.span(), |choice| choice.name.span()), cure));
    }
    let opens = match (by_count, by_rate, window) {
        (Some(failures), None, None) => quote!(consecutive(#failures)),
        (None, Some(rate), Some(window)) => quote!(rate(#rate, #window)),
        _ => {
            let cure =
                "a circuit opens by count, `failure_threshold = 5`, or by rate, `failure_rate = 0.5, window = 100`";
            return Err(Error::new(layer.span(), cure));
        }
    };
    let slow = match (slow, slow_rate) {
        (None, None) => None,
        (Some(slow), Some(rate)) => Some(quote!(.slow_calls(#slow, #rate))),
        _ => {
            let cure = "slow calls need both: `slow_call = \"2s\", slow_call_rate = 0.8`";
            return Err(Error::new(layer.span(), cure));
        }
    };
    let more = rest(layer, choices, &["minimum_calls", "open_for", "close_after", "probes"])?;
    Ok(quote!(.circuit_breaker(__resilience::CircuitBreaker::#opens #more #slow)))
}

fn cache(layer: &Ident, mut choices: Vec<Choice>) -> Result<Vec<TokenStream>> {
    let ttl = taken(&mut choices, "ttl");
    let of_ttl = ["stale_while_revalidate", "stale_if_error", "jitter", "refresh_ahead"];
    if ttl.is_none() && choices.iter().any(|choice| of_ttl.iter().any(|name| choice.name == name)) {
        let cure = "the windows, `jitter` and `refresh_ahead` are about the ttl, and there is none; say for how long a value is \
                    fresh: `ttl = \"5m\"`";
        return Err(Error::new(layer.span(), cure));
    }
    let mut lifetime = match ttl {
        Some(ttl) => quote!(__everfresh::Lifetime::ttl(#ttl)),
        None => quote!(__everfresh::Lifetime::forever()),
    };
    for name in ["stale_while_revalidate", "stale_if_error", "time_to_idle", "jitter"] {
        if let Some(choice) = taken(&mut choices, name) {
            let name = Ident::new(name, Span::call_site());
            lifetime.extend(quote!(.#name(#choice)));
        }
    }
    let capacity = taken(&mut choices, "capacity").map_or_else(|| quote!(1024), |capacity| quote!(#capacity));
    let mut calls = vec![quote!(.capacity(#capacity)), quote!(.lifetime(#lifetime))];
    calls.extend(match taken(&mut choices, "eviction") {
        Some(Given::Expr(Expr::Lit(ExprLit { lit: Lit::Str(policy), .. }))) => {
            let policy = eviction(&policy)?;
            Some(quote!(.eviction(__everfresh::Eviction::#policy)))
        }
        Some(policy) => Some(quote!(.eviction(#policy))),
        None => None,
    });
    let known = ["negative_ttl", "refresh_timeout", "refresh_ahead", "max_refreshes", "store_if"];
    calls.push(rest(layer, choices, &known)?);
    Ok(calls)
}
