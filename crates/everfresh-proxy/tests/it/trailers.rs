//! What comes behind a body, by which gRPC tells how a call went.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::world::{PATIENCE, config, run};

/// An origin of HTTP/2 that tells the `TE` of each request, and says in a trailer how it went.
async fn calling() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mut answer = Response::new(());
                    let told = request.headers().get("te").cloned().unwrap_or(HeaderValue::from_static("none"));
                    answer.headers_mut().insert("x-te", told);
                    let mut sending = respond.send_response(answer, false).expect("begun");
                    sending.send_data(Bytes::from_static(b"body"), false).expect("sent");
                    let trailers = [("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))];
                    sending.send_trailers(HeaderMap::from_iter(trailers)).expect("sent");
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn who_takes_trailers_is_known_to_an_origin_of_http_2_and_gets_them() {
    let mut config = config(calling().await);
    config.origins[0].http2 = true;
    let running = run(config).await;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for method in ["POST", "GET"] {
        for (says, told) in [(Some("trailers"), "trailers"), (None, "none")] {
            let url = format!("http://{}/{method}/{told}", running.address);
            let mut request = Request::builder().method(method).uri(url).body(Empty::new()).expect("a request");
            says.map(|says| request.headers_mut().insert("te", HeaderValue::from_static(says)));
            let answer = timeout(PATIENCE, client.request(request)).await.expect("in time").expect("answered");
            assert_eq!(answer.headers()["x-te"], told, "{method}");
            let whole = timeout(PATIENCE, answer.into_body().collect()).await.expect("in time").expect("whole");
            assert_eq!(whole.trailers().and_then(|them| them.get("grpc-status")).expect("a trailer"), "0");
            assert_eq!(whole.to_bytes(), "body");
        }
    }
}
