//! Purges: how many they concern, what becomes of what is stored, and what a wrong one is told.

use everfresh_proxy::config::RuleSettings;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::process::answer;
use crate::world::{Origin, PATIENCE, Running, TOKEN, before, body, config, get, ok, purge, raw, run, status};

/// An origin of two pages in a cache group and one with a surrogate key, each with the number of its request.
async fn shop() -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::new(move |request| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let tags = match request {
            _ if request.starts_with("GET /lamp") => "cache-groups: \"lamps\", \"all\"\r\n",
            _ if request.starts_with("GET /chair") => "surrogate-key: lamps chairs\r\n",
            _ => "",
        };
        let fields = format!("cache-control: max-age=60, stale-while-revalidate=60\r\n{tags}");
        ok(&fields, &format!("answer {number}"))
    })
    .await
}

async fn told(running: &Running, wish: Value) -> Value {
    let answer = purge(running.admin, TOKEN, &wish.to_string()).await;
    serde_json::from_str(body(&answer)).unwrap_or_else(|_| panic!("no JSON: {answer}"))
}

async fn stocked(origin: &Origin) -> Running {
    let running = run(config(origin.address)).await;
    for path in ["/lamp/1", "/lamp/2", "/chair", "/table"] {
        get(running.address, path, "").await;
    }
    assert_eq!(origin.saw().len(), 4);
    running
}

#[tokio::test]
async fn a_group_tells_how_many_it_concerned() {
    let origin = shop().await;
    let running = stocked(&origin).await;
    assert_eq!(told(&running, json!({ "group": "nobody" })).await, json!({ "purged": 0 }));
    assert_eq!(told(&running, json!({ "group": "amps" })).await, json!({ "purged": 0 }));
    assert_eq!(told(&running, json!({ "group": "chairs" })).await, json!({ "purged": 1 }));
    assert_eq!(told(&running, json!({ "group": "lamps" })).await, json!({ "purged": 2 }));
    let gone = [("/lamp/1", 5), ("/lamp/2", 6), ("/chair", 7), ("/table", 7)];
    for (path, asked) in gone {
        get(running.address, path, "").await;
        assert_eq!(origin.saw().len(), asked, "{path}");
    }
}

#[tokio::test]
async fn what_is_to_be_revalidated_has_been_when_the_purge_is_answered() {
    let origin = shop().await;
    let running = stocked(&origin).await;
    for (wish, concerned) in [
        (json!({ "group": "lamps", "mode": "revalidate" }), 3),
        (json!({ "prefix": "http://a.example/lamp/", "mode": "revalidate" }), 2),
        (json!({ "prefix": "http://A.example:80/lam", "mode": "revalidate" }), 2),
        (json!({ "prefix": "http://", "mode": "revalidate" }), 4),
        (json!({ "prefix": "https://", "mode": "revalidate" }), 4),
        (json!({ "prefix": "", "mode": "revalidate" }), 4),
        (json!({ "url": "http://A.example:80/table", "mode": "revalidate" }), 1),
        (json!({ "url": "http://a.example/nothing", "mode": "revalidate" }), 0),
    ] {
        let before = origin.saw().len();
        let done = told(&running, wish.clone()).await;
        assert_eq!(done, json!({ "purged": concerned, "revalidated": concerned }), "{wish}");
        assert_eq!(origin.saw().len(), before + concerned, "{wish}");
    }
    let before = origin.saw().len();
    assert_eq!(body(&get(running.address, "/table", "").await), format!("answer {}", before - 1));
    assert_eq!(origin.saw().len(), before, "what was renewed is fresh");
}

#[tokio::test]
async fn a_url_is_purged_with_the_parameters_that_its_rule_leaves_out() {
    let origin = shop().await;
    let mut config = config(origin.address);
    let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\nignore_query = [\"utm_*\"]";
    config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
    let running = run(config).await;
    for wish in [json!({ "mode": "hard" }), json!({ "mode": "soft" }), json!({ "mode": "revalidate" })] {
        get(running.address, "/p?utm_source=mail&a=1", "").await;
        let mut wish = wish;
        wish["url"] = json!("http://a.example/p?a=1&utm_source=page");
        assert_eq!(told(&running, wish.clone()).await["purged"], 1, "{wish}");
        wish["url"] = json!("http://a.example/p?a=2");
        assert_eq!(told(&running, wish.clone()).await["purged"], 0, "{wish}");
    }
}

#[tokio::test]
async fn a_wrong_purge_is_told_why_in_json() {
    let origin = shop().await;
    let running = stocked(&origin).await;
    for (token, wish, code, why) in [
        ("wrong", "{}", 401, "needs Authorization"),
        (TOKEN, "{}", 400, "name one of url, prefix and group"),
        (TOKEN, "{\"url\":\"x\"}", 400, "is no URL"),
        (TOKEN, "{\"prefix\":\"/lamp/\"}", 400, "begins no URL"),
        (TOKEN, "{\"prefix\":\"http://a.exam\"}", 400, "a slash after them"),
        (TOKEN, "{\"prefix\":\"http://a.example/lamp#1\"}", 400, "begins no URL"),
        (TOKEN, "{\"prefix\":\"ftp://a.example/\"}", 400, "is no URL"),
        (TOKEN, "{\"group\":\"x\",\"mode\":\"harder\"}", 400, "unknown variant"),
        (TOKEN, "purge it all", 400, "that is no purge"),
    ] {
        let answer = purge(running.admin, token, wish).await;
        assert_eq!(status(&answer), code, "{wish}");
        let said: Value = serde_json::from_str(body(&answer)).expect("JSON");
        assert!(said["error"].as_str().is_some_and(|said| said.contains(why)), "{wish}: {said}");
    }
    let mut config = config(origin.address);
    config.admin.token = None;
    let closed = run(config).await;
    let answer = purge(closed.admin, "", "{\"url\":\"http://a.example/table\"}").await;
    assert_eq!(status(&answer), 403);
    assert!(body(&answer).contains("EVERFRESH_TOKEN"), "{answer}");
}

#[tokio::test]
async fn a_purge_that_does_not_come_to_its_end_is_told_why() {
    let mut config = config(Origin::counting().await.address);
    config.timeouts.idle = everfresh_proxy::config::Span::millis(200);
    let running = run(config).await;
    for (rest, code) in [
        ("content-length: 100\r\n\r\n{\"url\"", 408),
        ("transfer-encoding: chunked\r\n\r\nno length\r\n", 400),
        (&format!("content-length: 70000\r\n\r\n{}", " ".repeat(70_000)), 413),
    ] {
        let head = format!("POST /purge HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n", running.admin);
        let answer = raw(running.admin, format!("{head}connection: close\r\n{rest}")).await;
        assert_eq!(status(&answer), code, "{answer}");
        assert!(body(&answer).starts_with("{\"error\":"), "{answer}");
    }
}

#[tokio::test]
async fn a_group_is_purged_whatever_host_stood_beside_a_target_in_absolute_form() {
    let origin = Origin::new(|_| ok("cache-control: max-age=60\r\ncache-groups: \"shop\"\r\n", "answer")).await;
    let running = before(&origin).await;
    let asking = "GET http://a.example/ HTTP/1.1\r\nhost: other.example\r\nconnection: close\r\n\r\n";
    for _ in 0..2 {
        raw(running.address, asking).await;
    }
    assert_eq!(origin.saw().len(), 1);
    assert_eq!(told(&running, json!({"group": "shop"})).await["purged"], 1);
    raw(running.address, asking).await;
    assert_eq!(origin.saw().len(), 2);
}

/// As clients have it where a balancer speaks TLS with them, and plain HTTP with this proxy.
#[tokio::test]
async fn a_url_is_purged_by_whichever_scheme_its_clients_have() {
    let origin = shop().await;
    let mut config = config(origin.address);
    config.origins[0].trust_forwarded = true;
    let running = run(config).await;
    for (forwarded, url) in [
        ("", "https://a.example/table"),
        ("x-forwarded-proto: https\r\n", "https://A.example:443/table"),
        ("x-forwarded-proto: https\r\n", "http://a.example/table"),
    ] {
        let before = origin.saw().len();
        get(running.address, "/table", forwarded).await;
        assert_eq!(told(&running, json!({ "url": url })).await, json!({ "purged": 1 }), "{url}");
        get(running.address, "/table", forwarded).await;
        let told = told(&running, json!({ "prefix": url })).await;
        assert_eq!((told, origin.saw().len()), (json!({ "purged": 1 }), before + 2), "{url}");
    }
}

#[tokio::test]
async fn a_purge_of_a_url_wins_over_what_is_on_its_way_under_a_longer_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    config
        .rules
        .push(RuleSettings { key_headers: vec!["accept-language".parse().expect("a name")], ..Default::default() });
    let running = run(config).await;
    for mode in ["hard", "soft"] {
        let asking = tokio::spawn(get(running.address, "/a", "accept-language: de\r\n"));
        let (mut asked, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        let wish = json!({ "url": "http://a.example/a", "mode": mode });
        assert_eq!(told(&running, wish).await, json!({ "purged": 0 }));
        answer(&mut asked, ok("cache-control: max-age=60\r\nconnection: close\r\n", "as it was")).await;
        assert_eq!(body(&asking.await.expect("answered")), "as it was");
    }
    let asking = tokio::spawn(get(running.address, "/a", "accept-language: de\r\n"));
    let (mut asked, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("asked anew");
    answer(&mut asked, ok("connection: close\r\n", "as it is")).await;
    assert_eq!(body(&asking.await.expect("answered")), "as it is");
}
