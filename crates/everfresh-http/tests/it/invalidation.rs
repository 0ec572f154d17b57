//! RFC 9111 §4.4: what an unsafe request makes unservable.

use everfresh_http::rfc9111::invalidated_by;

use crate::world::{Fields, request, response};

fn gone(method: &str, uri: &str, asked: Fields<'_>, status: u16, with: Fields<'_>) -> Vec<String> {
    invalidated_by(&request(method, uri, asked), &response(status, with)).iter().map(ToString::to_string).collect()
}

#[test]
fn only_unsafe_methods_that_succeed_invalidate() {
    let uri = "https://example.com/a";
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO"] {
        for status in [200, 201, 204, 301, 303, 304, 399] {
            assert_eq!(gone(method, uri, &[], status, &[]), [uri], "{method} {status}");
        }
        for status in [103, 400, 404, 409, 500, 503] {
            assert!(gone(method, uri, &[], status, &[("location", "/b")]).is_empty(), "{method} {status}");
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
        assert!(gone(method, uri, &[], 200, &[("location", "/b")]).is_empty(), "{method}");
    }
}

#[test]
fn location_and_content_location_are_resolved_against_the_target_within_its_origin() {
    let target = "https://example.com/a/b/c?q=1";
    for (reference, expected) in [
        ("/x", Some("https://example.com/x")),
        ("/x?y=1#z", Some("https://example.com/x?y=1")),
        ("x", Some("https://example.com/a/b/x")),
        ("./x", Some("https://example.com/a/b/x")),
        ("../x", Some("https://example.com/a/x")),
        ("../../../../x", Some("https://example.com/x")),
        ("..", Some("https://example.com/a/")),
        (".", Some("https://example.com/a/b/")),
        ("?r=2", Some("https://example.com/a/b/c?r=2")),
        ("x?p=../y", Some("https://example.com/a/b/x?p=../y")),
        ("https://example.com/x", Some("https://example.com/x")),
        ("HTTPS://EXAMPLE.COM:443/x", Some("https://example.com/x")),
        ("https://example.com", Some("https://example.com/")),
        ("https://example.com?y", Some("https://example.com/?y")),
        ("//example.com/x", Some("https://example.com/x")),
        // Its own target, said again.
        ("", None),
        (target, None),
        ("#top", None),
        // Another origin: its cache entries are not ours to strike.
        ("http://example.com/x", None),
        ("https://example.com:8443/x", None),
        ("https://example.net/x", None),
        ("https://sub.example.com/x", None),
        ("https://example.com@evil.net/x", None),
        ("//example.net/x", None),
        // What cannot be read names nothing.
        ("https://[/x", None),
        ("/x y", None),
        ("/caf\u{e9}", None),
    ] {
        for field in ["location", "content-location"] {
            let found = gone("POST", target, &[], 200, &[(field, reference)]);
            let mut all = vec![target];
            all.extend(expected);
            assert_eq!(found, all, "{field}: {reference}");
        }
    }
    let both = gone("PUT", target, &[], 201, &[("location", "/x"), ("content-location", "/y")]);
    assert_eq!(both, [target, "https://example.com/x", "https://example.com/y"]);
    assert_eq!(gone("PUT", target, &[], 201, &[("location", "/x"), ("location", "/y")]), [target], "two name nothing");
}

#[test]
fn a_server_knows_its_origin_from_host() {
    let host: Fields<'_> = &[("host", "example.com")];
    for (reference, expected) in [
        ("/x", Some("/x")),
        ("x", Some("/a/x")),
        ("https://example.com/x", Some("/x")),
        ("http://EXAMPLE.com/x", Some("/x")),
        ("https://example.net/x", None),
        ("https://example.com:8443/x", None),
    ] {
        let found = gone("DELETE", "/a/b", host, 204, &[("location", reference)]);
        let mut all = vec!["/a/b"];
        all.extend(expected);
        assert_eq!(found, all, "{reference}");
    }
    assert_eq!(gone("DELETE", "/a/b", &[], 204, &[("location", "https://example.com/x")]), ["/a/b"], "no origin known");
}
