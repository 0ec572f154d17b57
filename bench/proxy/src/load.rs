//! The load: wrk as fast as it goes, and readers on a timetable, whose waits count from when they were due.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// What wrk saw.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Answers.
    pub requests: u64,
    /// Answers that were none, or 4xx and 5xx.
    pub errors: u64,
    /// Answers a second.
    pub rate: f64,
    /// Waits in milliseconds: half, all but one of a hundred, all but one of a thousand were shorter.
    pub p50: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
}

/// Keeps so many connections busy for so long, over `keys` paths that begin with `prefix`.
pub fn flood(to: SocketAddr, prefix: &str, keys: usize, connections: usize, seconds: u64) -> Result<Flood, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("wrk.lua");
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{to}/"))
        .args(["--", prefix, &keys.to_string()])
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("figures "));
    let figures: Vec<f64> = line.unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    let &[requests, micros, errors, p50, p99, p999] = figures.as_slice() else {
        return Err(format!("wrk said something else: {text}{}", String::from_utf8_lossy(&output.stderr)));
    };
    Ok(Flood {
        requests: requests as u64,
        errors: errors as u64,
        rate: requests * 1e6 / micros,
        p50: p50 / 1000.0,
        p99: p99 / 1000.0,
        p999: p999 / 1000.0,
    })
}

/// What readers on a timetable saw.
pub struct Seen {
    /// Waits in microseconds, from the moment a request was due.
    pub waits: Histogram<u64>,
    /// No answer, or 5xx.
    pub errors: u64,
}

impl Seen {
    fn new() -> Self {
        Self { waits: Histogram::new(3).expect("three digits are a precision"), errors: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.errors += other.errors;
        let _ = self.waits.add(&other.waits);
    }

    /// A quantile, in milliseconds.
    pub fn wait(&self, quantile: f64) -> f64 {
        self.waits.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// How many waited at least so long.
    pub fn waited(&self, wait: Duration) -> u64 {
        self.waits.count_between(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), u64::MAX)
    }
}

/// One connection of a reader.
struct Reader {
    to: SocketAddr,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Reader {
    async fn connect(&mut self) -> Result<(), String> {
        let stream = TcpStream::connect(self.to).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        self.sender = Some(sender);
        Ok(())
    }

    /// Asks once; whether a good answer came whole.
    async fn ask(&mut self, path: &str) -> bool {
        if self.sender.as_ref().is_none_or(SendRequest::is_closed) && self.connect().await.is_err() {
            return false;
        }
        let Some(sender) = &mut self.sender else { return false };
        let request = Request::get(path).header("host", "bench.example").body(Empty::new());
        let Ok(request) = request else { return false };
        let answered = async {
            sender.ready().await.ok()?;
            let answer = sender.send_request(request).await.ok()?;
            let good = !answer.status().is_server_error();
            answer.into_body().collect().await.ok()?;
            Some(good)
        };
        match timeout(Duration::from_secs(30), answered).await {
            Ok(Some(good)) => good,
            _ => {
                self.sender = None;
                false
            }
        }
    }
}

fn note(seen: &mut Seen, due: Instant, good: bool) {
    seen.errors += u64::from(!good);
    let _ = seen.waits.record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
}

async fn gathered(mut tasks: JoinSet<Seen>) -> Seen {
    let mut all = Seen::new();
    while let Some(seen) = tasks.join_next().await {
        if let Ok(seen) = seen {
            all.add(&seen);
        }
    }
    all
}

/// Asks for `paths` in turn, `rate` times a second over so many connections, for so long.
pub async fn timetable(to: SocketAddr, paths: Vec<String>, rate: u32, readers: u32, time: Duration) -> Seen {
    let begin = Instant::now() + Duration::from_millis(200);
    let paths = std::sync::Arc::new(paths);
    let mut tasks = JoinSet::new();
    for first in 0..readers {
        let paths = std::sync::Arc::clone(&paths);
        tasks.spawn(async move {
            let mut reader = Reader { to, sender: None };
            let _ = reader.connect().await;
            let mut seen = Seen::new();
            let mut number = first;
            loop {
                let after = Duration::from_secs(1) * number / rate;
                if after >= time {
                    return seen;
                }
                sleep_until(begin + after).await;
                let good = reader.ask(&paths[number as usize % paths.len()]).await;
                note(&mut seen, begin + after, good);
                number += readers;
            }
        });
    }
    gathered(tasks).await
}

/// `clients` connections ask for one path at the same moment.
pub async fn stampede(to: SocketAddr, path: &str, clients: usize) -> Seen {
    let (go, gone) = tokio::sync::watch::channel(None);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (path, mut gone) = (path.to_owned(), gone.clone());
        let mut reader = Reader { to, sender: None };
        let _ = reader.connect().await;
        tasks.spawn(async move {
            let due = gone.wait_for(Option::is_some).await.ok().and_then(|due| *due).unwrap_or_else(Instant::now);
            let mut seen = Seen::new();
            let good = reader.ask(&path).await;
            note(&mut seen, due, good);
            seen
        });
    }
    let _ = go.send(Some(Instant::now()));
    gathered(tasks).await
}

/// Asks once for each of `count` paths that begin with `prefix`, over eight connections; how many came well.
pub async fn fill(to: SocketAddr, prefix: &str, count: usize) -> usize {
    const READERS: usize = 8;
    let mut tasks = JoinSet::new();
    for first in 0..READERS {
        let prefix = prefix.to_owned();
        tasks.spawn(async move {
            let mut reader = Reader { to, sender: None };
            let mut good = 0;
            for key in (first..count).step_by(READERS) {
                good += usize::from(reader.ask(&format!("{prefix}{key}")).await);
            }
            good
        });
    }
    let mut good = 0;
    while let Some(some) = tasks.join_next().await {
        good += some.unwrap_or_default();
    }
    good
}
