//! RFC 9111 §5.2: reading directives.

use everfresh_http::rfc9111::{RequestControl, ResponseControl};

use crate::world::{fields, secs};

fn answer(lines: &[&str]) -> ResponseControl {
    ResponseControl::parse(&fields(&lines.iter().map(|line| ("cache-control", *line)).collect::<Vec<_>>()))
}

#[test]
fn all_directives_of_a_response_are_read() {
    let all = answer(&[
        "public, no-cache, no-store, private, must-revalidate, proxy-revalidate, immutable",
        "max-age=1, s-maxage=\"2\", stale-while-revalidate=3, stale-if-error=4",
    ]);
    assert!(all.is_public() && all.no_cache() && all.no_store() && all.is_private());
    assert!(all.must_revalidate() && all.proxy_revalidate() && all.is_immutable());
    assert_eq!((all.max_age(), all.s_maxage()), (Some(secs(1)), Some(secs(2))));
    assert_eq!((all.stale_while_revalidate(), all.stale_if_error()), (Some(secs(3)), Some(secs(4))));
    assert_eq!(answer(&[]), ResponseControl::default());
    assert_eq!(
        answer(&["foo, bar=\"no-store, private\", baz=no-cache, xno-store, no-storex"]),
        ResponseControl::default()
    );
}

#[test]
fn a_directive_of_a_response_is_read_as_itself_alone() {
    let names = ["public", "no-cache", "no-store", "private", "must-revalidate", "proxy-revalidate", "immutable"];
    for (at, name) in names.into_iter().enumerate() {
        let one = answer(&[name]);
        let read = [
            one.is_public(),
            one.no_cache(),
            one.no_store(),
            one.is_private(),
            one.must_revalidate(),
            one.proxy_revalidate(),
            one.is_immutable(),
        ];
        let expected: Vec<_> = (0..names.len()).map(|other| other == at).collect();
        assert_eq!(read.to_vec(), expected, "{name}");
    }
    let names = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
    for (at, name) in names.into_iter().enumerate() {
        let one = answer(&[&format!("{name}=7")]);
        let read = [one.max_age(), one.s_maxage(), one.stale_while_revalidate(), one.stale_if_error()];
        let expected: Vec<_> = (0..names.len()).map(|other| (other == at).then(|| secs(7))).collect();
        assert_eq!(read.to_vec(), expected, "{name}");
    }
}

#[test]
fn an_unclosed_quote_hides_no_prohibition_and_gives_no_trust() {
    let torn = answer(&["foo=\"bar, no-store, private, max-age=3600"]);
    assert!(torn.no_store() && torn.is_private() && torn.no_cache());
    let later = answer(&["foo=\"bar", "must-revalidate, max-age=60"]);
    assert!(later.no_cache() && later.must_revalidate());
    assert!(answer(&["foo=\"a\\\", max-age=60"]).no_cache());
}

#[test]
fn requests_are_read_strictly() {
    let asked = |lines: &[&str]| {
        RequestControl::parse(&fields(&lines.iter().map(|line| ("cache-control", *line)).collect::<Vec<_>>()))
    };
    let all = asked(&["no-cache, No-Store", "only-if-cached, max-age=1, max-stale=2, min-fresh=3, stale-if-error=4"]);
    assert!(all.no_cache && all.no_store && all.only_if_cached);
    assert_eq!((all.max_age, all.max_stale), (Some(secs(1)), Some(secs(2))));
    assert_eq!((all.min_fresh, all.stale_if_error), (Some(secs(3)), Some(secs(4))));
    assert_eq!(asked(&["max-stale"]).max_stale, Some(std::time::Duration::MAX));
    assert_eq!(asked(&["max-stale, max-stale=5"]).max_stale, Some(secs(5)));
    assert_eq!(asked(&["max-stale="]).max_stale, Some(secs(0)));
    assert_eq!(asked(&["stale-if-error"]).stale_if_error, Some(secs(0)));
    assert!(asked(&["x=\"y, no-store"]).no_store);
    assert_eq!(asked(&["foo, bar=no-cache"]), RequestControl::default());
}
