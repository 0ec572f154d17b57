//! What is written down, and where: standard error, for people or for machines; never what could be a credential.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Lines that could not be written: the disk is full, or who read them is gone.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Standard error; a line that it does not take is counted and forgotten, for a log must not stop what it tells of.
struct Forgiving;

impl Write for Forgiving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(bytes).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sets the log up; `RUST_LOG` says what is told, `info` if it is not set, empty, or says nothing that can be meant. Only
/// the first call counts.
pub fn begin(format: LogFormat) {
    let wished = std::env::var_os("RUST_LOG").filter(|wished| !wished.is_empty());
    let wished = wished.map(|_| EnvFilter::try_from_default_env().map_err(|error| error.to_string())).transpose();
    let (wished, wrong) = wished.map_or_else(|wrong| (None, Some(wrong)), |wished| (wished, None));
    let filter = wished.unwrap_or_else(|| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Forgiving);
    let lines = lines.with_ansi(io::stderr().is_terminal()).log_internal_errors(false);
    let begun = match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(error) = begun {
        tracing::debug!("a log is set up already: {error}");
    }
    if let Some(wrong) = wrong {
        tracing::warn!(
            "RUST_LOG says nothing that can be meant, so info holds: {wrong}; write info, or everfresh=debug"
        );
    }
}

/// How many lines were lost.
pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// A target, URL or key as a log may show it: without the values of its query, which may be credentials.
pub(crate) fn shown(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let names: Vec<String> = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or_else(|| "…".to_owned(), |(name, _)| format!("{name}=…")))
        .collect();
    format!("{path}?{}", names.join("&"))
}

/// Prints a line to standard output.
pub(crate) fn tell(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_of_a_query_are_not_shown() {
        assert_eq!(super::shown("GET http://a/b?one=1&two=x=y&secret"), "GET http://a/b?one=…&two=…&…");
        assert_eq!(super::shown("/plain"), "/plain");
    }
}
