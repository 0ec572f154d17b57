//! What is stored of one URI: its variants, each a head that is parsed and a body in pieces.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{StatusCode, Uri, request};

use crate::rfc9111::{self, Failure, Meta};

/// A stored body is held in pieces of this size, so that nothing of it keeps a larger buffer alive.
const PIECE: usize = 256 * 1024;

/// What a field takes beside its text: its place in the map.
const A_FIELD: usize = 112;

/// What a tag takes beside its text: its counts, its places in the response and in the store's index.
const A_TAG: usize = 96;

/// What a response takes beside fields and body: its structures, its place in the store, what allocators round up.
const A_RESPONSE: usize = 1440;

/// Where a body is kept that [`body_keeper`](super::HttpCacheBuilder::body_keeper) has taken.
#[derive(Clone, Debug)]
pub struct KeptBody {
    /// All of the body, and nothing else.
    pub bytes: Bytes,
    /// The bytes that it really takes there, at least as many: what is rounded up counts against the capacity.
    pub room: u64,
}

/// A whole body; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredBody(Arc<Whole>);

#[derive(Debug, Default)]
struct Whole {
    chunks: Box<[Bytes]>,
    length: u64,
    room: u64,
    trailers: Option<HeaderMap>,
}

impl StoredBody {
    /// Copies the chunks into pieces that hold nothing else, once, off every reader's path.
    pub(crate) fn new(chunks: &[Bytes], trailers: Option<HeaderMap>) -> Self {
        let length: usize = chunks.iter().map(Bytes::len).sum();
        let mut pieces = Vec::with_capacity(length.div_ceil(PIECE));
        let mut left = length;
        let mut piece = BytesMut::with_capacity(left.min(PIECE));
        for chunk in chunks {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PIECE - piece.len()));
                piece.extend_from_slice(now);
                rest = later;
                if piece.len() == PIECE {
                    left -= PIECE;
                    pieces.push(std::mem::replace(&mut piece, BytesMut::with_capacity(left.min(PIECE))).freeze());
                }
            }
        }
        if !piece.is_empty() {
            pieces.push(piece.freeze());
        }
        let length = length as u64;
        Self(Arc::new(Whole { chunks: pieces.into(), length, room: length, trailers }))
    }

    /// One that is kept elsewhere.
    pub(crate) fn kept(body: KeptBody, trailers: Option<HeaderMap>) -> Self {
        let length = body.bytes.len() as u64;
        Self(Arc::new(Whole { chunks: [body.bytes].into(), length, room: body.room.max(length), trailers }))
    }

    /// Whether both are the same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn chunks(&self) -> &[Bytes] {
        &self.0.chunks
    }

    pub(crate) fn length(&self) -> u64 {
        self.0.length
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.0.trailers.as_ref()
    }

    /// These bytes of it, shared.
    pub(crate) fn slices(&self, range: Range<u64>) -> Vec<Bytes> {
        let mut found = Vec::new();
        let mut at = 0_u64;
        for chunk in self.chunks() {
            let end = at + chunk.len() as u64;
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                found.push(chunk.slice((from - at) as usize..(to - at) as usize));
            }
            at = end;
        }
        found
    }
}

/// What a response was asked for as, so that it can be asked for again when nobody does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// Its `Host`, where the URI does not name it.
    pub(crate) hosts: Box<[HeaderValue]>,
}

impl Target {
    pub(crate) fn of(asked: &request::Parts) -> Self {
        let own = asked.uri.authority().map(|authority| authority.as_str().as_bytes());
        let hosts = asked.headers.get_all(HOST).iter().filter(|host| Some(host.as_bytes()) != own);
        // Copied: both are views into the read buffer of a connection.
        let hosts = hosts.filter_map(|host| HeaderValue::from_bytes(host.as_bytes()).ok()).collect();
        let uri = asked.uri.to_string().parse().unwrap_or_else(|_| asked.uri.clone());
        Self { uri, hosts }
    }
}

/// One stored response.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) target: Target,
    pub(crate) meta: Meta,
    pub(crate) body: StoredBody,
    pub(crate) tags: Box<[Arc<str>]>,
    pub(crate) hits: AtomicU64,
    /// When its head came, in nanoseconds of the engine's clock, which nobody sets; `u64::MAX` if that is not known.
    made_at: u64,
    /// When it was made stale by hand, in nanoseconds of the engine's clock; 0 if it was not.
    expired_at: AtomicU64,
    /// Before this it is not refreshed again.
    next_refresh: AtomicU64,
    failures: AtomicU32,
    /// Until then the origin, which failed to say anything better, is left alone.
    left_alone_until: AtomicU64,
    /// The status with which it failed; 0 if it said nothing.
    failed_with: AtomicU16,
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Stored {
    pub(crate) fn new(target: Target, meta: Meta, body: StoredBody, tags: Box<[Arc<str>]>) -> Self {
        Self {
            target,
            meta: meta.detached(),
            body,
            tags,
            hits: AtomicU64::new(0),
            made_at: u64::MAX,
            expired_at: AtomicU64::new(0),
            next_refresh: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            left_alone_until: AtomicU64::new(0),
            failed_with: AtomicU16::new(0),
        }
    }

    /// The same body and tags for other requests; what is stale by hand is so for them, too.
    pub(crate) fn beside(&self, target: Target, meta: Meta, elapsed: Duration) -> Self {
        let new = Self::new(target, meta, self.body.clone(), self.tags.clone()).made_at(elapsed);
        new.expired_at.store(self.expired_at.load(Ordering::Relaxed), Ordering::Relaxed);
        new.next_refresh.store(self.next_refresh.load(Ordering::Relaxed), Ordering::Relaxed);
        new
    }

    /// States when its head came, by the engine's clock.
    pub(crate) fn made_at(mut self, elapsed: Duration) -> Self {
        self.made_at = nanos(elapsed);
        self
    }

    /// The moment by which its age is judged: no sooner than what has gone by since its head came says, whatever became of the
    /// wall clock (contract T4).
    pub(crate) fn moment(&self, now: SystemTime, elapsed: Duration) -> SystemTime {
        let stayed = nanos(elapsed).saturating_sub(self.made_at);
        self.meta.response_time().checked_add(Duration::from_nanos(stayed)).map_or(now, |least| least.max(now))
    }

    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Stale from now on, whatever its lifetime says.
    pub(crate) fn expire(&self, now: Duration) {
        let at = nanos(now).max(1);
        // Relaxed: no other data is published with it. The first expiry counts.
        let _ = self.expired_at.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether it is fresh, and nobody has said otherwise.
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        self.meta.is_fresh(now) && !self.is_expired()
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expired_at.load(Ordering::Relaxed) != 0
    }

    /// Whether a request that asks for the whole may name its validators.
    pub(crate) fn may_be_named(&self, asked: &request::Parts) -> bool {
        rfc9111::may_be_named(&self.meta, &asked.headers, &asked.method)
    }

    /// How long ago it was made stale by hand.
    pub(crate) fn expired_for(&self, now: impl FnOnce() -> Duration) -> Option<Duration> {
        let at = self.expired_at.load(Ordering::Relaxed);
        (at != 0).then(|| now().saturating_sub(Duration::from_nanos(at)))
    }

    /// The right to refresh it now, for one; nobody else has it until `until`.
    pub(crate) fn claim(&self, now: Duration, until: Duration) -> bool {
        let next = self.next_refresh.load(Ordering::Relaxed);
        next <= nanos(now)
            && self.next_refresh.compare_exchange(next, nanos(until), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn refresh_not_before(&self, at: Duration) {
        self.next_refresh.store(nanos(at), Ordering::Relaxed);
    }

    /// Counts a failed request for something better; how many there were in a row.
    pub(crate) fn note_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Leaves the origin alone until then, for a refresh as for a reader who has this to fall back on.
    pub(crate) fn leave_alone(&self, until: Duration, failure: Failure) {
        let status = if let Failure::Status(status) = failure { status.as_u16() } else { 0 };
        self.failed_with.store(status, Ordering::Relaxed);
        self.left_alone_until.store(nanos(until), Ordering::Relaxed);
        self.refresh_not_before(until);
    }

    /// How the origin failed, while it is left alone for that.
    pub(crate) fn left_alone(&self, now: impl FnOnce() -> Duration) -> Option<Failure> {
        let until = self.left_alone_until.load(Ordering::Relaxed);
        if until == 0 || nanos(now()) >= until {
            return None;
        }
        let status = StatusCode::from_u16(self.failed_with.load(Ordering::Relaxed));
        Some(status.map_or(Failure::Unreachable, Failure::Status))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// The room it takes, about: what 100,000 small responses made resident, by the head.
    pub(crate) fn weight(&self) -> u64 {
        let all = self.meta.headers().iter().chain(self.body.trailers().into_iter().flatten());
        let fields: usize = all.map(|(name, value)| name.as_str().len() + value.len() + A_FIELD).sum();
        let asked: usize = self.meta.vary().fields().map(|(_, value)| 2 * value.len() + 96).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + A_TAG).sum();
        self.body.0.room + (fields + asked + tags + 32 * self.body.chunks().len() + A_RESPONSE) as u64
    }
}

/// All that is stored of one URI; never changed, only replaced.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) variants: Vec<Arc<Stored>>,
}

impl Page {
    pub(crate) fn weight(&self) -> u64 {
        let variants = self.variants.iter().enumerate();
        // A body that several of them share is there once.
        let weights = variants.map(|(at, own)| {
            let is_there = self.variants[..at].iter().any(|other| own.body.is(&other.body));
            own.weight() - if is_there { own.body.0.room } else { 0 }
        });
        weights.sum::<u64>() + 64
    }

    pub(crate) fn holds(&self, stored: &Arc<Stored>) -> bool {
        self.variants.iter().any(|own| Arc::ptr_eq(own, stored))
    }

    /// With one more variant in place of those that it replaces; at most so many, the oldest go.
    pub(crate) fn with(&self, new: Arc<Stored>, instead_of: Option<&Arc<Stored>>, most: usize) -> Self {
        let stays =
            |own: &&Arc<Stored>| !new.meta.replaces(&own.meta) && !instead_of.is_some_and(|old| Arc::ptr_eq(own, old));
        let mut variants: Vec<Arc<Stored>> = self.variants.iter().filter(stays).cloned().collect();
        while variants.len() >= most.max(1) {
            let oldest = variants.iter().enumerate().min_by_key(|(_, own)| own.meta.response_time());
            let Some(at) = oldest.map(|(at, _)| at) else { break };
            variants.remove(at);
        }
        variants.push(new);
        Self { variants }
    }

    pub(crate) fn without(&self, old: &Arc<Stored>) -> Self {
        Self { variants: self.variants.iter().filter(|own| !Arc::ptr_eq(own, old)).cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_body_is_held_in_pieces_of_its_own_and_sliced_without_a_copy() {
        let large = Bytes::from(vec![7_u8; PIECE + 10]);
        let body = StoredBody::new(&[Bytes::from_static(b"abc"), large], None);
        assert_eq!(body.length(), PIECE as u64 + 13);
        assert_eq!(body.chunks().iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, 13]);
        let slices = body.slices(1..PIECE as u64 + 1);
        assert_eq!(slices.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE - 1, 1]);
        assert_eq!(slices[0].as_ptr(), body.chunks()[0][1..].as_ptr());
    }

    #[test]
    fn a_small_response_weighs_what_its_structures_take() {
        let body = StoredBody::new(&[Bytes::from_static(b"abc")], None);
        let stored = Stored::new(Target::default(), meta(), body, Box::default());
        // The map keeps a hash, two links and an index of each field.
        let field = size_of::<(http::HeaderName, http::HeaderValue)>() + 4 * size_of::<usize>();
        let fields = stored.meta.headers().len() * field;
        let least =
            size_of::<Stored>() + size_of::<Whole>() + size_of::<Page>() + size_of::<http::HeaderMap>() + fields;
        assert!(stored.weight() >= (least + 3) as u64, "{} is less than {least}", stored.weight());
        let longer = StoredBody::new(&[Bytes::from(vec![0; 1003])], None);
        assert_eq!(Stored::new(Target::default(), meta(), longer, Box::default()).weight() - stored.weight(), 1000);
    }

    #[test]
    fn trailers_weigh_what_fields_weigh() {
        let weight =
            |trailers| Stored::new(Target::default(), meta(), StoredBody::new(&[], trailers), Box::default()).weight();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-long", HeaderValue::try_from("a".repeat(10_000)).expect("a value"));
        assert_eq!(weight(Some(trailers)) - weight(None), (6 + 10_000 + A_FIELD) as u64);
    }

    #[test]
    fn the_right_to_refresh_goes_to_one() {
        let stored = Stored::new(Target::default(), meta(), StoredBody::default(), Box::default());
        let second = Duration::from_secs(1);
        assert!(stored.claim(second, 3 * second));
        assert!(!stored.claim(2 * second, 4 * second));
        assert!(stored.claim(3 * second, 4 * second));
    }

    pub(crate) fn meta() -> Meta {
        let request = http::Request::get("http://a/").body(()).expect("a request").into_parts().0;
        let response = http::Response::builder().header("cache-control", "max-age=9").body(()).expect("a response");
        let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        crate::rfc9111::Rules::private().may_store(&request, &response.into_parts().0, now, now).expect("stored")
    }
}
