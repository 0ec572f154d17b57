//! The same in real time: threads that take the requests as they fall due, and a backend that really sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Made, Unreachable};
use crate::contestant::{Contestant, Kind};
use crate::simulate::Scene;
use crate::tally::{Score, Tally};

/// Who is answered within this did not wait: there is no zero in real time.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Replays the requests at their times against one contestant.
///
/// Waiting counts from the moment at which a request was due, not from that at which a thread was free for it: a slow answer
/// delays those who stand behind it, and that is part of what it costs. What no thread has taken when the time is over twice
/// is not served.
///
/// # Errors
/// One line: not so many threads could be had.
pub(crate) fn replay(
    scene: &Scene<'_>,
    kind: Kind,
    threads: usize,
    progress: impl Fn(u64) + Sync,
) -> Result<Score, String> {
    let contestant = Contestant::new(kind, scene.policy, |builder| builder).map_err(|error| error.to_string())?;
    let backend = Backend::new(scene.behaviour.clone(), scene.span, scene.slots);
    let next = AtomicUsize::new(0);
    let unserved = AtomicU64::new(0);
    let start = Instant::now();
    let reader = || {
        let mut tally = Tally::new(scene.span, scene.slots, AT_ONCE);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(&at), Some(&key)) = (scene.trace.at.get(index), scene.trace.keys.get(index)) else { break };
            let due = Duration::from_nanos(at);
            thread::sleep(due.saturating_sub(start.elapsed()));
            if start.elapsed() > 2 * scene.span {
                unserved.fetch_add(1, Ordering::Relaxed);
                progress(1);
                continue;
            }
            let backend = Arc::clone(&backend);
            let served = contestant.serve(key, move || call(&backend, start));
            tally.record(due, start.elapsed(), served);
            progress(1);
        }
        tally
    };
    let mut sum = Tally::new(scene.span, scene.slots, AT_ONCE);
    let started = thread::scope(|scope| {
        let stack = || thread::Builder::new().stack_size(256 << 10);
        let readers: Vec<_> = (0..threads).map_while(|_| stack().spawn_scoped(scope, reader).ok()).collect();
        if readers.len() < threads {
            // Fewer would be another experiment: those that run find nothing more to do.
            next.store(scene.trace.len(), Ordering::Relaxed);
        }
        let started = readers.len();
        for reader in readers {
            if let Ok(tally) = reader.join() {
                sum.absorb(&tally);
            }
        }
        started
    });
    if started < threads {
        return Err(format!("only {started} of {threads} threads could be had; choose fewer: --threads"));
    }
    sum.unserved = unserved.into_inner();
    Ok(Score { name: kind.name(), tally: sum, load: backend.load() })
}

fn call(backend: &Arc<Backend>, start: Instant) -> Result<Made, Unreachable> {
    let call = backend.begin(start.elapsed());
    thread::sleep(call.takes);
    call.end(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::scene_of;
    use crate::trace::{self, Trace};

    #[test]
    fn threads_serve_every_request_and_the_backend_sees_each_key_once() {
        let keys = (0..200).map(|request| request % 10).collect();
        let trace: Trace = trace::steadily(keys, Duration::from_millis(200), 1);
        let mut scene = scene_of(&trace, Duration::from_millis(200));
        scene.policy.ttl = Duration::from_secs(60);
        scene.behaviour.latency.mean = Duration::from_millis(2);
        let score = replay(&scene, Kind::Everfresh, 8, |_| {}).unwrap();
        assert_eq!((score.tally.requests() + score.tally.unserved, score.load.calls), (200, 10));
        let score = replay(&scene, Kind::NoCache, 8, |_| {}).unwrap();
        assert_eq!(score.load.calls + score.tally.unserved, 200);
        assert!(score.load.peak <= 8);
    }
}
