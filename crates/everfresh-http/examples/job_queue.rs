//! `on_stale` hands the refresh to a job queue: the reader has the old page at once, a worker fetches the new one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use everfresh::ManualClock;
use everfresh_http::{HttpCache, RefreshAction, StaleContext};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};

static EDITION: AtomicUsize = AtomicUsize::new(0);

async fn origin(_: Request<Empty<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let edition = EDITION.fetch_add(1, Ordering::SeqCst) + 1;
    let mut response = Response::new(Full::from(format!("edition {edition}")));
    let control = http::HeaderValue::from_static("max-age=60, stale-while-revalidate=600");
    response.headers_mut().insert("cache-control", control);
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (queue, mut jobs) = tokio::sync::mpsc::unbounded_channel::<Uri>();
    let clock = ManualClock::new();
    let cache = HttpCache::builder()
        .shared()
        .clock(clock.clone(), std::time::SystemTime::now())
        .on_stale(move |cx: &StaleContext<'_>| match queue.send(cx.uri.clone()) {
            Ok(()) => RefreshAction::Handled,
            Err(_) => RefreshAction::Refresh,
        })
        .build()?;
    let uri = Uri::from_static("http://example.com/report");
    let get = async || -> Result<String, Box<dyn std::error::Error>> {
        let response = cache.respond(Request::get(&uri).body(Empty::new())?, origin).await?;
        let outcome =
            response.extensions().get::<everfresh_http::CacheAnswer>().map_or("?", |told| told.outcome.name());
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(format!("{outcome}: {}", String::from_utf8_lossy(&body)))
    };
    say(&get().await?);
    clock.advance(Duration::from_secs(90));
    for _ in 0..3 {
        say(&get().await?);
    }
    let job = jobs.recv().await.ok_or("no job")?;
    say(&format!("the worker got one job: {job}, and it ended as {:?}", cache.revalidate(&job, origin).await));
    say(&get().await?);
    Ok(())
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
