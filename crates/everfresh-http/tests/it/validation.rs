//! RFC 9111 §4.3.1: the request that asks whether what is stored still holds.

use everfresh_http::rfc9111::{Meta, Rules, conditional, refreshing, strip_conditions};

use crate::world::{Fields, date, fields, get, request, response, store, stored};

fn variant(selecting: &str, with: Fields<'_>) -> Meta {
    let mut all = vec![("cache-control", "max-age=60"), ("vary", "foo")];
    all.extend(with);
    store(&Rules::shared(), &get(&[("foo", selecting)]), &response(200, &all)).expect("stored")
}

#[test]
fn the_validators_of_what_is_stored_take_the_place_of_the_clients() {
    let modified = date(-1000);
    let meta =
        stored(&Rules::shared(), &[("cache-control", "max-age=60"), ("etag", "W/\"a\""), ("last-modified", &modified)]);
    let asked = get(&[
        ("accept", "*/*"),
        ("if-none-match", "\"b\""),
        ("if-modified-since", "x"),
        ("range", "bytes=0-1"),
        ("if-range", "\"b\""),
    ]);
    let sent = conditional(&asked, &[&meta]).expect("validators");
    let expected = fields(&[("accept", "*/*"), ("if-none-match", "W/\"a\""), ("if-modified-since", &modified)]);
    assert_eq!(sent, expected);
}

#[test]
fn all_variants_tags_are_offered_but_only_the_selected_ones_date() {
    let (old, new) = (date(-2000), date(-1000));
    let selected = variant("1", &[("etag", "\"one\""), ("last-modified", &old)]);
    let other = variant("2", &[("etag", "\"two\""), ("last-modified", &new)]);
    let same = variant("3", &[("etag", "\"two\"")]);
    let sent = conditional(&get(&[("foo", "1")]), &[&selected, &other, &same]).expect("validators");
    assert_eq!(sent["if-none-match"], "\"one\", \"two\"");
    assert_eq!(sent["if-modified-since"], old.as_str());
    // None is selected: tags only.
    let sent = conditional(&get(&[("foo", "9")]), &[&selected, &other]).expect("validators");
    assert_eq!((sent["if-none-match"].to_str().ok(), sent.get("if-modified-since")), (Some("\"one\", \"two\""), None));
}

#[test]
fn of_other_variants_only_tags_are_offered_that_are_theirs_alone() {
    let selected = variant("1", &[("etag", "W/\"one\"")]);
    let weak = variant("2", &[("etag", "W/\"two\"")]);
    let coded = variant("3", &[("etag", "\"three\""), ("content-encoding", "br")]);
    let sent = conditional(&get(&[("foo", "1")]), &[&selected, &weak, &coded]).expect("validators");
    assert_eq!(sent["if-none-match"], "W/\"one\"");
    let sent = conditional(&get(&[("foo", "3")]), &[&coded, &selected, &weak]).expect("validators");
    assert_eq!(sent["if-none-match"], "\"three\"");
    assert!(conditional(&get(&[("foo", "9")]), &[&selected, &weak, &coded]).is_none());
}

#[test]
fn without_a_validator_there_is_nothing_to_ask() {
    let rules = Rules::shared();
    let plain = stored(&rules, &[("cache-control", "max-age=60")]);
    assert!(conditional(&get(&[("if-none-match", "\"b\"")]), &[&plain]).is_none());
    assert!(conditional(&get(&[]), &[]).is_none());
    for void in ["a", "\"a", "\"a\"b\"", "w/\"a\"", "\"a\" ", "\"a b\""] {
        let meta = stored(&rules, &[("cache-control", "max-age=60"), ("etag", void)]);
        assert!(!meta.has_validator(), "{void}");
    }
    let twice = stored(&rules, &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("etag", "\"b\"")]);
    assert!(!twice.has_validator());
}

#[test]
fn a_part_or_a_head_is_not_offered_for_a_whole() {
    let rules = Rules::shared();
    let part = response(206, &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("content-range", "bytes 0-1/9")]);
    let part = store(&rules, &get(&[("range", "bytes=0-1")]), &part).expect("stored");
    assert!(conditional(&get(&[]), &[&part]).is_none());
    let uri = "https://example.com/a";
    let head = response(200, &[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    let head = store(&rules, &request("HEAD", uri, &[]), &head).expect("stored");
    assert!(conditional(&request("GET", uri, &[]), &[&head]).is_none());
    assert!(conditional(&request("HEAD", uri, &[]), &[&head]).is_some());
}

#[test]
fn a_refresh_carries_what_vary_nominated_and_nothing_else() {
    let asked =
        get(&[("foo", "1"), ("foo", "2"), ("authorization", "secret"), ("cookie", "a=b"), ("range", "bytes=0-")]);
    let came = response(200, &[("cache-control", "public, max-age=60"), ("vary", "foo, range"), ("etag", "\"a\"")]);
    let meta = store(&Rules::shared(), &asked, &came).expect("stored");
    assert_eq!(refreshing(&meta), fields(&[("foo", "1"), ("foo", "2"), ("if-none-match", "\"a\"")]));
}

#[test]
fn a_thousand_variants_do_not_make_a_thousand_tags() {
    let tags: Vec<_> = (0..1000).map(|at| format!("\"{at}\"")).collect();
    let all: Vec<_> = tags.iter().map(|tag| variant("1", &[("etag", tag)])).collect();
    let all: Vec<_> = all.iter().collect();
    let sent = conditional(&get(&[]), &all).expect("validators");
    assert_eq!(sent["if-none-match"].to_str().expect("text").split(", ").count(), 32);
}

#[test]
fn conditions_can_be_taken_out() {
    let mut headers = fields(&[
        ("if-match", "x"),
        ("if-none-match", "x"),
        ("if-modified-since", "x"),
        ("if-unmodified-since", "x"),
        ("if-range", "x"),
        ("range", "x"),
        ("accept", "x"),
    ]);
    strip_conditions(&mut headers);
    assert_eq!(headers, fields(&[("accept", "x")]));
}
