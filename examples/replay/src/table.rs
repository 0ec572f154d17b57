//! The result for people: what was replayed, the three side by side, and one sentence about it.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::args::Plan;
use crate::tally::{Score, Tally};
use crate::units::{grouped, measured, percent, share_written, written};

/// Together 80, the width of a terminal that nobody has made wider.
const LABEL: usize = 26;
const NUMBER: usize = 10;
const SHARE: usize = 8;

const NONE: &str = "·";

const TITLE: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default();

/// With colours; whoever prints it takes them out where they are not wanted. It tells where the picture is, if there is one.
pub(crate) fn text(plan: &Plan, scores: &[Score], took: Duration, drawn: Option<&Path>) -> String {
    let mut text = format!("{}\n", heading(plan, took));
    let mut names = String::new();
    for score in scores {
        let _ = write!(names, "{:>NUMBER$}{:SHARE$}", score.name, "");
    }
    let _ = writeln!(text, "{TITLE}{:LABEL$}{}{TITLE:#}", "", names.trim_end());
    rows(&mut text, scores);
    if let Some(sentence) = closing(scores) {
        let _ = write!(text, "\n{}\n", wrapped(&sentence));
    }
    if let Some(path) = drawn {
        let _ = writeln!(text, "{FAINT}Drawn in {}.{FAINT:#}", path.display());
    }
    text
}

fn heading(plan: &Plan, took: Duration) -> String {
    let (policy, behaviour) = (plan.policy, &plan.behaviour);
    let how = match plan.live {
        Some(threads) => format!("{} in real time for each of the three, {threads} threads", written(plan.span)),
        None => format!("{} of virtual time, replayed in {}", written(plan.span), measured(took)),
    };
    let mut fails = match behaviour.outages.as_slice() {
        [] => "never down".to_owned(),
        outages => {
            let outages: Vec<String> = outages.iter().map(ToString::to_string).collect();
            format!("down in {}, when calls fail after {}", outages.join(" and "), written(behaviour.fail_after))
        }
    };
    if behaviour.error_rate > 0.0 {
        let _ = write!(fails, "; {} of the others fail too", share_written(behaviour.error_rate));
    }
    let soft = policy.soft_timeout.map_or_else(String::new, |bound| format!(", soft_timeout {}", written(bound)));
    let ttl_cache = if policy.coalesce {
        "reloads in the foreground, once for all who wait"
    } else {
        "plain: who finds nothing fresh loads for himself (unless --coalesce)"
    };
    format!(
        "{} requests for {} keys: {}\n{how}\n\n\
         {FAINT}backend   {FAINT:#}{} a call; {fails}\n\
         {FAINT}caches    {FAINT:#}{} entries, fresh for {}\n\
         {FAINT}ttl cache {FAINT:#}{ttl_cache}\n\
         {FAINT}everfresh {FAINT:#}stale_while_revalidate {}, stale_if_error {}{soft}, {} refreshes at once\n",
        grouped(plan.trace.len() as u64),
        grouped(plan.distinct_keys as u64),
        plan.source,
        behaviour.latency,
        grouped(policy.capacity as u64),
        written(policy.ttl),
        written(policy.stale_while_revalidate),
        written(policy.stale_if_error),
        policy.max_refreshes,
    )
}

/// What a cell says: a number, perhaps its share of all requests, and whether it deserves a colour.
struct Cell {
    number: String,
    share: String,
    style: Style,
}

fn plain(number: String) -> Cell {
    coloured(number, Style::new())
}

fn coloured(number: String, style: Style) -> Cell {
    Cell { number, share: String::new(), style }
}

fn outcome(count: u64, tally: &Tally) -> Cell {
    match count {
        0 => plain(NONE.into()),
        _ => Cell { number: grouped(count), share: percent(count, tally.requests()), style: Style::new() },
    }
}

fn rows(text: &mut String, scores: &[Score]) {
    let mut row = |label: &str, cell: &dyn Fn(&Score, &Tally) -> Cell| {
        let style = if label.starts_with(' ') { Style::new() } else { TITLE };
        let _ = write!(text, "{style}{label}{style:#}");
        let mut gap = LABEL - label.len();
        for score in scores {
            let Cell { number, share, style } = cell(score, &score.tally);
            let style = if number == NONE { FAINT } else { style };
            for (piece, width, style) in [(number, NUMBER, style), (share, SHARE, FAINT)] {
                if piece.is_empty() {
                    gap += width;
                } else {
                    let _ = write!(text, "{:gap$}{style}{piece:>width$}{style:#}", "");
                    gap = 0;
                }
            }
        }
        text.push('\n');
    };
    row("requests", &|_, tally| plain(grouped(tally.requests())));
    row("  hit       fresh", &|_, tally| outcome(tally.outcomes.fresh, tally));
    row("  stale     old, at once", &|_, tally| outcome(tally.outcomes.stale, tally));
    row("  loaded    waited", &|_, tally| outcome(tally.outcomes.loaded, tally));
    row("  coalesced joined a load", &|_, tally| outcome(tally.outcomes.coalesced, tally));
    row("  fallback  old, on error", &|_, tally| outcome(tally.outcomes.fallback, tally));
    let fewest = scores.iter().map(|score| score.tally.outcomes.failed).min().unwrap_or(0);
    row("  failed    errors seen", &|_, tally| {
        let errors = tally.outcomes.failed;
        let style = if errors > fewest { BAD } else { GOOD };
        Cell { style, ..outcome(errors, tally) }
    });
    if scores.iter().any(|score| score.tally.unserved > 0) {
        row("never got a thread", &|_, tally| coloured(some(tally.unserved), BAD));
    }
    row("reader wait", &|_, _| plain(String::new()));
    for (label, quantile) in [("  p50", 0.5), ("  p99", 0.99), ("  p99.9", 0.999), ("  max", 1.0)] {
        let waits = || scores.iter().map(|score| score.tally.wait.quantile(quantile));
        let best = waits().min().filter(|&best| waits().any(|wait| wait > best));
        row(label, &|_, tally| {
            let wait = tally.wait.quantile(quantile);
            coloured(measured(wait), if Some(wait) == best { GOOD } else { Style::new() })
        });
    }
    row("  mean", &|_, tally| plain(measured(tally.wait.mean())));
    row("oldest age served", &|_, tally| plain(measured(tally.oldest)));
    row("backend calls", &|score, _| plain(grouped(score.load.calls)));
    row("  failed", &|score, _| plain(some(score.load.failed)));
    row("  most at once", &|score, _| plain(grouped(score.load.peak)));
}

fn some(count: u64) -> String {
    if count == 0 { NONE.into() } else { grouped(count) }
}

/// What one sees.
fn closing(scores: &[Score]) -> Option<String> {
    let [none, ttl, ever] = scores else { return None };
    let at_once = |score: &Score| percent(score.tally.at_once, score.tally.requests());
    let errors = |score: &Score| {
        if score.tally.outcomes.failed == 0 { "none".into() } else { grouped(score.tally.outcomes.failed) }
    };
    let calls = |score: &Score| percent(score.load.calls, none.load.calls);
    let unserved = |score: &Score| grouped(score.tally.unserved);
    let unasked = if scores.iter().any(|score| score.tally.unserved > 0) {
        // All else in the sentence is about the others.
        let (ever, ttl, none) = (unserved(ever), unserved(ttl), unserved(none));
        format!(" Besides, {ever} found no free thread in time (ttl cache: {ttl}, no cache: {none}).")
    } else {
        String::new()
    };
    Some(format!(
        "With everfresh {} of the requests did not wait (ttl cache: {}) and {} ended in an error (ttl cache: {}, \
         no cache: {}), at {} of the backend calls (ttl cache: {}); the price is values up to {} old.{unasked}",
        at_once(ever),
        at_once(ttl),
        errors(ever),
        errors(ttl),
        errors(none),
        calls(ever),
        calls(ttl),
        measured(ever.tally.oldest),
    ))
}

/// Breaks a text into lines of a terminal; a number stays with its unit.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.replace(" %", "\u{a0}%").split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 80 {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines.replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Load;
    use crate::tally::Served;
    use everfresh::Outcome;

    fn score(name: &'static str, failed: u64) -> Score {
        let mut tally = Tally::new(Duration::from_secs(1), 1, Duration::ZERO);
        tally.record(Duration::ZERO, Duration::ZERO, Served { outcome: Outcome::Hit, made: Some(Duration::ZERO) });
        for _ in 0..failed {
            tally.record(Duration::ZERO, Duration::from_millis(50), Served { outcome: Outcome::Failed, made: None });
        }
        Score { name, tally, load: Load { calls: failed, failed, peak: 1, by_slot: vec![failed] } }
    }

    #[test]
    fn every_line_fits_a_terminal_and_every_column_stands_below_its_name() {
        let mut text = String::new();
        rows(&mut text, &[score("no cache", 1_234_567), score("ttl cache", 3), score("everfresh", 0)]);
        let bare = anstream::adapter::strip_str(&text).to_string();
        assert!(bare.lines().all(|line| line.chars().count() <= 80), "{bare}");
        let failed = bare.lines().find(|line| line.contains("errors seen")).unwrap();
        assert_eq!(
            failed.split_whitespace().collect::<Vec<_>>()[3..],
            ["1,234,567", ">99.9", "%", "3", "75.0", "%", "·"]
        );
    }

    #[test]
    fn sentences_are_broken_where_the_terminal_ends() {
        let text = wrapped(&"7 % of them; ".repeat(20));
        assert!(
            text.lines().count() > 2 && text.lines().all(|line| line.len() <= 80 && !line.starts_with('%')),
            "{text}"
        );
    }

    #[test]
    fn the_closing_sentence_tells_the_gain_and_the_price() {
        let sentence = closing(&[score("no cache", 10), score("ttl cache", 3), score("everfresh", 0)]).unwrap();
        assert!(
            sentence.contains("100 % of the requests did not wait (ttl cache: 25.0 %) and none ended in"),
            "{sentence}"
        );
        assert!(sentence.contains("(ttl cache: 3, no cache: 10), at 0 % of the backend calls"), "{sentence}");
        assert!(sentence.ends_with(" old."), "{sentence}");
        let mut overrun = [score("no cache", 10), score("ttl cache", 3), score("everfresh", 0)];
        overrun[1].tally.unserved = 1_234;
        let sentence = closing(&overrun).unwrap();
        assert!(
            sentence.ends_with("Besides, 0 found no free thread in time (ttl cache: 1,234, no cache: 0)."),
            "{sentence}"
        );
    }
}
