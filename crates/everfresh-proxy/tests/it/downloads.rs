//! Who reads slowly has all of it, however little time a connection has without requests; who does not read holds nothing.

use std::net::SocketAddr;
use std::time::Duration;

use everfresh_proxy::config::Span;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::log::free_ports;
use crate::process::{Process, answer};
use crate::smuggle_two::{AWAY, END_OF_HEADERS, END_OF_STREAM, HEADERS, SETTINGS, fields, frame};
use crate::world::{Origin, PATIENCE, Running, ask_admin, config, get, ok, run};

/// More than the buffers of two systems and the window of a client take.
const LARGE: usize = 15_000_000;

/// A proxy with a large answer in its store, which lets connections be without requests for the fifth of a second only.
async fn impatient(fields: &'static str) -> (Origin, Running) {
    let origin = Origin::new(move |_| ok(fields, &"x".repeat(LARGE))).await;
    let mut config = config(origin.address);
    config.timeouts.keep_alive = Span::millis(200);
    let running = run(config).await;
    assert!(get(running.address, "/", "").await.len() > LARGE);
    (origin, running)
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_connection_may_be_without_requests() {
    let (_origin, running) = impatient("cache-control: max-age=60\r\n").await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 << 10).expect("a small buffer");
    let mut stream = socket.connect(running.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await.expect("sent");
    let (mut each, mut piece, mut had) = (interval(Duration::from_millis(100)), vec![0; 64 << 10], 0);
    while had < LARGE {
        if had < 10 * piece.len() {
            each.tick().await;
        }
        let read = timeout(PATIENCE, stream.read(&mut piece)).await.expect("in time").expect("read");
        assert!(read > 0, "cut off after {had} bytes");
        had += read;
    }
}

#[tokio::test]
async fn over_http_2_too_an_answer_may_take_longer_than_a_connection_may_be_without_requests() {
    let (_origin, running) = impatient("cache-control: max-age=60\r\n").await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let ask = || {
        let ask = Request::get(format!("http://{}/", running.address)).body(Empty::<bytes::Bytes>::new());
        timeout(PATIENCE, client.request(ask.expect("a request")))
    };
    // Its authority is another than that of the get() above.
    let stored = ask().await.expect("in time").expect("answered").into_body().collect().await.expect("whole");
    assert_eq!(stored.to_bytes().len(), LARGE);
    let mut body = ask().await.expect("in time").expect("answered").into_body();
    let (mut each, mut had, mut frames) = (interval(Duration::from_millis(100)), 0, 0);
    while had < LARGE {
        if frames < 12 {
            each.tick().await;
        }
        let frame = timeout(PATIENCE, body.frame()).await.expect("in time");
        had += frame.expect("cut off").expect("read").data_ref().map_or(0, bytes::Bytes::len);
        frames += 1;
    }
}

#[tokio::test]
async fn over_http_2_too_who_takes_nothing_of_an_answer_is_let_go() {
    for cache_control in ["cache-control: max-age=60\r\n", "cache-control: no-store\r\n"] {
        let origin = Origin::new(move |_| ok(cache_control, &"x".repeat(1_000_000))).await;
        let mut config = config(origin.address);
        config.timeouts.idle = Span::millis(300);
        let running = run(config).await;
        takes_nothing(running.address).await;
    }
}

#[tokio::test]
async fn over_http_2_it_is_said_that_a_connection_without_requests_ends() {
    let origin = Origin::counting().await;
    let mut config = config(origin.address);
    config.timeouts.keep_alive = Span::millis(200);
    let running = run(config).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    let ask = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_OF_HEADERS | END_OF_STREAM, 1, &fields(&ask)));
    stream.write_all(&bytes).await.expect("sent");
    let (mut said, mut kinds) = (Vec::new(), Vec::new());
    timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is kept").expect("read");
    while !said.is_empty() {
        // Three bytes of length, and the kind of the frame.
        kinds.push(said[3]);
        said.drain(..9 + usize::from(said[1]) * 256 + usize::from(said[2]));
    }
    assert!(kinds.contains(&HEADERS) && kinds.contains(&AWAY), "{kinds:?}");
}

/// Asks over HTTP/2, takes nothing of the answer, and returns when the other side ends that.
pub(crate) async fn takes_nothing(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    // SETTINGS_INITIAL_WINDOW_SIZE is 0, and never enlarged (RFC 9113 §6.5.2).
    let ask = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    bytes.extend(frame(HEADERS, END_OF_HEADERS | END_OF_STREAM, 1, &fields(&ask)));
    stream.write_all(&bytes).await.expect("sent");
    let mut answer = Vec::new();
    // Whoever resets the connection has said all that he had to say.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is kept");
}

/// Of an answer whose length nobody knew, and that turns out too large to be stored, no more is held than `max_body`.
#[tokio::test]
async fn who_is_cut_off_for_being_slower_than_others_has_a_line_in_the_log() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let [admin, _] = free_ports().await;
    let at = admin.to_string();
    let mut process = Process::begin(&["--origin", &origin, "--listen", "127.0.0.1:0", "--admin", &at]).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(process.address).await.expect("connected");
        let head = b"GET /large HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        client.write_all(head).await.expect("sent");
        clients.push(client);
    }
    let both_wait = async { while !ask_admin(admin, "/metrics").await.contains("everfresh_waiters 2") {} };
    timeout(PATIENCE, both_wait).await.expect("one answer for both");
    let [mut slow, mut fast] = <[TcpStream; 2]>::try_from(clients).expect("two");
    let (mut answering, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    answer(&mut answering, "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n\r\n".into()).await;
    let sending = tokio::spawn(async move {
        // Far more than systems hold for who does not read.
        for _ in 0..64 {
            answering.write_all(&[b'x'; 1 << 20]).await.expect("sent");
        }
    });
    let mut taken = Vec::new();
    timeout(PATIENCE, fast.read_to_end(&mut taken)).await.expect("in time").expect("read");
    assert!(taken.ends_with(b"\r\n0\r\n\r\n") && taken.len() > 64 << 20);
    sending.await.expect("all of it");
    taken.clear();
    let _ = timeout(PATIENCE, slow.read_to_end(&mut taken)).await.expect("in time");
    assert!(!taken.ends_with(b"\r\n0\r\n\r\n"));
    let line = process.until("cut off: it reads more slowly than others").await;
    assert!(line.contains("http://a.example/large"), "{line}");
}
