//! The minimal Rust version: stated, kept by what we are built from, and tried where that toolchain is installed.
//!
//! What we call of the standard library needs no step here: `clippy::incompatible_msrv` refuses what came later.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::run::{self, Step};

/// Whether the version that Cargo.toml states is true, as far as this machine can tell.
pub(crate) fn holds() -> bool {
    let text = |name: &str| fs::read_to_string(run::root().join(name)).unwrap_or_default();
    let manifest = text("Cargo.toml");
    let stated = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let Some(stated) = stated else {
        return run::told("the minimal Rust version", &["Cargo.toml states no rust-version".to_owned()]);
    };
    let mut wrong = later_than(stated);
    if !text("README.md").contains(&format!("Rust {stated}")) {
        wrong.push(format!("README.md does not say Rust {stated}"));
    }
    run::told(&format!("Rust {stated} is enough for all that we are built from"), &wrong) & is_tried(stated)
}

/// What in the lock file asks for a later version than ours; a package that says nothing asks for nothing.
fn later_than(ours: &str) -> Vec<String> {
    let arguments = ["metadata", "--format-version", "1", "--all-features", "--locked"];
    let output = Command::new(run::cargo()).args(arguments).current_dir(run::root()).output();
    let metadata = output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
    let packages = metadata.as_ref().and_then(|metadata| metadata["packages"].as_array());
    let Some(packages) = packages else {
        return vec!["`cargo metadata --locked` does not name the packages; is Cargo.lock up to date?".to_owned()];
    };
    let asks = |package: &Value| {
        let theirs = package["rust_version"].as_str()?;
        let later = parts(theirs) > parts(ours);
        let [name, release] = ["name", "version"].map(|field| package[field].as_str().unwrap_or_default());
        later.then(|| format!("{name} {release} asks for Rust {theirs}"))
    };
    packages.iter().filter_map(asks).collect()
}

/// Builds everything with the stated version where rustup has it; nothing is installed for it.
fn is_tried(version: &str) -> bool {
    let listed = Command::new("rustup").args(["toolchain", "list"]).output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_it = |name: &&str| name.strip_prefix(version).is_some_and(|rest| rest.starts_with(['-', '.']));
    let Some(toolchain) = listed.lines().filter_map(|line| line.split_whitespace().next()).find(is_it) else {
        println!("── no Rust {version} here to build with; get it with `rustup toolchain install {version}`");
        return true;
    };
    let target = run::target().join("minimal");
    let arguments = ["check", "--workspace", "--all-features", "--target-dir", &target.to_string_lossy()];
    run::all(&[Step::with_toolchain(&format!("build with Rust {version}"), toolchain, &arguments)])
}

/// `1.88` and `1.88.0` are one version.
fn parts(version: &str) -> [u32; 3] {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number_and_not_by_letter() {
        assert!(parts("1.9") < parts("1.88"));
        assert!(parts("1.88.1") > parts("1.88"));
        assert_eq!(parts("1.88.0"), parts("1.88"));
    }
}
