//! Where an origin sends a client that does not know it.

use std::net::SocketAddr;

use crate::world::{Origin, config, get, raw, run};

/// An origin that says as its `Location` what follows `to=` in a query; `OWN` is its own address.
async fn sending() -> Origin {
    Origin::new(|request| {
        let (line, rest) = request.split_once("\r\n").unwrap_or_default();
        let host = rest.to_ascii_lowercase();
        let host = host.split("\r\nhost: ").nth(1).or_else(|| host.strip_prefix("host: ")).unwrap_or_default();
        let host = host.split("\r\n").next().unwrap_or_default();
        let to = line.split("to=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let to = to.replace("OWN", host).replace("%23", "#");
        let fields = format!("cache-control: max-age=60\r\nlocation: {to}\r\ncontent-location: {to}\r\n");
        format!("HTTP/1.1 302 Found\r\n{fields}content-length: 0\r\n\r\n")
    })
    .await
}

async fn sent(to: SocketAddr, location: &str) -> String {
    let answer = get(to, &format!("/?to={location}"), "").await;
    let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    assert_eq!(field("location: "), field("content-location: "), "{answer}");
    field("location: ")
}

/// As servers do that complete a path by a slash (nginx, Apache), and frameworks that build whole URLs by `Host`.
#[tokio::test]
async fn a_redirect_to_the_origins_own_address_leads_to_the_proxys() {
    let origin = sending().await;
    let running = run(config(origin.address)).await;
    for (location, wanted) in [
        ("http://OWN/dir/?a=b%23c", "http://a.example/dir/?a=b#c"),
        ("HTTP://OWN", "http://a.example"),
        ("http://OWN1/dir", &*format!("http://{}1/dir", origin.address)),
        ("https://OWN/dir", &*format!("https://{}/dir", origin.address)),
        ("http://b.example/dir", "http://b.example/dir"),
        ("/dir/", "/dir/"),
        ("//OWN/dir/", &*format!("//{}/dir/", origin.address)),
    ] {
        assert_eq!(sent(running.address, location).await, wanted, "{location}");
        assert_eq!(sent(running.address, location).await, wanted, "from the store: {location}");
    }
    let mut below = config(origin.address);
    below.origins[0].url = format!("http://{}/base/", origin.address).parse().expect("a URL");
    let running = run(below).await;
    let below = running.address;
    assert_eq!(sent(below, "http://OWN/base/dir/").await, "http://a.example/dir/");
    assert_eq!(sent(below, "http://OWN/base").await, "http://a.example");
    assert_eq!(
        sent(below, "http://OWN/other").await,
        format!("http://{}/other", origin.address),
        "not behind the proxy"
    );
    assert_eq!(sent(below, "http://OWN/based").await, format!("http://{}/based", origin.address));
    let mut preserving = config(origin.address);
    preserving.origins[0].preserve_host = true;
    let preserving = run(preserving).await;
    assert_eq!(sent(preserving.address, "http://OWN/dir/").await, "http://a.example/dir/");
}

/// RFC 9111 §4.4: what a write names of its own origin is stored no longer, and that is the proxy's.
#[tokio::test]
async fn a_write_whose_answer_names_the_origins_own_address_is_about_what_is_stored() {
    let origin = Origin::new(|request| {
        let host = request.to_ascii_lowercase();
        let host =
            host.split("host: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap_or_default().to_owned();
        match request.starts_with("POST") {
            true => format!("HTTP/1.1 201 Created\r\nlocation: http://{host}/new\r\ncontent-length: 0\r\n\r\n"),
            false => crate::world::ok("cache-control: max-age=60\r\n", "page"),
        }
    })
    .await;
    for (trusts, lines) in [(false, ""), (true, "x-forwarded-proto: https\r\n")] {
        let mut config = config(origin.address);
        config.origins[0].trust_forwarded = trusts;
        let running = run(config).await;
        let before = origin.saw().len();
        get(running.address, "/new", lines).await;
        let head = "POST /all HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 0\r\n";
        raw(running.address, format!("{head}{lines}\r\n")).await;
        get(running.address, "/new", lines).await;
        assert_eq!(origin.saw().len(), before + 3, "{:?}", origin.saw());
    }
}

/// Behind a balancer that speaks TLS with the clients: the way there is not the one by which requests come here.
#[tokio::test]
async fn a_redirect_to_the_origins_own_address_leads_to_where_a_trusted_proxy_was_asked() {
    let origin = sending().await;
    let mut trusting = config(origin.address);
    trusting.origins[0].trust_forwarded = true;
    let running = run(trusting).await;
    for (lines, wanted) in [
        ("x-forwarded-proto: https\r\n", "https://a.example/dir/"),
        ("x-forwarded-proto: https, http\r\nx-forwarded-host: b.example:8443\r\n", "https://b.example:8443/dir/"),
        ("forwarded: for=192.0.2.1;proto=https;host=\"c.example\", for=192.0.2.2\r\n", "https://c.example/dir/"),
        ("x-forwarded-proto: gopher\r\nx-forwarded-host: a@b\r\n", "http://a.example/dir/"),
        ("", "http://a.example/dir/"),
    ] {
        for from in ["the origin", "the store"] {
            let answer = get(running.address, "/?to=http://OWN/dir/", lines).await;
            assert!(answer.contains(&format!("\r\nlocation: {wanted}\r\n")), "{lines:?} from {from}: {answer}");
        }
    }
    assert_eq!(origin.saw().len(), 5);
}

/// A server that wants a WebSocket elsewhere (a slash at the end, a login) has not agreed, and says so as to any request.
#[tokio::test]
async fn a_websocket_that_is_sent_elsewhere_is_sent_to_the_proxy() {
    let origin = sending().await;
    let mut config = config(origin.address);
    config.origins[0].trust_forwarded = true;
    let running = run(config).await;
    for (told, wanted) in [("", "http://a.example/ws/"), ("x-forwarded-proto: https\r\n", "https://a.example/ws/")] {
        let lines = format!("connection: upgrade, close\r\nupgrade: websocket\r\n{told}");
        let ask = format!("GET /?to=http://OWN/ws/ HTTP/1.1\r\nhost: a.example\r\n{lines}\r\n");
        let answer = raw(running.address, ask).await;
        assert!(
            answer.starts_with("HTTP/1.1 302 ") && answer.contains(&format!("\r\nlocation: {wanted}\r\n")),
            "{answer}"
        );
    }
}
