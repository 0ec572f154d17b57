//! The binary `everfresh`.

use std::process::ExitCode;

fn main() -> ExitCode {
    everfresh_proxy::cli::run()
}
