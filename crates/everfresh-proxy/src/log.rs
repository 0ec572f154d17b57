//! What is written down, and where: standard error, for people or for machines; never what could be a credential.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Lines that could not be written: the disk is full, who read them is gone, or reads no more.
static LOST: AtomicU64 = AtomicU64::new(0);

/// As much as may wait for whoever reads the log.
const MOST_WAITING: usize = 1 << 20;

/// Lines on their way to standard error. A thread of its own writes them: who reads there may stop (a terminal at Ctrl-S, a
/// pager, a collector that hangs), and then a write ends only when he goes on.
struct Lines {
    waiting: Mutex<Waiting>,
    came: Condvar,
    gone: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    /// What the thread does; without one each writes for himself.
    thread: Thread,
}

#[derive(Clone, Copy, PartialEq)]
enum Thread {
    None,
    Sleeps,
    Writes,
}

static LINES: Lines = Lines {
    waiting: Mutex::new(Waiting { bytes: Vec::new(), thread: Thread::None }),
    came: Condvar::new(),
    gone: Condvar::new(),
};

impl Lines {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a thread write from now on, if one can be had.
    fn begin(&'static self) {
        let mut waiting = self.waiting();
        if waiting.thread == Thread::None
            && thread::Builder::new().name("everfresh-log".into()).spawn(|| self.write()).is_ok()
        {
            waiting.thread = Thread::Writes;
        }
    }

    /// Takes a line, if there is room for it.
    fn take(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.thread == Thread::None {
            drop(waiting);
            return write_out(line);
        }
        if waiting.bytes.len() + line.len() > MOST_WAITING {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        if waiting.thread == Thread::Sleeps {
            waiting.thread = Thread::Writes;
            self.came.notify_one();
        }
    }

    fn write(&self) {
        let mut out = Vec::new();
        loop {
            let mut waiting = self.waiting();
            while waiting.bytes.is_empty() {
                waiting.thread = Thread::Sleeps;
                self.gone.notify_all();
                waiting = self.came.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut out, &mut waiting.bytes);
            drop(waiting);
            write_out(&out);
            out.clear();
        }
    }
}

/// Writes lines; those that standard error does not take are counted and forgotten, for a log must not stop what it tells
/// of.
fn write_out(mut lines: &[u8]) {
    while !lines.is_empty() {
        match io::stderr().write(lines) {
            Ok(written) if written > 0 => lines = &lines[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever else has it open wants no write to wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
            _ => {
                let lost = lines.iter().filter(|&&byte| byte == b'\n').count();
                LOST.fetch_add(lost as u64, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Waits until all that was told is written, a second at most.
pub(crate) fn end() {
    let writes = |waiting: &mut Waiting| waiting.thread == Thread::Writes;
    drop(LINES.gone.wait_timeout_while(LINES.waiting(), Duration::from_secs(1), writes));
}

/// Hands lines over.
struct Aside;

impl Write for Aside {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.take(line);
        Ok(line.len())
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
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Aside);
    let lines = lines.with_ansi(io::stderr().is_terminal()).log_internal_errors(false);
    let begun = match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    match begun {
        Ok(()) => LINES.begin(),
        Err(error) => tracing::debug!("a log is set up already: {error}"),
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
