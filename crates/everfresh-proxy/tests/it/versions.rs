//! HTTP/2 with and without TLS, to clients and to origins. The key in `tls/` protects nothing but these tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everfresh_proxy::body::empty;
use everfresh_proxy::bound::Bound;
use everfresh_proxy::config::{Config, Span, Tls};
use everfresh_proxy::origin::{Origins, Speak};
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::process::{Process, everfresh};
use crate::world::{Origin, PATIENCE, before, body, config, get, ok, raw, run, status};

type Two = Client<HttpConnector, Empty<bytes::Bytes>>;

fn two() -> Two {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

async fn ask(client: &Two, url: String) -> (Version, String) {
    let request = Request::get(url).body(Empty::new()).expect("a request");
    let answer = timeout(PATIENCE, client.request(request)).await.expect("in time").expect("answered");
    let version = answer.version();
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    (version, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn h2c_is_served_to_clients_and_spoken_to_origins() {
    let origin = Origin::counting().await;
    let inner = before(&origin).await;
    // A proxy before a proxy: the outer speaks HTTP/2 with the inner.
    let mut outer = config(inner.address);
    outer.origins[0].http2 = true;
    let outer = run(outer).await;
    let client = two();
    let url = format!("http://{}/two", outer.address);
    assert_eq!(ask(&client, url.clone()).await, (Version::HTTP_2, "answer 0".to_owned()));
    assert_eq!(ask(&client, url).await, (Version::HTTP_2, "answer 0".to_owned()));
    assert_eq!(outer.proxy.stats.outcome("hit"), 1);
    let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
    assert!(saw.contains("via: 2 everfresh") || saw.contains("via: 1.1 everfresh, 1.1 everfresh"), "{saw}");
}

/// A long policy, many cookies, metadata of gRPC: what passes may not hang on what the origin speaks.
#[tokio::test]
async fn a_long_head_of_an_answer_passes_over_either_version() {
    let origin = Origin::new(|_| ok(&format!("x-long: {}\r\n", "y".repeat(300 << 10)), "answered")).await;
    let inner = before(&origin).await;
    let mut outer = config(inner.address);
    outer.origins[0].http2 = true;
    let outer = run(outer).await;
    for (version, running) in [("HTTP/1.1", &inner), ("HTTP/2", &outer)] {
        let answer = get(running.address, "/", "").await;
        let long = answer.lines().find(|line| line.starts_with("x-long: ")).map_or(0, str::len);
        assert_eq!((status(&answer), body(&answer)), (200, "answered"), "{version}");
        assert_eq!(long, "x-long: ".len() + (300 << 10), "{version}");
    }
}

#[tokio::test]
async fn a_head_of_an_answer_that_is_too_long_over_http_2_is_told_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().header("x-long", "y".repeat(500 << 10));
            let _ = respond.send_response(head.body(()).expect("a head"), true);
        }
    });
    config.origins[0].http2 = true;
    let request = Request::get(config.origins[0].url.uri()).body(empty()).expect("a request");
    let answer = Origins::new(&config).expect("pools").send(request, 0, Speak::Two).await;
    let told = answer.expect_err("it is too long").to_string();
    assert!(told.contains("its head is longer than 400 KiB"), "{told}");
}

/// RFC 9112 §9.3: what has no length ends with the connection, and what has one keeps it.
#[tokio::test]
async fn a_connection_of_http_1_0_says_that_it_ends_where_it_does() {
    let origin = Origin::new(|request| match request.starts_with("GET /length") {
        true => ok("", "known"),
        false => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n".to_owned(),
    })
    .await;
    let running = before(&origin).await;
    let keep = "host: a\r\nconnection: keep-alive\r\n\r\n";
    let answers = format!("GET /length HTTP/1.0\r\n{keep}GET /none HTTP/1.0\r\n{keep}");
    let answers = raw(running.address, answers).await;
    let (known, unknown) = answers.split_once("known").expect("both are answered");
    assert!(known.contains("connection: keep-alive\r\n"), "{answers}");
    assert!(unknown.contains("connection: close\r\n") && unknown.ends_with("\r\n\r\nwhole"), "{answers}");
    let refused = raw(running.address, "GET / HTTP/1.0\r\nhost: a@b\r\nconnection: keep-alive\r\n\r\n").await;
    assert!(status(&refused) == 400 && refused.contains("connection: close\r\n"), "{refused}");
}

/// A way to an origin of which the first connection goes dead without a word once this is told.
async fn going_dead(to: std::net::SocketAddr) -> (std::net::SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (dead, is_dead) = watch::channel(false);
    tokio::spawn(async move {
        let mut may_die = Some(is_dead);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut dies = may_die.take();
            tokio::spawn(async move {
                let mut origin = TcpStream::connect(to).await.expect("connected");
                let dead = async {
                    match &mut dies {
                        Some(dies) => drop(dies.wait_for(|dead| *dead).await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut origin) => return,
                    () = dead => {}
                }
                // Both sides stay open.
                std::future::pending::<()>().await;
            });
        }
    });
    (address, dead)
}

#[tokio::test]
async fn a_connection_of_http_2_that_is_dead_without_a_word_is_replaced() {
    let origin = Origin::counting().await;
    let inner = before(&origin).await;
    let (way, dead) = going_dead(inner.address).await;
    let mut outer = config(way);
    outer.origins[0].http2 = true;
    for time in [&mut outer.timeouts.first_byte, &mut outer.timeouts.connect] {
        *time = Span::millis(300);
    }
    let outer = run(outer).await;
    assert_eq!(status(&get(outer.address, "/alive", "").await), 200);
    dead.send_replace(true);
    // One after the other, so that the connection is never without requests for as long as timeouts.pool.
    let again = async {
        let mut at = 0;
        while status(&get(outer.address, &format!("/{at}"), "").await) != 200 {
            at += 1;
        }
    };
    timeout(PATIENCE, again).await.expect("the dead connection is kept");
}

/// An origin of HTTP/2 that refuses its first stream, or goes away before it, and counts what it looks at.
async fn refusing(how: &'static str) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, looked_at) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (asked, counted) = (Arc::new(asked), Arc::clone(&looked_at));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (asked, counted) = (Arc::clone(&asked), Arc::clone(&counted));
            tokio::spawn(async move {
                if how == "away" && asked.load(Ordering::Relaxed) == 0 {
                    // Settings, and GOAWAY: the last stream that was looked at is 0, for no error.
                    asked.store(1, Ordering::Relaxed);
                    let mut begun = [0; 24];
                    stream.read_exact(&mut begun).await.expect("a preface");
                    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("sent");
                    let mut frame = [0; 9];
                    while frame[3] != 1 {
                        stream.read_exact(&mut frame).await.expect("a frame");
                        let length = usize::from(frame[1]) * 256 + usize::from(frame[2]);
                        stream.read_exact(&mut vec![0; length]).await.expect("its content");
                    }
                    let away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    stream.write_all(&away).await.expect("sent");
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if how == "refused" && asked.fetch_add(1, Ordering::Relaxed) == 0 {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    if how == "failed" {
                        counted.fetch_add(1, Ordering::Relaxed);
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        continue;
                    }
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = respond.send_response(http::Response::new(()), true);
                }
            });
        }
    });
    (address, looked_at)
}

#[tokio::test]
async fn only_what_an_origin_says_it_did_not_look_at_is_sent_again() {
    for (how, method, answered, looked_at) in [
        ("refused", "GET", 200, 1),
        ("refused", "POST", 200, 1),
        ("away", "GET", 200, 1),
        ("away", "POST", 200, 1),
        ("failed", "GET", 502, 1),
        ("failed", "POST", 502, 1),
    ] {
        let (address, counted) = refusing(how).await;
        let mut config = config(address);
        config.origins[0].http2 = true;
        let running = run(config).await;
        let length = if method == "POST" { "content-length: 2\r\n\r\nhi" } else { "\r\n" };
        let request = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{length}");
        assert_eq!(status(&raw(running.address, request).await), answered, "{how} {method}");
        assert_eq!(counted.load(Ordering::Relaxed), looked_at, "{how} {method}");
    }
}

/// An origin of HTTP/2 that refuses its first stream when it has read so much of the content, tells that, and gives the content of
/// the second one back; it begins to answer that at once.
async fn refusing_after(read: usize) -> (std::net::SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let refused = Arc::new(Notify::new());
    let tells = Arc::clone(&refused);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        let mut is_first = true;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (most, tells) = (if is_first { read } else { usize::MAX }, Arc::clone(&tells));
            let refuses = std::mem::take(&mut is_first);
            tokio::spawn(async move {
                let length = request.headers()["content-length"].clone();
                let answer = (!refuses).then(|| {
                    // Before it has read anything: what is to be repeated has not gone out yet.
                    let head = http::Response::builder().header("content-length", length).body(()).expect("a head");
                    respond.send_response(head, false).expect("sent")
                });
                let (mut content, mut whole) = (request.into_body(), Vec::new());
                while whole.len() < most
                    && let Some(Ok(data)) = content.data().await
                {
                    content.flow_control().release_capacity(data.len()).expect("as much as came");
                    whole.extend_from_slice(&data);
                }
                match answer {
                    Some(mut answer) => answer.send_data(whole.into(), true).expect("sent"),
                    None => {
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        tells.notify_one();
                    }
                }
            });
        }
    });
    (address, refused)
}

#[tokio::test]
async fn what_an_origin_did_not_look_at_is_sent_again_with_its_content_if_that_is_short() {
    for (length, at_once, refused_after, answered) in [
        (2, 2, 0, 200),
        (60_000, 60_000, 0, 200),
        // The client has sent a half of it, and it is asked for the other half by the second attempt.
        (60_000, 30_000, 30_000, 200),
        (200_000, 100_000, 100_000, 502),
    ] {
        let (address, refused) = refusing_after(refused_after).await;
        let mut config = config(address);
        config.origins[0].http2 = true;
        let running = run(config).await;
        let content: String = ('a'..='z').cycle().take(length).collect();
        let mut client = TcpStream::connect(running.address).await.expect("connected");
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.expect("sent");
        client.write_all(&content.as_bytes()[..at_once]).await.expect("sent");
        timeout(PATIENCE, refused.notified()).await.expect("refused");
        let _ = client.write_all(&content.as_bytes()[at_once..]).await;
        let mut answer = Vec::new();
        timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("in time").expect("an answer");
        let answer = String::from_utf8(answer).expect("text");
        assert_eq!(status(&answer), answered, "{length}, refused after {refused_after}");
        assert!(answered != 200 || body(&answer) == content, "{length}, refused after {refused_after}");
    }
}

/// On its first connection it refuses all, as node does with a session that it has had enough of.
#[tokio::test]
async fn a_connection_on_which_an_origin_asks_for_calm_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        for patient in [false, true] {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if patient {
                        let _ = respond.send_response(http::Response::new(()), true);
                    } else {
                        respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
                    }
                }
            });
        }
    });
    config.origins[0].http2 = true;
    let running = run(config).await;
    assert_eq!(status(&get(running.address, "/a", "").await), 502, "it may have done something for it");
    assert_eq!(status(&get(running.address, "/b", "").await), 200);
}

fn with_tls(origin: &Origin, cert: &str, key: &str) -> Config {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let mut config = config(origin.address);
    config.tls = Some(Tls { cert: folder.join(cert), key: folder.join(key) });
    config
}

/// The certificate that a new connection is shown.
async fn shown(address: std::net::SocketAddr) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let mut roots = rustls::RootCertStore::empty();
    for name in ["cert.pem", "renewed-cert.pem"] {
        roots.add(CertificateDer::from_pem_file(folder.join(name)).expect("a certificate")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = timeout(PATIENCE, connector.connect(name, stream)).await.expect("in time").expect("TLS");
    stream.get_ref().1.peer_certificates().expect("shown")[0].to_vec()
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_on_without_a_restart_and_a_wrong_one_is_not() {
    let origin = Origin::counting().await;
    let bound = Bound::new(with_tls(&origin, "cert.pem", "key.pem")).await.expect("bound");
    let (address, reload) = (bound.address().expect("an address"), bound.reload());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(bound.serve(stopped));
    let first = shown(address).await;
    let wrong = reload.take_on(with_tls(&origin, "cert.pem", "renewed-key.pem")).expect_err("no pair").to_string();
    assert!(wrong.contains("renewed-key.pem") && wrong.contains("\n  cure: tls.key is"), "{wrong}");
    assert_eq!(shown(address).await, first);
    reload.take_on(with_tls(&origin, "renewed-cert.pem", "renewed-key.pem")).expect("read");
    assert_ne!(shown(address).await, first);
}

#[tokio::test]
async fn whom_an_origin_is_trusted_by_can_be_said_and_is_told() {
    let origin = Origin::counting().await;
    let secure = run(with_tls(&origin, "cert.pem", "key.pem")).await;
    let url = format!("https://localhost:{}", secure.address.port());
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/cert.pem");
    for (authorities, answered, told) in [
        (own.as_path(), 200, "outcome=\"miss\""),
        (Path::new("/no/such/file"), 502, "let SSL_CERT_FILE name a PEM file with who has"),
    ] {
        let mut command = everfresh();
        command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", authorities).args([
            "serve",
            "--origin",
            &url,
            "--listen",
            "127.0.0.1:0",
            "--no-admin",
        ]);
        let mut process = Process::of(command).await;
        assert_eq!(status(&get(process.address, "/", "").await), answered);
        process.until(told).await;
        let unread = process.said.contains("origins are trusted by the roots that are built in");
        assert_eq!(unread, answered == 502, "{}", process.said);
    }
}

#[tokio::test]
async fn who_speaks_plain_http_to_tls_is_told_so() {
    let origin = Origin::counting().await;
    let running = run(with_tls(&origin, "cert.pem", "key.pem")).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let long = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n{}", "x".repeat(900_000));
    for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", preface, &long] {
        let answer = raw(running.address, request).await;
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(body(&answer).contains("this port speaks TLS: write https://"), "{answer}");
    }
    // What is neither is not answered, and keeps nobody.
    assert_eq!(raw(running.address, "\0\0\0").await.find("HTTP"), None);
    assert_eq!(origin.saw().len(), 0);
    let counted = async {
        while running.proxy.stats.outcome("error") < 3 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("each is an error");
    assert!(!shown(running.address).await.is_empty());
}

#[tokio::test]
async fn a_head_of_http_2_that_is_too_large_is_431_and_the_connection_goes_on() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let stream = TcpStream::connect(running.address).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let one_long = vec![("x-long".to_owned(), "~".repeat(70_000))];
    let many = (0..70).map(|number| (format!("x-{number}"), "~".repeat(1000))).collect();
    for (fields, wanted) in [(one_long, 431), (many, 431), (Vec::new(), 200)] {
        let mut request = Request::get(format!("http://{}/", running.address));
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).expect("a request");
        let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("answered");
        assert_eq!(answer.status(), wanted);
    }
    assert_eq!(origin.saw().len(), 1);
}

#[tokio::test]
async fn over_tls_http_2_is_agreed_on() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let origin = Origin::counting().await;
    let running = run(with_tls(&origin, "cert.pem", "key.pem")).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = TcpStream::connect(running.address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = timeout(PATIENCE, connector.connect(name, stream)).await.expect("in time").expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Empty::<bytes::Bytes>::new()).expect("a request");
    let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("in time").expect("answered");
    assert_eq!(answer.version(), Version::HTTP_2);
    let saw = origin.saw().pop().unwrap_or_default();
    assert!(saw.contains("x-forwarded-proto: https\r\n") && saw.contains("x-forwarded-host: localhost\r\n"), "{saw}");
}

/// RFC 9113 §8.2.3: what HTTP/2 may send in pieces is one line elsewhere.
#[tokio::test]
async fn the_crumbs_of_a_cookie_are_one_line_for_an_origin_of_http_1() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    let request = Request::get(format!("http://{}/", running.address)).header("cookie", "a=1").header("cookie", "b=2");
    let request = request.header("cookie", "c=3; d=4").body(Empty::new()).expect("a request");
    let answer = timeout(PATIENCE, two().request(request)).await.expect("in time").expect("answered");
    assert_eq!(answer.status(), 200);
    let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
    let cookies: Vec<_> = saw.lines().filter(|line| line.starts_with("cookie:")).collect();
    assert_eq!(cookies, ["cookie: a=1; b=2; c=3; d=4"]);
}

/// RFC 9113 §8.3.1: over HTTP/2 it is `:authority` that names the host, and Host says nothing else.
#[tokio::test]
async fn the_clients_host_is_preserved_over_http_2_too() {
    let origin = Origin::counting().await;
    let mut inner = config(origin.address);
    inner.origins[0].preserve_host = true;
    let inner = run(inner).await;
    let mut outer = config(inner.address);
    outer.origins[0].http2 = true;
    outer.origins[0].preserve_host = true;
    outer.origins[0].hosts = ["a.example", "b.example", "*.made.example"].map(str::to_owned).to_vec();
    let outer = run(outer).await;
    // What a client can make up gets no connection of its own: over HTTP/1.1 that is the address's.
    let made = ["x.made.example", "y.made.example", "a.example:81"];
    for (host, named) in
        ["a.example", "b.example"].map(|host| (host, true)).into_iter().chain(made.map(|it| (it, false)))
    {
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = raw(outer.address, head).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
        assert!(saw.contains(&format!("\r\nhost: {host}\r\n")), "{saw}");
        assert_eq!(saw.contains(", 2 everfresh"), named, "{saw}");
    }
    assert_eq!(origin.saw().len(), 5);
}
