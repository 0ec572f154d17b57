//! A body on its way into the store, read by many while it comes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// Why a body ended early.
#[derive(Clone, Debug)]
pub struct BodyError(Arc<str>);

impl BodyError {
    /// Whether its reader fell too far behind others, with whom it shared a body of unknown length that turned out too
    /// large to be stored; the body itself is whole.
    pub fn has_lagged(&self) -> bool {
        &*self.0 == LAGGED
    }

    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// With all that is beneath the error in its text, as several have it and nothing else of it: clients say at the top
    /// no more than that a body broke.
    pub(crate) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut beneath = error.source();
        while let Some(error) = beneath {
            text.extend([": ", &error.to_string()]);
            beneath = error.source();
        }
        Self::new(text)
    }
}

/// What a reader is told who was cut off.
const LAGGED: &str = "too far behind the others who read this body";

impl fmt::Display for BodyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for BodyError {}

/// The bytes that came so far, and who reads them.
///
/// While it is to be stored, all of it is kept, and anybody may join. Once it has grown past `most`, it is only passed on:
/// what everybody has read is dropped, nobody joins any more, and a reader who lags by more than `most` behind one who
/// waits for bytes is cut off. The origin is asked for at most `ahead` bytes more than the fastest reader has taken.
pub(crate) struct Fill {
    most: u64,
    ahead: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// How many chunks were dropped before the first that is held, and how many bytes they had.
    dropped: usize,
    length: u64,
    overgrown: bool,
    end: Option<End>,
    readers: HashMap<u64, Position>,
    next_reader: u64,
    filler: Option<Waker>,
}

#[derive(Default)]
struct Position {
    next: usize,
    bytes: u64,
    waker: Option<Waker>,
    cut_off: bool,
}

#[derive(Clone)]
enum End {
    Whole(Option<HeaderMap>),
    Broken(BodyError),
}

/// Whether the origin is to be asked for more.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// Yes, and somebody reads.
    Read,
    /// Yes, for the store alone.
    Unread,
    /// No: nobody reads, and it is not to be stored.
    Deserted,
}

impl Fill {
    pub(crate) fn new(most: u64, ahead: u64) -> Arc<Self> {
        Arc::new(Self { most, ahead: ahead.max(1), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more reader, from the first byte; `None` if that is gone already.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if state.overgrown || matches!(state.end, Some(End::Broken(_))) {
            return None;
        }
        state.next_reader += 1;
        let id = state.next_reader;
        state.readers.insert(id, Position::default());
        Some(Reader { fill: Arc::clone(self), id, done: false })
    }

    /// Whether there is room for more; if not, the task is woken when there is, or when the last reader leaves.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Room> {
        // Dropped after the lock.
        let _replaced;
        let mut state = self.lock();
        _replaced = note(&mut state.filler, cx.waker());
        let Some(fastest) = state.readers.values().map(|reader| reader.bytes).max() else {
            return Poll::Ready(if state.overgrown { Room::Deserted } else { Room::Unread });
        };
        if state.length - fastest >= self.ahead {
            return Poll::Pending;
        }
        let mut woken = Vec::new();
        if state.overgrown {
            let limit = state.length.saturating_sub(self.most);
            for reader in state.readers.values_mut().filter(|reader| reader.bytes < limit.min(fastest)) {
                reader.cut_off = true;
                woken.extend(reader.waker.take());
            }
            state.trim();
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Poll::Ready(Room::Read)
    }

    /// More bytes. `false` if from now on it is too large to be stored.
    pub(crate) fn push(&self, bytes: Bytes) -> bool {
        let mut state = self.lock();
        state.length += bytes.len() as u64;
        if !bytes.is_empty() {
            state.chunks.push_back(bytes);
            state.gather();
        }
        let grew = !state.overgrown && state.length > self.most;
        if grew {
            state.overgrown = true;
            state.trim();
        }
        wake_readers(state);
        !grew
    }

    /// All the chunks, if it is still to be stored.
    pub(crate) fn all(&self) -> Option<Vec<Bytes>> {
        let state = self.lock();
        (!state.overgrown).then(|| state.chunks.iter().cloned().collect())
    }

    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    pub(crate) fn end_whole(&self, trailers: Option<HeaderMap>) {
        self.end(End::Whole(trailers));
    }

    pub(crate) fn end_broken(&self, why: BodyError) {
        self.end(End::Broken(why));
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        let _filler = state.filler.take();
        wake_readers(state);
    }

    #[cfg(test)]
    fn held(&self) -> u64 {
        self.lock().chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// Up to this length chunks are put together.
const GATHERED: usize = 4 << 10;

impl State {
    /// Puts small chunks at the end together, where no reader stands between them: each costs some hundred bytes besides its
    /// own, and holds the buffer that it was read into. Never a longer one and a shorter one, so that a byte is copied a
    /// dozen times at most.
    fn gather(&mut self) {
        // Who keeps up stands before the last chunk; a few others are looked past, too.
        let mut left = 4;
        let mut at = self.chunks.len().saturating_sub(1);
        while at > 0 && left > 0 {
            at -= 1;
            let (one, two) = (&self.chunks[at], &self.chunks[at + 1]);
            let between = self.dropped + at + 1;
            let small = one.len() <= two.len() && one.len() + two.len() <= GATHERED;
            if !small || self.readers.values().any(|reader| reader.next == between) {
                left -= 1;
                continue;
            }
            self.chunks[at] = Bytes::from([&one[..], &two[..]].concat());
            self.chunks.remove(at + 1);
            self.readers.values_mut().filter(|reader| reader.next > between).for_each(|reader| reader.next -= 1);
        }
    }

    /// Drops what everybody has read.
    fn trim(&mut self) {
        if !self.overgrown {
            return;
        }
        let first = self.readers.values().filter(|reader| !reader.cut_off).map(|reader| reader.next).min();
        let first = first.unwrap_or(self.dropped + self.chunks.len());
        while self.dropped < first && self.chunks.pop_front().is_some() {
            self.dropped += 1;
        }
    }
}

/// Wakes them when the lock is not held any more: a waker may be the last that knows of a task, and with the task goes the reader
/// in it.
fn wake_readers(mut state: MutexGuard<'_, State>) {
    let woken: Vec<Waker> = state.readers.values_mut().filter_map(|reader| reader.waker.take()).collect();
    drop(state);
    woken.into_iter().for_each(Waker::wake);
}

/// Notes a waker, unless it is noted; what it replaces is to be dropped when the lock is not held any more.
fn note(place: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    let noted = place.as_ref().is_some_and(|noted| noted.will_wake(waker));
    if noted { None } else { place.replace(waker.clone()) }
}

/// One who reads a body while it comes; leaves when dropped.
pub(crate) struct Reader {
    fill: Arc<Fill>,
    id: u64,
    done: bool,
}

impl Reader {
    pub(crate) fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        // Dropped after the lock.
        let _replaced;
        let mut state = this.fill.lock();
        let State { chunks, dropped, end, readers, .. } = &mut *state;
        let Some(own) = readers.get_mut(&this.id) else { return Poll::Ready(None) };
        if own.cut_off {
            this.done = true;
            return Poll::Ready(Some(Err(BodyError::new(LAGGED))));
        }
        if let Some(chunk) = own.next.checked_sub(*dropped).and_then(|at| chunks.get(at)).cloned() {
            own.next += 1;
            own.bytes += chunk.len() as u64;
            state.trim();
            let filler = state.filler.take();
            drop(state);
            filler.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match end {
            Some(end) => {
                this.done = true;
                Poll::Ready(match end.clone() {
                    End::Whole(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
                    End::Broken(why) => Some(Err(why)),
                })
            }
            None => {
                _replaced = note(&mut own.waker, cx.waker());
                Poll::Pending
            }
        }
    }

    /// Whether all of it has been read.
    pub(crate) fn is_end(&self) -> bool {
        if self.done {
            return true;
        }
        let state = self.fill.lock();
        let at_end = state.readers.get(&self.id).is_some_and(|own| own.next == state.dropped + state.chunks.len());
        at_end && matches!(state.end, Some(End::Whole(None)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        let own = state.readers.remove(&self.id);
        state.trim();
        let filler = state.filler.take();
        drop(state);
        drop(own);
        filler.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn read(reader: &mut Reader) -> Option<Result<Bytes, BodyError>> {
        match Pin::new(reader).poll_frame(&mut cx()) {
            Poll::Ready(Some(frame)) => Some(frame.map(|frame| frame.into_data().expect("data"))),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    #[test]
    fn a_joiner_reads_from_the_first_byte_and_the_same_bytes() {
        let fill = Fill::new(100, 100);
        let mut first = fill.join().expect("a reader");
        let bytes = Bytes::from_static(b"hello");
        fill.push(bytes.clone());
        assert_eq!(read(&mut first).expect("data").expect("fine").as_ptr(), bytes.as_ptr());
        let mut second = fill.join().expect("a reader");
        assert_eq!(read(&mut second).expect("data").expect("fine").as_ptr(), bytes.as_ptr());
        fill.end_whole(None);
        assert!(first.is_end() && second.is_end());
    }

    #[test]
    fn the_origin_is_asked_no_further_than_a_bound_ahead_of_the_fastest() {
        let fill = Fill::new(100, 10);
        let mut fast = fill.join().expect("a reader");
        let _slow = fill.join().expect("a reader");
        fill.push(Bytes::from_static(&[0; 10]));
        assert!(fill.poll_room(&mut cx()).is_pending());
        assert!(read(&mut fast).is_some());
        assert_eq!(fill.poll_room(&mut cx()), Poll::Ready(Room::Read), "the slow one holds nobody up");
        drop(fast);
        assert!(fill.poll_room(&mut cx()).is_pending(), "now the slow one is the fastest");
    }

    #[test]
    fn what_is_too_large_to_store_is_passed_on_with_a_bounded_window_and_the_laggard_is_cut_off() {
        let fill = Fill::new(100, 10);
        let (mut fast, mut slow) = (fill.join().expect("a reader"), fill.join().expect("a reader"));
        for round in 0..1000 {
            assert_eq!(fill.poll_room(&mut cx()), Poll::Ready(Room::Read));
            assert_eq!(fill.push(Bytes::from_static(&[0; 10])), round != 10);
            assert!(read(&mut fast).expect("data").is_ok());
            assert!(fill.held() <= 120, "{} bytes held", fill.held());
        }
        assert!(fill.join().is_none() && fill.all().is_none());
        assert!(read(&mut slow).expect("an end").is_err_and(|error| error.has_lagged()));
        assert!(read(&mut slow).is_none());
    }

    #[test]
    fn small_chunks_are_held_together_and_read_as_they_came() {
        let fill = Fill::new(1 << 20, 1 << 20);
        let bytes: Vec<u8> = (0..50_000_u32).map(|at| (at % 251) as u8).collect();
        let (mut fast, mut slow) = (fill.join().expect("a reader"), fill.join().expect("a reader"));
        let (mut by_fast, mut by_slow, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(rest.len().min(1 + rest.len() % 3));
            rest = more;
            fill.push(Bytes::copy_from_slice(chunk));
            by_fast.extend(read(&mut fast).expect("data").expect("fine"));
            if rest.len() % 7 == 0 {
                by_slow.extend(read(&mut slow).expect("data").expect("fine"));
            }
        }
        let mut late = fill.join().expect("a reader");
        fill.end_whole(None);
        let mut by_late = Vec::new();
        for (reader, had) in [(&mut fast, &mut by_fast), (&mut slow, &mut by_slow), (&mut late, &mut by_late)] {
            while let Some(chunk) = read(reader) {
                had.extend(chunk.expect("fine"));
            }
            assert!(*had == bytes && reader.is_end());
        }
        assert!(fill.all().expect("kept").len() < 100, "{} chunks", fill.all().expect("kept").len());
    }

    /// It hung: the reader left under the lock under which its waker was woken.
    #[test]
    fn a_reader_that_goes_with_its_waker_holds_up_nobody() {
        struct Forgotten(Mutex<Option<Reader>>);
        impl std::task::Wake for Forgotten {
            fn wake(self: Arc<Self>) {}
        }
        let read_by_nobody = || {
            let fill = Fill::new(100, 10);
            let forgotten = Arc::new(Forgotten(Mutex::new(fill.join())));
            let waker = Waker::from(Arc::clone(&forgotten));
            let mut reader = forgotten.0.lock().expect("one thread");
            let polled = Pin::new(reader.as_mut().expect("a reader")).poll_frame(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            drop(reader);
            fill
        };
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (grows, ends) = (read_by_nobody(), read_by_nobody());
            grows.push(Bytes::from_static(&[0; 5]));
            ends.end_whole(None);
            let left = [grows, ends].map(|fill| fill.lock().readers.len());
            done.send(left).expect("somebody waits");
        });
        assert_eq!(is_done.recv_timeout(std::time::Duration::from_secs(60)), Ok([0, 0]));
    }

    #[test]
    fn without_readers_it_goes_on_for_the_store_alone() {
        let fill = Fill::new(100, 10);
        drop(fill.join());
        fill.push(Bytes::from_static(&[0; 50]));
        assert_eq!(fill.poll_room(&mut cx()), Poll::Ready(Room::Unread));
        fill.push(Bytes::from_static(&[0; 60]));
        assert_eq!(fill.poll_room(&mut cx()), Poll::Ready(Room::Deserted));
        assert_eq!(fill.held(), 0);
    }

    #[test]
    fn a_broken_body_ends_with_an_error_for_everybody() {
        let fill = Fill::new(100, 10);
        let mut reader = fill.join().expect("a reader");
        fill.end_broken(BodyError::new("cut"));
        assert_eq!(read(&mut reader).expect("an end").expect_err("an error").to_string(), "cut");
        assert!(fill.join().is_none());
    }
}
