//! What passes through: hop-by-hop fields, bodies, expectations, other protocols, errors; and the admin address.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::world::{Origin, PATIENCE, TOKEN, ask_admin, before, body, config, get, ok, purge, raw, run, status};

#[tokio::test]
async fn a_hit_says_its_age_and_asks_nobody() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let first = get(running.address, "/", "").await;
    let second = get(running.address, "/", "").await;
    assert_eq!(body(&first), body(&second));
    let lower = second.to_ascii_lowercase();
    assert!(lower.contains("\r\nage: 0") && lower.contains("cache-status: everfresh; hit"), "{second}");
    assert_eq!(origin.saw().len(), 1);
    let head = raw(running.address, "HEAD / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!((status(&head), body(&head), origin.saw().len()), (200, "", 1));
    let part = get(running.address, "/", "range: bytes=0-5\r\n").await;
    assert_eq!((status(&part), body(&part), origin.saw().len()), (206, "answer", 1));
}

#[tokio::test]
async fn fields_of_one_hop_stay_there_and_the_way_is_told() {
    let origin = Origin::new(|_| ok("connection: x-secret\r\nx-secret: 1\r\nkeep-alive: 5\r\n", "here")).await;
    let running = before(&origin).await;
    let lines = "x-mine: 1\r\nkeep-alive: 9\r\nproxy-authorization: Basic x\r\nte: gzip\r\n";
    let request = format!("GET /way HTTP/1.1\r\nhost: a.example\r\nconnection: close, x-mine\r\n{lines}\r\n");
    let answer = raw(running.address, request).await.to_ascii_lowercase();
    assert!(!answer.contains("x-secret: 1") && !answer.contains("keep-alive: 5"), "{answer}");
    assert!(answer.contains("via: 1.1 everfresh") && answer.contains("date: "), "{answer}");
    let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
    for gone in ["x-mine", "keep-alive", "proxy-authorization", "te: gzip"] {
        assert!(!saw.contains(gone), "{gone}: {saw}");
    }
    assert!(saw.contains(&format!("host: {}\r\n", origin.address)), "{saw}");
    for told in [
        "via: 1.1 everfresh",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example",
        "x-forwarded-proto: http\r\n",
        "forwarded: for=127.0.0.1;host=\"a.example\";proto=http",
    ] {
        assert!(saw.contains(told), "{told}: {saw}");
    }
}

#[tokio::test]
async fn a_client_of_ipv4_is_told_as_such_where_ipv6_is_served_too() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.listen = "[::]:0".parse().expect("an address");
    if TcpListener::bind(config.listen).await.is_err() {
        // No IPv6 on this machine.
        return;
    }
    let running = run(config).await;
    let port = running.address.port();
    let told = |text: &str| origin.saw().pop().unwrap_or_default().contains(text);
    get(format!("127.0.0.1:{port}").parse().expect("an address"), "/four", "").await;
    assert!(told("x-forwarded-for: 127.0.0.1\r\n") && told("forwarded: for=127.0.0.1;"), "{:?}", origin.saw());
    get(format!("[::1]:{port}").parse().expect("an address"), "/six", "").await;
    assert!(told("x-forwarded-for: ::1\r\n") && told("forwarded: for=\"[::1]\";"), "{:?}", origin.saw());
}

#[tokio::test]
async fn the_way_is_told_with_the_version_that_came() {
    let origin = Origin::new(|_| ok("", "old").replace("HTTP/1.1", "HTTP/1.0")).await;
    let running = before(&origin).await;
    // Before HTTP/1.1 nobody had to name a host, and checks of load balancers do not.
    assert_eq!(body(&raw(running.address, "GET /check HTTP/1.0\r\n\r\n").await), "old");
    let asked = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
    assert!(asked.contains(&format!("\r\nhost: {}\r\n", origin.address)), "{asked}");
    let mut named = config(origin.address);
    named.origins[0].hosts = vec!["a.example".to_owned()];
    let named = run(named).await;
    assert_eq!(status(&raw(named.address, "GET /check HTTP/1.0\r\n\r\n").await), 400);
    let answer = raw(running.address, "GET / HTTP/1.0\r\nhost: a.example\r\n\r\n").await;
    assert!(answer.contains("via: 1.0 everfresh\r\n"), "{answer}");
    assert!(origin.saw()[0].contains("via: 1.0 everfresh\r\n"), "{:?}", origin.saw());
}

#[tokio::test]
async fn a_target_in_absolute_form_without_a_path_has_the_root() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let whole = "GET http://a.example?q=1 HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    let first = raw(running.address, whole).await;
    assert!(origin.saw()[0].starts_with("GET /?q=1 HTTP/1.1\r\n"), "{:?}", origin.saw());
    assert_eq!(body(&get(running.address, "/?q=1", "").await), body(&first), "one resource");
    let purged = purge(running.admin, TOKEN, "{\"url\":\"http://a.example?q=1\"}").await;
    assert!(purged.ends_with("{\"purged\":1}"), "{purged}");
}

#[tokio::test]
async fn a_body_passes_after_100_continue() {
    let origin = Origin::new(|request| ok("", request.rsplit("\r\n\r\n").next().unwrap_or_default())).await;
    let running = before(&origin).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut interim = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut interim)).await.expect("in time").expect("read");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert_eq!((status(&answer), body(&answer)), (200, "hello"));
    let odd = "POST / HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(status(&raw(running.address, odd).await), 417);
}

#[tokio::test]
async fn more_content_than_allowed_is_413() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.limits.body = everfresh_proxy::config::Size::bytes(10);
    let running = run(config).await;
    let told = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world";
    assert_eq!(status(&raw(running.address, told).await), 413);
    let untold = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    assert_eq!(status(&raw(running.address, untold).await), 413);
}

#[tokio::test]
async fn who_still_sends_when_he_is_refused_hears_why() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.limits.body = everfresh_proxy::config::Size::bytes(10);
    let running = run(config).await;
    // More than the buffers of the system hold: whoever closes at once resets the connection, and the answer is lost.
    let megabytes = vec![b'x'; 16 << 20];
    for framing in ["content-length: 16777216\r\n\r\n", "transfer-encoding: chunked\r\n\r\n1000000\r\n"] {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}");
        let mut stream = TcpStream::connect(running.address).await.expect("connected");
        stream.write_all(head.as_bytes()).await.expect("sent");
        timeout(PATIENCE, stream.write_all(&megabytes)).await.expect("in time").expect("heard to the end");
        let mut answer = String::new();
        stream.shutdown().await.expect("done");
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("not reset");
        assert_eq!(status(&answer), 413, "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_websocket_passes_through() {
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let origin = Origin::new(move |_| agreed.to_owned()).await;
    let running = before(&origin).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("in time").expect("read");
        assert!(read > 0, "{}", String::from_utf8_lossy(&bytes));
    }
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    stream.write_all(b"ping").await.expect("sent");
    let mut echo = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("in time").expect("read");
    assert_eq!(&echo, b"ping");
    assert_eq!(running.proxy.stats.outcome("bypass"), 1);
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_502_and_one_that_hangs_is_504() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let running = run(config(address)).await;
    let answer = get(running.address, "/", "").await;
    assert_eq!(status(&answer), 502);
    assert!(!answer.contains(&address.port().to_string()), "where the origin is, is nobody's business: {answer}");

    let hung = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(hung.local_addr().expect("an address"));
    config.timeouts.first_byte = everfresh_proxy::config::Span::millis(100);
    config.timeouts.connect = everfresh_proxy::config::Span::millis(100);
    let running = run(config).await;
    assert_eq!(status(&get(running.address, "/", "").await), 504);

    let rude = Origin::new(|_| String::new()).await;
    let running = before(&rude).await;
    assert_eq!(status(&get(running.address, "/", "").await), 502);
    assert_eq!(rude.saw().len(), 1, "what reached the origin is not sent again");
    assert_eq!(running.proxy.stats.outcome("error"), 1);
}

/// Of a system that drops what asks to connect, as a firewall does, a client hears nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_origin_to_which_no_connection_comes_about_in_time_cannot_be_reached() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let full = socket.listen(1).expect("listening");
    let address = full.local_addr().expect("an address");
    // Nobody accepts these, and there is no room for more.
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(std::time::Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("connected"));
    }
    let mut config = config(address);
    config.timeouts.connect = everfresh_proxy::config::Span::millis(100);
    let answer = get(run(config).await.address, "/", "").await;
    assert!(status(&answer) == 502 && answer.contains("the origin cannot be reached"), "{answer}");
}

/// It accepts, and then it agrees on nothing: as a port that speaks no TLS and waits for who asks.
#[tokio::test]
async fn an_origin_that_says_nothing_to_a_wish_for_tls_cannot_be_reached() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    for (http2, preserve_host) in [(false, false), (true, false), (true, true)] {
        let mut config = config(address);
        config.origins[0].url = format!("https://{address}").parse().expect("a URL");
        (config.origins[0].http2, config.origins[0].preserve_host) = (http2, preserve_host);
        config.timeouts.connect = everfresh_proxy::config::Span::millis(100);
        let answer = get(run(config).await.address, "/", "").await;
        assert!(status(&answer) == 502 && answer.contains("the origin cannot be reached"), "{answer}");
    }
}

#[tokio::test]
async fn nothing_of_the_admin_address_is_on_the_public_port() {
    let origin = Origin::new(|_| ok("", "the origin's own")).await;
    let running = before(&origin).await;
    for path in ["/", "/stats", "/stats/stream", "/stats/history", "/metrics", "/health", "/ready", "/page.js"] {
        assert_eq!(body(&get(running.address, path, "").await), "the origin's own", "{path}");
    }
    let purge = "POST /purge HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(body(&raw(running.address, purge).await), "the origin's own");
}

#[tokio::test]
async fn the_admin_address_tells_and_purges() {
    let origin = Origin::new(|_| ok("cache-control: max-age=60\r\ncache-groups: \"g\"\r\n", "here")).await;
    let running = before(&origin).await;
    let url = "http://a.example/x";
    for (wish, kind) in
        [(format!("{{\"url\":\"{url}\"}}"), "url"), ("{\"prefix\":\"http://a.example/\"}".into(), "prefix")]
    {
        get(running.address, "/x", "").await;
        get(running.address, "/x", "").await;
        let before = origin.saw().len();
        let wrong = purge(running.admin, "wrong", &wish).await;
        assert_eq!(status(&wrong), 401);
        let done = purge(running.admin, TOKEN, &wish).await;
        assert_eq!(body(&done), "{\"purged\":1}", "{kind}: {done}");
        get(running.address, "/x", "").await;
        assert_eq!(origin.saw().len(), before + 1, "{kind}");
    }
    let before = origin.saw().len();
    assert_eq!(body(&purge(running.admin, TOKEN, "{\"group\":\"g\"}").await), "{\"purged\":1}");
    get(running.address, "/x", "").await;
    assert_eq!(origin.saw().len(), before + 1, "group");
    let again = format!("{{\"url\":\"{url}\",\"mode\":\"revalidate\"}}");
    assert_eq!(body(&purge(running.admin, TOKEN, &again).await), "{\"purged\":1,\"revalidated\":1}");
    assert_eq!(origin.saw().len(), before + 2, "revalidated at once");
    assert_eq!(status(&purge(running.admin, TOKEN, "{\"url\":\"x\"}").await), 400);
    assert_eq!(status(&purge(running.admin, TOKEN, "{\"nonsense\":1}").await), 400);

    let told: Value = serde_json::from_str(body(&ask_admin(running.admin, "/stats").await)).expect("JSON");
    for name in [
        "name",
        "version",
        "uptime_s",
        "origin",
        "requests",
        "per_second",
        "reader_wait_ms",
        "origin_ms",
        "origin_requests",
        "origin_errors",
        "refreshes",
        "entries",
        "bytes",
        "capacity_bytes",
        "waiters",
        "connections",
        "hottest",
        "stalest",
        "in_flight",
        "demo",
    ] {
        assert!(told.get(name).is_some(), "{name}: {told}");
    }
    assert_eq!(told["requests"]["hit"], 3, "{told}");
    assert_eq!(told["origin_requests"], origin.saw().len(), "{told}");
    running.proxy.stats.tick();
    let past: Value = serde_json::from_str(body(&ask_admin(running.admin, "/stats/history").await)).expect("JSON");
    let last = past.as_array().and_then(|past| past.last()).expect("a second");
    assert_eq!(
        (&last["requests"]["hit"], &last["origin_requests"]),
        (&told["requests"]["hit"], &told["origin_requests"])
    );
    let metrics = ask_admin(running.admin, "/metrics").await;
    assert!(metrics.contains("\neverfresh_requests_total{outcome=\"hit\"} 3\n"), "{metrics}");
    for (path, found) in [("/health", 200), ("/ready", 200), ("/", 200), ("/page.css", 200), ("/nothing", 404)] {
        assert_eq!(status(&ask_admin(running.admin, path).await), found, "{path}");
    }
    for (host, found) in [("evil.example", 421), ("evil.example:9090", 421), ("everfresh:9090", 200), ("[::1]", 200)] {
        let ask = format!("GET /stats HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(status(&raw(running.admin, ask).await), found, "{host}");
    }
    assert_eq!(status(&raw(running.admin, "GET /ready HTTP/1.0\r\n\r\n").await), 200, "as some load balancers ask");
    let mut stream = TcpStream::connect(running.admin).await.expect("connected");
    let ask = format!("GET /stats/stream HTTP/1.1\r\nhost: {}\r\n\r\n", running.admin);
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains("data: {") {
        assert!(timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("in time").expect("read") > 0);
    }
}

/// RFC 9110 §7.6.2.
#[tokio::test]
async fn max_forwards_counts_for_options_alone() {
    let origin = Origin::new(|_| ok("", "the origin's")).await;
    let running = before(&origin).await;
    let ask = |method: &'static str, told: &'static str| {
        let lines = format!("host: a\r\nconnection: close\r\nmax-forwards: {told}\r\n");
        raw(running.address, format!("{method} / HTTP/1.1\r\n{lines}\r\n"))
    };
    let own = ask("OPTIONS", "0").await;
    assert!(status(&own) == 200 && own.to_ascii_lowercase().contains("\r\nallow: get, head, "), "{own}");
    assert_eq!(origin.saw().len(), 0);
    for (method, told, sent) in
        [("OPTIONS", "1", "0"), ("OPTIONS", "10", "9"), ("OPTIONS", "+1", "+1"), ("GET", "0", "0")]
    {
        assert_eq!(body(&ask(method, told).await), "the origin's");
        let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
        assert!(saw.contains(&format!("\r\nmax-forwards: {sent}\r\n")), "{method} {told}: {saw}");
    }
}

#[tokio::test]
async fn what_stands_in_the_store_is_told_not_what_was_served_last() {
    let origin = Origin::new(|_| ok("cache-control: max-age=60, stale-while-revalidate=60\r\n", "here")).await;
    let running = before(&origin).await;
    let stands = async || {
        let told: Value = serde_json::from_str(body(&ask_admin(running.admin, "/stats").await)).expect("JSON");
        (told["hottest"][0]["state"].clone(), told["stalest"].as_array().map(Vec::len))
    };
    get(running.address, "/", "").await;
    get(running.address, "/", "").await;
    assert_eq!(stands().await, ("fresh".into(), Some(0)));
    purge(running.admin, TOKEN, "{\"url\":\"http://a.example/\",\"mode\":\"soft\"}").await;
    assert_eq!(stands().await, ("stale".into(), Some(1)));
}

#[tokio::test]
async fn a_hundred_requests_of_a_cold_url_are_one_of_the_origin() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let asked: Vec<_> = (0..100).map(|_| tokio::spawn(get(running.address, "/cold", ""))).collect();
    for answer in asked {
        assert_eq!(body(&answer.await.expect("answered")), "answer 0");
    }
    assert_eq!(origin.saw().len(), 1);
}

#[tokio::test]
async fn a_request_body_reaches_the_origin_while_it_is_still_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let running = run(config(listener.local_addr().expect("an address"))).await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\nfirst";
    client.write_all(head.as_bytes()).await.expect("sent");
    let (mut origin, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    let mut came = Vec::new();
    for (piece, next) in [("first", "later"), ("firstlater", "")] {
        while !came.ends_with(piece.as_bytes()) {
            assert!(timeout(PATIENCE, origin.read_buf(&mut came)).await.expect("in time").expect("read") > 0);
        }
        client.write_all(next.as_bytes()).await.expect("sent");
    }
    origin.write_all(ok("", "done").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(body(&answer), "done");
}

#[tokio::test]
async fn who_stalls_in_the_middle_of_a_body_keeps_nobody() {
    let stalled = ok("cache-control: max-age=60\r\n", "half and the rest").replace(" and the rest", "");
    let origin = Origin::new(move |_| stalled.clone()).await;
    let mut config = config(origin.address);
    config.timeouts.idle = everfresh_proxy::config::Span::millis(200);
    let running = run(config).await;
    // raw() fails if the proxy keeps the connection; and half an answer is never stored.
    for asked in 1..=2 {
        let answer = get(running.address, "/", "").await;
        assert!(!answer.contains("rest"), "{answer}");
        assert_eq!(origin.saw().len(), asked);
    }
    let half = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst";
    assert_eq!(status(&raw(running.address, half).await), 408);
}

#[tokio::test]
async fn an_origin_is_told_as_left_alone_no_longer_than_it_is() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::new(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        1 => "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(),
        number => ok("cache-control: max-age=60, stale-while-revalidate=60\r\n", &number.to_string()),
    })
    .await;
    let running = before(&origin).await;
    let told = async || ask_admin(running.admin, "/metrics").await;
    get(running.address, "/", "").await;
    purge(running.admin, TOKEN, "{\"url\":\"http://a.example/\",\"mode\":\"soft\"}").await;
    let failed = async {
        while !told().await.contains("everfresh_refreshes_total{ending=\"failed\"} 1\n") {
            assert_eq!(body(&get(running.address, "/", "").await), "0");
        }
    };
    timeout(PATIENCE, failed).await.expect("failed");
    assert!(told().await.contains("everfresh_backing_off 1\n"));
    // Who asks for himself is answered, and what he got is stored.
    assert_eq!(body(&get(running.address, "/", "cache-control: no-cache\r\n").await), "2");
    assert_eq!(body(&get(running.address, "/", "").await), "2");
    assert!(told().await.contains("everfresh_backing_off 0\n"));
}

#[tokio::test]
async fn a_write_that_asks_for_another_protocol_is_heeded_as_any_other() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    get(running.address, "/", "").await;
    let write =
        "POST / HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: other\r\ncontent-length: 4\r\n\r\nmore";
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    client.write_all(write.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("answer 1") {
        assert!(timeout(PATIENCE, client.read_buf(&mut answer)).await.expect("in time").expect("read") > 0);
    }
    assert!(origin.saw()[1].ends_with("more"));
    assert_eq!(body(&get(running.address, "/", "").await), "answer 2");
}

#[tokio::test]
async fn an_origin_is_given_its_time_to_answer_from_when_it_has_the_request() {
    let origin = Origin::new(|request| ok("", &request.len().to_string())).await;
    let mut config = config(origin.address);
    config.timeouts.connect = everfresh_proxy::config::Span::millis(200);
    config.timeouts.first_byte = everfresh_proxy::config::Span::millis(300);
    let running = run(config).await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 12\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("sent");
    // Slower than the origin may be, but never still for long.
    let mut each = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..12 {
        each.tick().await;
        client.write_all(b"x").await.expect("sent");
    }
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(status(&answer), 200, "{answer}");
    // And no more than that: who has all of it and says nothing is late.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = crate::world::config(listener.local_addr().expect("an address"));
    config.timeouts.first_byte = everfresh_proxy::config::Span::millis(200);
    config.timeouts.connect = everfresh_proxy::config::Span::millis(200);
    let running = run(config).await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
    assert_eq!(status(&raw(running.address, post).await), 504);
}

#[tokio::test]
async fn an_answer_without_an_end_ends_when_the_whole_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    config.timeouts.whole = everfresh_proxy::config::Span::millis(300);
    let running = run(config).await;
    let asking = tokio::spawn(get(running.address, "/endless", ""));
    let (mut endless, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    let head = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n";
    endless.write_all(head.as_bytes()).await.expect("sent");
    // Never idle for long: a piece as often as the other side takes one, until it hangs up.
    let mut each = tokio::time::interval(std::time::Duration::from_millis(20));
    let sending = async {
        while endless.write_all(b"1\r\nx\r\n").await.is_ok() {
            each.tick().await;
        }
    };
    timeout(PATIENCE, sending).await.expect("hung up on");
    let answer = timeout(PATIENCE, asking).await.expect("in time").expect("ended");
    assert!(!answer.ends_with("0\r\n\r\n"), "as broken off, not as whole: {answer}");
}

#[tokio::test]
async fn no_number_of_connections_is_too_many() {
    let mut config = crate::world::config(Origin::counting().await.address);
    config.limits.connections = usize::MAX;
    assert_eq!(status(&get(run(config).await.address, "/", "").await), 200);
}

#[tokio::test]
async fn more_connections_than_allowed_wait_until_one_ends() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.limits.connections = 1;
    let running = run(config).await;
    let mut first = TcpStream::connect(running.address).await.expect("connected");
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"answer 0") {
        assert!(timeout(PATIENCE, first.read_buf(&mut answer)).await.expect("in time").expect("read") > 0);
    }
    let second = tokio::spawn(get(running.address, "/second", ""));
    // It is connected, in the system's queue, and nobody looks at it while the first is used.
    first.write_all(b"GET /again HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    while !answer.ends_with(b"answer 1") {
        assert!(timeout(PATIENCE, first.read_buf(&mut answer)).await.expect("in time").expect("read") > 0);
    }
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(body(&timeout(PATIENCE, second).await.expect("in time").expect("served")), "answer 2");
}

const RELOAD: &str = "cache-control: no-cache\r\n";

#[tokio::test]
async fn more_waiters_than_allowed_are_told_to_come_again_and_hits_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    config.limits.waiters = 1;
    let running = run(config).await;
    let answer = async |text: &str| {
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert!(timeout(PATIENCE, stream.read_buf(&mut asked)).await.expect("in time").expect("read") > 0);
        }
        stream.write_all(text.as_bytes()).await.expect("sent");
    };
    for (path, field) in [("/stored", "max-age=60"), ("/stale", "max-age=60, stale-while-revalidate=60")] {
        let first = tokio::spawn(get(running.address, path, ""));
        answer(&ok(&format!("connection: close\r\ncache-control: {field}\r\n"), path)).await;
        assert_eq!(body(&first.await.expect("answered")), path);
    }
    purge(running.admin, TOKEN, "{\"url\":\"http://a.example/stale\",\"mode\":\"soft\"}").await;
    let waiting = tokio::spawn(get(running.address, "/slow", ""));
    let (mut slow, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    // Whatever would wait: for an answer of its own, for that of another, past the cache.
    for (path, lines) in
        [("/other", ""), ("/slow", ""), ("/stored", "cache-control: no-store\r\n"), ("/stored", RELOAD)]
    {
        let busy = get(running.address, path, lines).await;
        assert_eq!(status(&busy), 503, "{path} {lines}");
        assert!(busy.to_ascii_lowercase().contains("retry-after: 1"), "{busy}");
    }
    let write =
        raw(running.address, "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx").await;
    assert_eq!(status(&write), 503);
    // Whoever waits for nobody is answered, and what is stale renewed behind him.
    assert_eq!(body(&get(running.address, "/stored", "").await), "/stored");
    assert_eq!(body(&get(running.address, "/stale", "").await), "/stale");
    let renewed = async { while body(&get(running.address, "/stale", "").await) != "renewed" {} };
    let fresh = ok("connection: close\r\ncache-control: max-age=60\r\n", "renewed");
    timeout(PATIENCE, async { tokio::join!(renewed, answer(&fresh)) }).await.expect("renewed");
    slow.write_all(ok("cache-control: max-age=60\r\n", "slow").as_bytes()).await.expect("sent");
    assert_eq!(body(&waiting.await.expect("answered")), "slow");
    assert_eq!(body(&get(running.address, "/slow", "").await), "slow");
}

#[tokio::test]
async fn a_stale_answer_comes_at_once_and_one_request_renews_it() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::new(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ok("cache-control: max-age=60, stale-while-revalidate=60\r\netag: \"e\"\r\n", &format!("answer {number}"))
    })
    .await;
    let running = before(&origin).await;
    get(running.address, "/", "").await;
    let soft = "{\"url\":\"http://a.example/\",\"mode\":\"soft\"}";
    assert_eq!(body(&purge(running.admin, TOKEN, soft).await), "{\"purged\":1}");
    assert_eq!(body(&get(running.address, "/", "").await), "answer 0");
    assert_eq!(running.proxy.stats.outcome("stale"), 1);
    // Behind the reader's back: it comes, and soon everybody sees it.
    let renewed = async { while body(&get(running.address, "/", "").await) != "answer 1" {} };
    timeout(PATIENCE, renewed).await.expect("renewed");
    assert_eq!(origin.saw().len(), 2);
    let asked = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
    assert!(asked.contains("if-none-match: \"e\""), "{asked}");
    assert!(asked.contains("x-forwarded-host: a.example") && asked.contains("via: 1.1 everfresh"), "{asked}");
}

#[tokio::test]
async fn who_asks_with_a_method_that_is_not_served_is_told_which_are() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let asked = [
        ("TRACE / HTTP/1.1", "allow: get, head, post, put, patch, delete, options\r\n"),
        ("CONNECT a.example:443 HTTP/1.1", "allow: get, head, post, put, patch, delete, options\r\n"),
        ("OPTIONS * HTTP/1.1", "allow: \r\n"),
    ];
    for (line, allow) in asked {
        let answer = raw(running.address, format!("{line}\r\nhost: a.example:443\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), 405, "{line}");
        assert!(answer.to_ascii_lowercase().contains(&format!("\r\n{allow}")), "{line}: {answer}");
    }
    assert!(origin.saw().is_empty(), "none of them is passed on");
    let answer = raw(running.admin, "PUT /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 405);
    assert!(answer.to_ascii_lowercase().contains("\r\nallow: get, head\r\n"), "{answer}");
    let answer = raw(running.admin, "PUT /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 404);
}
