//! What an operator's rule puts into the key, or takes from a request, holds for refreshes and for writes, too.

use everfresh_proxy::config::{Config, RuleSettings};
use tokio::time::timeout;

use crate::world::{Origin, PATIENCE, Running, TOKEN, body, config, get, ok, purge, raw, run, status};

fn rules(text: &str) -> Vec<RuleSettings> {
    let text = format!("[[origin]]\nurl = \"http://x\"\n[[rule]]\n{text}");
    Config::parse("x".as_ref(), &text).expect("right").rules
}

/// An origin that says which of these fields it was asked with, and how often it was asked.
async fn telling(names: &'static [&'static str]) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::new(move |request| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Who asks is no matter of the key.
        let lower = request.to_ascii_lowercase().replace("for=127.0.0.1;", "");
        let told = lower.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        let mut told: Vec<_> = told.collect();
        told.sort_unstable();
        let told = told.join("; ");
        ok("cache-control: max-age=60, stale-while-revalidate=60\r\n", &format!("{told} #{number}"))
    })
    .await
}

/// What is served once what is stored has been renewed behind a reader's back.
async fn renewed(running: &Running, lines: &str) -> String {
    let first = body(&get(running.address, "/", lines).await).to_owned();
    let soft = "{\"url\":\"http://a.example/\",\"mode\":\"soft\"}";
    purge(running.admin, TOKEN, soft).await;
    let reading = async {
        loop {
            let got = body(&get(running.address, "/", lines).await).to_owned();
            if got != first {
                return (first, got);
            }
        }
    };
    let (first, second) = timeout(PATIENCE, reading).await.expect("renewed");
    let said = |text: &str| text.split(" #").next().unwrap_or_default().to_owned();
    assert_eq!(said(&second), said(&first), "{lines:?}");
    said(&second)
}

#[tokio::test]
async fn a_refresh_asks_with_the_fields_that_are_in_its_key() {
    let origin = telling(&["x-country"]).await;
    let mut config = config(origin.address);
    config.rules = rules("key_headers = [\"x-country\"]");
    let running = run(config).await;
    assert_eq!(renewed(&running, "x-country: de\r\n").await, "x-country: de");
    assert_eq!(renewed(&running, "").await, "");
}

#[tokio::test]
async fn a_refresh_asks_for_the_host_and_scheme_that_a_trusted_proxy_told() {
    let origin = telling(&["x-forwarded-host", "x-forwarded-proto", "forwarded"]).await;
    let mut config = config(origin.address);
    config.origins[0].trust_forwarded = true;
    let running = run(config).await;
    let told = "x-forwarded-host: b.example\r\nx-forwarded-proto: https\r\n";
    for lines in [told, "forwarded: host=b.example;proto=https\r\n"] {
        let said = renewed(&running, lines).await;
        assert!(said.contains("b.example") && said.contains("https"), "{said}");
    }
}

#[tokio::test]
async fn who_may_not_reload_may_still_forbid_storing_and_ask_for_what_is_stored_alone() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.rules = rules("ignore_client_no_cache = true");
    let running = run(config).await;
    let only = get(running.address, "/", "cache-control: only-if-cached\r\n").await;
    assert!(only.starts_with("HTTP/1.1 504"), "{only}");
    assert_eq!(body(&get(running.address, "/", "cache-control: no-cache, no-store\r\n").await), "answer 0");
    assert_eq!(body(&get(running.address, "/", "").await), "answer 1", "what was not to be stored was not");
    for lines in ["cache-control: no-cache\r\n", "pragma: no-cache\r\n", "cache-control: max-age=0, min-fresh=99\r\n"] {
        assert_eq!(body(&get(running.address, "/", lines).await), "answer 1", "{lines}");
    }
}

#[tokio::test]
async fn a_write_reaches_what_it_names_with_whatever_is_in_its_key() {
    // Also where the write itself has no rule.
    for rule in ["key_headers = [\"x-country\"]", "path = \"/other\"\nkey_headers = [\"x-country\"]"] {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let origin = Origin::new(move |request| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let post = request.starts_with("POST");
            let fields = if post { "location: /other\r\n" } else { "cache-control: max-age=60\r\n" };
            ok(fields, &number.to_string())
        })
        .await;
        let mut config = config(origin.address);
        config.rules = rules(rule);
        let running = run(config).await;
        let de = "x-country: de\r\n";
        let first = get(running.address, "/other", de).await;
        assert_eq!(body(&first), body(&get(running.address, "/other", de).await));
        let write = "POST / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        raw(running.address, write).await;
        assert_ne!(body(&first), body(&get(running.address, "/other", de).await), "{rule}");
    }
}

#[tokio::test]
async fn a_rule_holds_for_an_answer_that_cdn_cache_control_governs() {
    let origin = Origin::new(|_| ok("vary: a, b\r\ncdn-cache-control: max-age=60\r\n", "answer")).await;
    let mut narrow = config(origin.address);
    narrow.rules = rules("max_vary = 1");
    let narrow = run(narrow).await;
    for _ in 0..2 {
        get(narrow.address, "/", "").await;
    }
    assert_eq!(origin.saw().len(), 2, "more fields than may be");
    let mut windowed = config(origin.address);
    windowed.rules = rules("stale_while_revalidate = \"5m\"\nstale_if_error = \"1h\"");
    let answer = get(run(windowed).await.address, "/", "").await.to_ascii_lowercase();
    for wanted in ["cdn-cache-control: stale-while-revalidate=300\r\n", "cdn-cache-control: stale-if-error=3600\r\n"] {
        assert!(answer.contains(wanted), "{answer}");
    }
    assert!(!answer.contains("\r\ncache-control:"), "{answer}");
}

#[tokio::test]
async fn a_window_of_a_rule_holds_for_an_answer_whose_lifetime_is_an_expires() {
    let origin = Origin::new(|_| {
        let fields = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nexpires: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
        ok(&format!("{fields}etag: \"1\"\r\n"), "answer")
    })
    .await;
    let mut config = config(origin.address);
    config.rules = rules("stale_while_revalidate = \"36500d\"");
    let running = run(config).await;
    get(running.address, "/", "").await;
    assert_eq!(body(&get(running.address, "/", "").await), "answer");
    assert_eq!(running.proxy.stats.outcome("stale"), 1);
}

/// A name with a dot at its end is the same one, written to its root: clients send it as their users write it.
#[tokio::test]
async fn a_host_with_a_dot_at_its_end_is_the_one_without() {
    let origin = Origin::counting().await;
    let hosts = "hosts = [\"a.example\", \"*.b.example\"]";
    let rule = "[[rule]]\nhosts = [\"x.b.example\"]\nbypass = true";
    let text = format!("[[origin]]\nurl = \"http://{}\"\n{hosts}\n{rule}", origin.address);
    let mut config = config(origin.address);
    let told = Config::parse("x".as_ref(), &text).expect("right");
    (config.origins, config.rules) = (told.origins, told.rules);
    config.origins[0].preserve_host = true;
    let running = run(config).await;
    let ask = async |host: &str| {
        raw(running.address, format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
    };
    assert_eq!(body(&ask("a.example").await), "answer 0");
    for host in ["a.example.", "A.Example.", "a.example.:80"] {
        assert_eq!(body(&ask(host).await), "answer 0", "{host}");
    }
    assert_eq!(body(&ask("x.b.example.").await), "answer 1", "its rule holds");
    assert_eq!(body(&ask("x.b.example").await), "answer 2");
    assert!(origin.saw().iter().all(|request| !request.contains("example.\r\n")), "{:?}", origin.saw());
    let purged = purge(running.admin, TOKEN, "{\"url\":\"http://a.example./\"}").await;
    assert!(purged.contains("{\"purged\":1}"), "{purged}");
    for (host, refused) in [(".", 400), ("a.example..", 421), ("c.example.", 421)] {
        assert_eq!(status(&ask(host).await), refused, "{host}");
    }
}

/// RFC 3986 §6.2.2: what is encoded and need not be, the case of its digits, and what should have been.
#[tokio::test]
async fn a_rule_holds_for_its_path_however_a_client_encodes_it() {
    let origin = Origin::new(|_| ok("", "answer")).await;
    let mut config = config(origin.address);
    config.rules = rules("path = \"/käse/~bob\"\nttl = \"1h\"\n[[rule]]\npath = \"/caf%c3%a9/*\"\nttl = \"1h\"");
    let running = run(config).await;
    let held = async |path: &[u8]| {
        let head = [&b"GET "[..], path, b" HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"].concat();
        raw(running.address, head).await.to_ascii_lowercase().contains("max-age=3600")
    };
    for path in
        ["/k%C3%A4se/~bob", "/k%c3%a4se/%7ebob", "/käse/~bob/x", "/%6b%c3%A4s%65/~bob?x", "/café/x", "/caf%C3%a9/"]
    {
        assert!(held(path.as_bytes()).await, "{path}");
    }
    for path in
        ["/k%C3%A4se%2f~bob", "/kase/~bob", "/k%25C3%25A4se/~bob", "/k%C3se/~bob", "/caf%", "/caf%c3%a", "/caf%C3%A9x"]
    {
        assert!(!held(path.as_bytes()).await, "{path}");
    }
}
