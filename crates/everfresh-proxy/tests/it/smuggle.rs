//! Request smuggling: whatever can be read in two ways is refused, or reaches the origin as exactly one request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{Origin, PATIENCE, before, get, ok, raw, status};

/// Name, bytes, and whether it must be refused; else it may reach the origin, but as one request alone.
const VECTORS: &[(&str, &str, bool)] = &[
    (
        "CL.TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        true,
    ),
    (
        "TE.CL",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        true,
    ),
    (
        "CL and TE of any case, the same length",
        "POST / HTTP/1.1\r\nhost: a\r\nCONTENT-LENGTH: 5\r\nTransfer-encoding: Chunked\r\n\r\n0\r\n\r\n",
        true,
    ),
    (
        "CL.CL, different",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 35\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        true,
    ),
    (
        "CL list, different",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 35\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        true,
    ),
    ("CL with plus", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", true),
    ("CL negative", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", true),
    ("CL hexadecimal", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello", true),
    ("CL overflowing", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551621\r\n\r\nhello", true),
    ("CL empty", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\nhello", true),
    ("space before colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", true),
    ("TE xchunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", true),
    (
        "TE chunked, identity",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        true,
    ),
    (
        "TE identity, chunked",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        true,
    ),
    (
        "TE twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: cow\r\n\r\n0\r\n\r\n",
        true,
    ),
    (
        "TE chunked twice",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        true,
    ),
    ("TE quoted", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n", true),
    ("TE with vertical tab", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", true),
    ("TE on HTTP/1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", true),
    ("folded line", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", true),
    ("folded line, tab", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\ttransfer-encoding: chunked\r\n\r\n", true),
    ("bare CR in a field", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rtransfer-encoding: chunked\r\n\r\n", true),
    ("NUL in a field", "GET / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n", true),
    ("space in a name", "GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", true),
    ("no name", "GET / HTTP/1.1\r\nhost: a\r\n: z\r\n\r\n", true),
    ("line without colon", "GET / HTTP/1.1\r\nhost: a\r\nnonsense\r\n\r\n", true),
    (
        "chunk size negative",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        true,
    ),
    ("chunk size 0x", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", true),
    (
        "chunk size overflowing",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
        true,
    ),
    (
        "chunk size underlined",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1_0\r\nx\r\n0\r\n\r\n",
        true,
    ),
    (
        "chunk without end of line",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n",
        true,
    ),
    (
        "bare LF in a chunk extension",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
        true,
    ),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", true),
    ("no host", "GET / HTTP/1.1\r\nx: y\r\n\r\n", true),
    ("host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", true),
    ("host with a user", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", true),
    ("spaces in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", true),
    ("unknown version", "GET / HTTP/1.2\r\nhost: a\r\n\r\n", true),
    ("CONNECT", "CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n", true),
    ("CL with trailing comma", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5,\r\n\r\nhello", true),
    ("CL with a letter", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5 a\r\n\r\nhello", true),
    ("CL folded", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n 5\r\n\r\nhello", true),
    ("TE with a parameter", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n", true),
    ("TE empty", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n", true),
    ("TE with a NUL", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\0\r\n\r\n0\r\n\r\n", true),
    ("TE of a high byte", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \u{ff}chunked\r\n\r\n0\r\n\r\n", true),
    ("tab before colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n", true),
    ("first field folded", "GET / HTTP/1.1\r\n host: a\r\n\r\n", true),
    ("HTTP/0.9", "GET /\r\n\r\n", true),
    ("HTTP/1.1 in lower case", "GET / http/1.1\r\nhost: a\r\n\r\n", true),
    ("a method that is none", "GE T / HTTP/1.1\r\nhost: a\r\n\r\n", true),
    ("chunk size empty", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n", true),
    (
        "chunk size with a space before",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n",
        true,
    ),
    (
        "fields in trailers",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ncontent-length: 35\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        false,
    ),
    ("empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false),
    ("bare LF ends lines", "GET / HTTP/1.1\nhost: a\nconnection: close\n\n", false),
    (
        "CL.CL, same",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        false,
    ),
    (
        "content_length",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent_length: 35\r\ncontent-length: 0\r\n\r\n",
        false,
    ),
    (
        "h2c upgrade",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade, http2-settings\r\n\
         upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n\
         ",
        false,
    ),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_or_one_request() {
    let origin = Origin::new(|_| ok("cache-control: no-store\r\n", "seen")).await;
    let running = before(&origin).await;
    for (name, bytes, refused) in VECTORS {
        let before = origin.saw().len();
        let answer = raw(running.address, bytes).await;
        let saw = origin.saw().split_off(before);
        assert!(!saw.iter().any(|request| request.contains("/smuggled")), "{name}: smuggled {saw:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: one answer, then the end: {answer}");
        if *refused {
            assert!((400..=505).contains(&status(&answer)), "{name}: {answer}");
            assert!(!answer.contains("seen"), "{name}: the origin answered: {answer}");
        } else {
            assert_eq!(saw.len(), 1, "{name}: {saw:?}");
            assert!(!saw[0].contains("content_length"), "{name}: {saw:?}");
            assert!(!saw[0].to_ascii_lowercase().contains("upgrade"), "{name}: {saw:?}");
            let framings = saw[0].to_ascii_lowercase();
            let framings = framings.matches("content-length:").count() + framings.matches("transfer-encoding:").count();
            assert!(framings <= 1, "{name}: {saw:?}");
        }
    }
}

#[tokio::test]
async fn on_a_connection_that_was_of_use_before_both_lengths_are_refused_too() {
    let origin = Origin::new(|_| ok("cache-control: no-store\r\n", "seen")).await;
    let running = before(&origin).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connected");
    let plain = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 40\r\n\r\ntransfer-encoding: chunked\r\n\r\n0123456789";
    for piece in plain.as_bytes().chunks(25) {
        stream.write_all(piece).await.expect("sent");
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"seen") {
        assert!(timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("in time").expect("read") > 0);
    }
    let both = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG";
    for piece in both.as_bytes().chunks(30) {
        stream.write_all(piece).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert_eq!(status(&answer), 400, "{answer}");
    // Behind a request without its answer, the parser decides: by the coding alone, and then the connection ends.
    let two = format!("GET /first HTTP/1.1\r\nhost: a\r\n\r\n{both}ET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = raw(running.address, two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
    assert!(!origin.saw().iter().any(|request| request.contains("/smuggled")), "{:?}", origin.saw());
}

#[tokio::test]
async fn an_answer_with_both_lengths_passes_with_one() {
    let origin = Origin::new(|_| {
        let fields = "cache-control: max-age=60\r\ncontent-length: 5\r\ntransfer-encoding: chunked";
        format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
    })
    .await;
    let running = before(&origin).await;
    for _ in 0..2 {
        let answer = get(running.address, "/", "").await;
        assert_eq!(status(&answer), 200);
        assert!(!answer.to_ascii_lowercase().contains("content-length: 5"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nbody") || answer.ends_with("\r\n\r\n4\r\nbody\r\n0\r\n\r\n"), "{answer}");
    }
    assert_eq!(origin.saw().len(), 1);
}

#[tokio::test]
async fn an_answer_says_its_length_in_one_way_or_is_none() {
    for (head, wanted) in [
        ("204 No Content\r\ncontent-length: 4\r\n", (204, false)),
        ("200 OK\r\ncontent-length: 4, 4\r\n", (200, true)),
        ("200 OK\r\ncontent-length: 4\r\ncontent-length: 4\r\n", (200, true)),
        ("200 OK\r\ntransfer-encoding: gzip\r\n", (502, true)),
        ("200 OK\r\ntransfer-encoding: gzip, chunked\r\n", (502, true)),
        ("200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", (502, true)),
    ] {
        let origin = Origin::new(move |_| format!("HTTP/1.1 {head}cache-control: max-age=60\r\n\r\nbody")).await;
        let running = before(&origin).await;
        for _ in 0..2 {
            let answer = get(running.address, "/", "").await;
            let lengths = answer.to_ascii_lowercase().matches("content-length: ").count();
            assert_eq!((status(&answer), lengths == 1), wanted, "{head:?}: {answer}");
            assert!(!answer.contains("4, 4") && !answer.contains("gzip"), "{answer}");
        }
        assert_eq!(origin.saw().len(), if wanted.0 == 502 { 2 } else { 1 }, "{head:?}: stored if it is an answer");
    }
}

#[tokio::test]
async fn what_lies_behind_a_refused_request_is_not_served() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let two = "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\nGET /behind HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(running.address, two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(origin.saw().is_empty(), "{:?}", origin.saw());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(80 << 10));
    let answer = raw(running.address, many).await;
    assert!([400, 431].contains(&status(&answer)), "{answer}");
    assert!(origin.saw().is_empty());
}

#[tokio::test]
async fn a_client_that_trickles_is_let_go() {
    let origin = Origin::counting().await;
    let mut config = crate::world::config(origin.address);
    config.timeouts.head = everfresh_proxy::config::Span::millis(300);
    config.timeouts.keep_alive = everfresh_proxy::config::Span::millis(300);
    let running = crate::world::run(config).await;
    for begun in ["", "P", "GET / HTTP/1.1\r\nhost:"] {
        // raw() fails if the proxy keeps the connection.
        let answer = raw(running.address, begun).await;
        assert!(answer.is_empty() || status(&answer) == 408 || status(&answer) == 400, "{begun:?}: {answer}");
    }
    assert!(origin.saw().is_empty());
}

#[tokio::test]
async fn behind_an_upgrade_that_is_not_agreed_to_comes_a_request_like_any_other() {
    let origin = Origin::new(|_| ok("cache-control: no-store\r\n", "seen")).await;
    let running = before(&origin).await;
    let one = "GET /one HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let two = "GET /two HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
    let answer = raw(running.address, format!("{one}{two}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    let saw = origin.saw();
    assert_eq!(saw.len(), 2, "{saw:?}");
    assert!(
        saw.iter().all(|request| request.contains("via: 1.1 everfresh") && !request.contains("6.6.6.6")),
        "{saw:?}"
    );
}
