//! What a hit allocates and copies, counted by the allocator itself.
#![allow(missing_docs, unsafe_code, reason = "an allocator that counts is the only witness")]
#![cfg(feature = "tower")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everfresh::ManualClock;
use everfresh_http::{Body, CacheAnswer, HttpCacheLayer, HttpCacheService, Outcome};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tower::util::ServiceFn;
use tower::{Layer, Service, ServiceExt};

/// Counts what this thread allocates.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| {
            let (calls, bytes) = count.get();
            count.set((calls + 1, bytes + layout.size()));
        });
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often `work` allocates on this thread, and how many bytes.
fn allocations<R>(work: impl FnOnce() -> R) -> (usize, usize, R) {
    let (calls, bytes) = ALLOCATIONS.with(Cell::get);
    let result = work();
    let (calls_after, bytes_after) = ALLOCATIONS.with(Cell::get);
    (calls_after - calls, bytes_after - bytes, result)
}

type Answering = Ready<Result<Response<Full<Bytes>>, Infallible>>;
type Cached = HttpCacheService<ServiceFn<fn(Request<Empty<Bytes>>) -> Answering>>;

const LENGTH: usize = 100 << 10;

fn origin(_: Request<Empty<Bytes>>) -> Answering {
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "public, max-age=3600")
        .header("etag", "\"33a64df5\"")
        .header("last-modified", "Sat, 21 Nov 2026 08:00:00 GMT")
        .body(Full::new(Bytes::from(vec![b'x'; LENGTH])));
    ready(Ok(response.expect("a response")))
}

fn asked(range: Option<&'static str>) -> Request<Empty<Bytes>> {
    let request = Request::get("http://example.com/items/1?page=2")
        .header("host", "example.com")
        .header("accept", "application/json")
        .header("user-agent", "test/1");
    let request = match range {
        Some(range) => request.header("range", range),
        None => request,
    };
    request.body(Empty::new()).expect("a request")
}

/// A service whose cache holds the answer, read once from the store, five seconds ago.
async fn warm() -> Cached {
    let clock = ManualClock::new();
    let layer =
        HttpCacheLayer::builder().shared().clock(clock.clone(), SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    let layer = layer.build().expect("a layer");
    let service = tower::service_fn(origin as fn(Request<Empty<Bytes>>) -> Answering);
    let mut service = layer.layer(service);
    for _ in 0..3 {
        let response = service.ready().await.expect("ready").call(asked(None)).await.expect("an answer");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes().len(), LENGTH);
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(5));
    }
    service
}

async fn hit(service: &mut Cached, request: Request<Empty<Bytes>>) -> Response<Body> {
    let response = service.call(request).await.expect("an answer");
    let answer = response.extensions().get::<CacheAnswer>().expect("told");
    assert_eq!(answer.outcome, Outcome::Hit);
    response
}

async fn only_frame(response: Response<Body>) -> Bytes {
    let mut body = response.into_body();
    let data = body.frame().await.expect("a frame").expect("read").into_data().expect("data");
    assert!(body.frame().await.is_none());
    data
}

#[tokio::test]
async fn a_hit_copies_no_byte_of_its_body() {
    let mut service = warm().await;
    let one = only_frame(hit(&mut service, asked(None)).await).await;
    let two = only_frame(hit(&mut service, asked(None)).await).await;
    assert_eq!((one.as_ptr(), one.len()), (two.as_ptr(), LENGTH));
    // What both point to is what is stored: it is still there when neither holds it.
    let at = one.as_ptr();
    drop((one, two));
    let part = only_frame(hit(&mut service, asked(Some("bytes=1000-1999"))).await).await;
    assert_eq!((part.as_ptr(), part.len()), (at.wrapping_add(1000), 1000));
}

#[tokio::test]
async fn a_hit_allocates_eight_times_whatever_the_length_of_its_body() {
    let mut service = warm().await;
    let request = asked(None);
    let (calls, _, future) = allocations(|| service.call(request));
    // The table of fields, its index, its growth by `Age` and `Cache-Status`; the values of these two; the answer's
    // extensions: their box, their table, and what stands in it.
    assert_eq!(calls, 3 + 2 + 3);
    let response = future.await.expect("an answer");
    assert_eq!(response.headers()["age"], "15");
    assert_eq!(response.headers()["cache-status"], "everfresh; hit; ttl=3585");
    let mut body = response.into_body();
    let (calls, bytes, data) = allocations(|| {
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx)
    });
    assert!(
        matches!(data, std::task::Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|it| it.len() == LENGTH))
    );
    assert_eq!((calls, bytes), (0, 0));
}
