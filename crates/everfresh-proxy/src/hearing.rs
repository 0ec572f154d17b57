//! A connection to an origin that is heard out: who closes it while we still send may have answered before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::time::Instant;

/// For so long a closed connection takes what is written: until what it had said before must have been read, or its end. Who goes on
/// writing into a tunnel after that is told.
const GRACE: Duration = Duration::from_secs(5);

/// A write that meets a closed connection is no failure: reading tells what there is, the answer or the end. An origin that
/// wants no more of a request says so and closes (413, 401), and hyper would not look at that once a write has failed.
pub(crate) struct HeardOut<T> {
    connection: T,
    closed_since: Option<Instant>,
}

impl<T> HeardOut<T> {
    pub(crate) fn new(connection: T) -> HeardOut<T> {
        HeardOut { connection, closed_since: None }
    }

    /// What became of a write; `whole` is what is said where it met a closed connection.
    fn heard_out<R>(&mut self, written: Poll<io::Result<R>>, whole: R) -> Poll<io::Result<R>> {
        match written {
            Poll::Ready(Err(error))
                if is_closed(&error) && self.closed_since.get_or_insert_with(Instant::now).elapsed() < GRACE =>
            {
                Poll::Ready(Ok(whole))
            }
            written => written,
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<T: Read + Unpin> Read for HeardOut<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<T: Write + Unpin> Write for HeardOut<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.heard_out(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, pieces);
        self.heard_out(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.connection).poll_flush(context);
        self.heard_out(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

impl<T: Connection> Connection for HeardOut<T> {
    fn connected(&self) -> Connected {
        self.connection.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    struct Closed;

    impl Read for Closed {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn write(connection: &mut HeardOut<Closed>) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut *connection).poll_write(context, b"more")).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_connection_takes_what_is_written_for_a_while_and_not_for_ever() {
        let mut connection = HeardOut::new(Closed);
        assert_eq!(write(&mut connection).await.unwrap(), 4);
        advance(GRACE / 2).await;
        assert_eq!(write(&mut connection).await.unwrap(), 4);
        advance(GRACE / 2).await;
        assert_eq!(write(&mut connection).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
