//! Ask http://127.0.0.1:3000/forecast/oslo or /report/7 again and again: the first answer takes a second, all others come at
//! once, also those after the value became stale; /stats tells what the caches did.
#![allow(clippy::print_stdout, reason = "it tells where it listens")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use everfresh::{LoadError, Shared, cache_data, cache_resource};

/// What the backend takes for an answer; its tests do not wait for that.
const BACKEND_TAKES: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });

/// Something that has to be shared, asked whether it still works, and closed.
struct Database {
    url: String,
}

impl Database {
    fn is_open(&self) -> bool {
        !self.url.is_empty()
    }

    fn close(self) {
        println!("closed {}", self.url);
    }

    /// Blocks, as drivers of databases do.
    fn query(&self, day: u32) -> Result<String, Failed> {
        std::thread::sleep(BACKEND_TAKES);
        if day == 0 { Err(Failed("there is no day 0".into())) } else { Ok(format!("report of day {day}\n")) }
    }
}

/// What goes wrong here, cheap to hand to everybody who waits for the same thing.
#[derive(Clone, Debug)]
struct Failed(Arc<str>);

impl From<LoadError<Failed>> for Failed {
    fn from(error: LoadError<Failed>) -> Failed {
        Failed(error.cache_error().map_or_else(|| "failed".into(), |error| error.to_string().into()))
    }
}

/// All callers share one, and it is closed when it has left the cache and the last of them is done with it.
#[cache_resource(ttl = "10m", refresh = "background", validate = Database::is_open, on_release = Database::close)]
fn database(url: &str) -> Database {
    Database { url: url.to_owned() }
}

/// Blocks: the refresh runs on a worker, whoever starts it.
#[cache_data(ttl = "5s", stale_while_revalidate = "10m", stale_if_error = "1d", capacity = 366, skip(database))]
fn report(database: &Shared<Database>, day: u32) -> Result<String, Failed> {
    database.query(day)
}

/// Asynchronous: the refresh is a task of the runtime.
#[cache_data(ttl = "5s", stale_while_revalidate = "10m", timeout = "10s", capacity = 1024)]
async fn forecast(city: &str) -> Result<String, Failed> {
    tokio::time::sleep(BACKEND_TAKES).await;
    Ok(format!("sun over {city}\n"))
}

type Answer = Result<String, (StatusCode, String)>;

fn told(failed: Failed) -> (StatusCode, String) {
    (StatusCode::BAD_GATEWAY, format!("{}\n", failed.0))
}

/// An asynchronous handler of an asynchronous function: nothing to do.
async fn get_forecast(Path(city): Path<String>) -> Answer {
    forecast(&city).await.map_err(told)
}

/// An asynchronous handler of a blocking function: whoever has to load must not stop the runtime's thread. A look beforehand
/// (`report::peek`) would not tell who that is: what is kept for a failing backend is seen, and still loaded first.
async fn get_report(Path(day): Path<u32>) -> Answer {
    let load = move || report(&database("sqlite://reports"), day);
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|_| Err(Failed("the report panicked".into()))).map_err(told)
}

async fn get_stats() -> String {
    let mut text = String::new();
    for function in everfresh::registry().all() {
        let Some(stats) = function.stats() else { continue };
        let (lookups, hits, stale, loaded) = (stats.lookups(), stats.hits, stats.stale, stats.loaded);
        let _ = writeln!(
            text,
            "{}: {lookups} calls, {hits} hits, {stale} stale, {loaded} loaded, {} refreshed behind",
            function.name(),
            stats.refreshes.stored
        );
    }
    text
}

fn app() -> Router {
    Router::new()
        .route("/forecast/{city}", get(get_forecast))
        .route("/report/{day}", get(get_report))
        .route("/stats", get(get_stats))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    everfresh::runtime().max_refreshes(8); // all functions together
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, app()).with_graceful_shutdown(interrupted).await?;
    let left = everfresh::close_async(Duration::from_secs(5)).await;
    everfresh::resource::clear_all();
    println!("{left} refreshes were left running");
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_question_is_worked_on_once() {
        let (one, other, report, again) =
            tokio::join!(ask("/forecast/oslo"), ask("/forecast/oslo"), ask("/report/7"), ask("/report/7"));
        assert_eq!((&one, &one.1[..]), (&other, "sun over oslo\n"));
        assert_eq!((&report, &report.1[..]), (&again, "report of day 7\n"));
        assert_eq!(ask("/report/0").await, (StatusCode::BAD_GATEWAY, "there is no day 0\n".to_owned()));
        assert_eq!((forecast::stats().loads.stored, super::report::stats().loads.stored), (1, 1));
        let (_, stats) = ask("/stats").await;
        assert!(stats.contains("web::forecast: 2 calls"), "{stats}");
    }
}
