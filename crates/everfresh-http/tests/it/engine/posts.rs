//! RFC 9110 §9.3.3: what a POST brings that stands for its target.

use everfresh_http::Outcome;
use everfresh_http::rfc9111::Bypass;

use super::kit::{Got, Origin, World, read, settle, shared};

const OWN: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("content-location", "/a"), ("etag", "\"1\"")];

async fn post(world: &World, path: &str) -> Got {
    read(world.ask("POST", path, &[]).await.expect("a response")).await
}

#[tokio::test]
async fn a_post_that_says_what_it_is_answers_the_get_after_it() {
    let world = World::new(shared(), Origin::counting(OWN));
    assert_eq!(world.get("/a").await.brief(), "miss 0");
    let posted = post(&world, "/a").await;
    assert_eq!((posted.brief().as_str(), posted.outcome()), ("bypass 1", Outcome::Bypass(Bypass::Method)));
    assert!(posted.field("cache-status").contains("fwd=method; fwd-status=200; stored"), "{posted:?}");
    assert_eq!(world.get("/a").await.brief(), "hit 1");
    let head = read(world.ask("HEAD", "/a", &[]).await.expect("a response")).await;
    assert_eq!((head.outcome(), world.origin.count()), (Outcome::Hit, 2));
    // It answers no POST.
    assert_eq!(post(&world, "/a").await.body, "2");
    // And it is validated by a GET.
    world.advance(61);
    world.get("/a").await;
    assert_eq!(world.origin.last().method, http::Method::GET);
    assert_eq!(world.origin.last().headers["if-none-match"], "\"1\"");
}

#[tokio::test]
async fn a_post_without_a_lifetime_or_of_something_else_is_not_stored() {
    let other: [&'static [(&'static str, &'static str)]; 4] = [
        &[("cache-control", "max-age=60")],
        &[("content-location", "/a")],
        &[("cache-control", "max-age=60"), ("content-location", "/b")],
        &[("cache-control", "max-age=60, no-store"), ("content-location", "/a")],
    ];
    for with in other {
        let world = World::new(shared(), Origin::counting(with));
        assert_eq!(post(&world, "/a").await.body, "0");
        settle().await;
        assert_eq!((world.cache.stats().pages, world.cache.stats().in_flight), (0, 0), "{with:?}");
        assert_eq!(world.get("/a").await.body, "1", "{with:?}");
    }
}

#[tokio::test]
async fn a_purge_while_a_post_is_under_way_wins() {
    let world = World::new(shared(), Origin::counting(OWN));
    world.origin.hold();
    let own = world.clone();
    let posting = tokio::spawn(async move { post(&own, "/a").await });
    world.asked(1).await;
    world.cache.purge(&"https://example.com/a".parse().expect("a URI"));
    world.origin.let_through(2);
    assert_eq!(posting.await.expect("an answer").body, "0");
    settle().await;
    assert_eq!(world.get("/a").await.brief(), "miss 1");
}

#[tokio::test]
async fn a_post_that_fails_or_that_its_client_leaves_leaves_nothing_behind() {
    let world = World::new(shared(), Origin::new(|_, _| Err("refused".to_owned())));
    world.ask("POST", "/a", &[]).await.expect_err("refused");
    assert_eq!(world.cache.stats().in_flight, 0);
    world.origin.hold();
    let own = world.clone();
    let posting = tokio::spawn(async move { drop(own.ask("POST", "/a", &[]).await) });
    world.asked(2).await;
    assert_eq!(world.cache.stats().in_flight, 1);
    posting.abort();
    assert!(posting.await.is_err());
    assert_eq!(world.cache.stats().in_flight, 0);
}
