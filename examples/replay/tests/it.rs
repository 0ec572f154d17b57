//! The program as its users meet it: the command line, what it prints, and how it refuses.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn replay(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    command.args(line.split_whitespace()).env_remove("CLICOLOR_FORCE").output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file of this test process, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("replay-{}-{name}", std::process::id()));
        fs::write(&path, bytes).expect("the temporary folder can be written");
        Scratch(path)
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn bad_input_gets_one_line_on_standard_error_and_exit_code_2() {
    let truncated = Scratch::new("truncated.u64le", &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
    let empty = Scratch::new("empty.txt", b"# nothing yet\n\n");
    let (truncated, empty) = (format!("--trace {}", truncated.shown()), format!("--trace {}", empty.shown()));
    for (line, cure) in [
        ("--trace /nowhere/at.all", "there is no file /nowhere/at.all"),
        (truncated.as_str(), "truncate -s 8"),
        (empty.as_str(), "holds no requests"),
        ("--ttl 5x", "write it as"),
        ("--ttl 5", "write 5s"),
        ("--backend fast", "write it as 50ms"),
        ("--outage 90s..60s", "write 60s..90s"),
        ("--live --threads 0", "at least 1"),
        ("--capacity 0", "at least 1"),
        ("--frobnicate", "see --help"),
        ("--plot day.gif", ".svg or .png"),
    ] {
        let output = replay(line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(said.starts_with("replay: ") && said.lines().count() == 1 && said.contains(cure), "{line}: {said}");
    }
}

#[test]
fn the_table_has_the_three_side_by_side_and_ends_with_a_sentence() {
    let output = replay("--rate 0.2 --keys 500 --capacity 300");
    let said = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    for wanted in ["no cache", "ttl cache", "everfresh", "stale_if_error", "p99.9", "oldest age", "most at once"] {
        assert!(said.contains(wanted), "{wanted} is missing:\n{said}");
    }
    assert!(said.trim_end().ends_with("old."), "{said}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn json_is_json_and_the_same_for_the_same_seed() {
    let line = "--json --rate 0.2 --keys 500 --capacity 300 --error-rate 5% --seed 9";
    let (first, again) = (replay(line), replay(line));
    assert_eq!(text(&first.stdout), text(&again.stdout));
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).expect("it is JSON");
    assert_eq!(report["requests"], 17_280);
    let contestants = report["contestants"].as_array().expect("a list");
    assert_eq!(contestants.len(), 3);
    for contestant in contestants {
        let outcomes = contestant["outcomes"].as_object().expect("an object");
        let sum: u64 = outcomes.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(Some(sum), contestant["requests"].as_u64(), "the outcomes add up to the requests");
    }
    assert!(contestants[2]["errors"].as_u64() < contestants[1]["errors"].as_u64());
}

#[test]
fn a_trace_is_read_in_both_forms_and_drawn_in_both() {
    let keys: Vec<u64> = (0..2_000).map(|request| request * request % 97).collect();
    let binary = Scratch::new("trace.u64le", &keys.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>());
    let lines: Vec<String> = keys.iter().map(u64::to_string).collect();
    let lined = Scratch::new("trace.txt", lines.join("\r\n").as_bytes());
    let (svg, png) = (Scratch::new("day.svg", b""), Scratch::new("day.PNG", b""));
    let from_binary = replay(&format!("--json --span 1h --trace {} --plot {}", binary.shown(), svg.shown()));
    let from_text = replay(&format!("--json --span 1h --trace {} --plot {}", lined.shown(), png.shown()));
    let part = |output: &Output| text(&output.stdout).split_once("\"requests\"").map(|(_, rest)| rest.to_owned());
    assert_eq!(part(&from_binary), part(&from_text));
    assert!(part(&from_binary).is_some());
    assert!(fs::read_to_string(&svg.0).is_ok_and(|svg| svg.contains("everfresh") && svg.contains("outage")));
    assert!(fs::read(&png.0).is_ok_and(|png| png.starts_with(b"\x89PNG")));
}

#[test]
fn the_result_is_told_also_where_the_picture_cannot_be_written() {
    let folder = std::env::temp_dir().join(format!("replay-{}-folder.svg", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    for (form, wanted) in [("", "With everfresh"), ("--json", "\"over_time\"")] {
        let output = replay(&format!("--rate 0.01 {form} --plot {}", folder.display()));
        let (said, refused) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{refused}");
        assert!(said.contains(wanted) && !said.contains("Drawn in"), "{said}");
        assert!(refused.lines().count() == 1 && refused.contains("choose another place"), "{refused}");
    }
    let _ = fs::remove_dir(&folder);
}

#[test]
fn real_threads_in_real_time_agree_that_nobody_waits_for_a_refresh() {
    let output =
        replay("--json --live --for 600ms --rate 300 --keys 20 --threads 16 --backend 5ms --ttl 50ms --outage none");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let calls = |index: usize| report["contestants"][index]["backend"]["calls"].as_u64();
    let outcomes = &report["contestants"][2]["outcomes"];
    assert!(outcomes["stale"].as_u64() > Some(0) && outcomes["failed"] == 0, "{outcomes}");
    assert!(outcomes["loaded"].as_u64() <= Some(20), "one load a key, all other readers found something: {outcomes}");
    assert!(calls(2) < calls(0));
}

#[test]
fn help_is_help_and_not_a_failure() {
    let output = replay("--help");
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("--outage") && said.contains("Examples:"));
}
