//! An origin's name that leads back to the proxy.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{Origin, Running, before, config, get, raw, run, status};

/// A proxy whose origin is an address that leads to itself, and what is put before each path there.
async fn before_itself(prefix: &str) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let back = listener.local_addr().expect("an address");
    let (leads, mut led) = watch::channel(back);
    tokio::spawn(async move {
        while let Ok((mut one, _)) = listener.accept().await {
            let to = *led.wait_for(|to| *to != back).await.expect("led");
            tokio::spawn(async move {
                let mut other = TcpStream::connect(to).await.expect("connected");
                let _ = copy_bidirectional(&mut one, &mut other).await;
            });
        }
    });
    let mut config = config(back);
    config.origins[0].url = format!("http://{back}{prefix}").parse().expect("a URL");
    let running = run(config).await;
    leads.send(running.address).expect("heard");
    running
}

/// A name of the proxy itself as its origin, as after a move of DNS: each GET waited for itself until it was late, and what
/// is passed on took connections until none was left.
#[tokio::test]
async fn what_comes_back_is_told_at_once() {
    for prefix in ["", "/longer"] {
        let running = before_itself(prefix).await;
        let answer = get(running.address, "/a", "").await;
        assert_eq!(status(&answer), 508, "{answer}");
        let post = "POST /a HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        assert_eq!(status(&raw(running.address, post).await), 508);
        let upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\n";
        assert_eq!(status(&raw(running.address, format!("GET /ws HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n")).await), 508);
    }
}

#[tokio::test]
async fn a_server_may_ask_its_proxy_for_something_else() {
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    assert_eq!(status(&get(running.address, "/a", "").await), 200);
    let saw = origin.saw();
    let mark = saw[0].lines().find(|line| line.starts_with("cdn-loop: ")).expect("told");
    assert_eq!(status(&get(running.address, "/b", &format!("{mark}\r\n")).await), 200);
    assert_eq!(status(&get(running.address, "/a", &format!("{mark}\r\n")).await), 508);
    // Whatever others say of themselves.
    assert_eq!(status(&get(running.address, "/a", "cdn-loop: everfresh; id=1, other\r\n").await), 200);
}
