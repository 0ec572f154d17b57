//! What two requests must have in common to have one answer, and what of it a sender can say.

use bytes::Bytes;
use everfresh_http::Outcome;
use http::{HeaderValue, Request, Uri};
use http_body_util::Empty;

use super::kit::{Got, Origin, World, read, shared, text};
use crate::world::Fields;

/// As a server sees it: the target as it is, the fields as they came.
async fn ask(world: &World, method: &str, target: &str, with: Fields<'_>) -> Got {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.parse().expect("a method");
    *request.uri_mut() = target.parse().expect("a target");
    for (name, value) in with {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        request.headers_mut().append(http::HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
    }
    read(world.cache.respond(request, world.origin.fetch()).await.expect("a response")).await
}

/// An origin that says what it was asked for.
fn mirror() -> World {
    let origin = Origin::new(|_, asked| {
        let hosts = asked.headers.get_all("host").iter();
        let hosts: Vec<_> = hosts.map(|host| host.as_bytes().escape_ascii().to_string()).collect();
        Ok(text(
            200,
            &[("cache-control", "max-age=60, stale-while-revalidate=60")],
            &format!("{} {hosts:?}", asked.uri),
        ))
    });
    World::new(shared(), origin)
}

#[tokio::test]
async fn no_host_that_a_client_makes_up_has_its_answer_stored_under_anothers_url() {
    let victims = [("//victim", "/foo/bar"), ("victim", "/foo/bar"), ("victim", "/page?q=/bar"), ("victim", "/bar")];
    let attacks: [(&str, Fields<'_>); 9] = [
        ("/bar", &[("host", "victim/foo")]),
        ("/bar", &[("host", "victim/page?q=")]),
        ("//victim/foo/bar", &[]),
        ("////victim/foo/bar", &[]),
        ("/bar", &[("host", "evil@victim")]),
        ("/bar", &[("host", "victim:80")]),
        ("/bar", &[("host", "evil"), ("host", "victim")]),
        ("/bar", &[("host", "victim"), ("host", "evil")]),
        ("/bar", &[("host", "victim\u{e9}")]),
    ];
    let world = mirror();
    for (target, with) in attacks {
        let got = ask(&world, "GET", target, with).await;
        assert_eq!(got.outcome(), Outcome::Miss, "{target} {with:?}: {}", got.body);
    }
    for (host, path) in &victims[1..] {
        let got = ask(&world, "GET", path, &[("host", host)]).await;
        assert_eq!(got.brief(), format!("miss {path} [\"{host}\"]"));
    }
    // Nor is the way of the escape itself open.
    ask(&world, "GET", "/x", &[("host", "a%2fb")]).await;
    assert_eq!(ask(&world, "GET", "/x", &[("host", "a/b")]).await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn a_url_without_a_path_is_that_of_the_root() {
    let world = mirror();
    assert_eq!(ask(&world, "GET", "http://a?q=1", &[]).await.outcome(), Outcome::Miss);
    assert_eq!(ask(&world, "GET", "http://a/?q=1", &[]).await.outcome(), Outcome::Hit);
    assert!(world.cache.purge(&"http://a?q=1".parse::<Uri>().expect("a URL")));
    assert_eq!(ask(&world, "GET", "/?q=1", &[("host", "a")]).await.outcome(), Outcome::Miss);
    assert!(world.cache.purge(&"http://a?q=1".parse::<Uri>().expect("a URL")));
    assert_eq!(ask(&world, "GET", "/?q=1", &[("host", "a")]).await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn a_host_field_of_its_own_is_another_resource_than_its_address() {
    let world = mirror();
    for host in ["one.example", "two.example"] {
        let got = ask(&world, "GET", "http://127.0.0.1:8080/", &[("host", host)]).await;
        assert_eq!(got.brief(), format!("miss http://127.0.0.1:8080/ [\"{host}\"]"));
    }
    assert_eq!(ask(&world, "GET", "http://127.0.0.1:8080/", &[]).await.outcome(), Outcome::Miss);
    // What says the same in other words is no other.
    for host in ["127.0.0.1:8080"] {
        let got = ask(&world, "GET", "http://127.0.0.1:8080/", &[("host", host)]).await;
        assert_eq!(got.outcome(), Outcome::Hit);
    }
    ask(&world, "GET", "http://a.example/", &[]).await;
    assert_eq!(ask(&world, "GET", "http://a.example/", &[("host", "A.example:80")]).await.outcome(), Outcome::Hit);
    // A refresh, by whomever it is wanted, asks for the same.
    world.advance(70);
    let one: Fields<'_> = &[("host", "one.example")];
    assert_eq!(ask(&world, "GET", "http://127.0.0.1:8080/", one).await.outcome(), Outcome::Stale);
    world.refreshed(1).await;
    assert_eq!(
        ask(&world, "GET", "http://127.0.0.1:8080/", one).await.brief(),
        "hit http://127.0.0.1:8080/ [\"one.example\"]"
    );
    world.cache.revalidate_prefix("http://127.0.0.1:8080/", world.origin.fetch()).await;
    for host in ["one.example", "two.example"] {
        let got = ask(&world, "GET", "http://127.0.0.1:8080/", &[("host", host)]).await;
        assert_eq!(got.brief(), format!("hit http://127.0.0.1:8080/ [\"{host}\"]"));
    }
    // A write to one concerns that one alone.
    ask(&world, "POST", "http://127.0.0.1:8080/", one).await;
    assert_eq!(ask(&world, "GET", "http://127.0.0.1:8080/", one).await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn a_write_is_heeded_in_whatever_form_its_target_came() {
    // HTTP/1.1 gives a server a path and a Host, HTTP/2 a whole URL.
    let host: Fields<'_> = &[("host", "a.example")];
    let forms: [(&str, Fields<'_>); 3] = [("/p", host), ("https://a.example/p", &[]), ("http://a.example/p", &[])];
    for (read, with) in forms {
        for (written, by) in forms {
            if written.starts_with("http") && read.starts_with("http") && written != read {
                continue;
            }
            let world = mirror();
            ask(&world, "GET", read, with).await;
            assert_eq!(ask(&world, "GET", read, with).await.outcome(), Outcome::Hit);
            ask(&world, "POST", written, by).await;
            assert_eq!(ask(&world, "GET", read, with).await.outcome(), Outcome::Miss, "{read} after {written}");
        }
    }
}

#[tokio::test]
async fn a_purge_of_a_url_reaches_what_a_server_was_asked_for_by_path_and_host() {
    let host: Fields<'_> = &[("host", "a.example")];
    let uri: Uri = "http://a.example/p".parse().expect("a URI");
    let world = mirror();
    ask(&world, "GET", "/p", host).await;
    assert_eq!(world.cache.inspect(&uri).map(|report| report.key).as_deref(), Some("//a.example/p"));
    assert_eq!(world.cache.revalidate(&uri, world.origin.fetch()).await.len(), 1);
    assert!(world.cache.expire(&uri));
    assert_eq!(ask(&world, "GET", "/p", host).await.outcome(), Outcome::Stale);
    assert!(world.cache.purge(&uri));
    assert_eq!(ask(&world, "GET", "/p", host).await.outcome(), Outcome::Miss);
}

/// RFC 9110 §4.2.3: without a port is with the usual one.
#[tokio::test]
async fn a_write_or_a_purge_reaches_what_was_asked_for_with_the_usual_port_and_without() {
    for (hosts, scheme) in [(["a.example", "A.example:80"], "http"), (["a.example", "a.example:443"], "https")] {
        let url = format!("{scheme}://a.example/p");
        for read in hosts {
            let with: Fields<'_> = &[("host", read)];
            for written in hosts {
                let world = mirror();
                ask(&world, "GET", "/p", with).await;
                ask(&world, "POST", "/p", &[("host", written)]).await;
                let got = ask(&world, "GET", "/p", with).await;
                assert_eq!(got.outcome(), Outcome::Miss, "{read} after {written}");
                ask(&world, "POST", &url, &[]).await;
                assert_eq!(ask(&world, "GET", "/p", with).await.outcome(), Outcome::Miss, "{read} after {url}");
                assert!(world.cache.purge(&url.parse().expect("a URI")), "{read}, {url}");
                assert_eq!(ask(&world, "GET", "/p", with).await.outcome(), Outcome::Miss, "{read} purged by {url}");
            }
        }
    }
    // Another port is another resource.
    let world = mirror();
    ask(&world, "GET", "/p", &[("host", "a.example:8080")]).await;
    ask(&world, "POST", "/p", &[("host", "a.example")]).await;
    assert_eq!(ask(&world, "GET", "/p", &[("host", "a.example:8080")]).await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn the_cache_group_of_a_host_of_its_own_is_found_by_its_name() {
    let origin = Origin::counting(&[("cache-control", "max-age=60"), ("cache-groups", "\"the shop\"")]);
    let world = World::new(shared(), origin);
    ask(&world, "GET", "http://127.0.0.1:8080/", &[("host", "one.example")]).await;
    assert_eq!(world.cache.keys_in_group("the shop"), ["http://127.0.0.1:8080/ one.example"]);
    assert!(world.cache.keys_in_group("shop").is_empty());
    assert!(world.cache.keys_in_group("one.example the shop").is_empty());
}

#[tokio::test]
async fn what_varies_by_host_is_asked_for_again_with_one() {
    let origin = Origin::counting(&[("cache-control", "max-age=60"), ("vary", "host")]);
    let world = World::new(everfresh_http::HttpCache::builder().private(), origin);
    for (target, host) in [("/p", "a.example"), ("http://127.0.0.1:8080/p", "a.example")] {
        ask(&world, "GET", target, &[("host", host)]).await;
        world.cache.revalidate_prefix("", world.origin.fetch()).await;
        let hosts: Vec<_> = world.origin.last().headers.get_all("host").iter().cloned().collect();
        assert_eq!(hosts, [host], "{target}");
        assert_eq!(ask(&world, "GET", target, &[("host", host)]).await.outcome(), Outcome::Hit, "{target}");
    }
}
