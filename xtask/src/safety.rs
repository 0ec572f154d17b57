//! The heavy proofs, long or in the short form that CI runs.

use std::process::Command;

use crate::run::{self, Step};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer needs to see which code an input reaches; the same that `cargo fuzz` passes.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address -Ccodegen-units=1";

/// How the crates know that they are built for the fuzzer.
const FUZZED: &str = "--cfg everfresh_fuzz --cfg fuzzing";

pub(crate) fn all(short: bool) -> bool {
    let mut steps = models(short);
    if short {
        // What needs instrumented builds of everything takes too long for each landing; that it builds is looked at.
        steps.push(fuzzed());
        return run::all(&steps);
    }
    if run::answers("cargo", &["+nightly", "--version"]) {
        steps.extend(sanitizers());
        steps.extend(fuzzing());
    } else {
        println!(
            "── no nightly toolchain: sanitizers, miri and fuzzing are left out; get one with `rustup toolchain install nightly`"
        );
    }
    run::all(&steps)
}

fn models(short: bool) -> Vec<Step> {
    let rounds = if short { "2000" } else { "200000" };
    let cases = if short { "2000" } else { "1000000" };
    let shuttle = ["test", "--release", "--package", "everfresh", "--test", "races", "--target-dir", "target/shuttle"];
    let loom = ["test", "--release", "--package", "everfresh", "--lib", "store", "--target-dir", "target/loom"];
    // The short form takes what is built already; the long one is done sooner with a build of its own.
    let within_everfresh = |promise: &'static str| -> Vec<&'static str> {
        match short {
            true => vec!["test", "--package", "everfresh", "--test", "it", promise],
            false => vec!["test", "--release", "--package", "everfresh", "--test", "it", promise],
        }
    };
    let rules = ["test", "--release", "--package", "everfresh-http", "--test", "it"];
    vec![
        Step::cargo("races of loads, refreshes and invalidations (shuttle)", &shuttle)
            .with("RUSTFLAGS", "--cfg everfresh_shuttle")
            .with("EVERFRESH_ROUNDS", rounds),
        Step::cargo("random operations against a small model", &within_everfresh("model"))
            .with("EVERFRESH_CASES", cases),
        Step::cargo("strikes from everywhere while everybody reads", &within_everfresh("storm"))
            .with("EVERFRESH_CASES", if short { "2000" } else { "200000" }),
        Step::cargo("random exchanges against a small oracle", &rules).with("EVERFRESH_CASES", cases),
        Step::cargo("who is reading what (loom)", &loom).with("RUSTFLAGS", "--cfg everfresh_loom"),
    ]
}

fn sanitizers() -> Vec<Step> {
    let store = ["test", "--package", "everfresh", "--lib", "--target", TARGET, "store"];
    let within = |arguments: &[&'static str], between: &[&'static str]| {
        let mut all = arguments.to_vec();
        all.splice(1..1, between.iter().copied());
        all
    };
    let it = ["test", "--package", "everfresh", "--test", "it", "--target", TARGET];
    let address = ["--target-dir", "target/asan"];
    let mut steps = vec![
        Step::nightly("the store under the address sanitizer", &within(&store, &address))
            .with("RUSTFLAGS", "-Zsanitizer=address"),
        // Some tests end with a spawner that holds work of the cache that holds it: not a leak of the cache's.
        Step::nightly("all promises under the address sanitizer", &within(&it, &address))
            .with("RUSTFLAGS", "-Zsanitizer=address")
            .with("ASAN_OPTIONS", "detect_leaks=0"),
    ];
    // With the std as it is delivered: the store's own locks are taken from a crate that is built with the sanitizer, and
    // what std does inside without its knowledge is listed by name.
    let thread = ["--release", "--target-dir", "target/tsan"];
    let unseen = run::root().join("xtask/thread-sanitizer.txt");
    steps.push(
        Step::nightly("the store under the thread sanitizer", &within(&store, &thread))
            .with("RUSTFLAGS", "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer")
            .with("TSAN_OPTIONS", format!("suppressions={}", unseen.display())),
    );
    if has_source_of_std() {
        let thread = ["-Zbuild-std", "--target-dir", "target/tsan-std"];
        steps.push(
            Step::nightly("all promises under the thread sanitizer", &within(&it, &thread))
                .with("RUSTFLAGS", "-Zsanitizer=thread"),
        );
    } else {
        println!(
            "── no source of std: the promises are not run under the thread sanitizer; \
             get it with `rustup +nightly component add rust-src`"
        );
    }
    if !run::answers("cargo", &["+nightly", "miri", "--version"]) {
        println!("── no miri: left out; get it with `rustup +nightly component add miri`");
    } else {
        let miri = ["miri", "test", "--package", "everfresh", "--lib", "--target-dir", "target/miri", "store"];
        let seeds = "-Zmiri-ignore-leaks -Zmiri-many-seeds=0..32";
        steps.push(Step::nightly("the store under miri", &miri).with("MIRIFLAGS", seeds));
    }
    steps
}

fn has_source_of_std() -> bool {
    let sysroot = Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output();
    sysroot.is_ok_and(|printed| {
        let sysroot = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
        std::path::Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists()
    })
}

/// Whether the fuzz targets build. The fuzzer itself is not: it wants a C++ compiler, and a check links nothing.
fn fuzzed() -> Step {
    let check = ["check", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz-check"];
    Step::cargo("what is fuzzed builds", &check)
        .with("CUSTOM_LIBFUZZER_PATH", "target/none.a")
        .with("RUSTFLAGS", format!("{FUZZED} -Dwarnings"))
}

fn fuzzing() -> Vec<Step> {
    let seconds = "-max_total_time=1200";
    let flags = format!("{COVERAGE} {FUZZED}");
    ["store", "cache", "http_fields", "http_exchange"]
        .map(|target| {
            let corpus = run::root().join("target/corpus").join(target);
            let _ = Command::new("mkdir").arg("-p").arg(&corpus).status();
            let corpus = corpus.to_string_lossy().into_owned();
            let arguments = [
                "run",
                "--release",
                "--manifest-path",
                "fuzz/Cargo.toml",
                "--target-dir",
                "target/fuzz",
                "--target",
                TARGET,
                "--bin",
                target,
                "--",
                seconds,
                "-verbosity=0",
                corpus.as_str(),
            ];
            Step::nightly(&format!("fuzzing: {target}"), &arguments).with("RUSTFLAGS", flags.clone())
        })
        .into()
}
