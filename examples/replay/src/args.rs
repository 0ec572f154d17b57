//! What the user may say, its defaults, and its refusal: one line that names the cure.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::backend::Behaviour;
use crate::contestant::Policy;
use crate::trace::{self, Day, Trace};
use crate::units::{self, CENTURY, Latency, Stretch, written};

const DAY: Duration = Duration::from_secs(86_400);
const MOST_REQUESTS: f64 = 200e6;
/// A made-up day keeps eight bytes for each of them.
const MOST_KEYS: usize = 100_000_000;
/// Each has a stack and counts of its own.
const MOST_THREADS: usize = 4_096;

const EXAMPLES: &str = "\
Examples:
  replay                                         a made-up day of a million requests
  replay --plot day.svg                          the same, drawn
  replay --trace web.u64le --capacity 5%         your own requests
  replay --backend 200ms±150ms --error-rate 2%   a slow and shaky backend
  replay --outage 9h..9h20m --outage 18h..19h    two bad times of the day
  replay --outage none --ttl 10s                 never down, hardly ever fresh
  replay --live --threads 64 --for 20s           real threads in real time

Durations are written 50ms, 1m30s, 2h; virtual time makes a day take seconds, and the same seed the same day.";

/// Replays a day of requests against a slow, sometimes failing backend, and shows who waits: without a cache, with a TTL
/// cache that reloads in the foreground, and with everfresh, which refreshes behind its readers.
#[derive(Parser, Debug)]
#[command(name = "replay", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    /// Keys to replay: little-endian 64-bit numbers, or text with one key a line; - is standard input.
    /// Without it a day is made up: Zipf's law, a hot set that moves, quiet nights
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    trace: Option<PathBuf>,

    /// Spread the requests over so much virtual time [default: 1d]
    #[arg(long, visible_alias = "day", value_name = "DURATION", value_parser = units::some_duration, help_heading = "Requests")]
    span: Option<Duration>,

    /// Requests a second, on average [default: 1M requests in the span; with --live 200]
    #[arg(long, value_name = "N", value_parser = units::rate, help_heading = "Requests")]
    rate: Option<f64>,

    /// Different keys of a made-up day [default: 10k; with --live 100]
    #[arg(long, value_name = "N", value_parser = keys, conflicts_with = "trace", help_heading = "Requests")]
    keys: Option<usize>,

    /// Exponent of Zipf's law in a made-up day; 0 makes all keys equally popular
    #[arg(long, value_name = "S", default_value_t = 0.99, value_parser = exponent, conflicts_with = "trace", help_heading = "Requests")]
    zipf: f64,

    /// Decides everything that is left to chance
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = units::whole::<u64>, allow_negative_numbers = true, help_heading = "Requests")]
    seed: u64,

    /// How long a call takes: 50ms, or a mean and a standard deviation, 50ms±20ms or 50ms+-20ms (log-normal)
    #[arg(long, value_name = "LATENCY", default_value = "50ms±20ms", value_parser = units::latency, help_heading = "Backend")]
    backend: Latency,

    /// Calls that begin in this stretch fail; repeatable, `none` for no outage [default: 13h..13h30m of a day; with --live 5s..7s of ten seconds]
    #[arg(long, value_name = "FROM..TO", value_parser = units::stretch, help_heading = "Backend")]
    outage: Vec<Option<Stretch>>,

    /// How long such a call takes to fail [default: 1s; with --live 100ms]
    #[arg(long, value_name = "DURATION", value_parser = units::some_duration, help_heading = "Backend")]
    fail_after: Option<Duration>,

    /// Share of all other calls that fail too: 0.02 or 2%
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = units::share, help_heading = "Backend")]
    error_rate: f64,

    /// Entries that the caches hold, or a share of the distinct keys: 5000, 5k, 10%
    #[arg(long, value_name = "N", default_value = "8k", value_parser = capacity, help_heading = "Caches")]
    capacity: Capacity,

    /// How long a value is fresh [default: 5m; with --live 500ms]
    #[arg(long, value_name = "DURATION", value_parser = units::some_duration, help_heading = "Caches")]
    ttl: Option<Duration>,

    /// everfresh: how long after that the old value is served at once, while one refresh runs behind
    /// [default: 6h; with --live 5s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, help_heading = "Caches")]
    stale_while_revalidate: Option<Duration>,

    /// everfresh: how long the old value is served if a load fails [default: 1d; with --live 1m]
    #[arg(long, value_name = "DURATION", value_parser = units::duration, help_heading = "Caches")]
    stale_if_error: Option<Duration>,

    /// everfresh: with an old value at hand, nobody waits longer than this for a load [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = units::some_duration, help_heading = "Caches")]
    soft_timeout: Option<Duration>,

    /// everfresh: refreshes that run at once; 0 for none ever
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = units::whole::<usize>, help_heading = "Caches")]
    max_refreshes: usize,

    /// Let the TTL cache load each key once for all who ask, too
    #[arg(long, help_heading = "Caches")]
    coalesce: bool,

    /// Real time and real threads instead of virtual time; the three run one after the other
    #[arg(long, help_heading = "Real time")]
    live: bool,

    /// Threads that read [default: 32]
    #[arg(long, value_name = "N", value_parser = threads, requires = "live", help_heading = "Real time")]
    threads: Option<usize>,

    /// How long each of the three runs [default: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = units::some_duration, requires = "live", conflicts_with = "span", help_heading = "Real time")]
    run_for: Option<Duration>,

    /// Draw waiting, errors and backend calls over the day, as SVG or PNG by the name's ending
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    plot: Option<PathBuf>,

    /// Print the result as JSON; times in it are seconds
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// No progress bar, not even on a terminal
    #[arg(long, help_heading = "Output")]
    no_progress: bool,
}

#[derive(Clone, Copy, Debug)]
enum Capacity {
    Entries(usize),
    Share(f64),
}

fn capacity(text: &str) -> Result<Capacity, String> {
    if !text.trim().ends_with('%') {
        return units::count(text).map(Capacity::Entries);
    }
    match units::share(text)? {
        0.0 => Err("a cache has to hold something; give more than 0%, or a number of entries".into()),
        share => Ok(Capacity::Share(share)),
    }
}

fn keys(text: &str) -> Result<usize, String> {
    match units::count(text)? {
        many if many > MOST_KEYS => Err("that is more than 100 million keys; choose fewer".into()),
        some => Ok(some),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match units::count(text)? {
        many if many > MOST_THREADS => Err(format!("that is more than {MOST_THREADS} threads; choose fewer")),
        some => Ok(some),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=5.0).contains(&number) => Ok(number),
        _ => Err("give a number from 0 to 5; 0.99 is usual".into()),
    }
}

/// Everything decided: what is replayed, against what, and what is to come of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) trace: Trace,
    /// Where the requests come from, in words.
    pub(crate) source: String,
    pub(crate) distinct_keys: usize,
    pub(crate) span: Duration,
    pub(crate) policy: Policy,
    pub(crate) behaviour: Behaviour,
    /// The number of threads, if it is to run in real time.
    pub(crate) live: Option<usize>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) progress: bool,
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum Instead {
    /// The user asked for help or the version: print it and be content.
    Print(clap::Error),
    /// One line for the standard error.
    Refuse(String),
}

/// Reads the command line, and the trace that it names.
pub(crate) fn plan(line: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Plan, Instead> {
    let cli = Cli::try_parse_from(line).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Instead::Print(error),
        _ => Instead::Refuse(in_one_line(&error)),
    })?;
    decide(cli).map_err(Instead::Refuse)
}

fn decide(cli: Cli) -> Result<Plan, String> {
    check_plot(&cli)?;
    let (trace, span) = requests(&cli)?;
    let mut outages: Vec<Stretch> = cli.outage.iter().copied().flatten().collect();
    if cli.outage.is_empty() {
        // Long enough to be seen: a forty-eighth of a day, a fifth of a few seconds.
        let (from, to, parts) = if cli.live { (5, 7, 10) } else { (26, 27, 48) };
        outages.push(Stretch { from: span * from / parts, to: span * to / parts });
    }
    outages.sort_by_key(|outage| outage.from);
    if let Some(late) = outages.iter().find(|outage| outage.from >= span) {
        return Err(format!(
            "--outage {late} begins after the end: the replay lasts {}; choose an earlier one",
            written(span)
        ));
    }
    let distinct_keys = trace.distinct_keys();
    let usual = |virtually: u64, live: u64| Duration::from_millis(if cli.live { live } else { virtually });
    let policy = Policy {
        capacity: match cli.capacity {
            Capacity::Entries(entries) => entries,
            Capacity::Share(share) => ((share * distinct_keys as f64) as usize).max(1),
        },
        ttl: cli.ttl.unwrap_or(usual(300_000, 500)),
        stale_while_revalidate: cli.stale_while_revalidate.unwrap_or(usual(21_600_000, 5_000)),
        stale_if_error: cli.stale_if_error.unwrap_or(usual(86_400_000, 60_000)),
        soft_timeout: cli.soft_timeout,
        max_refreshes: cli.max_refreshes,
        coalesce: cli.coalesce,
    };
    let behaviour = Behaviour {
        latency: cli.backend,
        outages,
        fail_after: cli.fail_after.unwrap_or(usual(1_000, 100)),
        error_rate: cli.error_rate,
        seed: cli.seed,
    };
    Ok(Plan {
        source: match &cli.trace {
            Some(path) if path.as_os_str() == "-" => "standard input".into(),
            Some(path) => path.display().to_string(),
            None => format!("a made-up day, seed {}", cli.seed),
        },
        trace,
        distinct_keys,
        span,
        policy,
        behaviour,
        live: cli.live.then(|| cli.threads.unwrap_or(32)),
        plot: cli.plot,
        json: cli.json,
        progress: !cli.no_progress,
    })
}

fn check_plot(cli: &Cli) -> Result<(), String> {
    let Some(path) = &cli.plot else { return Ok(()) };
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if !matches!(ending.as_deref(), Some("svg" | "png")) {
        return Err(format!("--plot {} is neither SVG nor PNG; let its name end in .svg or .png", path.display()));
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(format!(
            "--plot {} lies in a folder that does not exist; make it: mkdir -p {}",
            path.display(),
            folder.display()
        )),
        _ => Ok(()),
    }
}

fn requests(cli: &Cli) -> Result<(Trace, Duration), String> {
    let bounded = |requests: f64| match requests {
        few if few < 0.5 => Err("that is not even one request; choose a higher --rate or a longer time".to_owned()),
        many if many > MOST_REQUESTS => {
            Err("that is more than 200 million requests; choose a lower --rate or a shorter time".into())
        }
        some => Ok(some.round() as usize),
    };
    let live_span = cli.live.then(|| cli.run_for.or(cli.span).unwrap_or(Duration::from_secs(10)));
    let live_rate = cli.rate.unwrap_or(200.0);
    let Some(path) = &cli.trace else {
        let (span, requests) = match (live_span, cli.rate) {
            (Some(span), _) => (span, bounded(live_rate * span.as_secs_f64())?),
            (None, Some(rate)) => (cli.span.unwrap_or(DAY), bounded(rate * cli.span.unwrap_or(DAY).as_secs_f64())?),
            (None, None) => (cli.span.unwrap_or(DAY), 1_000_000),
        };
        let keys = cli.keys.unwrap_or(if cli.live { 100 } else { 10_000 });
        return Ok((Day { requests, keys, exponent: cli.zipf, span, seed: cli.seed }.make(), span));
    };
    let mut keys = trace::read(path)?;
    let span = match (live_span, cli.rate) {
        (Some(span), _) => {
            // A trace is never longer than it is, however many requests there were time for.
            keys.truncate(bounded((live_rate * span.as_secs_f64()).min(keys.len() as f64))?);
            span.min(Duration::from_secs_f64(keys.len() as f64 / live_rate))
        }
        (None, Some(_)) if cli.span.is_some() => {
            return Err("a trace has a number of requests already; give --span or --rate, not both".into());
        }
        (None, Some(rate)) => Duration::try_from_secs_f64(keys.len() as f64 / rate)
            .ok()
            .filter(|span| *span <= CENTURY)
            .ok_or("at this --rate the trace lasts longer than a century; choose a higher one")?,
        (None, None) => cli.span.unwrap_or(DAY),
    };
    Ok((trace::steadily(keys, span.max(Duration::from_micros(1)), cli.seed), span.max(Duration::from_micros(1))))
}

/// What clap says in a paragraph, in a line.
fn in_one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    let cure = match context(ContextKind::SuggestedArg) {
        Some(suggested) => format!("did you mean {suggested}?"),
        None => "see --help".into(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument if units::is_negative(&argument) => {
            format!("`{argument}` is negative, as nothing here can be; write it without the minus")
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => format!("there is no option {argument}; {cure}"),
        ErrorKind::UnknownArgument => format!("`{argument}` is not understood; every choice has a name, see --help"),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let option = argument.split(' ').next().unwrap_or_default();
            let value = context(ContextKind::InvalidValue).unwrap_or_default();
            match std::error::Error::source(error) {
                Some(why) => format!("{option} {value}: {why}"),
                None => format!("{argument} needs a value; {}", cure_for(option)),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            format!("what you ask for needs {argument} as well; add it, or see --help")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let more: Vec<&str> =
                text.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim).collect();
            format!("{first} {}; see --help", more.join(", ")).replace(" ;", ";").replace(":;", ";")
        }
    }
}

/// What an option wants, as its own help says.
fn cure_for(option: &str) -> String {
    let command = Cli::command();
    let found =
        command.get_arguments().find(|it| it.get_long().is_some_and(|long| option.trim_start_matches("--") == long));
    let help = found.and_then(|it| it.get_help()).map(|help| help.to_string());
    help.map_or_else(|| "see --help".into(), |help| help.replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("replay").chain(line.split_whitespace()).map(Into::into);
        plan(words).map_err(|instead| match instead {
            Instead::Refuse(line) => line,
            Instead::Print(error) => format!("printed {error}"),
        })
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_outage_of_a_day_is_placed_by_default_and_can_be_taken_away() {
        let outage =
            |line: &str| planned(line).map(|plan| plan.behaviour.outages.iter().map(ToString::to_string).collect());
        assert_eq!(outage("--rate 0.01"), Ok(vec!["13h..13h 30m".to_owned()]));
        assert_eq!(outage("--rate 0.01 --outage none"), Ok(vec![]));
        assert_eq!(outage("--rate 0.01 --outage 2h..3h --outage 1h..2h"), Ok(vec!["1h..2h".into(), "2h..3h".into()]));
    }

    #[test]
    fn rate_and_span_decide_the_number_of_requests() {
        let plan = planned("--rate 2 --span 10m").unwrap();
        assert_eq!((plan.trace.len(), plan.span), (1_200, Duration::from_secs(600)));
        let plan = planned("--live --for 2s --rate 50 --threads 3").unwrap();
        assert_eq!((plan.trace.len(), plan.live, plan.policy.ttl), (100, Some(3), Duration::from_millis(500)));
    }

    #[test]
    fn a_short_trace_is_replayed_in_real_time_at_any_rate() {
        let path = std::env::temp_dir().join(format!("replay-{}-short.txt", std::process::id()));
        std::fs::write(&path, "7\n8\n7\n").unwrap();
        let length =
            |line: &str| planned(&format!("--live --trace {} {line}", path.display())).map(|plan| plan.trace.len());
        assert_eq!((length("--rate 1e9"), length("--rate 2 --for 1s")), (Ok(3), Ok(2)));
        assert!(length("--rate 0.01 --for 1s").unwrap_err().contains("not even one request"));
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn every_refusal_is_one_line_that_names_a_cure() {
        for (line, cure) in [
            ("--trce x", "did you mean --trace?"),
            ("--frobnicate", "there is no option --frobnicate; see --help"),
            ("today", "`today` is not understood"),
            ("--ttl 10", "--ttl 10: `10` lacks a unit; write 10s"),
            ("--ttl soon", "no duration; write it as 50ms"),
            ("--ttl", "--ttl <DURATION> needs a value; How long a value is fresh"),
            ("--outage 90s..60s", "it ends before it begins; write 60s..90s"),
            ("--outage 60s..1m", "it ends as it begins; let it end later"),
            ("--outage 25h..26h", "choose an earlier one"),
            ("--live --threads 0", "--threads 0: must be at least 1"),
            ("--threads 4", "needs --live as well"),
            ("--max-refreshes few", "no whole number"),
            ("--seed -1", "no whole number"),
            ("--seed 18446744073709551616", "too large"),
            ("--capacity 99999999999999M", "too large"),
            ("--ttl -5s", "without the minus"),
            ("--ttl=-5s", "without the minus"),
            ("--outage -5s..5s", "without the minus"),
            ("--rate -1", "without the minus"),
            ("--fail-after 18446744073709551615s", "longer than a century"),
            ("--ttl 99999999999999999999s", "longer than a century"),
            ("--outage 1h..9999years", "longer than a century"),
            ("--keys 4000M", "more than 100 million keys"),
            ("--live --threads 100000", "more than 4096 threads"),
            ("--capacity 0%", "more than 0%"),
            ("--span 1000years", "choose a shorter time"),
            ("--trace /nowhere/at.all", "there is no file /nowhere/at.all; check --trace"),
            ("--trace /", "is a folder"),
            ("--plot day.gif", ".svg or .png"),
            ("--plot /nowhere/day.svg", "mkdir -p /nowhere"),
            ("--rate 1e12", "more than 200 million"),
            ("--error-rate 150%", "from 0 to 1"),
        ] {
            let refused = planned(line).expect_err(line);
            assert!(refused.contains(cure) && !refused.contains('\n'), "{line}: {refused}");
        }
    }
}
