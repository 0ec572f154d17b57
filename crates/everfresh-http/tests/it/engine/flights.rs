//! One flight per URI and variant, and what those who wait get.

use std::sync::atomic::Ordering;
use std::time::Duration;

use everfresh_http::Outcome;
use http_body_util::BodyExt;

use super::kit::{Origin, Pipe, World, once, read, settle, shared, text, until, whole};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn a_thousand_requests_of_a_cold_url_are_one_to_the_origin() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.origin.hold();
    let all: Vec<_> = (0..1000).map(|_| world.spawn_get("/a", &[])).collect();
    until(|| world.cache.stats().waited == 999).await;
    world.origin.let_through(1);
    let mut outcomes = Vec::new();
    for got in all {
        let got = got.await.expect("an answer");
        assert_eq!(got.body, "0");
        outcomes.push(got.outcome());
    }
    assert_eq!(world.origin.count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Miss).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Coalesced).count(), 999);
    assert_eq!(world.cache.stats().in_flight, 0, "nothing is left of the flight");
}

#[tokio::test]
async fn who_joins_in_the_middle_of_a_body_reads_all_of_it() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let world = World::new(shared(), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    pipe.send("first ");
    let mut leader = world.ask("GET", "/a", &[]).await.expect("a head").into_body();
    let piece = leader.frame().await.expect("a frame").expect("fine").into_data().expect("data");
    assert_eq!(piece, "first ", "the first client reads while it fills the store");
    let joiner = world.ask("GET", "/a", &[]).await.expect("a head");
    assert_eq!(joiner.extensions().get::<everfresh_http::CacheAnswer>().expect("told").outcome, Outcome::Coalesced);
    let mut body = joiner.into_body();
    let same = body.frame().await.expect("a frame").expect("fine").into_data().expect("data");
    assert_eq!(same.as_ptr(), piece.as_ptr(), "the same bytes");
    pipe.send("last");
    drop(pipe);
    assert_eq!(body.collect().await.expect("whole").to_bytes(), "last");
    assert_eq!(leader.collect().await.expect("whole").to_bytes(), "last");
    assert_eq!((world.get("/a").await.brief().as_str(), world.origin.count()), ("hit first last", 1));
}

#[tokio::test]
async fn a_reader_who_stands_still_holds_nobody_up() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let world = World::new(shared().read_ahead(4), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    let _slow = world.ask("GET", "/a", &[]).await.expect("a head").into_body();
    let fast = world.ask("GET", "/a", &[]).await.expect("a head").into_body();
    for _ in 0..100 {
        pipe.send("0123456789");
    }
    drop(pipe);
    assert_eq!(fast.collect().await.expect("whole").to_bytes().len(), 1000);
}

#[tokio::test]
async fn a_leader_who_goes_away_ends_nothing_that_others_wait_for() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.origin.hold();
    let leader = world.spawn_get("/a", &[]);
    world.asked(1).await;
    let waiter = world.spawn_get("/a", &[]);
    until(|| world.cache.stats().waited == 1).await;
    leader.abort();
    settle().await;
    world.origin.let_through(1);
    assert_eq!(waiter.await.expect("an answer").brief(), "coalesced 0");
    assert_eq!((world.origin.count(), world.origin.dropped.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn a_body_that_its_client_left_still_fills_the_store() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let world = World::new(shared(), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    drop(world.ask("GET", "/a", &[]).await.expect("a head"));
    pipe.send("whole");
    drop(pipe);
    until(|| world.cache.stats().pages == 1).await;
    assert_eq!(world.get("/a").await.brief(), "hit whole");
}

#[tokio::test]
async fn a_body_that_nobody_reads_and_that_stands_still_is_given_up() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let world = World::new(shared(), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    drop(world.ask("GET", "/a", &[]).await.expect("a head"));
    pipe.send("part");
    settle().await;
    world.advance(31);
    until(|| world.cache.stats().in_flight == 0).await;
    until(|| !pipe.send("more")).await;
    assert_eq!(world.cache.stats().pages, 0);
}

#[tokio::test]
async fn what_cannot_be_stored_releases_all_who_wait_at_once_and_is_remembered() {
    let world = World::new(shared(), Origin::counting(&[("cache-control", "no-store")]));
    world.origin.hold();
    let all: Vec<_> = (0..10).map(|_| world.spawn_get("/a", &[])).collect();
    until(|| world.cache.stats().waited == 9).await;
    world.origin.let_through(1);
    // Nine of them ask at the same time, not one after the other.
    world.asked(10).await;
    world.origin.let_through(9);
    let mut bodies = Vec::new();
    for got in all {
        let got = got.await.expect("an answer");
        assert_eq!(got.outcome().name(), "uncacheable");
        bodies.push(got.body);
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 10, "nobody got another's response");
    // Hit-for-miss: from now on nobody waits.
    let waited = world.cache.stats().waited;
    let all: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[])).collect();
    world.asked(15).await;
    world.origin.let_through(5);
    for got in all {
        got.await.expect("an answer");
    }
    assert_eq!(world.cache.stats().waited, waited);
    world.advance(121);
    let one = world.spawn_get("/a", &[]);
    world.asked(16).await;
    let two = world.spawn_get("/a", &[]);
    until(|| world.cache.stats().waited == waited + 1).await;
    world.origin.let_through(2);
    one.await.expect("an answer");
    two.await.expect("an answer");
}

#[tokio::test]
async fn what_one_request_asked_in_its_own_way_sets_no_wave_apart() {
    for (method, field, status) in
        [("GET", ("range", "bytes=99-"), 416), ("HEAD", ("accept", "*/*"), 405), ("HEAD", ("accept", "*/*"), 501)]
    {
        let origin = Origin::new(move |count, asked| {
            let own = asked.headers.contains_key("range") || asked.method == "HEAD";
            Ok(if own { text(status, &[], "") } else { text(200, MINUTE, &count.to_string()) })
        });
        let world = World::new(shared(), origin);
        let own = world.ask(method, "/a", &[field]).await.expect("a response");
        assert_eq!(own.status().as_u16(), status);
        world.origin.hold();
        let all: Vec<_> = (0..20).map(|_| world.spawn_get("/a", &[])).collect();
        settle().await;
        world.origin.let_through(99);
        for got in all {
            assert_eq!(got.await.expect("an answer").body, "1", "{method} {status}");
        }
    }
}

#[tokio::test]
async fn what_may_not_be_shared_is_known_by_any_method_and_status_that_speak_of_all() {
    for (method, status) in [("HEAD", 200), ("GET", 405)] {
        let world =
            World::new(shared(), Origin::new(move |_, _| Ok(text(status, &[("cache-control", "no-store")], ""))));
        world.ask(method, "/a", &[]).await.expect("a response");
        world.origin.hold();
        let all: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[])).collect();
        settle().await;
        assert_eq!((world.origin.count(), world.cache.stats().waited), (6, 0), "{method} {status}");
        world.origin.let_through(5);
        for got in all {
            got.await.expect("an answer");
        }
    }
}

#[tokio::test]
async fn an_uncacheable_url_that_becomes_cacheable_is_stored_although_all_who_ask_have_it() {
    let origin = Origin::new(|count, asked| {
        let own = asked.headers.contains_key("if-none-match");
        let control = ("cache-control", if count == 0 { "private" } else { "max-age=60" });
        Ok(text(if own { 304 } else { 200 }, &[control, ("etag", "\"1\"")], ""))
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    // One who polls with what he has: each 304 to him was one more reason to store nothing for the next two minutes.
    let polls = async || {
        world.advance(50);
        world.get_with("/a", &[("if-none-match", "\"1\"")]).await
    };
    for _ in 0..3 {
        assert_eq!(polls().await.status, 304);
    }
    let got = polls().await;
    assert_eq!((got.status, got.outcome()), (304, Outcome::Hit));
}

#[tokio::test]
async fn an_uncacheable_url_that_becomes_cacheable_is_shared_again() {
    let origin =
        Origin::new(|count, _| Ok(text(200, if count == 0 { &[("cache-control", "no-store")] } else { MINUTE }, "x")));
    let world = World::new(shared(), origin);
    for outcome in ["uncacheable", "miss", "hit"] {
        assert_eq!(world.get("/a").await.outcome().name(), outcome);
    }
}

#[tokio::test]
async fn all_who_wait_get_the_one_error() {
    let world = World::new(shared(), Origin::new(|_, _| Err("refused".to_owned())));
    world.origin.hold();
    let ask = |world: World| tokio::spawn(async move { world.ask("GET", "/a", &[]).await.map(|_| ()) });
    let all: Vec<_> = (0..10).map(|_| ask(world.clone())).collect();
    until(|| world.cache.stats().waited == 9).await;
    world.origin.let_through(1);
    for got in all {
        assert_eq!(got.await.expect("an end").expect_err("an error"), "refused");
    }
    assert_eq!(world.origin.count(), 1, "not one failure after the other");
}

#[tokio::test]
async fn a_fetch_that_panics_lets_somebody_else_lead() {
    let world = World::new(
        shared(),
        Origin::new(|count, _| if count == 0 { panic!("on purpose") } else { Ok(text(200, MINUTE, "fine")) }),
    );
    world.origin.hold();
    let leader = world.spawn_get("/a", &[]);
    world.asked(1).await;
    let waiter = world.spawn_get("/a", &[]);
    until(|| world.cache.stats().waited == 1).await;
    world.origin.let_through(2);
    assert!(leader.await.expect_err("a panic").is_panic());
    assert_eq!(waiter.await.expect("an answer").brief(), "miss fine");
}

#[tokio::test]
async fn variants_wait_for_their_own_flight_only() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("vary", "x-who")];
    let origin = Origin::new(move |_, asked| Ok(text(200, with, asked.headers["x-who"].to_str().expect("text"))));
    let world = World::new(shared(), origin);
    world.origin.hold();
    let ones: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[("x-who", "1")])).collect();
    let twos: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[("x-who", "2")])).collect();
    until(|| world.cache.stats().waited == 9).await;
    world.origin.let_through(1);
    world.asked(2).await;
    world.origin.let_through(1);
    for (want, all) in [("1", ones), ("2", twos)] {
        for got in all {
            assert_eq!(got.await.expect("an answer").body, want);
        }
    }
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_flight_that_hangs_does_not_pin_its_key() {
    let world = World::new(shared().join_timeout(Duration::from_secs(5)), Origin::counting(MINUTE));
    world.origin.hold();
    let _hung = world.spawn_get("/a", &[]);
    world.asked(1).await;
    world.advance(6);
    let second = world.spawn_get("/a", &[]);
    world.asked(2).await;
    world.origin.let_through(2);
    assert_eq!(second.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_body_that_outgrows_the_bound_goes_on_for_those_who_read_it() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let world = World::new(shared().max_body(15), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    pipe.send("0123456789");
    let leader = world.ask("GET", "/a", &[]).await.expect("a head");
    let joiner = world.ask("GET", "/a", &[]).await.expect("a head");
    let both = tokio::spawn(async move { (read(leader).await.body.len(), read(joiner).await.body.len()) });
    settle().await;
    pipe.send("0123456789");
    drop(pipe);
    // The second reader stood still meanwhile, and was not so far behind that it had to go.
    let (one, _) = both.await.unwrap_or((20, 0));
    assert_eq!((one, world.cache.stats().pages), (20, 0));
}

/// Two minutes after the last whole response, each of a wave waited for another's 304 before it asked itself.
#[tokio::test]
async fn nobody_waits_for_a_304_that_he_may_not_have_and_all_do_once_they_may() {
    let origin = Origin::new(|count, asked| {
        let control = if count < 15 { "no-cache" } else { "max-age=60" };
        let with: &[_] = &[("cache-control", control), ("etag", "\"1\"")];
        let known = asked.headers.contains_key("if-none-match");
        Ok(text(if known { 304 } else { 200 }, with, "page"))
    });
    let world = World::new(shared(), origin);
    for _ in 0..14 {
        world.get("/a").await;
        world.advance(10);
    }
    let wave = async |asks: usize| {
        let before = world.origin.count();
        world.origin.hold_again();
        let all: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[])).collect();
        settle().await;
        assert_eq!(world.origin.count() - before, asks);
        world.origin.let_through(100);
        for got in all {
            assert_eq!(got.await.expect("an answer").body, "page");
        }
    };
    wave(5).await;
    world.advance(70);
    wave(1).await;
}

#[tokio::test]
async fn a_stale_response_from_birth_is_not_shared_with_those_who_wait() {
    let with: &[_] = &[("cache-control", "max-age=0"), ("etag", "\"1\"")];
    let world = World::new(shared(), Origin::counting(with));
    world.origin.hold();
    let all: Vec<_> = (0..3).map(|_| world.spawn_get("/a", &[])).collect();
    until(|| world.cache.stats().waited == 2).await;
    world.origin.let_through(3);
    let mut bodies = Vec::new();
    for got in all {
        bodies.push(got.await.expect("an answer").body);
    }
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2"]);
}
