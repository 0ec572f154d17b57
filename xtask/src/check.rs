//! What can be checked without running the product: form, lints, docs, features, floors, and where unsafe stands.

use std::fs;
use std::path::{Path, PathBuf};

use crate::minimal;
use crate::run::{self, Step};

/// The only files in which `unsafe` may stand; each says at its top why, DESIGN.md says what it pays.
const MAY_BE_UNSAFE: &[&str] = &[
    "crates/everfresh/src/birth.rs",
    "crates/everfresh/src/second.rs",
    "crates/everfresh/src/store/",
    "crates/everfresh/tests/",
    "crates/everfresh-http/tests/allocations.rs",
    "crates/everfresh-proxy/src/arena/linux.rs",
];

/// Each feature alone, and the sets of them that have code in common.
const FEATURES: &[&str] = &[
    "",
    "macros",
    "tokio",
    "macros,tokio",
    "tracing",
    "metrics",
    "tokio,tracing",
    "tokio,metrics",
    "tracing,metrics",
    "resilience",
    "macros,resilience",
];

/// Of `everfresh-http`, its tests included; all of them together are what is checked with the workspace.
const HTTP_FEATURES: &[&str] = &["", "tower", "reqwest-middleware"];

pub(crate) fn all() -> bool {
    let mut steps = vec![
        Step::cargo("format", &["fmt", "--all", "--check"]),
        Step::cargo("clippy", &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]),
        Step::cargo("docs", &["doc", "--workspace", "--no-deps", "--all-features"]).with("RUSTDOCFLAGS", "-D warnings"),
    ];
    // A link to what only a feature brings leads nowhere without it.
    for package in ["everfresh", "everfresh-http", "everfresh-resilience"] {
        let arguments = ["doc", "--package", package, "--no-deps", "--no-default-features"];
        steps.push(Step::cargo(&format!("docs of {package} alone"), &arguments).with("RUSTDOCFLAGS", "-D warnings"));
    }
    for features in FEATURES {
        let arguments = ["check", "--package", "everfresh", "--no-default-features", "--features", features];
        steps.push(Step::cargo(&format!("features [{features}]"), &arguments).with("RUSTFLAGS", "-D warnings"));
    }
    for features in HTTP_FEATURES {
        let arguments = ["clippy", "--package", "everfresh-http", "--no-default-features", "--features", features];
        let arguments = [&arguments[..], &["--all-targets", "--", "-D", "warnings"]].concat();
        steps.push(Step::cargo(&format!("http features [{features}]"), &arguments));
    }
    let commands = run::all(&steps);
    let houses = [unsafe_stands_where_it_may(), floors_hold(), minimal::holds()];
    commands && houses.iter().all(|&holds| holds)
}

fn unsafe_stands_where_it_may() -> bool {
    let mut astray = Vec::new();
    for file in sources(&run::root()) {
        let shown = shown(&file);
        if MAY_BE_UNSAFE.iter().any(|place| shown.starts_with(place)) || shown.starts_with("xtask/") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let uses = |line: &&str| {
            let code = line.split("//").next().unwrap_or_default();
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "allow(unsafe_code)"]
                .iter()
                .any(|word| code.contains(word))
        };
        astray.extend(text.lines().filter(uses).map(|line| format!("{shown}: {}", line.trim())));
    }
    run::told("unsafe stands only where it may", &astray)
}

/// The floors of the core crate, lowest first; a file may import only from lines before its own.
const FLOORS: &[&[&str]] = &[
    &["sync", "moment", "key", "ticks"],
    &["thread", "leading", "birth", "wakers"],
    &["second", "error", "drive", "dice"],
    &["clock", "lifetime", "event", "spawn"],
    &["housekeeper"],
    &["history", "stats", "load", "given"],
    &["entry", "loader"],
    &["flight"],
    &["store", "level", "ledger", "pool", "trace", "measure"],
    &["engine"],
    &["landing", "hit"],
    &["beneath"],
    &["refresh", "reclaim"],
    &["coalesce"],
    &["obtain", "handle", "batch"],
    &["cache"],
    &["lookup", "many", "resilient"],
    &["schedule"],
    &["builder"],
    &["functions"],
    &["data", "resource"],
    &["lib", "guide", "fuzzing", "docs", "tests"],
];

/// The floors of the proxy.
const PROXY_FLOORS: &[&[&str]] = &[
    &["apart", "arena", "body", "circle", "config", "files", "forward", "framing", "hearing", "patience", "tunnel"],
    &["outlet", "rule", "stats", "trouble"],
    &["log", "sending", "tls"],
    &["access", "cache", "origin", "say", "server"],
    &["proxy"],
    &["admin"],
    &["bound"],
    &["demo"],
    &["cli"],
    &["lib", "main"],
];

fn floors_hold() -> bool {
    let mut wrong = Vec::new();
    for (name, floors) in [("everfresh", FLOORS), ("everfresh-proxy", PROXY_FLOORS)] {
        wrong.extend(wrong_imports(name, floors));
    }
    run::told("imports run downward only", &wrong)
}

fn wrong_imports(package: &str, floors: &[&[&str]]) -> Vec<String> {
    let floor = |name: &str| floors.iter().position(|names| names.contains(&name));
    let home = run::root().join("crates").join(package).join("src");
    let mut wrong = Vec::new();
    for file in sources(&home) {
        let Ok(inside) = file.strip_prefix(&home) else { continue };
        let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let Some(name) = first.map(|name| name.trim_end_matches(".rs").to_owned()) else { continue };
        let Some(own) = floor(&name) else {
            wrong.push(format!(
                "{} stands on no floor; give it one in xtask/src/check.rs and ARCHITECTURE.md",
                shown(&file)
            ));
            continue;
        };
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for line in text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
            let Some(after) = line.trim_start().strip_prefix("use crate::") else { continue };
            let imported: String = after.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            match floor(&imported) {
                _ if imported == name => {}
                Some(other) if other < own => {}
                Some(_) => wrong.push(format!("{} imports {imported}, which is not on a lower floor", shown(&file))),
                None => wrong.push(format!("{} imports through the face: {}", shown(&file), line.trim())),
            }
        }
    }
    wrong
}

fn shown(file: &Path) -> String {
    file.strip_prefix(run::root()).unwrap_or(file).to_string_lossy().replace('\\', "/")
}

/// All Rust files below a folder that are ours.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
