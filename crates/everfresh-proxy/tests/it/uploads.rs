//! What a client's content dies of is told as the client's, and is no failure of the origin.

use std::time::Duration;

use everfresh_proxy::config::{Config, Size, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{interval, timeout};

use crate::world::{Origin, PATIENCE, Running, ask_admin, before, config, ok, raw, run, status};

/// A proxy before an origin of HTTP/1.1, and one that asks over HTTP/2, with what it asks.
async fn both(origin: &Origin, change: impl Fn(&mut Config)) -> ([Running; 2], Running) {
    let inner = before(origin).await;
    let mut two = config(inner.address);
    two.origins[0].http2 = true;
    let mut one = config(origin.address);
    change(&mut one);
    change(&mut two);
    ([run(one).await, run(two).await], inner)
}

async fn blames_no_origin(running: &Running) {
    let told = ask_admin(running.admin, "/metrics").await;
    assert!(told.contains("everfresh_origin_errors_total 0\n"), "{told}");
}

#[tokio::test]
async fn content_that_cannot_be_read_is_400_and_not_the_origins_fault() {
    let origin = Origin::new(|_| ok("", "never asked")).await;
    let (proxies, _inner) = both(&origin, |_| {}).await;
    for running in proxies {
        let post = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nmore\r\nno length\r\n";
        let answer = raw(running.address, post).await;
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(answer.contains("the content of the request"), "{answer}");
        blames_no_origin(&running).await;
    }
}

#[tokio::test]
async fn content_that_stalls_or_is_too_large_is_told_whatever_the_origin_speaks() {
    let origin = Origin::new(|_| ok("", "never asked")).await;
    let narrow = |config: &mut Config| {
        config.timeouts.idle = Span::millis(200);
        config.limits.body = Size::bytes(10);
    };
    let (proxies, _inner) = both(&origin, narrow).await;
    for running in proxies {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = raw(running.address, format!("{head}4\r\nhalf\r\n")).await;
        assert_eq!(status(&answer), 408, "{answer}");
        let answer = raw(running.address, format!("{head}4\r\nhalf\r\nf\r\nand far too much\r\n")).await;
        assert_eq!(status(&answer), 413, "{answer}");
        blames_no_origin(&running).await;
    }
}

#[tokio::test]
async fn who_still_sends_when_the_whole_time_is_over_is_told_408() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    config.timeouts.whole = Span::millis(300);
    let running = run(config).await;
    let mut client = TcpStream::connect(running.address).await.expect("connected");
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await.expect("sent");
    let (mut answers, mut sends) = client.into_split();
    // Never still for long, and never done.
    let sending = tokio::spawn(async move {
        let mut each = interval(Duration::from_millis(20));
        while sends.write_all(b"x").await.is_ok() {
            each.tick().await;
        }
    });
    let mut answer = vec![0; 12];
    timeout(PATIENCE, answers.read_exact(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
    sending.abort();
    blames_no_origin(&running).await;
}

/// As servers do that have a bound of their own, or want a login first: they answer, and close, while content still comes.
#[tokio::test]
async fn an_origin_that_refuses_content_and_closes_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let running = run(config(listener.local_addr().expect("an address"))).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 4096];
            let _ = stream.read(&mut some).await;
            let refusal = b"HTTP/1.1 413 Too Much\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
            // What was not read makes this a reset.
            let _ = stream.write_all(refusal).await;
        }
    });
    let content = "x".repeat(1 << 20);
    for _ in 0..200 {
        let head =
            format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", content.len());
        let mut client = TcpStream::connect(running.address).await.expect("connected");
        let (mut answers, mut sends) = client.split();
        let mut answer = String::new();
        let sending = async {
            let _ = sends.write_all(head.as_bytes()).await;
            let _ = sends.write_all(content.as_bytes()).await;
        };
        let reading = async { answers.read_to_string(&mut answer).await };
        let (_, read) = timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("in time");
        // A client that still sends may be reset before it has read; what it is told is never another's fault.
        assert!(status(&answer) == 413 || (read.is_err() && answer.is_empty()), "{answer}");
    }
    blames_no_origin(&running).await;
}
