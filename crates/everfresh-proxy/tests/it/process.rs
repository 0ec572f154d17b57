//! The process: signals, a taken port, a wrong configuration, what the log never says.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use everfresh_proxy::config::Span;

use crate::downloads::takes_nothing;
use crate::world::{
    Origin, PATIENCE, Running, TOKEN, ask_admin, before, body, config, get, ok, purge, raw, run, status,
};

pub(crate) fn everfresh() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everfresh"));
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

pub(crate) struct Process {
    pub(crate) child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub(crate) said: String,
    pub(crate) address: std::net::SocketAddr,
}

impl Process {
    pub(crate) async fn begin(arguments: &[&str]) -> Self {
        let mut command = everfresh();
        command.arg("serve").args(arguments);
        Self::of(command).await
    }

    pub(crate) async fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("begun");
        let log = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = "0.0.0.0:0".parse().expect("an address");
        let mut process = Self { child, log, said: String::new(), address };
        let line = process.until("serving on http://").await;
        let address = line.rsplit("http://").next().unwrap_or_default().split('"').next().unwrap_or_default();
        process.address = address.trim().parse().expect("an address");
        process
    }

    pub(crate) async fn until(&mut self, wanted: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.log.next_line()).await.expect("in time").expect("read");
            let Some(line) = line else { panic!("ended without {wanted:?}: {}", self.said) };
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(wanted) {
                return line;
            }
        }
    }

    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("running").to_string();
        assert!(Command::new("kill").args([name, &id]).status().await.expect("kill").success());
    }
}

/// Answers the request on a connection, once it has come: an answer to nothing is none.
pub(crate) async fn answer(stream: &mut TcpStream, text: String) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        assert!(timeout(PATIENCE, stream.read_buf(&mut asked)).await.expect("in time").expect("read") > 0);
    }
    stream.write_all(text.as_bytes()).await.expect("sent");
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.toml", std::process::id()));
    std::fs::write(&path, text).expect("written");
    path
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let mut process =
        Process::begin(&["--origin", &origin, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-access-log"])
            .await;
    let line = process.until("live page on http://").await;
    let admin = line.rsplit("http://").next().unwrap_or_default().trim_end_matches('/').parse().expect("an address");
    for field in ["cache-control: max-age=60\r\n", "cache-control: no-store\r\n"] {
        let asking = tokio::spawn(get(process.address, "/half", ""));
        let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
        answer(&mut stream, ok(field, "half and the rest").replace(" and the rest", "")).await;
        drop(stream);
        let line = process.until("the answer broke off: ").await;
        assert!(line.contains("WARN") && line.contains("/half") && line.contains("end of file"), "{line}");
        asking.await.expect("ended");
    }
    let metrics = ask_admin(admin, "/metrics").await;
    assert!(metrics.contains("everfresh_origin_requests_total 2\n"), "{metrics}");
    assert!(metrics.contains("everfresh_origin_errors_total 2\n"), "{metrics}");
}

/// The parser answers it, and nobody else ever sees it.
#[tokio::test]
async fn what_cannot_be_read_as_a_request_has_its_line_and_counts_as_an_error() {
    let text = "limits.head = \"256 KiB\"\n[[origin]]\nurl = \"http://127.0.0.1:1\"\n";
    let path = file("unreadable", text).display().to_string();
    let arguments = ["--config", &path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut process = Process::begin(&arguments).await;
    let line = process.until("live page on http://").await;
    let admin = line.rsplit("http://").next().unwrap_or_default().trim_end_matches('/').parse().expect("an address");
    let many = (0..101).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    for (bytes, wanted) in [
        ("GET / HTTP/1.1\r\nhost: a\r\nno field\r\n\r\n".to_owned(), 400),
        (format!("GET /secret HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(100_000)), 414),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(300_000)), 431),
    ] {
        assert_eq!(status(&raw(process.address, bytes).await), wanted);
        let line = process.until("everfresh::access: ").await;
        assert!(line.contains("client=127.0.0.1") && line.contains(&format!("status={wanted}")), "{line}");
        assert!(line.contains("outcome=\"error\"") && line.contains("why=") && !line.contains("secret"), "{line}");
    }
    // What ends without a word, or in the middle of one, was no request.
    raw(process.address, "").await;
    let metrics = ask_admin(admin, "/metrics").await;
    assert!(metrics.contains("everfresh_requests_total{outcome=\"error\"} 4\n"), "{metrics}");
    assert!(metrics.contains("everfresh_reader_wait_seconds_count 0\n"), "nobody waited: {metrics}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_files_that_may_be_open_are_as_many_as_the_system_lets_and_too_few_are_told() {
    for (limit, more, told) in [
        ("ulimit -S -n 200", "", None),
        ("ulimit -n 300", "", Some("300 files")),
        ("ulimit -n 300", "limits.connections = 50\n", None),
    ] {
        let hard = std::fs::read_to_string("/proc/self/limits").expect("told");
        let hard = hard.lines().find(|line| line.starts_with("Max open files")).expect("told").split_whitespace();
        let hard = hard.rev().nth(1).expect("a number").to_owned();
        let few = hard.parse::<u64>().is_ok_and(|hard| hard < 20_064);
        let path =
            file("files", &format!("listen = \"127.0.0.1:0\"\n{more}[[origin]]\nurl = \"http://127.0.0.1:1\"\n"));
        let script = format!("{limit}; exec \"$0\" serve --no-admin --config \"$1\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_everfresh")])
            .arg(&path)
            .kill_on_drop(true)
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .spawn()
            .expect("begun");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("serving on http://") {
            assert!(timeout(PATIENCE, log.read_line(&mut said)).await.expect("in time").expect("read") > 0, "{said}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id().expect("running"))).expect("told");
        let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("told").to_owned();
        let soft = files.split_whitespace().nth(3).expect("a number");
        match told {
            Some(told) => {
                assert!(said.contains("WARN") && said.contains(told) && said.contains("LimitNOFILE"), "{said}")
            }
            None => assert!(said.contains("LimitNOFILE") == (few && more.is_empty()), "{said}"),
        }
        assert_eq!(soft, if limit.contains("-S") { &hard } else { "300" }, "{files}");
    }
}

#[tokio::test]
async fn a_request_whose_client_leaves_without_an_answer_has_its_line_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let mut process = Process::begin(&["--origin", &origin, "--listen", "127.0.0.1:0", "--no-admin"]).await;
    let mut client = TcpStream::connect(process.address).await.expect("connected");
    client.write_all(b"GET /slow?password=1 HTTP/1.1\r\nhost: a.example\r\n\r\n").await.expect("sent");
    let (_asked, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    drop(client);
    let line = process.until("outcome=\"unanswered\"").await;
    assert!(line.contains("uri=\"/slow?password=…\"") && line.contains("a.example"), "{line}");
    assert!(!process.said.contains("status="), "{}", process.said);
}

#[tokio::test]
async fn why_a_websocket_did_not_come_about_is_told() {
    let arguments = ["--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--no-admin", "--no-access-log"];
    let mut process = Process::begin(&arguments).await;
    let wish = "connection: upgrade, close\r\nupgrade: websocket\r\n";
    let answer = raw(process.address, format!("GET /ws HTTP/1.1\r\nhost: a\r\n{wish}\r\n")).await;
    assert_eq!(status(&answer), 502, "{answer}");
    let line = process.until("the origin cannot be reached: ").await;
    assert!(line.contains("WARN") && line.contains("/ws"), "{line}");
}

#[tokio::test]
async fn a_rust_log_that_is_empty_is_none_and_a_wrong_one_is_told() {
    for (wished, told) in [("", false), ("everfresh=nonsense", true), ("everfresh=debug", false)] {
        let mut child = everfresh()
            .args(["serve", "--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--no-admin"])
            .env("RUST_LOG", wished)
            .spawn()
            .expect("begun");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("serving on http://") {
            assert!(timeout(PATIENCE, log.read_line(&mut said)).await.expect("in time").expect("read") > 0);
        }
        assert_eq!(said.contains("RUST_LOG says nothing that can be meant"), told, "{said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn at_sigterm_what_runs_ends_and_no_more_begins() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    let mut process =
        Process::begin(&["--origin", &origin, "--listen", "127.0.0.1:0", "--no-admin", "--log", "human"]).await;
    let asking = tokio::spawn(get(process.address, "/slow", ""));
    let (mut slow, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    process.signal("-TERM").await;
    process.until("no more connections").await;
    // The listener goes before anything else does: connections are refused from now on.
    let refused = async { while TcpStream::connect(process.address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("refused");
    answer(&mut slow, ok("", "late but whole")).await;
    assert_eq!(body(&asking.await.expect("answered")), "late but whole");
    let ended = timeout(PATIENCE, process.child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(0));
}

/// As by Ctrl-C at a terminal, where `timeouts.drain` may be an hour.
#[cfg(unix)]
#[tokio::test]
async fn at_a_second_signal_nothing_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = listener.local_addr().expect("an address");
    let said = format!(
        "listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\ntimeouts.drain = \"1h\"\n[[origin]]\nurl = \"http://{url}\"\n"
    );
    let mut process = Process::begin(&["--config", file("twice", &said).to_str().expect("text")]).await;
    let asking = tokio::spawn(get(process.address, "/slow", ""));
    let _slow = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    process.signal("-INT").await;
    process.until("no more connections").await;
    process.signal("-INT").await;
    process.until("told again to end").await;
    let ended = timeout(PATIENCE, process.child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(asking.await.expect("cut off"), "");
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_takes_on_the_configuration_and_keeps_the_cache() {
    let (one, two) = (Origin::counting().await, Origin::new(|_| ok("cache-control: no-store\r\n", "two")).await);
    let text = |origin: &Origin| format!("listen = \"127.0.0.1:0\"\n[[origin]]\nurl = \"http://{}\"\n", origin.address);
    let path = file("reload", &text(&one));
    let mut process = Process::begin(&["--config", &path.display().to_string(), "--no-admin"]).await;
    assert_eq!(body(&get(process.address, "/stored", "").await), "answer 0");
    std::fs::write(&path, text(&two)).expect("written");
    process.signal("-HUP").await;
    process.until("configuration read again").await;
    assert_eq!(body(&get(process.address, "/stored", "").await), "answer 0");
    assert_eq!(body(&get(process.address, "/new", "").await), "two");
    std::fs::write(&path, text(&two).replace("listen", "cache.max_refreshes = 3\nlisten")).expect("written");
    process.signal("-HUP").await;
    let told = process.until("configuration read again").await;
    assert!(told.contains("[cache] counts from the next start on"), "{told}");
    // That is in vain until then, however often it is read, and not once all is as it was at the start.
    process.signal("-HUP").await;
    let told = process.until("configuration read again").await;
    assert!(told.contains("[cache] counts from the next start on"), "{told}");
    std::fs::write(&path, text(&two).replace("listen", "timeouts.idle = \"300ms\"\nlisten")).expect("written");
    process.signal("-HUP").await;
    let told = process.until("configuration read again").await;
    assert!(!told.contains("counts from the next start on"), "{told}");
    // What is not told to be in vain holds, for clients too: takes_nothing() waits for less than the 30 s of the start.
    takes_nothing(process.address).await;
    std::fs::write(&path, "nonsense = 1").expect("written");
    process.signal("-HUP").await;
    let told = process.until("the old configuration holds on").await;
    assert!(told.contains("unknown key nonsense"), "{told}");
    assert_eq!(body(&get(process.address, "/newer", "").await), "two");
}

#[tokio::test]
async fn a_taken_port_is_told_with_a_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let arguments = ["serve", "--origin", "http://127.0.0.1:1", "--listen", &address, "--no-admin"];
    let ended = timeout(PATIENCE, everfresh().args(arguments).output()).await.expect("in time").expect("ended");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains(&address) && told.contains("choose another port"), "{told}");
}

#[tokio::test]
async fn check_says_what_is_wrong_and_exits_with_2() {
    let wrong = file("wrong", "[[origin]]\nurl = \"http://x\"\npreserve_hosts = true\n");
    let ended = everfresh().arg("check").arg(&wrong).output().await.expect("ended");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("wrong.toml:3: unknown key preserve_hosts\n  cure: did you mean preserve_host?"), "{told}");
    let serve = everfresh().args(["serve", "--config"]).arg(&wrong).output().await.expect("ended");
    assert_eq!(serve.status.code(), Some(2));
    let tls = format!("{}/tests/it/tls", env!("CARGO_MANIFEST_DIR"));
    let none = file("none", "nothing");
    let none = none.display();
    let locked = file("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let older = file(
        "older",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    for (cert, key, line, what) in [
        (none.to_string(), format!("{tls}/key.pem"), 4, "no certificate is in it"),
        (format!("{tls}/cert.pem"), none.to_string(), 5, "no private key is in it"),
        (format!("{tls}/cert.pem"), format!("{tls}/renewed-key.pem"), 5, "not the key of the certificate in"),
        (
            format!("{tls}/cert.pem"),
            locked.display().to_string(),
            5,
            "behind a passphrase\n  cure: nobody could be asked",
        ),
        (
            format!("{tls}/cert.pem"),
            older.display().to_string(),
            5,
            "behind a passphrase\n  cure: nobody could be asked",
        ),
        (format!("{tls}/cert.pem"), format!("{tls}/p521-key.pem"), 5, "no key of a kind that TLS is spoken with here"),
    ] {
        let text = format!("[[origin]]\nurl = \"http://x\"\n[tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n");
        let wrong = file("tls", &text);
        for command in [&["check"][..], &["serve", "--config"]] {
            let ended = everfresh().args(command).arg(&wrong).output().await.expect("ended");
            let told = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(2), "{told}");
            assert!(told.contains(&format!("tls.toml:{line}: tls.")) && told.contains(what), "{told}");
            assert!(told.contains("\n  cure: "), "{told}");
        }
    }
    let small =
        file("small", "cache.capacity = \"8 MiB\"\ncache.max_body = \"9 MiB\"\n[[origin]]\nurl = \"http://x\"\n");
    for command in [&["check"][..], &["serve", "--config"]] {
        let ended = timeout(PATIENCE, everfresh().args(command).arg(&small).output()).await.expect("in time");
        let told = String::from_utf8_lossy(&ended.expect("ended").stderr).into_owned();
        assert!(told.contains("small.toml:2: cache.max_body is larger than cache.capacity"), "{told}");
    }
    let latin = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("latin.toml");
    std::fs::write(&latin, b"# all\n# \xe9\n").expect("written");
    for (file, what) in [(&latin, "latin.toml:2: this is no text"), (&PathBuf::from("/gone.toml"), "cannot be read")] {
        let ended = everfresh().arg("check").arg(file).output().await.expect("ended");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(2) && told.contains(what) && told.contains("\n  cure: "), "{told}");
    }
    let right = file("right", "[[origin]]\nurl = \"http://x\"\n");
    let ended = everfresh().arg("check").arg(&right).output().await.expect("ended");
    assert_eq!(ended.status.code(), Some(0));
}

#[tokio::test]
async fn flags_win_over_what_would_be_wrong_without_them() {
    let origin = Origin::counting().await;
    let address = origin.address;
    // As if the proxy stood where its origin is; and the admin address where the proxy is.
    let text =
        format!("listen = \"{address}\"\nadmin.listen = \"{address}\"\n[[origin]]\nurl = \"http://{address}\"\n");
    let path = file("flags", &text).display().to_string();
    let process = Process::begin(&["--config", &path, "--listen", "127.0.0.1:0", "--no-admin"]).await;
    assert_eq!(body(&get(process.address, "/", "").await), "answer 0");
    let told = async |more: &[&str]| {
        let ended = everfresh().args(["serve", "--config", &path]).args(more).output();
        String::from_utf8_lossy(&timeout(PATIENCE, ended).await.expect("in time").expect("ended").stderr).into_owned()
    };
    let alone = told(&[]).await;
    assert!(alone.contains("flags.toml:4: ") && alone.contains("it would ask itself"), "{alone}");
    let flag = told(&["--listen", "127.0.0.1:0", "--no-admin", "--capacity", "1"]).await;
    assert!(flag.contains("everfresh: the cache's capacity is below 64 KiB"), "{flag}");
}

#[tokio::test]
async fn without_the_flag_the_file_says_whether_each_request_is_told() {
    let origin = Origin::counting().await;
    for access in [false, true] {
        let text = format!("log.access = {access}\n[[origin]]\nurl = \"http://{}\"\n", origin.address);
        let path = file("access", &text).display().to_string();
        let mut process = Process::begin(&["--config", &path, "--listen", "127.0.0.1:0", "--no-admin"]).await;
        assert_eq!(status(&get(process.address, "/asked", "").await), 200);
        process.signal("-TERM").await;
        process.until("what runs may end").await;
        let mut rest = String::new();
        while let Some(line) = timeout(PATIENCE, process.log.next_line()).await.expect("in time").expect("read") {
            rest.push_str(&line);
        }
        assert_eq!(process.said.contains("/asked") || rest.contains("/asked"), access, "{} {rest}", process.said);
    }
}

#[tokio::test]
async fn preserve_host_holds_by_the_flag_as_by_the_file() {
    let origin = Origin::counting().await;
    let url = format!("http://{}", origin.address);
    for (in_file, flag, kept) in [(false, false, false), (true, false, true), (false, true, true), (true, true, true)] {
        let text = format!("[[origin]]\nurl = \"{url}\"\npreserve_host = {in_file}\n");
        let path = file("preserve", &text).display().to_string();
        let mut arguments = vec!["--config", &path, "--listen", "127.0.0.1:0", "--no-admin"];
        arguments.extend(flag.then_some("--preserve-host"));
        let process = Process::begin(&arguments).await;
        get(process.address, "/", "").await;
        let saw = origin.saw().pop().unwrap_or_default().to_ascii_lowercase();
        assert_eq!(saw.contains("\r\nhost: a.example\r\n"), kept, "{in_file} {flag}: {saw}");
    }
}

#[tokio::test]
async fn a_token_of_the_environment_is_one_unless_it_is_empty() {
    for (token, wanted) in [("s3cret", 200), ("", 403)] {
        let mut command = everfresh();
        command.args(["serve", "--origin", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.env("EVERFRESH_TOKEN", token);
        let mut process = Process::of(command).await;
        let line = process.until("live page on http://").await;
        let admin =
            line.rsplit("http://").next().unwrap_or_default().trim_end_matches('/').parse().expect("an address");
        assert_eq!(status(&purge(admin, token, "{\"url\":\"http://a.example/\"}").await), wanted, "{token:?}");
    }
}

/// The main job of who has nothing of his own yet.
#[tokio::test]
async fn the_demonstration_tells_where_it_is_and_what_it_came_to() {
    let demo = everfresh().args(["demo", "--for", "1s", "--admin", "127.0.0.1:0"]).output();
    let ended = timeout(PATIENCE, demo).await.expect("in time").expect("ended");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{said} {}", String::from_utf8_lossy(&ended.stderr));
    for name in ["origin   http://127.0.0.1:", "proxy    http://127.0.0.1:", "live     http://127.0.0.1:"] {
        assert!(said.contains(name), "{said}");
    }
    let row = |name: &str| -> Vec<f32> {
        let row = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {said}"));
        row.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    for name in ["without the cache", "with the cache"] {
        let [requests, errors, p50, p99, max] = row(name)[..] else { panic!("{name}: {said}") };
        assert!(requests > 0.0 && errors < requests && p50 <= p99.ceil() + 1.0 && p99 <= max, "{said}");
    }
    // What the origin takes at least.
    assert!(row("without the cache")[2] >= 210.0, "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(" stale answers at once; ") && !last.ends_with(" 0 requests to the origin behind them"));
}

#[tokio::test]
async fn completions_and_help_are_there() {
    for (arguments, wanted) in [
        (["completions", "bash"], "_everfresh"),
        (["completions", "fish"], "everfresh"),
        (["serve", "--help"], "<--origin <URL>|--config <FILE>>"),
    ] {
        let ended = everfresh().args(arguments).output().await.expect("ended");
        assert_eq!(ended.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&ended.stdout).contains(wanted), "{arguments:?}");
    }
}

#[tokio::test]
async fn no_credentials_are_in_the_log() {
    let origin = Origin::counting().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = gone.local_addr().expect("an address");
    drop(gone);
    // What goes well and what does not are told by different lines.
    for (address, format, told) in [
        (origin.address, "human", "outcome=\"uncacheable\""),
        (origin.address, "json", "\"outcome\":\"uncacheable\""),
        (nobody, "human", "cannot be reached"),
        (nobody, "json", "cannot be reached"),
    ] {
        let mut child = everfresh()
            .args(["serve", "--origin", &format!("http://{address}"), "--listen", "127.0.0.1:0", "--no-admin"])
            .args(["--log", format])
            .env("RUST_LOG", "everfresh=trace,everfresh_proxy=trace,everfresh_http=trace")
            .env("EVERFRESH_TOKEN", "s3cret")
            .spawn()
            .expect("begun");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("serving on http://") {
            line.clear();
            assert!(timeout(PATIENCE, log.read_line(&mut line)).await.expect("in time").expect("read") > 0);
        }
        let port = line.split("http://").nth(1).unwrap_or_default();
        let port: String = port.chars().take_while(|it| it.is_ascii_digit() || ".:".contains(*it)).collect();
        let port = port.parse().expect("an address");
        let secrets = "authorization: Bearer s3cret\r\ncookie: id=s3cret\r\nx-api-key: s3cret\r\n";
        get(port, "/page?token=s3cret", secrets).await;
        let user = "GET http://me:s3cret@a.example/page HTTP/1.1\r\nhost: me:s3cret@a.example\r\n\r\n";
        assert_eq!(status(&raw(port, user).await), 400);
        let id = child.id().expect("running").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
        let mut said = String::new();
        timeout(PATIENCE, log.read_to_string(&mut said)).await.expect("in time").expect("read");
        assert!(said.contains("/page?token=…") && said.contains(told) && said.contains("a.example"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_for_logs_stops_nothing() {
    let origin = Origin::counting().await;
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let (from, at) = (format!("http://{}", origin.address), address.to_string());
    let mut child = everfresh()
        .args(["serve", "--origin", &from, "--listen", &at, "--no-admin"])
        .stderr(Stdio::from(full))
        .spawn()
        .expect("begun");
    let up = async { while TcpStream::connect(address).await.is_err() {} };
    timeout(PATIENCE, up).await.expect("up");
    assert_eq!(body(&get(address, "/", "").await), "answer 0");
    assert_eq!(body(&get(address, "/", "").await), "answer 0");
    child.kill().await.expect("killed");
}

/// A stale answer is served, and the request that renews it has reached the origin, which does not answer yet.
async fn with_a_refresh_under_way(drain: Span) -> (Running, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(listener.local_addr().expect("an address"));
    config.timeouts.drain = drain;
    let running = run(config).await;
    let asking = tokio::spawn(get(running.address, "/", ""));
    let (mut first, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    let fields = "connection: close\r\ncache-control: max-age=60, stale-while-revalidate=60\r\n";
    answer(&mut first, ok(fields, "old")).await;
    assert_eq!(body(&asking.await.expect("answered")), "old");
    let soft = "{\"url\":\"http://a.example/\",\"mode\":\"soft\"}";
    assert_eq!(body(&purge(running.admin, TOKEN, soft).await), "{\"purged\":1}");
    // What was stored a moment ago is not asked for again at once.
    let reading = async { while body(&get(running.address, "/", "").await) == "old" {} };
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        ended = timeout(PATIENCE, reading) => panic!("no refresh: {ended:?}"),
    };
    (running, accepted.expect("accepted").0)
}

#[tokio::test]
async fn at_the_end_refreshes_may_end_too_and_ready_says_no() {
    let (running, mut refresh) = with_a_refresh_under_way(Span::secs(20)).await;
    assert_eq!(status(&ask_admin(running.admin, "/ready").await), 200);
    running.stop.send(true).expect("serving");
    let refused = async { while TcpStream::connect(running.address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("refused");
    assert_eq!(status(&ask_admin(running.admin, "/ready").await), 503);
    assert!(!running.served.is_finished(), "a refresh is under way");
    refresh.write_all(ok("cache-control: max-age=60\r\n", "new").as_bytes()).await.expect("sent");
    let cut_off = timeout(PATIENCE, running.served).await.expect("in time").expect("served");
    assert_eq!((cut_off.connections, cut_off.refreshes), (0, 0));
}

#[tokio::test]
async fn a_refresh_by_hand_does_not_hide_another_that_runs() {
    let (running, mut refresh) = with_a_refresh_under_way(Span::secs(20)).await;
    assert_eq!(running.proxy.cache.refreshing(), 1);
    // Somebody asks for it already: that ends at once.
    let wish = "{\"url\":\"http://a.example/\",\"mode\":\"revalidate\"}";
    purge(running.admin, TOKEN, wish).await;
    assert_eq!(running.proxy.cache.refreshing(), 1);
    assert!(ask_admin(running.admin, "/metrics").await.contains("everfresh_refreshes_running 1\n"));
    refresh.write_all(ok("cache-control: max-age=60\r\n", "new").as_bytes()).await.expect("sent");
    let ended = async {
        while running.proxy.cache.refreshing() > 0 {
            tokio::task::yield_now().await
        }
    };
    timeout(PATIENCE, ended).await.expect("in time");
}

#[tokio::test]
async fn at_the_end_upgraded_connections_may_end_too() {
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    for (drain, cut_off) in [(Span::secs(20), 0), (Span::millis(50), 1)] {
        let origin = Origin::new(move |_| agreed.to_owned()).await;
        let mut config = config(origin.address);
        config.timeouts.drain = drain;
        let running = run(config).await;
        let mut stream = TcpStream::connect(running.address).await.expect("connected");
        let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nping";
        stream.write_all(ask.as_bytes()).await.expect("sent");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"ping") {
            assert!(timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("in time").expect("read") > 0);
        }
        running.stop.send(true).expect("serving");
        if cut_off == 0 {
            let refused = async { while TcpStream::connect(running.address).await.is_ok() {} };
            timeout(PATIENCE, refused).await.expect("refused");
            stream.write_all(b"pong").await.expect("sent");
            let mut echo = [0; 4];
            timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("in time").expect("read");
            assert_eq!(&echo, b"pong");
            stream.shutdown().await.expect("done");
        }
        let ended = timeout(PATIENCE, running.served).await.expect("in time").expect("served");
        assert_eq!(ended.connections, cut_off);
    }
}

#[tokio::test]
async fn refreshes_are_cut_off_when_the_time_is_up() {
    let (running, _refresh) = with_a_refresh_under_way(Span::millis(50)).await;
    running.stop.send(true).expect("serving");
    let cut_off = timeout(PATIENCE, running.served).await.expect("in time").expect("served");
    assert_eq!((cut_off.connections, cut_off.refreshes), (0, 1));
}

#[tokio::test]
async fn stopping_says_how_many_were_cut_off() {
    let hung = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = crate::world::config(hung.local_addr().expect("an address"));
    config.timeouts.drain = everfresh_proxy::config::Span::millis(50);
    let running = crate::world::run(config).await;
    let asking = tokio::spawn(get(running.address, "/", ""));
    let (_held, _) = timeout(PATIENCE, hung.accept()).await.expect("in time").expect("accepted");
    running.stop.send(true).expect("serving");
    let cut_off = timeout(PATIENCE, running.served).await.expect("in time").expect("served");
    assert_eq!(cut_off.connections, 1);
    asking.await.expect("let go");
    let origin = Origin::counting().await;
    let running = before(&origin).await;
    running.stop.send(true).expect("serving");
    let cut_off = timeout(PATIENCE, running.served).await.expect("in time").expect("served");
    assert_eq!((cut_off.connections, cut_off.refreshes), (0, 0));
}
