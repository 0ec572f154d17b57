//! An origin that says what it is told to and remembers what it saw, a proxy before it, and raw bytes between them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh_proxy::bound::{Bound, CutOff};
use everfresh_proxy::config::{Config, Secret};
use everfresh_proxy::proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// What the origin answers: from the request's bytes to the response's.
pub(crate) type Answer = dyn Fn(&str) -> String + Send + Sync;

/// One request as the origin saw it: head and body.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    saw: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// Reads requests strictly by Content-Length or chunks, and answers each.
    pub(crate) async fn new(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let saw = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Arc<Answer>) = (Arc::clone(&saw), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, Arc::clone(&seen), Arc::clone(&answer)));
            }
        });
        Self { address, saw }
    }

    /// An origin whose every answer may be kept for a minute, and says the number of its request.
    pub(crate) async fn counting() -> Self {
        let count = std::sync::atomic::AtomicUsize::new(0);
        Self::new(move |_| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            ok("cache-control: max-age=60\r\n", &format!("answer {number}"))
        })
        .await
    }

    /// All requests so far.
    pub(crate) fn saw(&self) -> Vec<String> {
        self.saw.lock().expect("not poisoned").clone()
    }
}

/// A 200 with these fields and this body.
pub(crate) fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
}

async fn talk(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, answer: Arc<Answer>) {
    let mut bytes = Vec::new();
    loop {
        let Some(head) = read_until(&mut stream, &mut bytes, b"\r\n\r\n").await else { return };
        let lower = head.to_ascii_lowercase();
        let mut whole = head.clone();
        if lower.contains("transfer-encoding: chunked") {
            let Some(body) = read_until(&mut stream, &mut bytes, b"0\r\n\r\n").await else { return };
            whole.push_str(&body);
        } else if let Some(length) = lower.split("content-length: ").nth(1) {
            let length: usize = length.split("\r\n").next().and_then(|it| it.parse().ok()).unwrap_or(0);
            while bytes.len() < length {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            whole.push_str(&String::from_utf8_lossy(&bytes.drain(..length).collect::<Vec<u8>>()));
        }
        seen.lock().expect("not poisoned").push(whole.clone());
        let said = answer(&whole);
        if said.is_empty() || stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
        if said.starts_with("HTTP/1.1 101") {
            // From here on an echo.
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            return;
        }
    }
}

async fn read_until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> Option<String> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
            let found: Vec<u8> = bytes.drain(..at + end.len()).collect();
            return Some(String::from_utf8_lossy(&found).into_owned());
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A proxy that serves until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: JoinHandle<CutOff>,
}

/// A configuration for an origin, on ports of its own.
pub(crate) fn config(origin: SocketAddr) -> Config {
    let mut config = Config::of(format!("http://{origin}").parse().expect("a URL"));
    config.listen.set_port(0);
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.admin.token = Some(Secret::new(TOKEN));
    config
}

pub(crate) async fn run(config: Config) -> Running {
    let bound = Bound::new(config).await.expect("bound");
    let (address, admin) = (bound.address().expect("an address"), bound.admin().expect("an admin address"));
    let proxy = Arc::clone(bound.proxy());
    let (stop, stopped) = watch::channel(false);
    let served = tokio::spawn(async { bound.serve(stopped).await.expect("served") });
    Running { address, admin, proxy, stop, served }
}

pub(crate) async fn before(origin: &Origin) -> Running {
    run(config(origin.address)).await
}

/// Sends bytes and returns all that comes back until the other side closes.
pub(crate) async fn raw(to: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    stream.write_all(bytes.as_ref()).await.expect("sent");
    let mut answer = Vec::new();
    // Whoever resets the connection has said all that he had to say.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the other side hangs");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET of the admin address.
pub(crate) async fn ask_admin(admin: SocketAddr, path: &str) -> String {
    raw(admin, format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")).await
}

/// A purge with this token and JSON.
pub(crate) async fn purge(admin: SocketAddr, token: &str, body: &str) -> String {
    let length = body.len();
    let lines = format!("authorization: Bearer {token}\r\ncontent-length: {length}\r\nconnection: close");
    raw(admin, format!("POST /purge HTTP/1.1\r\nhost: {admin}\r\n{lines}\r\n\r\n{body}")).await
}

/// One GET on a connection of its own, with further lines.
pub(crate) async fn get(to: SocketAddr, path: &str, lines: &str) -> String {
    raw(to, format!("GET {path} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{lines}\r\n")).await
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
