//! What runs in Node against the built binary: the public suite of HTTP caches, and the live page in a browser.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::run::{self, Step};

const PAGE: &str = "crates/everfresh-proxy/page/test";

/// The suite http-cache-tests against `everfresh serve`, compared with `conformance/expected.json`.
pub(crate) fn conformance(rest: &[String]) -> bool {
    if !has_node("the conformance suite") || !(run::asks_for_help(rest) || run::all(&[binary()])) {
        return false;
    }
    let everfresh = everfresh().display().to_string();
    let mut arguments = vec!["conformance/run.mjs", "--binary", &everfresh];
    arguments.extend(rest.iter().map(String::as_str));
    run::all(&[Step::new("conformance", "node", &arguments)])
}

/// The live page in a real browser: against numbers made up, and against a running demonstration.
pub(crate) fn page() -> bool {
    let chromium = std::env::var("CHROMIUM").map_or_else(|_| PathBuf::from("/usr/bin/chromium"), PathBuf::from);
    if !chromium.is_file() {
        println!(
            "── page: left out, for there is no browser at {}; get one with `apt-get install chromium`, or name it: \
             CHROMIUM=/path/to/it",
            chromium.display()
        );
        return true;
    }
    if !has_node("the test of the page") {
        return false;
    }
    let test = format!("{PAGE}/page.test.mjs");
    let install = Step::new("page: what it needs", "npm", &["ci", "--prefix", PAGE, "--no-audit", "--no-fund"]);
    let mock = Step::new("page, against numbers made up", "node", &[&test, "--mock"]);
    if !run::all(&[install, binary(), mock]) {
        return false;
    }
    let Some(demo) = Demo::begin() else { return false };
    run::all(&[Step::new("page, against a running demonstration", "node", &[&test, &demo.live])])
}

/// Of the profile that the tests were built with: what is right does not depend on it, and it is there already.
fn everfresh() -> PathBuf {
    run::target().join("debug/everfresh")
}

fn binary() -> Step {
    Step::cargo("the binary", &["build", "--package", "everfresh-proxy"])
}

fn has_node(what: &str) -> bool {
    let missing: Vec<_> = ["node", "npm"].into_iter().filter(|name| !run::answers(name, &["--version"])).collect();
    if !missing.is_empty() {
        println!(
            "── {what} needs {}, which is not installed; get it with `apt-get install nodejs npm`, or from \
             https://nodejs.org (version 20 or later)",
            missing.join(" and ")
        );
    }
    missing.is_empty()
}

/// A running demonstration; it ends with this value.
struct Demo {
    child: Child,
    live: String,
}

impl Demo {
    fn begin() -> Option<Self> {
        let begun = Command::new(everfresh())
            .args(["demo", "--for", "10m", "--admin", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match begun {
            Ok(child) => child,
            Err(error) => {
                println!("   {} could not be started: {error}", everfresh().display());
                return None;
            }
        };
        let mut lines = BufReader::new(child.stdout.take()?).lines().map_while(Result::ok);
        let live = lines.find_map(|line| Some(line.strip_prefix("live")?.split_whitespace().next()?.to_owned()));
        // What it tells later on must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let demo = Self { child, live: live.unwrap_or_default() };
        if demo.live.is_empty() {
            println!("   the demonstration did not say where its page is");
            return None;
        }
        Some(demo)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
