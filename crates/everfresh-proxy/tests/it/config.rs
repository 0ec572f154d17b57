//! What a wrong configuration is told: file, line, cure.

use std::path::Path;

use everfresh_proxy::config::Config;

fn told(text: &str) -> String {
    match Config::parse(Path::new("everfresh.toml"), text) {
        Ok(_) => "right".to_owned(),
        Err(wrong) => wrong.to_string(),
    }
}

const ORIGIN: &str = "[[origin]]\nurl = \"http://127.0.0.1:3000\"\n";

#[test]
fn all_that_can_be_said_is_read() {
    let text = r#"
listen = "127.0.0.1:8080"

[admin]
listen = "127.0.0.1:9090"
token = "secret"

[cache]
capacity = "1 GiB"
max_body = "32 MiB"
max_refreshes = 16
max_variants = 8
stale_when_disconnected = "1h"
stale_despite_s_maxage = true

[limits]
head = "32 KiB"
body = "10 MB"
connections = 1000
waiters = 1000

[timeouts]
connect = "2s"
first_byte = "10s"
idle = "30s"
whole = "5m"
head = "5s"
keep_alive = "60s"
pool = "4s"
drain = "20s"

[log]
format = "json"
access = false

[[origin]]
url = "https://api.example.com/v1"
hosts = ["api.example.com", "*.api.example.com"]
path = "/api"
preserve_host = true
trust_forwarded = true
http2 = true

[[origin]]
url = "http://127.0.0.1:3000"

[[rule]]
path = "/static/*"
ttl = "1h"
stale_while_revalidate = "1m"
stale_if_error = "1d"
ignore_query = ["utm_*"]
key_headers = ["x-country"]
max_vary = 3
ignore_client_no_cache = true

[[rule]]
hosts = ["*.example.com"]
path = "/login"
bypass = true
"#;
    let config = Config::parse(Path::new("x"), text).expect("right");
    assert_eq!((config.origins.len(), config.rules.len()), (2, 2));
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_a_cure() {
    for (text, line, what, cure) in [
        (format!("lisen = \"1.1.1.1:1\"\n{ORIGIN}"), 1, "unknown key lisen", "did you mean listen?"),
        (format!("{ORIGIN}[cache]\ncapacitty = \"1 GiB\""), 4, "unknown key capacitty", "did you mean capacity?"),
        (format!("{ORIGIN}[[rule]]\nwhatever = 1"), 4, "unknown key whatever", "known here: hosts, path"),
        (format!("{ORIGIN}[cache]\ncapacity = \"lots\""), 4, "\"lots\" is no size", "write 64 KiB"),
        (format!("{ORIGIN}[timeouts]\n\nidle = \"3 weeks\""), 5, "\"3 weeks\" is no time", "write 250ms"),
        (format!("{ORIGIN}[[rule]]\npath = \"api\""), 4, "\"api\" is no path", "write /api"),
        ("[[origin]]\nurl = \"127.0.0.1\"".to_owned(), 2, "is no origin", "write http://127.0.0.1:3000"),
        (format!("{ORIGIN}[cache]\ncapacity = \"1 MiB\"\nmax_body = \"2 MiB\""), 5, "max_body is larger", "no body"),
        (format!("{ORIGIN}[limits]\nconnections = 0"), 4, "would serve nobody", "leave connections out"),
        (
            format!("listen = \"127.0.0.1:80\"\n{ORIGIN}[admin]\nlisten = \"127.0.0.1:80\""),
            4,
            "public address",
            "port of its own",
        ),
        (format!("{ORIGIN}[tls]\ncert = \"/none\"\nkey = \"/none\""), 4, "there is no file /none", "PEM"),
    ] {
        let told = told(&text);
        assert!(told.starts_with(&format!("everfresh.toml:{line}: ")), "{told}\n---\n{text}");
        assert!(told.contains(what), "{told}");
        let (_, told_cure) = told.split_once("\n  cure: ").unwrap_or_else(|| panic!("no cure: {told}"));
        assert!(told_cure.contains(cure), "{told}");
    }
    assert!(told("").contains("origin is missing"), "{}", told(""));
}
