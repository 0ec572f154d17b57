//! What people write and read: durations, spans of time, latencies, shares and large numbers.

use std::time::Duration;

/// No time that anybody says is longer, so that sums of them stay within what a clock can tell.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// Reads `50ms`, `1m 30s`, `2h`: a number with its unit, and more of them in one breath.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let long = "is longer than a century; choose a shorter time";
    match humantime::parse_duration(text) {
        Ok(span) if span > CENTURY => Err(format!("`{text}` {long}")),
        Ok(span) => Ok(span),
        Err(humantime::DurationError::NumberOverflow) => Err(format!("`{text}` {long}")),
        Err(_) if is_negative(text) => {
            Err(format!("`{text}` is negative; write it without the minus, as 50ms, 1m30s or 2h"))
        }
        Err(_) if text.parse().is_ok_and(f64::is_finite) => {
            Err(format!("`{text}` lacks a unit; write {text}s, {text}ms, {text}m or {text}h"))
        }
        Err(_) => Err(format!("`{text}` is no duration; write it as 50ms, 1m30s or 2h")),
    }
}

pub(crate) fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// As [`duration`], but zero makes no sense here.
pub(crate) fn some_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than zero; write it as 50ms, 1m30s or 2h".into()),
        some => Ok(some),
    }
}

/// How long a call of the backend takes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Latency {
    pub(crate) mean: Duration,
    /// The standard deviation; the distribution is log-normal, as latencies are: never negative, with a tail to the right.
    pub(crate) spread: Duration,
}

impl Latency {
    /// One latency; `chance` gives numbers in [0, 1).
    pub(crate) fn draw(self, mut chance: impl FnMut() -> f64) -> Duration {
        if self.spread.is_zero() {
            return self.mean;
        }
        let (mean, spread) = (self.mean.as_secs_f64(), self.spread.as_secs_f64());
        let variance = (1.0 + (spread / mean).powi(2)).ln();
        // Box and Muller 1958; 1 - chance is in (0, 1], where the logarithm is finite.
        let normal = (-2.0 * (1.0 - chance()).ln()).sqrt() * (std::f64::consts::TAU * chance()).cos();
        Duration::from_secs_f64(
            (mean.ln() - variance / 2.0 + normal * variance.sqrt()).exp().min(CENTURY.as_secs_f64()),
        )
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", written(self.mean))?;
        if self.spread.is_zero() { Ok(()) } else { write!(f, " ± {}", written(self.spread)) }
    }
}

/// Reads `50ms`, `50ms±20ms`, `50ms+-20ms`.
pub(crate) fn latency(text: &str) -> Result<Latency, String> {
    let (mean, spread) = match text.split_once('±').or_else(|| text.split_once("+-")).or_else(|| text.split_once("+/-"))
    {
        Some((mean, spread)) => (some_duration(mean)?, duration(spread)?),
        None => (some_duration(text)?, Duration::ZERO),
    };
    if spread > 10 * mean {
        return Err(format!(
            "a spread of {} around {} is more than tenfold; give a smaller one, as 50ms±20ms",
            written(spread),
            written(mean)
        ));
    }
    Ok(Latency { mean, spread })
}

/// A stretch of time since the start, its end excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Stretch {
    pub(crate) fn holds(self, moment: Duration) -> bool {
        self.from <= moment && moment < self.to
    }
}

impl std::fmt::Display for Stretch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", written(self.from), written(self.to))
    }
}

/// Reads `60s..90s`; `none` is no stretch at all.
pub(crate) fn stretch(text: &str) -> Result<Option<Stretch>, String> {
    if text.trim() == "none" {
        return Ok(None);
    }
    let (from, to) =
        text.split_once("..").ok_or_else(|| format!("`{text}` is no stretch of time; write FROM..TO, as 60s..90s"))?;
    let stretch = Stretch { from: duration(from)?, to: duration(to.trim_start_matches('='))? };
    if stretch.from == stretch.to {
        return Err("it ends as it begins; let it end later, or write `none` for no outage".into());
    }
    if stretch.from > stretch.to {
        return Err(format!("it ends before it begins; write {}..{}", to.trim(), from.trim()));
    }
    Ok(Some(stretch))
}

/// Reads a count of at least one: `1000000`, `1_000_000`, `1M`, `20k`.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let plain = text.trim().replace(['_', ','], "");
    let (digits, factor) = match plain.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => plain.strip_suffix(['m', 'M']).map_or((plain.as_str(), 1), |digits| (digits, 1_000_000)),
    };
    match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(0) => Err("must be at least 1".into()),
        Some(number) => Ok(number),
        None if is_digits(digits) => Err(format!("`{text}` is too large; choose a smaller number")),
        None => Err(format!("`{text}` is no whole number; write it as 5000, 20k or 1M")),
    }
}

/// Reads any whole number, zero too.
pub(crate) fn whole<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.trim().parse().map_err(|_| match is_digits(text.trim()) {
        true => format!("`{text}` is too large; choose a smaller number"),
        false => format!("`{text}` is no whole number; write it as 0, 4 or 16"),
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a share: `0.05` or `5%`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match number {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share; write it as 0.05 or 5%, from 0 to 1")),
    }
}

/// A share as it was written, in percent: `7 %`. A hundredfold of 0.07 is a little more, which an `f32` has no digits for.
pub(crate) fn share_written(share: f64) -> String {
    format!("{} %", (100.0 * share) as f32)
}

/// Reads requests in a second: `200`, `12.5`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.trim().trim_end_matches("/s").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("`{text}` is no rate; write how many requests come in a second, as 200 or 12.5")),
    }
}

/// A duration as people write it, exactly: `1h 30m`, `60d`.
pub(crate) fn written(span: Duration) -> String {
    if !span.subsec_nanos().is_multiple_of(1_000_000) {
        return measured(span);
    }
    let text = humantime::format_duration(span).to_string();
    // Months and years are of odd lengths there: 60 days are `1month 29days 13h 26m 24s`. Alone they are what was written.
    let text = if text.contains(' ') && (text.contains("month") || text.contains("year")) {
        let days = span.as_secs() / 86_400;
        match span - Duration::from_secs(days * 86_400) {
            Duration::ZERO => format!("{days}d"),
            rest => format!("{days}d {}", humantime::format_duration(rest)),
        }
    } else {
        text
    };
    text.replace("days", "d").replace("day", "d")
}

/// A measured duration, three digits of it: `52.3 ms`, `1.02 s`, `1 h 5 m`.
pub(crate) fn measured(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    let three = |number: f64, unit: &str| match number {
        n if n >= 99.95 => format!("{n:.0} {unit}"),
        n if n >= 9.995 => format!("{n:.1} {unit}"),
        n => format!("{n:.2} {unit}"),
    };
    match span.as_nanos() {
        0 => "0".into(),
        1..=999 => format!("{} ns", span.as_nanos()),
        1_000..=999_499 => three(seconds * 1e6, "µs"),
        999_500..=999_499_999 => three(seconds * 1e3, "ms"),
        _ if seconds < 59.5 => three(seconds, "s"),
        _ => {
            let whole = seconds.round() as u64;
            let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
            match (hours, minutes, rest) {
                (0, _, 0) => format!("{minutes} m"),
                (0, ..) => format!("{minutes} m {rest} s"),
                (_, 0, _) => format!("{hours} h"),
                _ => format!("{hours} h {minutes} m"),
            }
        }
    }
}

/// A number with commas: `1,000,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of a whole, or of what it is compared with: `61.2 %`. What is not zero never reads as zero, what is not all never
/// as all.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    match share {
        _ if part == 0 => "0 %".into(),
        _ if part == whole => "100 %".into(),
        share if part > whole => format!("{share:.1} %"),
        share if share < 0.01 => "<0.01 %".into(),
        share if share < 0.1 => format!("{share:.2} %"),
        share if share >= 99.95 => ">99.9 %".into(),
        share => format!("{share:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("50ms"), Ok(ms(50)));
        assert_eq!(duration(" 1m30s "), Ok(ms(90_000)));
        assert_eq!(duration("2h 5min"), Ok(ms(7_500_000)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_refused_with_the_cure() {
        assert!(duration("10").unwrap_err().contains("10s"));
        assert!(duration("soon").unwrap_err().contains("50ms"));
        assert!(duration("-5s").unwrap_err().contains("without the minus"));
        assert!(duration("").is_err() && duration("NaN").unwrap_err().contains("50ms"));
        for long in ["101years", "18446744073709551615s", "99999999999999999999s"] {
            assert!(duration(long).unwrap_err().contains("choose a shorter time"), "{long}");
        }
        assert_eq!(duration("100years").map(|span| span <= CENTURY), Ok(true));
        assert!(some_duration("0ms").unwrap_err().contains("longer than zero"));
    }

    #[test]
    fn a_backend_is_a_mean_and_perhaps_a_spread() {
        let wanted = Latency { mean: ms(50), spread: ms(20) };
        for text in ["50ms±20ms", "50ms ± 20ms", "50ms+-20ms", "50ms+/-20ms"] {
            assert_eq!(latency(text), Ok(wanted), "{text}");
        }
        assert_eq!(latency("50ms"), Ok(Latency { mean: ms(50), spread: Duration::ZERO }));
        assert!(latency("0ms±5ms").is_err() && latency("50ms±").is_err() && latency("1ms±1s").is_err());
    }

    #[test]
    fn drawn_latencies_have_the_mean_and_the_spread_that_were_asked_for() {
        let mut chance = fastrand::Rng::with_seed(1);
        let latency = Latency { mean: ms(50), spread: ms(20) };
        let drawn: Vec<f64> = (0..100_000).map(|_| latency.draw(|| chance.f64()).as_secs_f64()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let spread = (drawn.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / drawn.len() as f64).sqrt();
        assert!((mean - 0.050).abs() < 0.000_5 && (spread - 0.020).abs() < 0.000_5, "{mean} ± {spread}");
    }

    #[test]
    fn an_outage_has_two_ends_in_order() {
        assert_eq!(stretch("60s..90s"), Ok(Some(Stretch { from: ms(60_000), to: ms(90_000) })));
        assert_eq!(stretch("none"), Ok(None));
        assert!(stretch("90s..60s").unwrap_err().contains("60s..90s"));
        assert!(stretch("60s").unwrap_err().contains("FROM..TO"));
        assert!(stretch("5s..5s").is_err());
        let outage = Stretch { from: ms(1), to: ms(2) };
        assert!(outage.holds(ms(1)) && !outage.holds(ms(2)));
    }

    #[test]
    fn counts_shares_and_rates_are_read() {
        assert_eq!((count("5_000"), count("20k"), count("1M")), (Ok(5_000), Ok(20_000), Ok(1_000_000)));
        assert_eq!((whole::<u64>("0"), whole::<u64>("x").is_err()), (Ok(0), true));
        assert!(count("0").is_err() && count("-1").is_err() && count("many").is_err());
        assert_eq!((share("5%"), share("0.05")), (Ok(0.05), Ok(0.05)));
        assert!(share("2").is_err() && share("x").is_err());
        for (text, told) in
            [("7%", "7 %"), ("0.29", "29 %"), ("0.5%", "0.5 %"), ("100%", "100 %"), ("1e-9", "0.0000001 %")]
        {
            assert_eq!(share(text).map(share_written), Ok(told.to_owned()));
        }
        assert!(rate("0").is_err() && rate("NaN").is_err());
        assert_eq!(rate("12.5"), Ok(12.5));
    }

    #[test]
    fn a_duration_is_written_as_it_was() {
        for text in ["0s", "50ms", "1h 30m", "1d", "40d", "60d", "365d", "400d 12h", "3years"] {
            assert_eq!(duration(text).map(written), Ok(text.to_owned()));
        }
    }

    #[test]
    fn numbers_are_told_in_three_digits() {
        let told: Vec<String> = [0, 250, 52_340, 999_600, 52_340_000, 1_020_000_000, 61_000_000_000]
            .map(Duration::from_nanos)
            .map(measured)
            .into();
        assert_eq!(told, ["0", "250 ns", "52.3 µs", "1.00 ms", "52.3 ms", "1.02 s", "1 m 1 s"]);
        assert_eq!((grouped(7), grouped(1_234), grouped(1_000_000)), ("7".into(), "1,234".into(), "1,000,000".into()));
        assert_eq!(
            (percent(0, 5), percent(1, 1_000_000), percent(5, 5)),
            ("0 %".into(), "<0.01 %".into(), "100 %".into())
        );
        assert_eq!((percent(999_999, 1_000_000), percent(191, 149)), (">99.9 %".into(), "128.2 %".into()));
    }
}
