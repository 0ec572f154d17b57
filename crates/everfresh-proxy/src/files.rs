//! How many files this process may have open: each connection is one.

/// Lets this process open as many files as the system allows it, which is often far more than it does at first; how many,
/// if they are counted.
#[cfg(target_os = "linux")]
pub(crate) fn open_as_many_as_may_be() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let now = getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current == now.maximum || setrlimit(Resource::Nofile, most).is_err() {
        return now.current;
    }
    now.maximum
}

/// As on Linux; elsewhere it is not known.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_as_many_as_may_be() -> Option<u64> {
    None
}

/// What so many connections of clients may need: each of them one to an origin, too, and a few for all.
pub(crate) fn needed(connections: usize) -> u64 {
    (connections as u64).saturating_mul(2).saturating_add(64)
}
