//! A client's plain connection: bodies that stand in the arena are sent from there by the kernel, without a copy.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::arena::{Arena, LEAST};

/// A connection that knows where bodies may stand.
pub struct Outlet {
    stream: TcpStream,
    arena: Option<Arc<Arena>>,
}

impl Outlet {
    /// Over this connection.
    pub fn new(stream: TcpStream, arena: Option<Arc<Arena>>) -> Self {
        Self { stream, arena }
    }
}

impl AsyncRead for Outlet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let body = self.arena.as_ref().and_then(|arena| {
            let body = |(at, piece): (usize, &IoSlice<'_>)| Some((at, arena.offset_of(piece)?, piece.len()));
            pieces.iter().enumerate().filter(|(_, piece)| piece.len() >= LEAST).find_map(body)
        });
        if let (Some((at, offset, length)), Some(arena)) = (body, &self.arena) {
            loop {
                ready!(self.stream.poll_write_ready(context))?;
                let sending = || arena.send(&self.stream, &pieces[..at], offset, length);
                match self.stream.try_io(Interest::WRITABLE, sending) {
                    Ok(Some(sent)) => return Poll::Ready(Ok(sent)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(None) => break,
                }
            }
            // Copied, then; what is wrong with the connection itself, if anything, that will say too.
            self.arena = None;
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
