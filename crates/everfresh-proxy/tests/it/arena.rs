//! Large bodies are sent from where they are kept, and nobody's answer changes with what comes after it.

use std::fmt::Write as _;
use std::sync::Arc;

use everfresh_proxy::arena::Arena;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::world::{Origin, PATIENCE, Running, TOKEN, before, body, get, ok, purge, raw, status};

/// What the origin says of a path `/LENGTH/WORD`: nowhere the same twice, and for each path something else.
fn text(path: &str) -> String {
    let mut parts = path.trim_start_matches('/').split('/');
    let length: usize = parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
    let word = parts.next().unwrap_or_default();
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        let at = text.len();
        let _ = write!(text, "{word}{at};");
    }
    text.truncate(length);
    text
}

async fn origin() -> Origin {
    Origin::new(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        ok("cache-control: max-age=600\r\netag: \"one\"\r\n", &text(path))
    })
    .await
}

fn arena(running: &Running) -> Arc<Arena> {
    Arc::clone(running.proxy.cache.arena().expect("this system has a place for bodies"))
}

async fn until(holds: impl Fn() -> bool) {
    timeout(PATIENCE, async {
        while !holds() {
            yield_now().await;
        }
    })
    .await
    .expect("in time");
}

async fn forget(running: &Running, path: &str) {
    let answer = purge(running.admin, TOKEN, &format!("{{\"url\":\"http://a.example{path}\"}}")).await;
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn whole_parts_heads_and_conditions_of_a_large_body_are_what_they_would_be() {
    let (origin, path) = (origin().await, "/300001/large");
    let (running, whole) = (before(&origin).await, text(path));
    assert_eq!(body(&get(running.address, path, "").await), whole);
    until(|| arena(&running).used() >= whole.len() as u64).await;
    for _ in 0..3 {
        assert_eq!(body(&get(running.address, path, "").await), whole);
    }
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("100000-200000", 100_000, 200_001),
        ("-70000", 230_001, 300_001),
        ("4095-", 4095, 300_001),
        ("299999-", 299_999, 300_001),
    ] {
        let answer = get(running.address, path, &format!("range: bytes={range}\r\n")).await;
        assert_eq!((status(&answer), body(&answer)), (206, &whole[from..to]), "{range}");
    }
    let several = get(running.address, path, "range: bytes=5-90000,100000-200000\r\n").await;
    assert!(several.contains(&whole[5..90_001]) && several.contains(&whole[100_000..200_001]));
    let head = format!("HEAD {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    let head = raw(running.address, head).await;
    assert!(body(&head).is_empty() && head.to_ascii_lowercase().contains("content-length: 300001"), "{head}");
    let known = get(running.address, path, "if-none-match: \"one\"\r\n").await;
    assert_eq!((status(&known), body(&known)), (304, ""));
    assert_eq!(origin.saw().len(), 1);
}

#[tokio::test]
async fn what_is_on_its_way_is_not_altered_by_what_is_kept_in_its_place() {
    let (origin, path) = (origin().await, "/102400/first");
    let (running, whole) = (before(&origin).await, text(path));
    let arena = arena(&running);
    let mut readers = Vec::new();
    for _ in 0..4 {
        get(running.address, path, "").await;
        until(|| arena.used() >= whole.len() as u64).await;
        let mut reader = TcpStream::connect(running.address).await.expect("connected");
        let ask = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        reader.write_all(ask.as_bytes()).await.expect("sent");
        // The head has come: the body is under way, and nobody reads it.
        let mut first = [0];
        reader.read_exact(&mut first).await.expect("an answer");
        readers.push(reader);
        // The system has taken all of it, so nobody holds it any more; its place is free.
        forget(&running, path).await;
        until(|| arena.used() == 0).await;
    }
    for round in 0..100 {
        let other = format!("/102400/other{round}");
        assert_eq!(body(&get(running.address, &other, "").await), text(&other));
        until(|| arena.used() >= whole.len() as u64).await;
        assert_eq!(body(&get(running.address, &other, "").await), text(&other));
        forget(&running, &other).await;
        until(|| arena.used() == 0).await;
    }
    for mut reader in readers {
        let mut rest = String::new();
        timeout(PATIENCE, reader.read_to_string(&mut rest)).await.expect("in time").expect("read");
        assert!(body(&rest) == whole, "altered on its way");
    }
}

#[tokio::test]
async fn who_reads_slowly_has_all_of_what_was_purged_meanwhile() {
    let (origin, path) = (origin().await, "/8000000/slow");
    let (running, whole) = (before(&origin).await, text(path));
    let arena = arena(&running);
    get(running.address, path, "").await;
    until(|| arena.used() >= whole.len() as u64).await;
    let mut reader = TcpStream::connect(running.address).await.expect("connected");
    let ask = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    reader.write_all(ask.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1000];
    reader.read_exact(&mut answer).await.expect("an answer");
    forget(&running, path).await;
    assert!(arena.used() >= whole.len() as u64, "held by who reads it");
    for round in 0..10 {
        let other = format!("/3000000/other{round}");
        assert_eq!(body(&get(running.address, &other, "").await), text(&other));
        forget(&running, &other).await;
    }
    timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("in time").expect("read");
    assert!(body(&String::from_utf8_lossy(&answer)) == whole, "altered on its way");
    until(|| arena.used() == 0).await;
}

#[tokio::test]
async fn large_and_small_answers_follow_each_other_on_one_connection() {
    let origin = origin().await;
    let running = before(&origin).await;
    let paths = ["/70000/one", "/10/two", "/200000/three", "/32768/four", "/0/five", "/33000/six"];
    for path in paths {
        get(running.address, path, "").await;
    }
    let mut asked = String::new();
    for path in paths.iter().cycle().take(60) {
        let _ = write!(asked, "GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n");
    }
    let _ = write!(asked, "GET /10/two HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    let mut rest = raw(running.address, asked).await;
    for path in paths.iter().cycle().take(60) {
        let whole = text(path);
        let after = body(&rest);
        assert!(after.starts_with(&whole), "{path}");
        rest = after[whole.len()..].to_owned();
    }
    assert_eq!(body(&rest), text("/10/two"));
}

#[tokio::test]
async fn a_large_answer_that_has_begun_is_finished_when_the_proxy_ends() {
    let (origin, path) = (origin().await, "/8000000/last");
    let (running, whole) = (before(&origin).await, text(path));
    get(running.address, path, "").await;
    let mut reader = TcpStream::connect(running.address).await.expect("connected");
    let ask = format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n");
    reader.write_all(ask.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1000];
    reader.read_exact(&mut answer).await.expect("an answer");
    running.stop.send(true).expect("it runs");
    timeout(PATIENCE, reader.read_to_end(&mut answer)).await.expect("in time").expect("read");
    assert!(body(&String::from_utf8_lossy(&answer)) == whole);
    let ended = timeout(PATIENCE, running.served).await.expect("in time").expect("ended");
    assert_eq!(ended.connections, 0);
}
