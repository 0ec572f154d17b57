//! RFC 9875: responses that are forgotten together.

use everfresh_http::rfc9111::{Rules, groups, invalidated_groups};

use crate::world::{Fields, fields, request, response, stored};

fn read(with: Fields<'_>) -> Vec<String> {
    groups(&fields(with)).iter().map(ToString::to_string).collect()
}

#[test]
fn groups_are_a_list_of_strings() {
    let field = "cache-groups";
    assert_eq!(read(&[(field, "\"a\", \"b c\";p=1")]), ["a", "b c"]);
    assert_eq!(read(&[(field, "\"a\""), (field, "\"B\"")]), ["a", "B"]);
    assert_eq!(read(&[(field, "\"\\\"\\\\\"")]), ["\"\\"]);
    for void in ["", "a", "\"a\", b", "\"a\" \"b\"", "\"a", "(\"a\")", "1", "\"caf\u{e9}\""] {
        assert!(read(&[(field, void)]).is_empty(), "{void}");
    }
    let many = (0..1000).map(|at| format!("\"{at:032}\"")).collect::<Vec<_>>().join(",");
    assert_eq!(read(&[(field, &many)]).len(), 128);
    let meta = stored(&Rules::shared(), &[("cache-control", "max-age=60"), (field, "\"a\"")]);
    assert_eq!(meta.groups(), ["a".into()]);
}

#[test]
fn groups_are_invalidated_by_what_invalidates_its_target() {
    let with: Fields<'_> = &[("cache-group-invalidation", "\"a\", \"b\""), ("cache-groups", "\"c\"")];
    let gone =
        |method, status| invalidated_groups(&request(method, "https://example.com/a", &[]), &response(status, with));
    assert_eq!(gone("POST", 200), ["a".into(), "b".into()]);
    assert_eq!(gone("POST", 303).len(), 2);
    assert!(gone("GET", 200).is_empty() && gone("POST", 500).is_empty());
}
