//! A bar fills while a cached function is warmed for twenty days, a spinner turns while a caller waits; what is cached shows none.
#![allow(clippy::print_stdout, reason = "it shows what it got")]

use std::thread;
use std::time::Duration;

use everfresh::{Event, Subscription, cache_data};
use indicatif::{ProgressBar, ProgressStyle};

/// What a report takes; the tests do not wait for that.
const REPORT_TAKES: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });

/// Takes its time.
#[cache_data(ttl = "1h", capacity = 366, max_refreshes = 4)]
fn report(day: u32) -> u64 {
    thread::sleep(REPORT_TAKES);
    (1..=u64::from(day)).sum()
}

/// Moves the bar on with each run that ends, in the foreground or behind.
fn follow(bar: &ProgressBar) -> Subscription {
    let bar = bar.clone();
    report::subscribe(move |event| match event {
        Event::RefreshStarted { key, .. } => bar.set_message(format!("report({key}) is running")),
        Event::Load { key, took, .. } | Event::Refresh { key, took, .. } => {
            bar.set_message(format!("report({key}) took {took:.1?}"));
            bar.inc(1);
        }
        _ => {}
    })
}

/// Warms some days under the bar's eyes. A report is there a moment before its end is told, and that has to move the bar, too.
fn warm(days: impl IntoIterator<Item = u32>, bar: &ProgressBar) -> usize {
    let following = follow(bar);
    let warm = report::warm(days);
    report::handle().cache().settle();
    drop(following);
    warm
}

/// The value, and a spinner for as long as there is none.
fn report_with_spinner(day: u32) -> u64 {
    if let Some(there) = report::peek(day) {
        return there;
    }
    let spinner = ProgressBar::new_spinner().with_message(format!("Running report({day})"));
    spinner.enable_steady_tick(Duration::from_millis(80));
    let value = report(day);
    spinner.finish_and_clear();
    value
}

fn main() {
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(20).with_style(style);
    let warm = warm(1..=20, &bar);
    bar.finish_with_message(format!("{warm} reports are warm"));
    println!("day 20, at once: {}", report_with_spinner(20));
    println!("day 21, made now: {}", report_with_spinner(21));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_moves_once_for_each_run_and_not_for_hits() {
        for _ in 0..100 {
            report::clear();
            let bar = ProgressBar::hidden();
            assert_eq!((warm([1, 2, 3], &bar), bar.position()), (3, 3));
            let following = follow(&bar);
            assert_eq!((report_with_spinner(3), report_with_spinner(4), report(4)), (6, 10, 10));
            drop(following);
            assert_eq!((bar.position(), report(5), bar.position()), (4, 15, 4));
        }
    }

    #[test]
    fn every_day_of_a_leap_year_has_a_report() {
        assert_eq!([21, 366].map(report::uncached), [231, 67_161]);
    }
}
