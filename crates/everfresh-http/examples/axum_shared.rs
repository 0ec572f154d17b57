//! A slow axum server behind a shared cache: the first visitor waits, nobody after him does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use everfresh_http::{HttpCache, HttpCacheLayer};

async fn report(State(count): State<Arc<AtomicUsize>>) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let edition = count.fetch_add(1, Ordering::SeqCst) + 1;
    ([("cache-control", "max-age=1, stale-while-revalidate=60")], format!("edition {edition}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = HttpCache::builder().shared().capacity_bytes(16 << 20).build()?;
    let app = Router::new()
        .route("/report", get(report))
        .with_state(Arc::default())
        .layer(HttpCacheLayer::new(cache.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/report", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = reqwest::Client::builder().no_proxy().build()?;
    for (pause, told) in [(0, "cold"), (0, "fresh"), (1_500, "stale, refreshed behind"), (500, "fresh again")] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let began = Instant::now();
        let response = client.get(&url).send().await?;
        let status = response.headers()["cache-status"].to_str()?.to_owned();
        let body = response.text().await?;
        say(&format!("{told}: {body} after {} ms   {status}", began.elapsed().as_millis()));
    }
    let stats = cache.stats();
    say(&format!("{} requests, {} to the handler", stats.requests(), stats.fetches));
    Ok(())
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
