//! The body of an answer, wherever it comes from.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use super::fetch::BoxError;
use super::fill::Reader;
use super::page::StoredBody;

/// The body of an answer: from the store, from a fetch that others read too, or from the origin as it comes.
///
/// Bytes from the store are shared with it, not copied.
pub struct Body(Kind);

enum Kind {
    Empty,
    /// What a GET would have and a HEAD has not.
    Withheld,
    Stored {
        body: StoredBody,
        next: usize,
        left: u64,
        trailers: bool,
    },
    Pieces {
        pieces: VecDeque<Bytes>,
        left: u64,
    },
    Joined {
        reader: Reader,
        length: Option<u64>,
        read: u64,
    },
    // The lock is never taken: it makes the body `Sync`, as some clients want it.
    Through(Mutex<UnsyncBoxBody<Bytes, BoxError>>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// The body of an answer to HEAD: none, and that says nothing of how long it would be.
    pub(crate) fn withheld() -> Self {
        Self(Kind::Withheld)
    }

    pub(crate) fn stored(body: StoredBody) -> Self {
        let (left, trailers) = (body.length(), body.trailers().is_some());
        Self(Kind::Stored { body, next: 0, left, trailers })
    }

    pub(crate) fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: VecDeque<Bytes> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self(Kind::Pieces { pieces, left })
    }

    pub(crate) fn range(body: &StoredBody, range: Range<u64>) -> Self {
        Self::pieces(body.slices(range))
    }

    pub(crate) fn joined(reader: Reader, length: Option<u64>) -> Self {
        Self(Kind::Joined { reader, length, read: 0 })
    }

    pub(crate) fn through(body: UnsyncBoxBody<Bytes, BoxError>) -> Self {
        Self(Kind::Through(Mutex::new(body)))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Body").field(&http_body::Body::size_hint(self)).finish()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().0 {
            Kind::Empty | Kind::Withheld => Poll::Ready(None),
            Kind::Stored { body, next, left, trailers } => {
                if let Some(chunk) = body.chunks().get(*next) {
                    *next += 1;
                    *left = left.saturating_sub(chunk.len() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
                }
                let fields: Option<HeaderMap> = std::mem::take(trailers).then(|| body.trailers().cloned()).flatten();
                Poll::Ready(fields.map(|fields| Ok(Frame::trailers(fields))))
            }
            Kind::Pieces { pieces, left } => Poll::Ready(pieces.pop_front().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Kind::Joined { reader, read, .. } => Pin::new(reader).poll_frame(cx).map(|frame| {
                frame.map(|frame| {
                    if let Ok(data) = frame.as_ref().map(|frame| frame.data_ref().map_or(0, Bytes::len)) {
                        *read += data as u64;
                    }
                    frame.map_err(Into::into)
                })
            }),
            Kind::Through(body) => Pin::new(body.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Withheld => true,
            Kind::Stored { body, next, trailers, .. } => *next >= body.chunks().len() && !trailers,
            Kind::Pieces { pieces, .. } => pieces.is_empty(),
            Kind::Joined { reader, .. } => reader.is_end(),
            Kind::Through(body) => body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Withheld => SizeHint::default(),
            // Who knew the length would send it instead of chunks, and HTTP/1.1 has trailers behind chunks alone.
            Kind::Stored { left, trailers: true, .. } => {
                let mut hint = SizeHint::default();
                hint.set_lower(*left);
                hint
            }
            Kind::Stored { left, .. } | Kind::Pieces { left, .. } => SizeHint::with_exact(*left),
            Kind::Joined { length, read, .. } => {
                length.map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(*read)))
            }
            Kind::Through(body) => body.lock().unwrap_or_else(PoisonError::into_inner).size_hint(),
        }
    }
}
