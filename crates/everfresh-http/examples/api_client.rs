//! An API client with a private cache: repeated calls cost nothing, a 304 costs no body, and each answer says what it was.

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use everfresh_http::{CacheAnswer, HttpCacheMiddleware};
use reqwest_middleware::ClientBuilder;

async fn user(headers: HeaderMap) -> Response {
    let fields = [("etag", "\"v1\""), ("cache-control", "private, max-age=60")];
    if headers.get("if-none-match").is_some_and(|tag| tag == "\"v1\"") {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, r#"{"name":"Ada"}"#).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/user", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/user", get(user))).await });

    let plain = reqwest::Client::builder().no_proxy().build()?;
    let cache = HttpCacheMiddleware::private().refresh_by(plain.clone());
    let client = ClientBuilder::new(plain).with(cache).build();
    for (told, control) in [("first", ""), ("again", ""), ("reload", "no-cache"), ("offline", "only-if-cached")] {
        let request = client.get(&url).header("authorization", "Bearer me");
        let request = if control.is_empty() { request } else { request.header("cache-control", control) };
        let response = request.send().await?;
        let answer = response.extensions().get::<CacheAnswer>().cloned().ok_or("no answer")?;
        let outcome = answer.outcome.name();
        say(&format!(
            "{told}: {outcome}, age {:?}: {}",
            answer.age.unwrap_or_default().as_secs(),
            response.text().await?
        ));
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
