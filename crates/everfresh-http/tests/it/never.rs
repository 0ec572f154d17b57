//! No rule ever serves what RFC 9111 §4 forbids: against a small oracle that knows the exchange as it was meant, not
//! as it was written, and works in plain seconds.

use everfresh_http::rfc9111::{Failure, Meta, Reuse, Rules};
use http::HeaderMap;
use proptest::prelude::*;

use crate::world::{at, cases, date, get, response, secs};

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    expires: Option<i64>,
    modified_before: Option<u64>,
    dated_before: Option<u64>,
    age: u64,
    delay: u64,
    swr: Option<u64>,
    sie: Option<u64>,
    words: Vec<&'static str>,
    vary: bool,
    tagged: bool,
}

#[derive(Clone, Debug)]
struct Question {
    authorized: bool,
    /// The field that `Vary` may name.
    selecting: Option<&'static str>,
    words: Vec<&'static str>,
    max_age: Option<u64>,
    max_stale: Option<u64>,
    min_fresh: Option<u64>,
    sie: Option<u64>,
    later: u64,
}

fn some(most: u64) -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 3 => (0..most).prop_map(Some)]
}

fn words(all: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(all), 0..3)
}

fn answer() -> impl Strategy<Value = Answer> {
    let all =
        &["no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate", "must-understand", "foo"];
    let status = prop::sample::select(&[200_u16, 200, 200, 204, 301, 302, 404, 299, 503, 500][..]);
    let times = (some(90), some(90), prop::option::of(-20_i64..90), some(900), some(40));
    (status, times, (0_u64..40, 0_u64..5), (some(60), some(60)), words(all), any::<bool>(), any::<bool>()).prop_map(
        |(
            status,
            (max_age, s_maxage, expires, modified_before, dated_before),
            (age, delay),
            (swr, sie),
            words,
            vary,
            tagged,
        )| Answer {
            status,
            max_age,
            s_maxage,
            expires,
            modified_before,
            dated_before,
            age,
            delay,
            swr,
            sie,
            words,
            vary,
            tagged,
        },
    )
}

fn question() -> impl Strategy<Value = Question> {
    let selecting = prop::sample::select(&[None, Some("1"), Some("2")][..]);
    let wanted = (some(90), some(60), some(60), some(60));
    (any::<bool>(), selecting, words(&["no-cache", "no-store", "only-if-cached", "foo"]), wanted, 0_u64..200).prop_map(
        |(authorized, selecting, words, (max_age, max_stale, min_fresh, sie), later)| Question {
            authorized,
            selecting,
            words,
            max_age,
            max_stale,
            min_fresh,
            sie,
            later,
        },
    )
}

/// The operator's side: shared, windows by default and at most, disconnection, s-maxage set aside, reloads ignored.
#[derive(Clone, Debug)]
struct Operator {
    shared: bool,
    swr: Option<u64>,
    sie: Option<u64>,
    cap: Option<u64>,
    apart: Option<u64>,
    despite: bool,
    ignores: bool,
}

fn operator() -> impl Strategy<Value = Operator> {
    (any::<bool>(), some(60), some(60), some(60), some(60), any::<bool>(), any::<bool>()).prop_map(
        |(shared, swr, sie, cap, apart, despite, ignores)| Operator { shared, swr, sie, cap, apart, despite, ignores },
    )
}

impl Operator {
    fn rules(&self) -> Rules {
        let mut rules = if self.shared { Rules::shared() } else { Rules::private() };
        if let Some(cap) = self.cap {
            rules = rules.max_stale_while_revalidate(secs(cap)).max_stale_if_error(secs(cap));
        }
        rules
            .default_stale_while_revalidate(self.swr.map(secs))
            .default_stale_if_error(self.sie.map(secs))
            .stale_when_disconnected(self.apart.map(secs))
            .stale_despite_s_maxage(self.despite)
            .ignore_request_no_cache(self.ignores)
    }
}

fn list(words: &[&str], numbers: &[(&str, Option<u64>)]) -> String {
    let numbers = numbers.iter().filter_map(|(name, number)| number.map(|number| format!("{name}={number}")));
    words.iter().map(ToString::to_string).chain(numbers).collect::<Vec<_>>().join(", ")
}

impl Question {
    fn headers(&self) -> HeaderMap {
        let numbers = [
            ("max-age", self.max_age),
            ("max-stale", self.max_stale),
            ("min-fresh", self.min_fresh),
            ("stale-if-error", self.sie),
        ];
        let control = list(&self.words, &numbers);
        let mut with = vec![("cache-control", control.as_str())];
        with.extend(self.authorized.then_some(("authorization", "x")));
        with.extend(self.selecting.map(|value| ("foo", value)));
        crate::world::fields(&with)
    }

    fn says(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

impl Answer {
    fn headers(&self) -> HeaderMap {
        let numbers = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.swr),
            ("stale-if-error", self.sie),
        ];
        let control = list(&self.words, &numbers);
        let dated = -(self.dated_before.unwrap_or(0) as i64);
        let texts = [
            ("date", self.dated_before.map(|_| date(dated))),
            ("expires", self.expires.map(date)),
            ("last-modified", self.modified_before.map(|before| date(dated - before as i64))),
            ("age", Some(self.age.to_string())),
        ];
        let mut with: Vec<_> = texts.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?))).collect();
        with.push(("cache-control", &control));
        with.extend(self.vary.then_some(("vary", "foo")));
        with.extend(self.tagged.then_some(("etag", "\"a\"")));
        crate::world::fields(&with)
    }

    fn says(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

/// What the RFC allows, in its own order.
struct Oracle<'a> {
    operator: &'a Operator,
    first: &'a Question,
    answer: &'a Answer,
    next: &'a Question,
}

impl Oracle<'_> {
    fn may_store(&self) -> bool {
        let Self { operator, first, answer, .. } = self;
        let understood = [200, 204, 301, 302, 404, 500].contains(&answer.status);
        let no_store = if answer.says("must-understand") { !understood } else { answer.says("no-store") };
        let shares = answer.says("public") || answer.says("must-revalidate") || answer.s_maxage.is_some();
        let allowed = answer.says("public")
            || (answer.says("private") && !operator.shared)
            || answer.max_age.is_some()
            || (answer.s_maxage.is_some() && operator.shared)
            || answer.expires.is_some()
            || [200, 204, 301, 404].contains(&answer.status);
        let unshared = operator.shared && (answer.says("private") || (first.authorized && !shares));
        allowed && !first.says("no-store") && !no_store && !unshared
    }

    fn lifetime(&self) -> u64 {
        let answer = self.answer;
        let dated = answer.dated_before.map_or(answer.delay as i64, |before| -(before as i64));
        if let (true, Some(seconds)) = (self.operator.shared, answer.s_maxage) {
            return seconds;
        }
        if let Some(seconds) = answer.max_age {
            return seconds;
        }
        if let Some(expires) = answer.expires {
            return (expires - dated).max(0) as u64;
        }
        let heuristic = [200, 204, 301, 404].contains(&answer.status) || answer.says("public");
        // Rounded up: the oracle must not be stricter than the rules by the fraction of a second.
        let since =
            answer.modified_before.map(|before| before as i64 + dated + answer.dated_before.unwrap_or(0) as i64);
        since.filter(|since| heuristic && *since > 0).map_or(0, |since| (since as u64).div_ceil(10))
    }

    fn age(&self) -> u64 {
        let answer = self.answer;
        let apparent = answer.dated_before.map_or(0, |before| before + answer.delay);
        // Questions are asked `later` seconds after the first request was sent, never before its answer came.
        apparent.max(answer.age + answer.delay) + self.next.later.saturating_sub(answer.delay)
    }

    fn forbids_stale(&self) -> bool {
        let (answer, shared) = (self.answer, self.operator.shared);
        answer.says("no-cache")
            || answer.says("must-revalidate")
            || (shared && answer.says("proxy-revalidate"))
            || (shared && answer.s_maxage.is_some() && !self.operator.despite)
    }

    fn selected(&self) -> bool {
        !self.answer.vary || self.first.selecting == self.next.selecting
    }

    fn may_serve_unasked(&self) -> bool {
        let Self { operator, answer, next, .. } = self;
        let (age, lifetime) = (self.age(), self.lifetime());
        let heeds = !operator.ignores;
        let asked = heeds
            && (next.says("no-cache")
                || next.max_age.is_some_and(|most| age > most)
                || next.min_fresh.is_some_and(|least| lifetime.saturating_sub(age) < least));
        if !self.may_store() || !self.selected() || answer.says("no-cache") || asked {
            return false;
        }
        if age < lifetime {
            return true;
        }
        let over = age - lifetime;
        let window = answer.swr.or(operator.swr).unwrap_or(0).min(operator.cap.unwrap_or(u64::MAX));
        !self.forbids_stale() && (over <= window || next.max_stale.is_some_and(|most| over <= most))
    }

    fn may_fall_back(&self, unreachable: bool) -> bool {
        let Self { operator, answer, next, .. } = self;
        let over = self.age().saturating_sub(self.lifetime());
        let cap = operator.cap.unwrap_or(u64::MAX);
        let origin = answer.sie.or(operator.sie).unwrap_or(0).min(cap);
        let client = next.sie.unwrap_or(0).min(cap);
        let apart = operator.apart.filter(|_| unreachable).unwrap_or(0);
        let window = origin.max(client).max(apart).max(next.max_stale.unwrap_or(0));
        let asked = next.says("no-cache") && !operator.ignores;
        self.may_store() && self.selected() && !self.forbids_stale() && !asked && over <= window
    }
}

fn stored(rules: &Rules, first: &Question, answer: &Answer) -> Option<Meta> {
    let mut asked = get(&[]);
    asked.headers = first.headers();
    let mut came = response(answer.status, &[]);
    came.headers = answer.headers();
    rules.may_store(&asked, &came, at(0), at(answer.delay)).ok()
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn what_section_4_forbids_is_never_served(
        operator in operator(), first in question(), answer in answer(), mut next in question(),
    ) {
        next.later = next.later.max(answer.delay);
        let rules = operator.rules();
        let oracle = Oracle { operator: &operator, first: &first, answer: &answer, next: &next };
        let Some(meta) = stored(&rules, &first, &answer) else { return Ok(()) };
        prop_assert!(oracle.may_store(), "stored");
        let mut asked = get(&[]);
        asked.headers = next.headers();
        let now = at(next.later);
        let reuse = rules.reuse(&asked, &meta, now);
        match reuse {
            Reuse::Fresh { age, .. } => {
                prop_assert!(oracle.may_serve_unasked(), "{reuse:?}");
                prop_assert_eq!(age, secs(oracle.age()));
            }
            Reuse::Stale { age, .. } => {
                prop_assert!(oracle.may_serve_unasked() && !oracle.forbids_stale(), "{reuse:?}");
                prop_assert_eq!(age, secs(oracle.age()));
            }
            Reuse::GatewayTimeout => prop_assert!(next.says("only-if-cached"), "{reuse:?}"),
            _ => {}
        }
        for (failure, unreachable) in
            [(Failure::Unreachable, true), (Failure::Status(http::StatusCode::BAD_GATEWAY), false)]
        {
            if rules.may_serve_on_error(&asked, &meta, failure, now) {
                prop_assert!(oracle.may_fall_back(unreachable), "{failure:?}");
            }
        }
        // And what is plainly fresh is served, or never serving anything would pass.
        let plain = next.words.iter().all(|word| *word == "foo") && next.max_age.is_none() && next.min_fresh.is_none();
        if plain && oracle.selected() && !answer.says("no-cache") && oracle.age() + 1 < oracle.lifetime() {
            prop_assert!(matches!(reuse, Reuse::Fresh { .. }), "{reuse:?}");
        }
    }

    #[test]
    fn what_may_be_stored_and_can_be_served_is_stored(operator in operator(), first in question(), answer in answer()) {
        let mut next = first.clone();
        next.later = answer.delay;
        let oracle = Oracle { operator: &operator, first: &first, answer: &answer, next: &next };
        let useful = answer.tagged || (!answer.says("no-cache") && oracle.age() + 1 < oracle.lifetime());
        if oracle.may_store() && useful {
            prop_assert!(stored(&operator.rules(), &first, &answer).is_some());
        }
    }
}
