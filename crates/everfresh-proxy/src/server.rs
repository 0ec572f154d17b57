//! Clients' connections: accepted within bounds, watched for those that only take up room, drained at the end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::arena::Arena;
use crate::body::{BoxError, Watched};
use crate::config::{Config, Limits, Timeouts};
use crate::forward::Peer;
use crate::framing::Framing;
use crate::outlet::Outlet;
use crate::patience::{Busy, Patience, Taken};
use crate::tls;

/// The bounds of one listener.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// What a client may ask.
    pub limits: Limits,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Where bodies may stand that need no copy to be sent.
    pub arena: Option<Arc<Arena>>,
}

impl Bounds {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self { limits: config.limits.clone(), timeouts: config.timeouts.clone(), arena: None }
    }
}

/// Is told of clients' connections.
pub trait Watcher: Send + Sync + 'static {
    /// There is one more, or one less.
    fn connections(&self, _by: isize) {}

    /// What came is no request that could be read, and was answered so before anybody saw it.
    fn unreadable(&self, _client: IpAddr, _status: StatusCode, _why: &str) {}
}

/// Nobody.
impl Watcher for () {}

/// Listens; says which address is taken, and what to do, if it is.
///
/// # Errors
/// The address cannot be had.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address).await.map_err(|error| {
        let cure = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there: stop it, or choose another port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose a higher one",
            io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            _ => "",
        };
        format!("cannot listen on {address}: {error}{cure}").into()
    })
}

/// How serving ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Connections that were cut off.
    pub cut_off: usize,
    /// When all that runs must be over.
    pub until: Instant,
}

/// Serves until `stop` turns true, then lets what runs end for as long as `drain` says.
///
/// `services` is asked for a service for each connection, and `bounds` for what holds for it: both may have changed since
/// the one before. How many connections there may be is as it was at first.
pub async fn serve<G, N, S, F, B>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    bounds: G,
    watcher: Arc<dyn Watcher>,
    services: N,
    mut stop: watch::Receiver<bool>,
) -> Ended
where
    G: Fn() -> Bounds,
    N: Fn() -> S,
    S: Fn(Peer, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    // More than the semaphore counts is as good as no bound.
    let room = Arc::new(Semaphore::new(bounds().limits.connections.min(Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, address, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No file descriptors left, most likely: some must be given back first.
                tracing::warn!(
                    "cannot accept a connection: {error}; if these are too many open files, allow more (ulimit -n, \
                     LimitNOFILE) or lower limits.connections"
                );
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, bounds, service, stop) = (tls.clone(), bounds(), services(), stop.clone());
        let watcher = Arc::clone(&watcher);
        running.spawn(async move {
            let place = Place::take(permit, watcher);
            let _ = stream.set_nodelay(true);
            match tls {
                None => {
                    let (stream, peer) = (Outlet::new(stream, bounds.arena.clone()), Peer { address, secure: false });
                    connection(stream, peer, place, &bounds, service, stop).await;
                }
                Some(tls) => match timeout(bounds.timeouts.head.get(), tls::agree(&tls, stream)).await {
                    Ok(Ok(stream)) => {
                        let peer = Peer { address, secure: true };
                        connection(stream, peer, place, &bounds, service, stop).await;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(client = %address, "no TLS came about: {error}");
                        if error.get_ref().is_some_and(|error| error.is::<tls::Plain>()) {
                            place.watcher.unreadable(address, StatusCode::BAD_REQUEST, &error.to_string());
                        }
                    }
                    Err(_) => tracing::debug!(client = %address, "TLS took too long"),
                },
            }
        });
    }
    drop(listener);
    let until = Instant::now() + bounds().timeouts.drain.get();
    let drained = timeout_at(until, async { while running.join_next().await.is_some() {} }).await;
    let cut_off = running.len();
    if drained.is_err() {
        running.shutdown().await;
    }
    Ended { cut_off, until }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    // On [::] a client of IPv4 has an address of IPv6 around its own, which origins and logs would take for another.
    Ok((stream, address.ip().to_canonical(), permit))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say stop is gone: that is a stop, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One of the connections that there may be, and is counted; goes where its stream goes, also into another protocol.
struct Place {
    _permit: OwnedSemaphorePermit,
    watcher: Arc<dyn Watcher>,
}

impl Place {
    fn take(permit: OwnedSemaphorePermit, watcher: Arc<dyn Watcher>) -> Self {
        watcher.connections(1);
        Self { _permit: permit, watcher }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watcher.connections(-1);
    }
}

async fn connection<T, S, F, B>(
    stream: T,
    peer: Peer,
    place: Place,
    bounds: &Bounds,
    service: S,
    mut stop: watch::Receiver<bool>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Peer, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    let watcher = Arc::clone(&place.watcher);
    let service = Arc::new(service);
    let head = usize::try_from(bounds.limits.head.get()).unwrap_or(usize::MAX).max(8192);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // Timed does this, without a timer for each request.
        .header_read_timeout(None)
        .max_buf_size(head)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(256)
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let idle = bounds.timeouts.idle.get();
    let whole = bounds.timeouts.whole.get();
    let patience = Arc::new(Patience::new(bounds.timeouts.head.get(), bounds.timeouts.keep_alive.get(), idle));
    let (watched, waited) = (Arc::clone(&patience), Arc::clone(&patience));
    let stream = Timed {
        stream,
        patience,
        read: Box::pin(sleep(bounds.timeouts.head.get())),
        write: None,
        stuck: false,
        leaves: None,
        idle,
        lingers: None,
        framing: Framing::default(),
        asked: 0,
        _place: place,
    };
    let answering = service_fn(move |mut request: Request<Incoming>| {
        // Relaxed: read by the same task.
        watched.is_two.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
        // Relaxed: written by the same task, when it read the head.
        if watched.ambiguous.swap(false, Ordering::Relaxed) && request.headers().contains_key(TRANSFER_ENCODING) {
            // The parser dropped it; whoever refuses such a request must see it.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let (service, busy) = (Arc::clone(&service), Busy::new(&watched));
        async move {
            // Boxed: hyper moves this future about, and what an exchange with an origin needs is large.
            let response = Box::pin(service(peer, request)).await;
            let patience = busy.patience();
            if response.status().is_client_error() && response.headers().contains_key(http::header::CONNECTION) {
                // Relaxed: read by the same task, when it shuts the connection down.
                patience.refused.store(true, Ordering::Relaxed);
            }
            // Relaxed: the connection is handed over later.
            patience.upgraded.fetch_or(response.status() == StatusCode::SWITCHING_PROTOCOLS, Ordering::Relaxed);
            Ok::<_, Infallible>(response.map(|body| Watched::new(Taken::new(body, busy), whole, None, ())))
        }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answering);
    tokio::pin!(serving);
    let mut stopping = std::pin::pin!(stopped(&mut stop));
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told && stopping.as_mut().poll(context).is_ready() {
            told = true;
            serving.as_mut().graceful_shutdown();
        }
        let ended = serving.as_mut().poll(context);
        // Relaxed: written by the poll before this.
        if ended.is_ready() || !waited.over.swap(false, Ordering::Relaxed) {
            return ended;
        }
        serving.as_mut().graceful_shutdown();
        serving.as_mut().poll(context)
    });
    let ended = ended.await;
    if let Err(error) = ended {
        tracing::debug!(client = %peer.address, "a connection broke: {error}");
        if let Some((status, why)) = error.downcast_ref().and_then(answered_by_hyper) {
            watcher.unreadable(peer.address, status, &why);
        }
    }
}

/// What hyper itself has answered to what it could not read as a request, and why.
fn answered_by_hyper(error: &hyper::Error) -> Option<(StatusCode, String)> {
    let why = error.to_string();
    let status = match error.is_parse() {
        // Only its words say which of the two; should they change, a line of the log says 431.
        true if error.is_parse_too_large() && why.contains("URI") => StatusCode::URI_TOO_LONG,
        true if error.is_parse_too_large() => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        true => StatusCode::BAD_REQUEST,
        false => return None,
    };
    Some((status, why))
}

/// How long a client that still sends is listened to after it was refused; otherwise its system would throw away our
/// answer together with the connection (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Some frames of HTTP/2 that carry no answer, together.
const LONGEST_CONTROL: usize = 64;

/// A stream that ends when its client neither asks nor reads: however slowly it trickles, the clock runs from the end
/// of the last request.
struct Timed<T> {
    stream: T,
    patience: Arc<Patience>,
    read: Pin<Box<Sleep>>,
    write: Option<Pin<Box<Sleep>>>,
    stuck: bool,
    /// It was said that the connection ends, which is given so long to come about.
    leaves: Option<Instant>,
    idle: Duration,
    lingers: Option<Pin<Box<Sleep>>>,
    framing: Framing,
    /// Requests when the head began that `framing` reads.
    asked: usize,
    _place: Place,
}

impl<T> Timed<T> {
    fn until(&self) -> Option<Instant> {
        self.patience.until().map(|until| self.leaves.map_or(until, |last| last.max(until)))
    }

    fn out_of_patience(&mut self, context: &mut Context<'_>) -> bool {
        // What the system does not take has a time of its own.
        if self.stuck || self.patience.upgraded.load(Ordering::Relaxed) {
            return false;
        }
        // The timer may be early, as a request came since it was set: then it is set anew when it ends, and not by each of
        // the requests that come one after the other.
        if let Some(until) = self.until()
            && until < self.read.deadline()
        {
            self.read.as_mut().reset(until);
        }
        while self.read.as_mut().poll(context).is_ready() {
            match self.until() {
                Some(until) if until <= Instant::now() => {
                    if self.leaves.is_some()
                        || !self.patience.is_two.load(Ordering::Relaxed)
                        || self.patience.is_running()
                    {
                        return true;
                    }
                    // RFC 9113 §6.8: who sends a request in this moment learns that nobody has looked at it.
                    self.patience.over.store(true, Ordering::Relaxed);
                    let last = Instant::now() + LINGER;
                    self.leaves = Some(last);
                    self.read.as_mut().reset(last);
                }
                // While a request runs, this looks again later: nobody wakes it when the request ends.
                until => self.read.as_mut().reset(until.unwrap_or(Instant::now() + Duration::from_secs(1))),
            }
        }
        false
    }

    /// Looks at what was read, if it is of a head. What a client sends before it has its answer is not looked at: should it
    /// be a head, too, then its parser decides, and the connection ends with the answer.
    fn heed(&mut self, bytes: &[u8]) {
        if self.patience.is_running() || self.patience.upgraded.load(Ordering::Relaxed) {
            return;
        }
        let asked = self.patience.asked.load(Ordering::Relaxed);
        if asked != self.asked {
            (self.asked, self.framing) = (asked, Framing::default());
        }
        if self.framing.heed(bytes) {
            self.patience.ambiguous.store(true, Ordering::Relaxed);
        }
    }

    /// An answer that was handed over whole may be on its way for long; what is as short as the frames by which HTTP/2 asks
    /// whether its client still lives is none.
    fn heed_taken(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(taken)) if *taken > LONGEST_CONTROL) {
            self.patience.goes_on();
        }
    }

    fn written(&mut self, context: &mut Context<'_>, pending: bool) -> bool {
        if !pending {
            self.stuck = false;
            return false;
        }
        let write = self.write.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        if !self.stuck {
            self.stuck = true;
            write.as_mut().reset(Instant::now() + self.idle);
        }
        write.as_mut().poll(context).is_ready()
    }
}

fn timed_out<T>(what: &'static str) -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        // What trickles makes this wait in between, and so be looked at.
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending if self.out_of_patience(context) => timed_out("the client asked for nothing in time"),
            read => {
                self.heed(&buffer.filled()[before..]);
                read
            }
        }
    }
}

impl<T: AsyncRead + Unpin> Timed<T> {
    /// Reads what the client still sends, and forgets it.
    fn poll_to_the_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [std::mem::MaybeUninit::uninit(); 8 << 10];
        // A fast client must not keep this task from all others: it goes on in the next turn.
        for _ in 0..16 {
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.heed_taken(&written);
        if self.written(context, written.is_pending()) { timed_out("the client does not read") } else { written }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if self.written(context, flushed.is_pending()) { timed_out("the client does not read") } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(until) = &mut self.lingers {
            return if until.as_mut().poll(context).is_ready() {
                Poll::Ready(Ok(()))
            } else {
                self.poll_to_the_end(context)
            };
        }
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        if self.written(context, shut.is_pending()) {
            return timed_out("the client does not read");
        }
        if matches!(shut, Poll::Ready(Ok(()))) && self.patience.refused.load(Ordering::Relaxed) {
            self.lingers = Some(Box::pin(sleep(LINGER)));
            return self.poll_shutdown(context);
        }
        shut
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.heed_taken(&written);
        if self.written(context, written.is_pending()) { timed_out("the client does not read") } else { written }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
