//! The requests: which key is asked for when. Read from a file, or a day made up.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// Requests in the order of their time.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Trace {
    /// When, since the start, in nanoseconds; as many as there are keys.
    pub(crate) at: Vec<u64>,
    pub(crate) keys: Vec<u64>,
}

impl Trace {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn requests(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.at.iter().map(|&nanos| Duration::from_nanos(nanos)).zip(self.keys.iter().copied())
    }

    pub(crate) fn distinct_keys(&self) -> usize {
        let mut keys = self.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}

/// The longest trace that is read: 200 million binary keys.
const MOST_BYTES: u64 = 8 * 200_000_000;

/// Reads the keys of a trace: little-endian 64-bit numbers, or text with one key a line. `-` is the standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u64>, String> {
    let (bytes, shown) = match path == Path::new("-") {
        true => (bytes_of(io::stdin().lock()), "standard input".into()),
        false => (File::open(path).and_then(bytes_of), path.display().to_string()),
    };
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no file {shown}; check --trace, or leave it out for a made-up day")
        }
        io::ErrorKind::IsADirectory => format!("{shown} is a folder; give --trace one file of it"),
        _ => format!("{shown} cannot be read ({error}); make it readable, or give another --trace"),
    })?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("{shown} is longer than 1.6 GB; cut it: head -c {MOST_BYTES} FILE"));
    }
    // A name that ends like this leaves no doubt: what is left of a cut file may look like text.
    let binary = path.extension().is_some_and(|ending| ending == "u64le");
    parse(&bytes, binary).map_err(|wrong| format!("{shown} {wrong}"))
}

/// All of it, or a little more than is wanted: a device may have no end.
fn bytes_of(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The keys in the bytes of a trace, which are numbers if they are known to be `binary`. What is wrong reads on after the
/// name of the file.
pub(crate) fn parse(bytes: &[u8], binary: bool) -> Result<Vec<u64>, String> {
    // A first key may look like the beginning of a packed file, as 559903 does: 1f 8b 08.
    if let Some(cure) = if binary { None } else { packed(bytes) } {
        return Err(cure.into());
    }
    let keys = if !binary && is_text(bytes) { text_keys(bytes) } else { binary_keys(bytes)? };
    if keys.is_empty() {
        return Err("holds no requests; give 64-bit little-endian keys, or text with one key a line".into());
    }
    Ok(keys)
}

/// What a file is that has to be unpacked first, and how, by its first bytes.
fn packed(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x1f, 0x8b, 8, ..] => "is compressed; unpack it first: gunzip -k FILE",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "is compressed; unpack it first: unxz -k FILE",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed; unpack it first: unzstd FILE",
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', b'S', b'Y', ..] => {
            "is compressed; unpack it first: bunzip2 -k FILE"
        }
        [b'P', b'K', 3, 4, ..] => "is compressed; unpack it first: unzip FILE",
        [0xff, 0xfe, 1..=255, 0, 1..=255, 0, ..] | [0xfe, 0xff, 0, 1..=255, 0, 1..=255, ..] => {
            "is text in UTF-16; make it UTF-8 first: iconv -f UTF-16 -t UTF-8 FILE"
        }
        _ => return None,
    })
}

fn binary_keys(bytes: &[u8]) -> Result<Vec<u64>, String> {
    let (keys, rest) = bytes.as_chunks::<8>();
    if keys.is_empty() && !rest.is_empty() {
        return Err("holds no request: it is no text, and too short for a binary key of 8 bytes; get it again".into());
    }
    if !rest.is_empty() {
        return Err(format!(
            "is truncated: {} bytes are {} keys of 8 bytes and {} left over; get it again, or cut it: truncate -s {} FILE",
            bytes.len(),
            keys.len(),
            rest.len(),
            8 * keys.len()
        ));
    }
    Ok(keys.iter().map(|key| u64::from_le_bytes(*key)).collect())
}

/// Numbers below 2^56 have a zero among their bytes, and few dozens of larger ones are without a control character. Text in
/// an encoding older than UTF-8 has neither, and of a log that was damaged seldom more than a few: of numbers every eighth or
/// ninth byte is one.
fn is_text(bytes: &[u8]) -> bool {
    let control = |byte: &&u8| byte.is_ascii_control() && !b"\t\n\r".contains(byte);
    let whole = !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
    whole || bytes.iter().filter(control).count() <= bytes.len() / 64
}

/// Blank lines and what follows a `#` at the start of a line are not requests. A key is a number, or any other text.
fn text_keys(bytes: &[u8]) -> Vec<u64> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty() && line[0] != b'#').map(key_of).collect()
}

fn key_of(text: &[u8]) -> u64 {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    // FNV-1a, for keys that are names: the same on every machine.
    number.unwrap_or_else(|| {
        text.iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    })
}

/// How lively a time of the day is, on average 1: quiet at four in the morning, busy at four in the afternoon.
fn liveliness(time_of_day: f64) -> f64 {
    1.0 - 0.6 * (std::f64::consts::TAU * (time_of_day - 1.0 / 6.0)).cos()
}

/// When the requests of a file come: at random, equally likely at any time of the span.
pub(crate) fn steadily(keys: Vec<u64>, span: Duration, seed: u64) -> Trace {
    let at = arrivals(keys.len(), span, seed, |_| 1.0);
    Trace { at, keys }
}

/// The shape of a made-up day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    pub(crate) requests: usize,
    pub(crate) keys: usize,
    /// The exponent of Zipf's law: the larger, the more of the requests go to the most popular keys.
    pub(crate) exponent: f64,
    pub(crate) span: Duration,
    pub(crate) seed: u64,
}

impl Day {
    /// Zipf's law over a hot set that moves on: a key rises, is the most asked for, and is forgotten.
    pub(crate) fn make(self) -> Trace {
        let at = arrivals(self.requests, self.span, self.seed, liveliness);
        let mut chance = fastrand::Rng::with_seed(self.seed ^ 0x0064_6179);
        let mut upto: Vec<f64> = Vec::with_capacity(self.keys);
        let mut sum = 0.0;
        for rank in 1..=self.keys {
            sum += (rank as f64).powf(-self.exponent);
            upto.push(sum);
        }
        let span = self.span.as_nanos() as f64;
        let keys = at.iter().map(|&at| {
            let drawn = chance.f64() * sum;
            let rank = upto.partition_point(|&upto| upto <= drawn).min(self.keys - 1);
            // The centre crosses a tenth of the keys in a span; ranks lie left and right of it by turns.
            let centre = (at as f64 / span * self.keys as f64 / 10.0) as usize;
            let away = rank.div_ceil(2);
            let place = if rank % 2 == 0 { centre + away } else { centre + self.keys - away };
            (place % self.keys) as u64
        });
        Trace { keys: keys.collect(), at }
    }
}

/// A Poisson process under the condition of its count: uniform times in order, bent by how lively the day is.
fn arrivals(count: usize, span: Duration, seed: u64, lively: impl Fn(f64) -> f64) -> Vec<u64> {
    const STEPS: usize = 1440;
    let mut upto = vec![0.0];
    for step in 0..STEPS {
        upto.push(upto[step] + lively((step as f64 + 0.5) / STEPS as f64));
    }
    let whole = upto[STEPS];
    let mut chance = fastrand::Rng::with_seed(seed ^ 0x7469_6d65);
    let mut gaps = Vec::with_capacity(count);
    let mut sum = 0.0;
    for _ in 0..count {
        sum -= (1.0 - chance.f64()).ln();
        gaps.push(sum);
    }
    sum -= (1.0 - chance.f64()).ln();
    let span = span.as_nanos() as f64;
    let mut step = 0;
    let bent = gaps.into_iter().map(|gap| {
        let lived = gap / sum * whole;
        while step + 1 < STEPS && upto[step + 1] <= lived {
            step += 1;
        }
        let within = (lived - upto[step]) / (upto[step + 1] - upto[step]);
        ((step as f64 + within.min(1.0)) / STEPS as f64 * span) as u64
    });
    bent.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(seed: u64) -> Trace {
        Day { requests: 20_000, keys: 1_000, exponent: 0.99, span: DAY, seed }.make()
    }

    #[test]
    fn binary_keys_are_little_endian() {
        assert_eq!(parse(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], false), Ok(vec![1, 256]));
    }

    #[test]
    fn a_truncated_trace_is_refused_with_the_cure() {
        let wrong = parse(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0], false).unwrap_err();
        assert!(wrong.contains("truncated") && wrong.contains("truncate -s 8"), "{wrong}");
        let wrong = parse(b"abcdefghijk", true).unwrap_err();
        assert!(
            wrong.contains("truncated") && wrong.contains("truncate -s 8"),
            "what is left looks like text: {wrong}"
        );
    }

    #[test]
    fn nobody_is_told_to_cut_a_trace_down_to_nothing() {
        let wrong = parse(b"1\n2\n\0\n", false).unwrap_err();
        assert!(wrong.contains("no text") && !wrong.contains("truncate"), "{wrong}");
    }

    #[test]
    fn text_has_one_key_a_line_and_room_for_remarks() {
        assert_eq!(parse(b"# a trace\r\n7\r\n\r\n  8 \n#9\n7", false), Ok(vec![7, 8, 7]));
        assert_eq!(parse("\u{feff}7\n8\n".as_bytes(), false), Ok(vec![7, 8]));
    }

    #[test]
    fn names_are_keys_too_and_differ() {
        let keys = parse(b"/cart\n/home\n/cart\n-3\n", false).unwrap();
        assert_eq!(keys[0], keys[2]);
        assert!(keys[0] != keys[1] && keys[1] != keys[3]);
    }

    #[test]
    fn names_in_an_older_encoding_are_text_too() {
        let keys = parse(b"/caf\xe9\n/home\n/caf\xe9\n/caf\xe8\n", false).unwrap();
        assert_eq!((keys.len(), keys[0]), (4, keys[2]));
        assert!(keys[0] != keys[3]);
    }

    #[test]
    fn a_few_damaged_bytes_make_no_numbers_of_a_text() {
        let log: String = (0..100).map(|line| format!("/page/{line}\n")).collect();
        for damage in ["\0", "\0\0\0\0", "\u{1b}\0"] {
            let damaged = log.replacen("/page/50\n", &format!("/page/50{damage}\n"), 1);
            assert_eq!(parse(damaged.as_bytes(), false).map(|keys| keys.len()), Ok(100), "{damage:?}");
        }
    }

    #[test]
    fn large_numbers_without_a_zero_among_their_bytes_are_no_text() {
        let mut chance = fastrand::Rng::with_seed(1);
        let keys: Vec<u64> = (0..64).map(|_| u64::from_le_bytes([0; 8].map(|_: u8| chance.u8(1..)))).collect();
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        assert_eq!(parse(&bytes, false), Ok(keys));
    }

    #[test]
    fn a_trace_without_requests_is_refused() {
        for empty in [&b""[..], b"\n\n", b"# nothing\n"] {
            assert!(parse(empty, false).unwrap_err().contains("no requests"));
        }
    }

    #[test]
    fn what_is_packed_is_refused_with_the_cure() {
        for (beginning, cure) in [
            (&b"\x1f\x8b\x08\0"[..], "gunzip"),
            (b"\xfd7zXZ\0", "unxz"),
            (b"\x28\xb5\x2f\xfd", "unzstd"),
            (b"BZh91AY&SY", "bunzip2"),
            (b"PK\x03\x04", "unzip"),
            (b"\xff\xfe7\0\n\0", "UTF-16"),
            (b"\xfe\xff\x007\0\n", "UTF-16"),
        ] {
            let packed: Vec<u8> = beginning.iter().copied().chain([7; 32]).take(24).collect();
            let refused = parse(&packed, false).expect_err(cure);
            assert!(refused.contains(cure), "{refused}");
        }
    }

    #[test]
    fn a_first_key_may_look_like_a_packed_file() {
        for first in [35_615_u64, 559_903, 65_279, 67_324_752] {
            let bytes = [first.to_le_bytes(), 7_u64.to_le_bytes()].concat();
            assert_eq!(parse(&bytes, true), Ok(vec![first, 7]));
        }
        assert_eq!(
            parse(&[35_615_u64.to_le_bytes(), 65_279_u64.to_le_bytes()].concat(), false),
            Ok(vec![35_615, 65_279])
        );
    }

    #[test]
    fn a_made_up_day_is_the_same_for_the_same_seed_and_stays_within_its_span() {
        let trace = day(1);
        assert_eq!(trace, day(1));
        assert_ne!(trace, day(2));
        assert_eq!(trace.len(), 20_000);
        assert!(trace.at.is_sorted() && trace.at.last().is_some_and(|&last| u128::from(last) < DAY.as_nanos()));
        assert!(trace.keys.iter().all(|&key| key < 1_000));
    }

    #[test]
    fn the_hot_set_moves_and_the_afternoon_is_busier_than_the_night() {
        let trace = day(1);
        let favourite = |keys: &[u64]| {
            let mut counts = vec![0; 1_000];
            keys.iter().for_each(|&key| counts[key as usize] += 1);
            counts.iter().enumerate().max_by_key(|(_, count)| **count).map(|(key, _)| key)
        };
        assert_ne!(favourite(&trace.keys[..2_000]), favourite(&trace.keys[18_000..]));
        let hour = 3_600_000_000_000;
        let between = |from: u64, to: u64| trace.at.iter().filter(|&&at| at >= from * hour && at < to * hour).count();
        assert!(between(15, 17) > 3 * between(3, 5));
    }
}
