//! `cargo xtask …`: what CI says can be said at home, with nothing to install first.
#![allow(clippy::print_stdout, reason = "a command-line tool")]

mod check;
mod minimal;
mod node;
mod run;
mod safety;

use std::process::ExitCode;

use run::Step;

const HELP: &str = "\
cargo xtask <command>

  check        format, clippy with warnings denied, docs, feature combinations, minimal Rust version, where unsafe may stand
  test         all tests and doc tests of the workspace
  safety       the heavy proofs: address and thread sanitizer, model checkers, miri, fuzzing, millions of model cases
  safety short the model checker and the model test in a few minutes, as CI runs them
  conformance  the public suite of HTTP caches against everfresh serve, compared with conformance/expected.json; needs node;
               `conformance --help` names every choice
  page         the proxy's live page in a headless Chromium; left out where there is none
  bench [..]   the measuring stand in bench/: speed, flight, resilient, memory, ratio, or all without a word;
               `bench ratio --traces FOLDER` reads recorded traces, `bench --help` names every choice
  bench proxy  the proxy beside nginx and varnish, as far as they are installed; `bench proxy --help` for more
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // A word too many is refused: `safety shrot` is not meant to run for hours, nor `safety --help`.
    let done = match words[..] {
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["check"] => check::all(),
        ["test"] => run::all(&[Step::cargo("tests", &["test", "--workspace", "--all-features"])]),
        ["safety"] => safety::all(false),
        ["safety", "short"] => safety::all(true),
        ["conformance", ..] => node::conformance(rest),
        ["page"] => node::page(),
        ["bench", ..] => bench(rest),
        [] => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
        _ => {
            eprint!("there is no `cargo xtask {}`; there are:\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bench(arguments: &[String]) -> bool {
    if let Some((first, rest)) = arguments.split_first()
        && first == "proxy"
    {
        return bench_proxy(rest);
    }
    let mut step = vec!["run", "--release", "--manifest-path", "bench/Cargo.toml", "--"];
    if arguments.is_empty() {
        step.push("all");
    }
    step.extend(arguments.iter().map(String::as_str));
    run::all(&[Step::cargo("bench", &step)])
}

fn bench_proxy(arguments: &[String]) -> bool {
    let everfresh = run::target().join("dist/everfresh").display().to_string();
    let mut stand = vec!["run", "--release", "--manifest-path", "bench/proxy/Cargo.toml", "--"];
    stand.extend(["--everfresh", everfresh.as_str()]);
    stand.extend(arguments.iter().map(String::as_str));
    let proxy = Step::cargo("the proxy", &["build", "--profile", "dist", "--package", "everfresh-proxy"]);
    (run::asks_for_help(arguments) || run::all(&[proxy])) && run::all(&[Step::cargo("bench proxy", &stand)])
}
