//! Two connections that have gone over to another protocol: joined byte for byte, until both end or both fall silent.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

/// Carries what either side sends to the other until both have ended, or neither has sent anything for so long.
///
/// # Errors
/// One of them broke, or the silence was too long.
pub(crate) async fn join<A, B>(one: A, other: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = Arc::new(Mutex::new(Instant::now()));
    let mut one = Heard { inner: one, last: Arc::clone(&last) };
    let mut other = Heard { inner: other, last: Arc::clone(&last) };
    tokio::select! {
        ended = copy_bidirectional(&mut one, &mut other) => ended.map(drop),
        () = silence(&last, idle) => Err(io::Error::new(io::ErrorKind::TimedOut, "neither side sent anything for too long")),
    }
}

async fn silence(last: &Mutex<Instant>, most: Duration) {
    loop {
        let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + most;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// A connection that notes when it was heard of last.
struct Heard<T> {
    inner: T,
    last: Arc<Mutex<Instant>>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
