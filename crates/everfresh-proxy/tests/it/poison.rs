//! Poisoning: what one client sends never changes what another is served.

use crate::world::{Origin, TOKEN, before, body, config, get, ok, purge, raw, run, status};

/// An origin that reflects all that it is sent, and lets everybody keep it.
async fn mirror() -> Origin {
    Origin::new(|request| ok("cache-control: max-age=60\r\n", request)).await
}

#[tokio::test]
async fn unkeyed_fields_reach_no_origin() {
    let origin = mirror().await;
    let running = before(&origin).await;
    for (at, field) in [
        "x-forwarded-host: evil.example",
        "x-forwarded-proto: evil",
        "x-forwarded-scheme: evil",
        "x-forwarded-port: evil",
        "x-forwarded-prefix: /evil",
        "x-forwarded-server: evil.example",
        "x-host: evil.example",
        "x-original-host: evil.example",
        "x-original-url: /evil",
        "x-rewrite-url: /evil",
        "forwarded: host=evil.example",
        "x-http-method-override: evil",
        "x-http-method: evil",
        "x-method-override: evil",
        "front-end-https: evil",
        // With lines for dashes they are the same to CGI.
        "x_original_url: /evil",
        "X_HTTP_Method_Override: evil",
        "x-rewrite_url: /evil",
        "x_forwarded_host: evil.example",
        "x_forwarded_user: evil",
        "front_end_https: evil",
        "accept_language: evil",
        "user_agent: evil",
        "if_none_match: evil",
    ]
    .iter()
    .enumerate()
    {
        let answer = get(running.address, &format!("/{at}"), &format!("{field}\r\n")).await;
        assert_eq!(status(&answer), 200, "{field}");
        let mirrored = body(&answer);
        assert!(!mirrored.contains("evil"), "{field}: {mirrored}");
        assert!(mirrored.contains("x-forwarded-host: a.example"), "{field}: {mirrored}");
    }
}

#[tokio::test]
async fn forwarded_fields_that_are_not_trusted_reach_no_origin_with_a_write_either() {
    let origin = mirror().await;
    let mut trusting = config(origin.address);
    trusting.origins[0].trust_forwarded = true;
    let (running, trusting) = (before(&origin).await, run(trusting).await);
    let fields = ["x-forwarded-for", "x-forwarded-port", "x-forwarded-ssl", "x-forwarded-user", "x_forwarded_for"];
    for (method, fields) in [("POST", &fields[..]), ("GET", &fields[3..])] {
        for field in fields {
            let lines = format!("host: a.example\r\nconnection: close\r\n{field}: evil\r\ncontent-length: 0\r\n");
            let ask = |to| raw(to, format!("{method} /{field} HTTP/1.1\r\n{lines}\r\n"));
            let (answer, trusted) = (ask(running.address).await, ask(trusting.address).await);
            assert!(status(&answer) == 200 && !body(&answer).contains("evil"), "{answer}");
            // What is in no key reaches nobody, whoever sent it.
            let passes = method == "POST" || !field.contains('_');
            assert_eq!(body(&trusted).contains("evil"), passes, "{trusted}");
        }
    }
}

#[tokio::test]
async fn a_line_in_the_name_of_a_field_that_is_no_others_alias_stays() {
    let origin = mirror().await;
    let running = before(&origin).await;
    let mirrored = get(running.address, "/", "api_key: mine\r\n").await;
    assert!(mirrored.contains("api_key: mine"), "{mirrored}");
    let lines = "host: a\r\nconnection: close\r\nx_original_url: /b\r\ncontent-length: 0\r\n";
    let written = raw(running.address, format!("POST / HTTP/1.1\r\n{lines}\r\n")).await;
    assert!(written.contains("x_original_url: /b"), "{written}");
}

#[tokio::test]
async fn another_host_is_another_key() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let ask = |host: &'static str| {
        raw(running.address, format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    };
    let (first, evil) = (ask("a.example").await, ask("evil.example").await);
    assert_ne!(body(&first), body(&evil));
    assert_ne!(body(&first), body(&ask("a.example:8081").await));
    for same in ["A.EXAMPLE", "a.example:80", "a.example:", "a.example:0080"] {
        assert_eq!(body(&first), body(&ask(same).await), "{same}");
    }
    assert_eq!(body(&ask("A.example:08081").await), body(&ask("a.example:8081").await));
    for none in ["a.example:99999", "a.example:+80"] {
        assert_eq!(status(&ask(none).await), 400, "{none}");
    }
}

#[tokio::test]
async fn in_absolute_form_the_target_counts_and_not_host() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let evil = "GET http://evil.example/ HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    let evil = raw(running.address, evil).await;
    assert_ne!(body(&evil), body(&get(running.address, "/", "").await));
}

#[tokio::test]
async fn a_get_with_content_is_neither_stored_nor_answered_from_the_store() {
    let origin = mirror().await;
    let running = before(&origin).await;
    let fat = "GET /fat HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 4\r\n\r\nevil";
    assert!(body(&raw(running.address, fat).await).ends_with("evil"));
    assert!(!get(running.address, "/fat", "").await.contains("evil"));
    assert!(body(&raw(running.address, fat).await).ends_with("evil"));
}

#[tokio::test]
async fn paths_are_kept_as_they_were_sent() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let mut bodies = Vec::new();
    for path in ["/a/b", "/a//b", "/a/./b", "/a/x/../b", "/a%2fb", "/a/b/", "/a/b?", "/A/b", "/a/%62", "/a/b;x"] {
        let answer = get(running.address, path, "").await;
        assert_eq!(status(&answer), 200, "{path}");
        let last = origin.saw().pop().unwrap_or_default();
        assert!(last.starts_with(&format!("GET {path} HTTP/1.1")), "{path}: {last}");
        bodies.push(body(&answer).to_owned());
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 10);
}

#[tokio::test]
async fn connection_cannot_name_away_what_decides_who_may_see_an_answer() {
    let origin = Origin::new(|request| {
        let known = request.to_ascii_lowercase().contains("authorization: bearer me");
        ok("cache-control: max-age=60\r\n", if known { "mine" } else { "public" })
    })
    .await;
    let running = before(&origin).await;
    let named = "authorization: Bearer me\r\nconnection: authorization\r\n";
    let request = format!("GET /me HTTP/1.1\r\nhost: a.example\r\n{named}connection: close\r\n\r\n");
    assert_eq!(body(&raw(running.address, request).await), "mine");
    assert_eq!(body(&get(running.address, "/me", "").await), "public");
}

#[tokio::test]
async fn answers_to_authorized_requests_are_shared_only_where_the_origin_says_so() {
    for (control, shared) in [("max-age=60", false), ("max-age=60, public", true), ("s-maxage=60", true)] {
        let origin = Origin::new(move |request| {
            let whose =
                request.to_ascii_lowercase().split("bearer ").nth(1).map_or("nobody", |_| "somebody").to_owned();
            ok(&format!("cache-control: {control}\r\n"), &whose)
        })
        .await;
        let running = before(&origin).await;
        assert_eq!(body(&get(running.address, "/", "authorization: Bearer secret\r\n").await), "somebody");
        let second = get(running.address, "/", "").await;
        assert_eq!(body(&second) == "somebody", shared, "{control}: {second}");
    }
}

#[tokio::test]
async fn private_and_no_store_answers_with_cookies_are_not_shared_nor_those_of_a_default_ttl() {
    for control in ["cache-control: private, max-age=60\r\n", "cache-control: no-store\r\n", ""] {
        let origin = Origin::new(move |request| {
            let who = if request.contains("GET /x?1") { "one" } else { "other" };
            ok(&format!("{control}set-cookie: id={who}\r\n"), who)
        })
        .await;
        let mut config = config(origin.address);
        let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\nttl = \"60s\"\nignore_query = [\"1\", \"2\"]";
        config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
        let running = run(config).await;
        get(running.address, "/x?1", "").await;
        get(running.address, "/x?2", "").await;
        assert_eq!(origin.saw().len(), 2, "{control}");
    }
}

#[tokio::test]
async fn an_error_gets_no_default_ttl() {
    for (code, kept) in [(200, true), (301, true), (302, false), (400, false), (404, false), (500, false)] {
        let answer = move |_: &str| format!("HTTP/1.1 {code} Odd\r\ncontent-length: 0\r\n\r\n");
        let origin = Origin::new(answer).await;
        let mut config = config(origin.address);
        let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\nttl = \"60s\"";
        config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
        let running = run(config).await;
        get(running.address, "/", "").await;
        get(running.address, "/", "").await;
        assert_eq!(origin.saw().len() == 1, kept, "{code}");
    }
}

/// Web cache deception: what the operator says of /static/ does not hold for what only looks like it.
#[tokio::test]
async fn a_path_that_an_origin_may_read_as_another_gets_no_default_ttl() {
    let origin = Origin::new(|_| ok("", "the account")).await;
    let mut config = config(origin.address);
    let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\npath = \"/static/*\"\nttl = \"60s\"";
    config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
    let running = run(config).await;
    for (path, asked) in [
        ("/static/a.css", 1),
        ("/static/../account", 2),
        ("/static/..%2faccount", 2),
        ("/static/%2e%2E/account", 2),
        ("/static/..%5Caccount", 2),
        ("/static/%252e%252e/account", 2),
        ("/static//account", 2),
        ("/static/;/../account", 2),
        ("/static/a%00.css", 2),
        ("/account/a.css", 2),
    ] {
        let before = origin.saw().len();
        get(running.address, path, "").await;
        get(running.address, path, "").await;
        assert_eq!(origin.saw().len() - before, asked, "{path}");
    }
}

#[tokio::test]
async fn ignored_parameters_are_in_no_key_and_reach_no_origin() {
    let origin = mirror().await;
    let mut config = config(origin.address);
    let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\nignore_query = [\"utm_*\", \"gclid\"]";
    config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
    let running = run(config).await;
    let first = get(running.address, "/p?a=1&utm_source=evil&gclid=evil", "").await;
    assert!(body(&first).starts_with("GET /p?a=1 HTTP/1.1"), "{first}");
    assert_eq!(body(&first), body(&get(running.address, "/p?utm_x=2&a=1", "").await));
    assert_eq!(origin.saw().len(), 1);
}

#[tokio::test]
async fn a_field_of_the_key_makes_another_key_and_a_write_forgets_them_all() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    let rule = "[[origin]]\nurl = \"http://x\"\n[[rule]]\nkey_headers = [\"x-country\"]";
    config.rules = everfresh_proxy::config::Config::parse("x".as_ref(), rule).expect("right").rules;
    let running = run(config).await;
    let (de, fr) = ("x-country: de\r\n", "x-country: fr\r\n");
    let (first, other) = (get(running.address, "/", de).await, get(running.address, "/", fr).await);
    assert_ne!(body(&first), body(&other));
    assert_eq!(body(&first), body(&get(running.address, "/", de).await));
    let write = "POST / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    raw(running.address, write).await;
    assert_ne!(body(&first), body(&get(running.address, "/", de).await));
    assert_ne!(body(&other), body(&get(running.address, "/", fr).await));
}

#[tokio::test]
async fn where_forwarded_fields_are_trusted_what_they_say_is_in_the_key() {
    let origin = mirror().await;
    let mut config = config(origin.address);
    config.origins[0].trust_forwarded = true;
    let running = run(config).await;
    let ways = [
        "",
        "x-forwarded-proto: https\r\n",
        "x-forwarded-host: evil.example\r\n",
        "x-forwarded-host: evil.example\r\nx-forwarded-proto: https\r\n",
        "forwarded: for=192.0.2.1;host=evil.example\r\n",
        "forwarded: for=192.0.2.1; Proto=https\r\n",
    ];
    for (asked, lines) in (1..).zip(ways) {
        let first = get(running.address, "/", lines).await;
        assert_eq!(origin.saw().len(), asked, "{lines:?}: {first}");
        assert_eq!(body(&get(running.address, "/", lines).await), body(&first));
        assert_eq!(origin.saw().len(), asked, "{lines:?}");
    }
    // Who came from where is not; and what is as the key has it already makes no other.
    get(running.address, "/", "x-forwarded-for: 192.0.2.9\r\nx-forwarded-proto: http\r\n").await;
    get(running.address, "/", "forwarded: for=192.0.2.77\r\nx-forwarded-host: A.example\r\n").await;
    assert_eq!(origin.saw().len(), ways.len());
    // A write concerns them all, whichever way it came.
    for lines in ["", "x-forwarded-proto: https\r\n"] {
        let before = origin.saw().len();
        let head =
            format!("POST / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{lines}content-length: 0\r\n\r\n");
        assert_eq!(status(&raw(running.address, head).await), 200);
        for way in ways {
            get(running.address, "/", way).await;
        }
        assert_eq!(origin.saw().len(), before + 1 + ways.len(), "{lines:?}");
    }
    let told = purge(running.admin, TOKEN, "{\"url\":\"http://a.example/\"}").await;
    assert_eq!(body(&told), "{\"purged\":6}", "one URL, however it came");
}
