//! What is written down: for machines, and where nobody reads it.

use crate::process::Process;
use crate::world::{Origin, get};

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
