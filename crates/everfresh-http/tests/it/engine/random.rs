//! Random exchanges with a site that changes, fails and breaks off: whatever is answered is the right variant, whole,
//! with the fields that came with its body, and from no time before a write.

use std::sync::{Arc, Mutex};

use everfresh_http::HttpCache;
use fastrand::Rng;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, request};
use http_body_util::BodyExt;

use super::kit::{Origin, Pipe, Said, World, settle, shared, text, whole};
use crate::world::{cases, date};

const CONTROLS: [&str; 9] = [
    "max-age=10",
    "max-age=10, stale-while-revalidate=10",
    "max-age=10, stale-if-error=20",
    "max-age=5, stale-while-revalidate=5, stale-if-error=50",
    "max-age=10, must-revalidate",
    "s-maxage=7",
    "max-age=0",
    "no-cache",
    "public",
];

/// What the site is at one moment.
#[derive(Clone)]
struct Site {
    version: usize,
    now: i64,
    control: &'static str,
    /// No tag; one of its own; a weak one that all variants share.
    tag: u8,
    dated: bool,
    varies: bool,
    knows_ranges: bool,
    /// Many heed conditions in a GET alone.
    heeds_head: bool,
    trouble: Trouble,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Refuses,
    Fails,
    /// Fails, and says for how long that holds.
    FailsFor,
    BreaksOff,
}
use Trouble::{BreaksOff, Fails, FailsFor, Refuses};

fn name(variant: &str, version: usize) -> String {
    format!("{variant}.{version}")
}

fn page(name: &str) -> String {
    format!("<{name}>{}", "0123456789".repeat(1 + name.len() + name.bytes().map(usize::from).sum::<usize>() % 3))
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().expect("text"))
}

impl Site {
    fn tag_of(&self, name: &str) -> String {
        if self.tag == 1 { format!("\"{name}\"") } else { format!("W/\"{}\"", self.version) }
    }

    fn answer(&self, asked: &request::Parts) -> Said {
        match self.trouble {
            Refuses => return Err("refused".to_owned()),
            Fails => return Ok(text(503, &[], "down")),
            FailsFor => return Ok(text(503, &[("cache-control", "max-age=5")], "down")),
            _ => {}
        }
        let sent = |name| field(&asked.headers, name);
        let name = name(sent("x-who").filter(|_| self.varies).unwrap_or_default(), self.version);
        let (body, tag, now, modified) =
            (page(&name), self.tag_of(&name), date(self.now), date(self.version as i64 - 999));
        let mut with = vec![("cache-control", self.control), ("date", &*now), ("x-name", &*name)];
        with.extend(self.varies.then_some(("vary", "x-who")));
        with.extend((self.tag > 0).then_some(("etag", &*tag)));
        with.extend(self.dated.then_some(("last-modified", &*modified)));
        let head = asked.method == "HEAD";
        let known = match (sent("if-none-match"), sent("if-modified-since")) {
            (Some(tags), _) => self.tag > 0 && tags.split(", ").any(|other| other == tag),
            (None, since) => self.dated && since == Some(&*modified),
        };
        if known && (self.heeds_head || !head) {
            return Ok(text(304, &with, ""));
        }
        let same = sent("if-range").is_none_or(|other| self.tag == 1 && other == tag);
        let range = sent("range").filter(|_| self.knows_ranges && same && !head);
        if let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            let first: usize = first.parse().expect("a number");
            let last = last.parse().unwrap_or(usize::MAX).min(body.len() - 1);
            let (part, told) = match body.get(first..=last) {
                Some(part) => (part, format!("bytes {first}-{last}/{}", body.len())),
                None => return Ok(text(416, &with, "")),
            };
            with.push(("content-range", &told));
            return Ok(self.sent(206, &with, part));
        }
        let length = body.len().to_string();
        with.extend(self.version.is_multiple_of(2).then_some(("content-length", &*length)));
        Ok(self.sent(200, &with, if head { "" } else { &body }))
    }

    fn sent(&self, status: u16, with: &[(&str, &str)], body: &str) -> http::Response<super::kit::TestBody> {
        if self.trouble != BreaksOff || body.is_empty() {
            return text(status, with, body);
        }
        let (pipe, broken) = Pipe::new();
        pipe.send("<");
        pipe.fail();
        whole(status, with, broken)
    }
}

/// Asks, and says what is wrong with the answer, if anything.
async fn ask(world: World, method: &str, who: &str, field_of: (&str, &str), least: usize) -> Result<(), String> {
    let asked: Vec<_> = [("x-who", who), field_of].into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let Ok(response) = world.ask(method, "/a", &asked).await else { return Ok(()) };
    let (head, body) = response.into_parts();
    // A body that breaks off is told as broken, which is all that can be done.
    let Ok(body) = body.collect().await else { return Ok(()) };
    let bytes = body.to_bytes();
    let body = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    let status = head.status;
    if status.is_server_error() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(());
    }
    let wrong = |what: &str| Err(format!("{what}: {method} {asked:?}: {status} {:?} {body:?}", head.headers));
    let Some((variant, version)) = field(&head.headers, "x-name").and_then(|name| name.split_once('.')) else {
        return wrong("whose?");
    };
    let version: usize = version.parse().map_err(|_| "no version")?;
    let full = page(&name(variant, version));
    if !variant.is_empty() && variant != who {
        return wrong("another's variant");
    }
    if version < least {
        return wrong("from before a write");
    }
    let length = field(&head.headers, "content-length").map(|length| length.parse::<usize>().expect("a number"));
    let (part, told) = match status.as_u16() {
        304 => ("", None),
        200 if method == "HEAD" => ("", Some(full.len())),
        200 => (&*full, Some(full.len())),
        206 => {
            let range = field(&head.headers, "content-range").and_then(|range| range.strip_prefix("bytes "));
            let Some((range, total)) = range.and_then(|range| range.split_once('/')) else { return wrong("no range") };
            let (first, last) = range.split_once('-').expect("two ends");
            let (first, last) = (first.parse::<usize>().expect("a number"), last.parse::<usize>().expect("a number"));
            if total != full.len().to_string() {
                return wrong("a part of another whole");
            }
            (&full[first..=last], Some(last + 1 - first))
        }
        _ => return wrong("unasked"),
    };
    if body != part {
        return wrong("another body");
    }
    if length.is_some() && length != told {
        return wrong("another length");
    }
    Ok(())
}

#[tokio::test]
async fn whatever_befalls_the_origin_each_answer_is_the_right_one() {
    for seed in 0..u64::from(cases().cases / 40) {
        let mut dice = Rng::with_seed(seed);
        let site = Arc::new(Mutex::new(Site {
            version: 0,
            now: 0,
            control: CONTROLS[dice.usize(..CONTROLS.len())],
            tag: dice.u8(..3),
            dated: dice.bool(),
            varies: dice.u8(..3) > 0,
            knows_ranges: dice.bool(),
            heeds_head: dice.bool(),
            trouble: Trouble::None,
        }));
        let own = Arc::clone(&site);
        let origin = Origin::new(move |_, asked| match asked.method.as_str() {
            "PUT" => Ok(text(204, &[], "")),
            _ => own.lock().expect("the site").answer(asked),
        });
        let private = dice.u8(..3) == 0;
        let world = World::new(if private { HttpCache::builder().private() } else { shared() }, origin);
        let mut least = 0;
        for step in 0..50 {
            let change = dice.u8(..20);
            let passed = dice.i64(0..12);
            let (told, version) = {
                let mut site = site.lock().expect("the site");
                match change {
                    0..4 => site.version += 1,
                    4..6 => site.trouble = [Trouble::None, Refuses, Fails, FailsFor, BreaksOff][dice.usize(..5)],
                    6 => site.trouble = Trouble::None,
                    7 => site.control = CONTROLS[dice.usize(..CONTROLS.len())],
                    8 => (site.varies, site.version) = (!site.varies, site.version + 1),
                    9 => site.version += 1,
                    10..14 => site.now += passed,
                    _ => {}
                }
                // Without a word on validators a HEAD lets what is stored live on (RFC 9111 §4.3.5), whatever it is.
                (site.tag > 0 || site.dated, site.version)
            };
            match change {
                9 => {
                    world.ask("PUT", "/a", &[]).await.expect("written");
                    least = version;
                }
                10..14 => world.advance(passed as u64),
                14 => world.cache.expire_all(),
                _ => {}
            }
            let all = (0..dice.usize(1..4)).map(|_| {
                let (first, last) = (dice.u8(..40), dice.u8(40..60));
                let field_of = match dice.u8(..9) {
                    0 => ("range", format!("bytes={first}-{last}")),
                    1 => ("range", format!("bytes={first}-")),
                    2 => ("cache-control", "no-cache".to_owned()),
                    3 => ("cache-control", "max-age=0".to_owned()),
                    4 => ("cache-control", "max-stale=20".to_owned()),
                    5 => ("if-none-match", format!("\".{version}\", W/\"{version}\"")),
                    6 => ("authorization", "Basic eA==".to_owned()),
                    _ => ("accept", String::new()),
                };
                let who = ["", "a", "b"][dice.usize(..3)];
                let method = if told && dice.u8(..4) == 0 { "HEAD" } else { "GET" };
                let world = world.clone();
                async move { ask(world, method, who, (field_of.0, &field_of.1), least).await }
            });
            for wrong in join_all(all.collect::<Vec<_>>()).await {
                assert_eq!(wrong, Ok(()), "seed {seed}, step {step}");
            }
            settle().await;
        }
    }
}
