//! Runs commands one after the other and says which, and which failed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// One command with a name for people.
pub(crate) struct Step {
    name: String,
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Step {
    /// A call of cargo, with the toolchain that runs this.
    pub(crate) fn cargo(name: &str, arguments: &[&str]) -> Step {
        let step = Step::new(name, &cargo(), arguments);
        // Without that name its `rustc` is rustup's default one, whatever `cargo +1.88 xtask` says.
        match std::env::var("RUSTUP_TOOLCHAIN") {
            Ok(toolchain) => step.with("RUSTUP_TOOLCHAIN", toolchain),
            Err(_) => step,
        }
    }

    /// A call of the nightly cargo, for sanitizers and miri.
    pub(crate) fn nightly(name: &str, arguments: &[&str]) -> Step {
        Step::with_toolchain(name, "nightly", arguments)
    }

    /// A call of the cargo of a toolchain that rustup has.
    pub(crate) fn with_toolchain(name: &str, toolchain: &str, arguments: &[&str]) -> Step {
        let mut step = Step::new(name, "cargo", &[&format!("+{toolchain}")]);
        step.arguments.extend(arguments.iter().map(ToString::to_string));
        step
    }

    pub(crate) fn new(name: &str, program: &str, arguments: &[&str]) -> Step {
        Step {
            name: name.into(),
            program: program.into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: Vec::new(),
        }
    }

    /// The same with an environment variable.
    pub(crate) fn with(mut self, variable: &str, value: impl Into<String>) -> Step {
        self.environment.push((variable.into(), value.into()));
        self
    }

    fn run(&self) -> bool {
        println!("── {} · {} {}", self.name, self.program, self.arguments.join(" "));
        let began = Instant::now();
        let mut command = Command::new(&self.program);
        // A call of `cargo +nightly` from inside `cargo run` must not inherit the outer toolchain.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        let status = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(variable, value)| (variable, value)))
            .current_dir(root())
            .status();
        let passed = match status {
            Ok(status) => status.success(),
            Err(error) => {
                println!("   {} could not be started: {error}", self.program);
                false
            }
        };
        let word = if passed { "passed" } else { "FAILED" };
        println!("── {} {word} in {:.0?}", self.name, began.elapsed());
        passed
    }
}

/// Runs all, to the end even if one fails; `true` if none did.
pub(crate) fn all(steps: &[Step]) -> bool {
    let failed: Vec<&str> = steps.iter().filter(|step| !step.run()).map(|step| step.name.as_str()).collect();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    failed.is_empty()
}

/// Says what was looked at without a command, and what is wrong with it; `true` if nothing is.
pub(crate) fn told(what: &str, wrong: &[String]) -> bool {
    println!("── {what}: {}", if wrong.is_empty() { "passed" } else { "FAILED" });
    wrong.iter().for_each(|line| println!("   {line}"));
    wrong.is_empty()
}

/// The cargo that runs this.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Whether only the choices are asked for, for which nothing need be built that they are about.
pub(crate) fn asks_for_help(arguments: &[String]) -> bool {
    arguments.iter().any(|word| matches!(word.as_str(), "--help" | "-h"))
}

/// The folder of the workspace, as cargo says at each run. Where this was built would be the wrong one of a folder that was copied or
/// moved with all that was built in it: cargo finds nothing to build anew there.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// Where cargo puts what it builds here; a relative folder counts from the workspace, where all commands run.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Whether a program answers when it is asked for its version.
pub(crate) fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .output()
        .is_ok_and(|output| output.status.success())
}
