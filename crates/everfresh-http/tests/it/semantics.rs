//! The same exchanges put to the crate `http-cache-semantics`: where the two differ, the difference is listed here with
//! its reason. Compared is whether a stored response is served without asking the origin.

use everfresh_http::rfc9111::{Reuse, Rules, StaleBy};
use http::{Request, Response, request, response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::prelude::*;

use crate::world::{at, cases, date, fields, get, response, start};

type Lines = Vec<(&'static str, String)>;

#[derive(Clone, Debug)]
struct Exchange {
    shared: bool,
    asked: Lines,
    status: u16,
    came: Lines,
    next: Lines,
    later: u64,
}

impl Exchange {
    fn parts(lines: &Lines) -> request::Parts {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        get(&lines)
    }

    fn response(&self) -> response::Parts {
        let mut parts = response(self.status, &[]);
        let lines: Vec<_> = self.came.iter().map(|(name, value)| (*name, value.as_str())).collect();
        parts.headers = fields(&lines);
        parts
    }

    /// Ours; windows are not generated, as the other crate knows none.
    fn ours(&self) -> bool {
        let rules = if self.shared { Rules::shared() } else { Rules::private() };
        let Ok(meta) = rules.may_store(&Self::parts(&self.asked), &self.response(), start(), start()) else {
            return false;
        };
        let reuse = rules.reuse(&Self::parts(&self.next), &meta, at(self.later));
        matches!(reuse, Reuse::Fresh { .. } | Reuse::Stale { by: StaleBy::MaxStale, .. })
    }

    fn theirs(&self) -> bool {
        let options = CacheOptions { shared: self.shared, ..CacheOptions::default() };
        let asked = Request::from_parts(Self::parts(&self.asked), ());
        let came = Response::from_parts(self.response(), ());
        let policy = CachePolicy::new_options(&asked, &came, start(), options);
        let next = Request::from_parts(Self::parts(&self.next), ());
        policy.is_storable() && matches!(policy.before_request(&next, at(self.later)), BeforeRequest::Fresh(_))
    }

    fn said(lines: &Lines, field: &str, word: &str) -> bool {
        lines.iter().any(|(name, value)| *name == field && value.contains(word))
    }

    fn came_with(&self, word: &str) -> bool {
        Self::said(&self.came, "cache-control", word)
    }

    fn asks(&self, word: &str) -> bool {
        Self::said(&self.next, "cache-control", word)
    }
}

/// A difference: its name, its reason, an example, and what an exchange must have for it to apply.
struct Difference {
    name: &'static str,
    ours_serves: bool,
    example: fn() -> Exchange,
    applies: fn(&Exchange) -> bool,
}

fn plain(control: &str) -> Exchange {
    Exchange {
        shared: true,
        asked: vec![],
        status: 200,
        came: vec![("cache-control", control.to_owned())],
        next: vec![],
        later: 1,
    }
}

fn also(mut exchange: Exchange, change: impl FnOnce(&mut Exchange)) -> Exchange {
    change(&mut exchange);
    exchange
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "§3 asks for understanding of a status only for 206, 304 and under must-understand.",
        ours_serves: true,
        example: || also(plain("max-age=60"), |it| it.status = 299),
        applies: |it| [299, 503].contains(&it.status),
    },
    Difference {
        name: "proxy-revalidate forbids stale responses, not fresh ones (§5.2.2.8).",
        ours_serves: true,
        example: || plain("max-age=60, proxy-revalidate"),
        applies: |it| it.shared && it.came_with("proxy-revalidate"),
    },
    Difference {
        name: "Set-Cookie does not end the reuse of a response that says it is fresh (§7.3).",
        ours_serves: true,
        example: || also(plain("max-age=60"), |it| it.came.push(("set-cookie", "a=b".into()))),
        applies: |it| it.shared && it.came.iter().any(|(name, _)| *name == "set-cookie"),
    },
    Difference {
        name: "A qualified no-cache or private means the fields it names, which are not stored (§5.2.2.4).",
        ours_serves: true,
        example: || plain("max-age=60, no-cache=\"set-cookie\""),
        applies: |it| it.came_with("no-cache=\"") || it.came_with("private=\""),
    },
    Difference {
        name: "must-understand puts no-store out of force for a status that is understood (§5.2.2.3).",
        ours_serves: true,
        example: || plain("max-age=60, must-understand, no-store"),
        applies: |it| it.came_with("must-understand") && it.came_with("no-store"),
    },
    Difference {
        name: "Pragma counts only in requests without Cache-Control (§5.4).",
        ours_serves: true,
        example: || {
            also(plain("max-age=60"), |it| {
                it.next = vec![("pragma", "no-cache".into()), ("cache-control", "max-age=30".into())];
            })
        },
        applies: |it| it.next.iter().any(|(name, _)| *name == "pragma") && it.asks(""),
    },
    Difference {
        name: "max-stale=N allows N seconds, the last one included (§5.2.1.2).",
        ours_serves: true,
        example: || {
            also(plain("max-age=10"), |it| {
                it.next = vec![("cache-control", "max-stale=5".into())];
                it.later = 15;
            })
        },
        applies: |it| it.asks("max-stale="),
    },
    Difference {
        name: "Vary compares combined lines and, for weighted lists, members without order and case (§4.1).",
        ours_serves: true,
        example: || {
            also(plain("max-age=60"), |it| {
                it.came.push(("vary", "accept-language".into()));
                it.asked = vec![("accept-language", "en, de".into())];
                it.next = vec![("accept-language", "DE, en".into())];
            })
        },
        applies: |it| it.came.iter().any(|(name, _)| *name == "vary"),
    },
    Difference {
        name: "private allows a private cache to store any final status (§3, last condition).",
        ours_serves: true,
        example: || {
            also(plain("private, public"), |it| {
                it.shared = false;
                it.status = 503;
                it.came.push(("last-modified", date(-1000)));
            })
        },
        applies: |it| !it.shared && it.came_with("private"),
    },
    Difference {
        name: "A Date in the past makes a response older (apparent_age, §4.2.3).",
        ours_serves: false,
        example: || also(plain("max-age=60"), |it| it.came.push(("date", date(-100)))),
        applies: |it| it.came.iter().any(|(name, _)| *name == "date"),
    },
    Difference {
        name: "max-stale does not lift no-cache, proxy-revalidate or s-maxage (§4.2.4).",
        ours_serves: false,
        example: || also(plain("no-cache, max-age=60"), |it| it.next = vec![("cache-control", "max-stale".into())]),
        applies: |it| {
            it.asks("max-stale")
                && (it.came_with("no-cache")
                    || (it.shared && (it.came_with("proxy-revalidate") || it.came_with("s-maxage"))))
        },
    },
    Difference {
        name: "Directives are read without case (§5.2).",
        ours_serves: false,
        example: || plain("max-age=60, No-Store"),
        applies: |it| {
            [&it.asked, &it.came, &it.next].iter().any(|lines| {
                lines.iter().any(|(name, value)| *name == "cache-control" && value.contains(char::is_uppercase))
            })
        },
    },
    Difference {
        name: "Lifetimes that contradict each other are stale at once (§4.2.1).",
        ours_serves: false,
        example: || plain("max-age=60, max-age=30"),
        applies: |it| it.came.iter().any(|(_, value)| value.matches("max-age=").count() > 1),
    },
    Difference {
        name: "Contradictory directives are stale, not must-revalidate: a client may accept it (§5.2.1.2).",
        ours_serves: true,
        example: || {
            also(plain("max-age=x, max-age=60"), |it| {
                it.came.push(("etag", "\"a\"".into()));
                it.next = vec![("cache-control", "max-stale".into())];
            })
        },
        applies: |it| {
            let twice = |value: &str| value.matches("max-age").count() > 1 || value.matches("s-maxage").count() > 1;
            it.asks("max-stale") && it.came.iter().any(|(_, value)| twice(value))
        },
    },
    Difference {
        name: "A max-age or min-fresh of the request that cannot be read asks for the strictest (conservative).",
        ours_serves: false,
        example: || also(plain("max-age=60"), |it| it.next = vec![("cache-control", "max-age=soon".into())]),
        applies: |it| it.asks("=soon"),
    },
    Difference {
        name: "s-maxage without a value is stale, not absent (§4.2.1, invalid freshness).",
        ours_serves: false,
        example: || plain("s-maxage, max-age=60"),
        applies: |it| it.shared && it.came.iter().any(|(_, value)| value.split(", ").any(|word| word == "s-maxage")),
    },
    Difference {
        name: "What is stale from birth, without validator and window, is not stored, not even for max-stale.",
        ours_serves: false,
        example: || also(plain("max-age=0"), |it| it.next = vec![("cache-control", "max-stale".into())]),
        applies: |it| it.asks("max-stale"),
    },
    Difference {
        name: "immutable says nothing of a lifetime; without one there is none (RFC 8246 §2).",
        ours_serves: false,
        example: || plain("immutable"),
        applies: |it| it.came_with("immutable"),
    },
];

fn lines(all: &'static [(&'static str, &'static str)], most: usize) -> impl Strategy<Value = Lines> {
    prop::collection::vec(prop::sample::select(all), 0..most)
        .prop_map(|lines| lines.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let asked = lines(&[("authorization", "x"), ("cache-control", "no-store"), ("accept-language", "en, de")], 2);
    let control = prop::collection::vec(
        prop::sample::select(
            &[
                "max-age=60",
                "max-age=5",
                "s-maxage=30",
                "s-maxage",
                "no-cache",
                "no-store",
                "No-Store",
                "private",
                "public",
                "must-revalidate",
                "proxy-revalidate",
                "must-understand",
                "no-cache=\"set-cookie\"",
                "foo",
                "max-age=x",
            ][..],
        ),
        0..4,
    );
    let came =
        lines(&[("set-cookie", "a=b"), ("etag", "\"a\""), ("vary", "accept-language"), ("vary", "*"), ("age", "3")], 3);
    let dates = (prop::option::of(0_i64..30), prop::option::of(-9_i64..60), prop::option::of(1_i64..90));
    let next = lines(
        &[
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=4"),
            ("cache-control", "min-fresh=9"),
            ("cache-control", "max-stale"),
            ("cache-control", "max-stale=9"),
            ("cache-control", "max-age=soon"),
            ("pragma", "no-cache"),
            ("accept-language", "en, de"),
            ("accept-language", "de, EN"),
            ("authorization", "y"),
        ],
        3,
    );
    let status = prop::sample::select(&[200_u16, 200, 200, 301, 302, 404, 299, 503][..]);
    (any::<bool>(), asked, status, control, came, dates, next, 0_u64..90).prop_map(
        |(shared, asked, status, control, mut came, (dated, expires, modified), next, later)| {
            came.push(("cache-control", control.join(", ")));
            came.extend(dated.map(|before| ("date", date(-before))));
            came.extend(expires.map(|at| ("expires", date(at))));
            came.extend(modified.map(|before| ("last-modified", date(-before * 10))));
            Exchange { shared, asked, status, came, next, later }
        },
    )
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn every_difference_is_a_listed_one(exchange in exchange()) {
        let (ours, theirs) = (exchange.ours(), exchange.theirs());
        if ours != theirs {
            let listed = DIFFERENCES.iter().any(|known| known.ours_serves == ours && (known.applies)(&exchange));
            prop_assert!(listed, "ours: {ours}, theirs: {theirs}");
        }
    }
}

#[test]
fn every_listed_difference_is_one() {
    for Difference { name, ours_serves, example, applies } in DIFFERENCES {
        let exchange = example();
        assert_eq!((exchange.ours(), exchange.theirs()), (*ours_serves, !ours_serves), "{name}");
        assert!(applies(&exchange), "{name}");
    }
}
