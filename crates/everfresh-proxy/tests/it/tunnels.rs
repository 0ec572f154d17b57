//! Upgraded connections: they last as long as they are used, and no longer.

use std::time::{Duration, Instant};

use everfresh_proxy::config::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::world::{Origin, PATIENCE, ask_admin, before, body, config, get, ok, raw, run, status};

/// A connection that speaks another protocol with an origin that echoes.
async fn upgraded(to: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut head)).await.expect("in time").expect("read");
        assert!(read > 0, "{}", String::from_utf8_lossy(&head));
    }
    stream
}

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

async fn echoing() -> Origin {
    Origin::new(move |_| AGREED.to_owned()).await
}

#[tokio::test]
async fn a_websocket_outlives_the_times_that_are_for_requests() {
    let mut config = config(echoing().await.address);
    for time in [&mut config.timeouts.head, &mut config.timeouts.keep_alive, &mut config.timeouts.whole] {
        *time = Span::millis(200);
    }
    let running = run(config).await;
    let mut stream = upgraded(running.address).await;
    let (began, mut each) = (Instant::now(), interval(Duration::from_millis(50)));
    // Until well after all of them.
    while began.elapsed() < Duration::from_secs(1) {
        each.tick().await;
        stream.write_all(b"ping").await.expect("sent");
        let mut echo = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("in time").expect("not cut off");
        assert_eq!(&echo, b"ping");
    }
}

#[tokio::test]
async fn a_websocket_has_its_place_among_the_connections_until_it_ends() {
    let origin = Origin::new(|request| match request.starts_with("GET /ws") {
        true => AGREED.to_owned(),
        false => ok("", "answered"),
    })
    .await;
    let mut config = config(origin.address);
    config.limits.connections = 1;
    let running = run(config).await;
    let stream = upgraded(running.address).await;
    let told = ask_admin(running.admin, "/metrics").await;
    assert!(told.contains("everfresh_connections 1\n"), "{told}");
    let mut second = tokio::spawn(get(running.address, "/", ""));
    assert!(timeout(Duration::from_millis(200), &mut second).await.is_err(), "it waits");
    drop(stream);
    let answer = timeout(PATIENCE, second).await.expect("in time").expect("an answer");
    assert_eq!(body(&answer), "answered");
    let told = async { while !ask_admin(running.admin, "/metrics").await.contains("everfresh_connections 0\n") {} };
    timeout(PATIENCE, told).await.expect("counted no more");
}

#[tokio::test]
async fn another_protocol_that_nobody_asked_for_is_no_answer() {
    let origin = echoing().await;
    let running = before(&origin).await;
    assert_eq!(status(&get(running.address, "/", "").await), 502);
    // A write is a plain one for the origin.
    let write = "connection: close, upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n";
    let write = raw(running.address, format!("POST / HTTP/1.1\r\nhost: a\r\n{write}\r\n")).await;
    assert_eq!(status(&write), 502, "{write}");
}

#[tokio::test]
async fn a_websocket_on_which_nobody_says_anything_ends() {
    let mut config = config(echoing().await.address);
    config.timeouts.tunnel = Span::millis(300);
    let running = run(config).await;
    let mut stream = upgraded(running.address).await;
    // Not while it is used.
    let (began, mut each) = (Instant::now(), interval(Duration::from_millis(50)));
    while began.elapsed() < Duration::from_secs(1) {
        each.tick().await;
        stream.write_all(b"x").await.expect("sent");
        timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("not cut off");
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("ended").expect("read");
    assert!(rest.is_empty());
    let gone = async {
        while running.proxy.stats.running.read() > 0 {
            each.tick().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("what it took up is given back");
}

#[tokio::test]
async fn h2c_is_never_agreed_on_with_an_origin_wherever_a_client_lists_it() {
    let origin = Origin::new(|_| ok("cache-control: no-store\r\n", "seen")).await;
    let running = before(&origin).await;
    for (wish, passed_on) in [
        ("upgrade: h2c, other\r\n", "upgrade: other\r\n"),
        ("upgrade: other, H2C ,\r\n", "upgrade: other\r\n"),
        ("upgrade: other\r\nupgrade: h2c\r\nupgrade: third/2\r\n", "upgrade: other, third/2\r\n"),
        ("upgrade: h2c, h2c\r\nhttp2-settings: AAMAAABk\r\n", ""),
    ] {
        let lines = format!("connection: upgrade, http2-settings, close\r\n{wish}");
        raw(running.address, format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n")).await;
        let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
        assert!(!saw.contains("h2c") && !saw.contains("http2"), "{wish:?}: {saw}");
        assert_eq!(saw.contains("upgrade"), !passed_on.is_empty(), "{wish:?}: {saw}");
        assert!(saw.contains(passed_on), "{wish:?}: {saw}");
    }
}

#[tokio::test]
async fn an_origin_that_does_not_agree_is_heard_as_any_other() {
    let origin = Origin::new(|_| "HTTP/1.0 503 Not Now\r\ncontent-length: 5\r\n\r\nlater".to_owned()).await;
    let mut config = config(origin.address);
    config.timeouts.idle = Span::millis(200);
    let running = run(config).await;
    let wish = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n";
    let answer = raw(running.address, format!("{wish}\r\n")).await;
    // RFC 9112 §2.3: the version is that of this connection.
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("later"), "{answer}");
    let told = ask_admin(running.admin, "/metrics").await;
    assert!(told.contains("everfresh_origin_errors_total 1\n"), "{told}");
    // Content that its client does not send has no more time than that of other requests.
    let answer = raw(running.address, format!("{wish}content-length: 9\r\n\r\nhalf")).await;
    assert_eq!(status(&answer), 408, "{answer}");
}
