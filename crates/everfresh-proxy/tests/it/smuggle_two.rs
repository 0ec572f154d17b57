//! Smuggling by HTTP/2: what HTTP/1.1 would read as framing never comes to the origin.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::{Origin, PATIENCE, before, ok};

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const AWAY: u8 = 7;
pub(crate) const END_OF_STREAM: u8 = 1;
pub(crate) const END_OF_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("short").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, content].concat()
}

/// Fields as HPACK has them without tables and Huffman (RFC 7541 §6.2.2): no client library lets these through.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// What the proxy makes of it: the kind of the first frame about stream 1, or of the end of the connection.
async fn ask(to: std::net::SocketAddr, head: &[(&str, &str)], body: &[u8]) -> u8 {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(frame(HEADERS, END_OF_HEADERS, 1, &fields(head)));
    bytes.extend(frame(DATA, END_OF_STREAM, 1, body));
    // The other side may have ended before it read everything.
    let _ = stream.write_all(&bytes).await;
    loop {
        let mut head = [0; 9];
        if timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("in time").is_err() {
            return AWAY;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut content = vec![0; length as usize];
        timeout(PATIENCE, stream.read_exact(&mut content)).await.expect("in time").expect("read");
        if head[3] == AWAY || head[8] == 1 && [HEADERS, RESET].contains(&head[3]) {
            // A refusal in words is as good as a reset.
            let refused = head[3] == HEADERS && !origin_answered(&content);
            return if refused { RESET } else { head[3] };
        }
    }
}

/// 200 is the eighth entry of HPACK's table; the size of the table may be told before.
fn origin_answered(content: &[u8]) -> bool {
    content.iter().take(4).any(|byte| *byte == 0x88)
}

const GET: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];

#[tokio::test]
async fn what_http_1_would_read_as_framing_is_refused() {
    let origin = Origin::new(|_| ok("cache-control: no-store\r\n", "seen")).await;
    let running = before(&origin).await;
    let body = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let more: &[(&str, &[(&str, &str)])] = &[
        ("H2.TE", &[("transfer-encoding", "chunked")]),
        ("H2.CL, too short", &[("content-length", "0")]),
        ("H2.CL, too long", &[("content-length", "100")]),
        ("H2.CL, twice", &[("content-length", "35"), ("content-length", "0")]),
        ("connection", &[("connection", "transfer-encoding")]),
        ("line feed in a value", &[("x", "y\r\ntransfer-encoding: chunked")]),
        ("line feed in a name", &[("x: y\r\ntransfer-encoding", "chunked")]),
        ("NUL in a value", &[("x", "y\0z")]),
        ("colon in a name", &[("transfer-encoding: chunked\r\nx", "y")]),
        ("upper case", &[("Transfer-Encoding", "chunked")]),
        ("another host", &[("host", "evil.example")]),
        ("a pseudo field at the end", &[("x", "y"), (":path", "/smuggled")]),
        ("a pseudo field that is none", &[(":smuggled", "/")]),
    ];
    for (name, more) in more {
        let asked = ask(running.address, &[&GET[..], *more].concat(), body).await;
        assert!([RESET, AWAY].contains(&asked), "{name}: {asked}");
    }
    for (name, head) in [
        ("space in the path", [GET[0], GET[1], GET[2], (":path", "/ HTTP/1.1\r\nhost: b\r\n\r\nGET /smuggled")]),
        ("space in the method", [(":method", "GET /smuggled HTTP/1.1\r\nx:"), GET[1], GET[2], GET[3]]),
        ("path without a slash", [GET[0], GET[1], GET[2], (":path", "@evil.example/")]),
        ("authority with a user", [GET[0], GET[1], (":authority", "a@evil.example"), GET[3]]),
        ("authority with a line feed", [GET[0], GET[1], (":authority", "a\r\nx: y"), GET[3]]),
    ] {
        let asked = ask(running.address, &head, body).await;
        assert!([RESET, AWAY].contains(&asked), "{name}: {asked}");
    }
    for saw in origin.saw() {
        let (head, _) = saw.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST / HTTP/1.1\r\n") && !head.contains("smuggled"), "{saw}");
    }
    // And what is right passes, as one request.
    let before = origin.saw().len();
    assert_eq!(ask(running.address, &GET, body).await, HEADERS);
    assert_eq!(origin.saw().len(), before + 1);
}
