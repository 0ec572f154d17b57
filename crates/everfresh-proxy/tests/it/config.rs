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
fn the_configuration_in_the_readme_is_right_and_tells_the_defaults() {
    let readme = include_str!("../../README.md");
    let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    // The certificate need not be there.
    let (before, tls) = example.split_once("[tls]\n").unwrap_or_default();
    let (_, after) = tls.split_once("[admin]\n").unwrap_or_default();
    let example = format!("{before}[admin]\n{after}");
    let config = Config::parse(Path::new("README.md"), &example).unwrap_or_else(|wrong| panic!("{wrong}"));
    let silent = Config::parse(Path::new("everfresh.toml"), ORIGIN).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!((config.listen, config.admin.listen), (silent.listen, silent.admin.listen));
    assert_eq!((config.cache, config.limits), (silent.cache, silent.limits));
    assert_eq!((config.timeouts, config.log), (silent.timeouts, silent.log));
}

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
tunnel = "30m"
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
fn a_small_capacity_lowers_a_max_body_that_nobody_wrote() {
    for (cache, capacity, max_body) in [
        ("[cache]\ncapacity = \"8 MiB\"", 8, 8),
        ("[cache]\ncapacity = \"1 GiB\"", 1024, 16),
        ("[cache]\nmax_body = \"16 MiB\"", 256, 16),
        ("[cache]\ncapacity = \"8 MiB\"\nmax_body = \"2 MiB\"", 8, 2),
    ] {
        let config =
            Config::parse(Path::new("x"), &format!("{ORIGIN}{cache}")).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(
            (config.cache.capacity.get() >> 20, config.cache.max_body.get() >> 20),
            (capacity, max_body),
            "{cache}"
        );
    }
    let written = told(&format!("cache.capacity = \"8 MiB\"\ncache.max_body = \"16 MiB\"\n{ORIGIN}"));
    assert!(written.contains("cache.max_body is larger than cache.capacity"), "{written}");
}

#[test]
fn what_is_narrower_may_come_first_and_what_stands_aside_anywhere() {
    for rules in [
        "[[rule]]\npath = \"/a\"\n[[rule]]\nttl = \"1h\"",
        "[[rule]]\npath = \"/a\"\n[[rule]]\npath = \"/ab\"\n[[rule]]\npath = \"/a*\"",
        "[[rule]]\npath = \"/a/*\"\n[[rule]]\npath = \"/a\"",
        "[[rule]]\nhosts = [\"a.example\"]\n[[rule]]\nhosts = [\"*.a.example\", \"b.example\"]\n[[rule]]\npath = \"/\"",
        "[[rule]]\nhosts = [\"a.example\"]\n[[rule]]\nhosts = [\"*.a.example\"]",
        "[[rule]]\nhosts = [\"*.b.a.example\"]\n[[rule]]\nhosts = [\"*.a.example\"]",
        "[[rule]]\nbypass = true\nignore_query = [\"x\"]",
        "[[rule]]\nttl = \"0s\"\nstale_while_revalidate = \"1m\"",
        "[admin]\nlisten = \"off\"",
    ] {
        assert_eq!(told(&format!("listen = \"localhost:80\"\n{ORIGIN}{rules}")), "right", "{rules}");
    }
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
            5,
            "is the public one",
            "port of its own",
        ),
        (format!("{ORIGIN}token = \"x\""), 3, "unknown key token", "token belongs in [admin]"),
        (format!("{ORIGIN}listen = \"0.0.0.0:80\""), 3, "unknown key listen", "at the top, above all [tables]"),
        (format!("url = \"http://x\"\n{ORIGIN}"), 1, "unknown key url", "url belongs in [[origin]]"),
        ("[[origin]]\nurl = http://x".to_owned(), 2, "must be quoted", "in quotes"),
        ("[origin]\nurl = \"http://x\"".to_owned(), 1, "expected a list", "[[origin]]"),
        (format!("{ORIGIN}[[rule]"), 3, "unclosed", "TOML looks so"),
        (format!("{ORIGIN}hosts = \"a.example\""), 3, "expected a list", "write a list"),
        (format!("{ORIGIN}hosts = [\"a.example:80\"]"), 3, "\"a.example:80\" is no host", "leave the port out"),
        (format!("{ORIGIN}hosts = [\"a.example.\"]"), 3, "\"a.example.\" is no host", "leave the dot at its end out"),
        (format!("{ORIGIN}hosts = [\"*\"]"), 3, "\"*\" is no host", "leave hosts out"),
        (format!("listen = 8080\n{ORIGIN}"), 1, "\"8080\" is no address", "write 127.0.0.1:8080, or 0.0.0.0:8080"),
        (format!("listen = \":81\"\n{ORIGIN}"), 1, "\":81\" is no address", "0.0.0.0:81"),
        (format!("{ORIGIN}[timeouts]\nidle = 5"), 4, "\"5\" is no time", "30s"),
        (format!("{ORIGIN}[timeouts]\nhead = \"0s\""), 4, "serve nobody", "write 10s"),
        (format!("{ORIGIN}[limits]\nwaiters = 0"), 4, "would serve nobody", "leave waiters out"),
        (format!("{ORIGIN}[limits]\nconnections = -1"), 4, "expected a whole number", "whole number"),
        (format!("{ORIGIN}[cache]\ncapacity = 5"), 4, "below 64 KiB", "256 MiB"),
        (format!("{ORIGIN}[log]\nformat = \"xml\""), 4, "\"xml\" is not known", "\"human\" or \"json\""),
        (format!("{ORIGIN}[admin]\ntoken = \"\""), 4, "token is empty", "leave it out"),
        (format!("{ORIGIN}[[rule]]\nbypass = \"yes\""), 4, "expected a boolean", "true or false"),
        (format!("{ORIGIN}[[rule]]\nttl = \"1h\"\nttl = \"1h\""), 5, "duplicate key", "leave one"),
        (
            format!("{ORIGIN}[[rule]]\npath = \"/a\"\n[[rule]]\nttl = \"1h\"\nbypass = true"),
            7,
            "contradicts",
            "leave out",
        ),
        (format!("{ORIGIN}[[rule]]\nttl = \"1h\"\n[[rule]]\npath = \"/a\""), 5, "never reached", "before it"),
        (
            format!("[[origin]]\nurl = \"http://x\"\nhosts = [\"*.a.example\"]\n{ORIGIN}hosts = [\"b.a.example\"]"),
            4,
            "never reached: all of its requests are taken by number 1",
            "before it",
        ),
        (
            format!("{ORIGIN}hosts = [\"*.A.example\"]\n{ORIGIN}hosts = [\"*.b.a.example\", \"*.a.example\"]"),
            4,
            "never reached: it fits the same requests as number 1",
            "leave one",
        ),
        (format!("{ORIGIN}{ORIGIN}"), 3, "the same requests as number 1", "leave one of the two out"),
        (
            "[[origin]]\nurl = \"http://x\"\nhosts = [\"a.example\", \"A.example\"]".to_owned(),
            3,
            "\"A.example\" is named twice",
            "leave one",
        ),
        ("[[origin]]\nurl = \"http://x:99999\"".to_owned(), 2, "ports go from 1 to 65535", "http://127.0.0.1:3000"),
        ("[[origin]]\nurl = true".to_owned(), 2, "\"true\" is no origin", "http://127.0.0.1:3000"),
        ("origin = \"http://x\"".to_owned(), 1, "expected a list", "[[origin]]"),
        (format!("rule = 5\n{ORIGIN}"), 1, "expected a list", "two brackets"),
        (format!("log = \"json\"\n{ORIGIN}"), 1, "expected a table", "[log], and its keys below"),
        (format!("{ORIGIN}[log]\nformat = 5"), 4, "no word", "\"human\" or \"json\""),
        (format!("{ORIGIN}[timeouts]\nidle = 1.5"), 4, "\"1.5\" is no time", "30s"),
        (format!("{ORIGIN}[admin]\nlisten = false"), 4, "\"false\" is no address", "\"off\" for none"),
        (format!("{ORIGIN}[cache]\nmax_refreshes = 1.5"), 4, "expected a whole number", "without quotes"),
        (format!("{ORIGIN}[[rule]]\nttl = \"500ms\""), 4, "no part of a second", "whole seconds"),
        (format!("{ORIGIN}[[rule]]\nttl = \"1s\"\nstale_if_error = \"1500ms\""), 5, "no part of a second", "whole"),
        (format!("{ORIGIN}[[rule]]\nttl = \"0s\""), 4, "a ttl of nothing", "bypass = true"),
        (format!("{ORIGIN}[[rule]]\nignore_query = [\"a=b\"]"), 4, "\"a=b\" is no name", "names alone"),
        (format!("{ORIGIN}[[rule]]\nignore_query = [\"\"]"), 4, "\"\" is no name", "names alone"),
        (format!("{ORIGIN}[admin]\ntoken = \"pässword\""), 4, "none that a client could send", "of ASCII"),
        (format!("{ORIGIN}[admin]\ntoken = \"secret \""), 4, "none that a client could send", "no space"),
        (format!("{ORIGIN}hosts = [\"::1\"]"), 3, "\"::1\" is no host", "in brackets, as [::1]"),
        (format!("{ORIGIN}hosts = [\"[::1]:80\"]"), 3, "\"[::1]:80\" is no host", "leave the port out"),
        (format!("{ORIGIN}hosts = [\"*.bücher.example\"]"), 3, "is no host", "xn--bcher-kva.example"),
        (format!("listen = \"::1\"\n{ORIGIN}"), 1, "\"::1\" is no address with a port", "write [::1]:8080"),
        ("[[origin]]\nurl = \"http://127.0.0.1:8080\"".to_owned(), 2, "it would ask itself", "your server's own port"),
        (
            format!("listen = \"[::]:80\"\n{ORIGIN}hosts = [\"a\"]\n[[origin]]\nurl = \"http://Localhost/base\""),
            6,
            "it would ask itself",
            "--listen",
        ),
        ("[[origin]]\nurl = \"http://localhost:9090\"".to_owned(), 2, "is this proxy's admin address", "--admin"),
        // However a key is written.
        (format!("\nlimits.connections = 0\n{ORIGIN}"), 2, "would serve nobody", "leave connections out"),
        (format!("\nlimits = {{ waiters = 9, connections = 0 }}\n{ORIGIN}"), 2, "would serve nobody", "leave"),
        (format!("{ORIGIN}[ 'cache' ] # [x]\n\"capacity\" = \"1 KiB\""), 4, "below 64 KiB", "write 256 MiB"),
        (format!("listen = \"127.0.0.1:9090\"\n{ORIGIN}"), 1, "is the public one", "port of its own"),
        (
            "origin = [\n  { url = \"http://x\" },\n  { url = \"http://y\" },\n]".to_owned(),
            3,
            "the same requests as number 1",
            "leave one of the two out",
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
    for other in ["http://127.0.0.1:8081", "http://127.0.0.2:8080", "http://a.example:8080", "https://127.0.0.1"] {
        let told = told(&format!("[[origin]]\nurl = \"{other}\""));
        assert!(!told.contains("itself"), "{other}: {told}");
    }
}
