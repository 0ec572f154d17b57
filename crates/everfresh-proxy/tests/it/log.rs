//! What is written down: for machines, and where nobody reads it.

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::process::{Process, everfresh};
use crate::world::{Origin, PATIENCE, ask_admin, get, status};

#[tokio::test]
async fn a_line_for_machines_says_what_was_asked_and_no_key_twice() {
    let origin = Origin::counting().await;
    let from = format!("http://{}", origin.address);
    let mut process =
        Process::begin(&["--origin", &from, "--listen", "127.0.0.1:0", "--no-admin", "--log", "json"]).await;
    get(process.address, "/a/b?c=d", "").await;
    let line = process.until("everfresh::access").await;
    let told: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).expect("an object");
    assert_eq!(told["uri"], "/a/b?c=…", "{line}");
    // Of a key that stands there twice, most parsers keep the last.
    for key in told.keys() {
        assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key} in {line}");
    }
}

/// Two ports that were free a moment ago.
pub(crate) async fn free_ports() -> [std::net::SocketAddr; 2] {
    let one = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    [one, other].map(|listener| listener.local_addr().expect("an address"))
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let origin = Origin::counting().await;
    let [address, admin] = free_ports().await;
    let (from, at, admin_at) = (format!("http://{}", origin.address), address.to_string(), admin.to_string());
    let mut child =
        everfresh().args(["serve", "--origin", &from, "--listen", &at, "--admin", &admin_at]).spawn().expect("begun");
    let up = async { while TcpStream::connect(address).await.is_err() {} };
    timeout(PATIENCE, up).await.expect("up");
    // More than a pipe and what may wait before it have room for.
    let path = format!("/{}", "a".repeat(16 << 10));
    for _ in 0..100 {
        assert_eq!(status(&get(address, &path, "").await), 200);
    }
    let metrics = ask_admin(admin, "/metrics").await;
    let lost = metrics.lines().find_map(|line| line.strip_prefix("everfresh_log_lines_lost_total "));
    assert!(lost.expect("told").parse::<u64>().expect("a number") > 0, "{metrics}");
    let id = child.id().expect("running").to_string();
    assert!(tokio::process::Command::new("kill").arg(&id).status().await.expect("kill").success());
    // Still nobody reads.
    let ended = timeout(PATIENCE, child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn what_waits_to_be_written_at_the_end_still_is() {
    let origin = Origin::counting().await;
    let [address, _] = free_ports().await;
    let (from, at) = (format!("http://{}", origin.address), address.to_string());
    let mut child =
        everfresh().args(["serve", "--origin", &from, "--listen", &at, "--no-admin"]).spawn().expect("begun");
    let up = async { while TcpStream::connect(address).await.is_err() {} };
    timeout(PATIENCE, up).await.expect("up");
    let path = format!("/{}", "a".repeat(16 << 10));
    for _ in 0..20 {
        assert_eq!(status(&get(address, &path, "").await), 200);
    }
    let id = child.id().expect("running").to_string();
    assert!(tokio::process::Command::new("kill").arg(&id).status().await.expect("kill").success());
    let (mut said, mut log) = (String::new(), child.stderr.take().expect("piped"));
    timeout(PATIENCE, log.read_to_string(&mut said)).await.expect("in time").expect("read");
    assert_eq!(said.lines().filter(|line| line.ends_with("bytes=8")).count(), 20);
    assert!(said.trim_end().ends_with("what runs may end"), "{said}");
}
