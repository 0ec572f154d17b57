//! The origin behind all proxies: answers `/SIZE/DELAY_MS/MAX_AGE/WINDOW/any`, counts, and can be away.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// An origin on this machine.
pub struct Origin {
    /// Where it listens, also after an outage.
    pub address: SocketAddr,
    asked: Arc<AtomicU64>,
    serving: Option<JoinHandle<()>>,
}

/// A path that the origin answers, to which anything may be appended.
pub fn path(size: usize, delay: Duration, max_age: u64, window: u64) -> String {
    format!("/{size}/{}/{max_age}/{window}/", delay.as_millis())
}

impl Origin {
    /// One that answers from now on.
    pub async fn start() -> Result<Self, String> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut origin = Self { address: any, asked: Arc::default(), serving: None };
        origin.come_back().await?;
        Ok(origin)
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Away: connections break, new ones are refused.
    pub async fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// There again, where it was.
    pub async fn come_back(&mut self) -> Result<(), String> {
        let listener = TcpListener::bind(self.address).await.map_err(|error| format!("the origin: {error}"))?;
        self.address = listener.local_addr().map_err(|error| error.to_string())?;
        let asked = Arc::clone(&self.asked);
        self.serving = Some(tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    Ok((stream, _)) = listener.accept() => {
                        let _ = stream.set_nodelay(true);
                        let asked = Arc::clone(&asked);
                        let answering = service_fn(move |request| answer(Arc::clone(&asked), request));
                        connections.spawn(async move {
                            let serving = hyper::server::conn::http1::Builder::new();
                            let _ = serving.serve_connection(TokioIo::new(stream), answering).await;
                        });
                    }
                }
            }
        }));
        Ok(())
    }
}

async fn answer(asked: Arc<AtomicU64>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    asked.fetch_add(1, Ordering::Relaxed);
    let mut parts = request.uri().path().split('/').skip(1).map(|part| part.parse::<u64>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let (size, delay, max_age, window) = (next(), next(), next(), next());
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let control = format!("max-age={max_age}, stale-while-revalidate={window}, stale-if-error={window}");
    let mut response = Response::new(Full::new(Bytes::from(vec![b'x'; usize::try_from(size).unwrap_or_default()])));
    let headers = response.headers_mut();
    let made = control.parse().map(|control| headers.insert("cache-control", control));
    headers.insert("content-type", hyper::header::HeaderValue::from_static("text/plain"));
    if made.is_err() {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}
