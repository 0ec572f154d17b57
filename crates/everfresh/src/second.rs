//! A cheaper estimate of the time, of which nothing but the wall clock's second is asked.
//!
//! The kernel keeps that second in memory which it shares with every process, and on x86-64 has a function that gives it in a
//! few instructions. It tells no time here: where it is the same as when the monotonic clock was last read and noted beside it,
//! hardly any time has passed since, and what was noted will do. Where it is another, or that is not good enough, the monotonic
//! clock is read again, and what it tells is noted.
//!
//! The second of a clock that is set back comes a second time. So a thread waits for the kernel to tell that the clock was set,
//! and what was noted is forgotten then; where nobody can wait for that, nothing is ever noted. It wakes for nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// By how much the estimate is late at most: the rest of the second, which lasts twice as long where a leap second is put in or
/// the clock is set back within it, and a tick.
pub(crate) const LATE: Duration = Duration::from_millis(2_050);

pub(crate) use system::{IS_THERE, about, note, watch};

/// A second that never comes, in 2106 aside.
const NO_SECOND: u32 = u32::MAX;

/// A second of the wall clock, and some time in it.
#[allow(dead_code, reason = "only where the second is cheap to have")]
struct Noted {
    /// The second in the lower half; in the upper one how often it was forgotten.
    second: AtomicU64,
    /// The latest time that was noted.
    time: AtomicU64,
}

#[allow(dead_code, reason = "as above")]
impl Noted {
    const fn nothing() -> Noted {
        Noted { second: AtomicU64::new(NO_SECOND as u64), time: AtomicU64::new(0) }
    }

    /// Some time within that second, if it is the one that was noted last.
    #[inline(always)]
    fn time_of(&self, second: u32) -> Option<u64> {
        // Acquire: pairs with the Release in `note`; the time of that second, or a later one, is seen.
        if self.second.load(Ordering::Acquire) as u32 != second {
            return None;
        }
        Some(self.time.load(Ordering::Relaxed))
    }

    /// What [`note`](Noted::note) wants to know.
    fn before(&self) -> u64 {
        // Acquire: pairs with the Release in `forget`.
        self.second.load(Ordering::Acquire)
    }

    /// Notes a time that was read after the second was, and that after `before`: so that what is forgotten meanwhile stays so.
    /// Writes nothing that stands there: a time is the same for a whole tick.
    fn note(&self, before: u64, second: u32, nanos: u64) {
        if nanos > self.time.load(Ordering::Relaxed) {
            self.time.fetch_max(nanos, Ordering::Relaxed);
        }
        if before as u32 != second && second != NO_SECOND {
            let noted = before & !u64::from(u32::MAX) | u64::from(second);
            let _newer_or_forgotten = self.second.compare_exchange(before, noted, Ordering::Release, Ordering::Relaxed);
        }
    }

    fn forget(&self) {
        let forgotten = |before: u64| Some(((before >> 32) + 1) << 32 | u64::from(NO_SECOND));
        let _before = self.second.fetch_update(Ordering::AcqRel, Ordering::Relaxed, forgotten);
    }
}

#[cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_env = "gnu",
    not(target_feature = "crt-static"),
    not(any(miri, everfresh_loom, everfresh_shuttle))
))]
mod system {
    #![allow(unsafe_code, reason = "the kernel's function is found by its name, and called")]

    use std::ffi::c_void;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::ptr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

    use rustix::io::{Errno, read};
    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
        timerfd_settime,
    };

    use super::Noted;

    pub(crate) const IS_THERE: bool = true;

    type Ask = extern "C" fn(*mut i64) -> i64;

    /// Read by every hit; written at most once in a tick, and that only where somebody asks for more than [`about`] tells.
    #[repr(align(128))]
    struct Clock {
        ask: AtomicPtr<c_void>,
        noted: Noted,
        /// The process in which a thread waits for the clock to be set; a fork has none.
        watched_in: AtomicU32,
    }

    static CLOCK: Clock = Clock {
        ask: AtomicPtr::new(nobody as *const () as *mut c_void),
        noted: Noted::nothing(),
        watched_in: AtomicU32::new(NOWHERE),
    };

    const NOWHERE: u32 = 0;

    /// In the place of the kernel's function, until that is found.
    extern "C" fn nobody(_: *mut i64) -> i64 {
        0
    }

    #[inline(always)]
    fn second() -> u32 {
        let ask = CLOCK.ask.load(Ordering::Relaxed);
        // SAFETY: `nobody`, or what `find` has found; both are such functions.
        let ask = unsafe { std::mem::transmute::<*mut c_void, Ask>(ask) };
        ask(ptr::null_mut()) as u32
    }

    /// Nanoseconds on the clock of [`exact_nanos`](crate::ticks::exact_nanos): never early, and late by [`LATE`](super::LATE)
    /// at most. `None` if that is not known.
    #[inline(always)]
    pub(crate) fn about() -> Option<u64> {
        CLOCK.noted.time_of(second())
    }

    /// Reads the time by `estimate`, which may be late by a tick, and notes it for [`about`].
    pub(crate) fn note(estimate: impl FnOnce() -> Option<u64>) -> Option<u64> {
        let before = CLOCK.noted.before();
        let second = second();
        let nanos = estimate()?;
        if before as u32 == second || is_watched() {
            CLOCK.noted.note(before, second, nanos);
        }
        Some(nanos)
    }

    fn is_watched() -> bool {
        let watched_in = CLOCK.watched_in.load(Ordering::Relaxed);
        if watched_in == NOWHERE || watched_in == std::process::id() {
            return watched_in != NOWHERE;
        }
        // A fork that was made without libc. Nothing else, for `watch` may have come between.
        let _watched = CLOCK.watched_in.compare_exchange(watched_in, NOWHERE, Ordering::Relaxed, Ordering::Relaxed);
        CLOCK.noted.forget();
        false
    }

    /// In a fork, before anything else: what its parent noted nobody would forget there when the clock is set.
    extern "C" fn forget_in_fork() {
        CLOCK.watched_in.store(NOWHERE, Ordering::Relaxed);
        CLOCK.noted.forget();
    }

    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    /// Sees to it that there is something to be noted in this process, if that can be.
    pub(crate) fn watch() {
        // Does not wait: another thread is at it, or was when this process was forked, and will never be done here.
        let Ok(_alone) = ONE_AT_A_TIME.try_lock() else { return };
        let here = std::process::id();
        if CLOCK.watched_in.load(Ordering::Relaxed) == here || !is_forgotten_in_forks() {
            return;
        }
        let Some(ask) = find() else { return };
        let Ok(settings) = settings() else { return };
        // Of what was set before this there is no word, should anything have been noted then.
        CLOCK.noted.forget();
        CLOCK.ask.store(ask, Ordering::Relaxed);
        CLOCK.watched_in.store(here, Ordering::Relaxed);
        let thread = std::thread::Builder::new().name("everfresh-clock".to_owned()).stack_size(64 << 10);
        if without_signals(|| thread.spawn(move || forget_at_each(&settings))).is_err() {
            CLOCK.watched_in.store(NOWHERE, Ordering::Relaxed);
            CLOCK.noted.forget();
        }
    }

    /// Does that while no signal is given to this thread: nor is any ever to one that is started there. Whoever lets a single thread
    /// wait for signals has all others block them, and may come to that later than this thread, of which he need not know.
    fn without_signals<T>(start: impl FnOnce() -> T) -> T {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the one set is filled before it is read, and the other written.
        let refused = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr())
        };
        let started = start();
        if refused == 0 {
            // SAFETY: it was written then.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
        }
        started
    }

    fn is_forgotten_in_forks() -> bool {
        static ASKED_FOR: AtomicBool = AtomicBool::new(false);
        if !ASKED_FOR.load(Ordering::Relaxed) {
            // SAFETY: what is called in forks writes to atomics and does nothing else.
            let refused = unsafe { libc::pthread_atfork(None, None, Some(forget_in_fork)) };
            ASKED_FOR.store(refused == 0, Ordering::Relaxed);
        }
        ASKED_FOR.load(Ordering::Relaxed)
    }

    /// The kernel's function itself: libc's may be another, in front of which somebody has put a clock of his own.
    fn find() -> Option<*mut c_void> {
        // SAFETY: names that end in a zero; the kernel's library is in every process from its start to its end, or it is not
        // found.
        let ask = unsafe {
            let library = libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_NOW);
            if library.is_null() {
                return None;
            }
            libc::dlsym(library, c"__vdso_time".as_ptr())
        };
        if ask.is_null() {
            return None;
        }
        // SAFETY: a function of this name takes a pointer to where the second is to be put besides, or none, and returns it.
        let told = unsafe { std::mem::transmute::<*mut c_void, Ask>(ask) }(ptr::null_mut());
        let known = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        (told.abs_diff(known) <= 1).then_some(ask)
    }

    /// A timer that is never due, and whose readers are told that the clock was set.
    fn settings() -> Result<OwnedFd, Errno> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?;
        let never = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: i64::MAX, tv_nsec: 0 },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &never)?;
        Ok(timer)
    }

    fn forget_at_each(settings: &OwnedFd) {
        loop {
            match read(settings, &mut [0_u8; 8]) {
                Err(Errno::CANCELED) => CLOCK.noted.forget(),
                Err(Errno::INTR) => {}
                // As cannot be: then nobody waits any longer, and nothing is noted from here on.
                Ok(_) | Err(_) => {
                    CLOCK.watched_in.store(NOWHERE, Ordering::Relaxed);
                    return CLOCK.noted.forget();
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::second::{LATE, NO_SECOND};
        use crate::ticks;

        #[test]
        fn t4_what_was_noted_is_never_early_and_late_by_less_than_its_guard() {
            watch();
            // Another test may be at it.
            while CLOCK.watched_in.load(Ordering::Relaxed) == NOWHERE && ONE_AT_A_TIME.try_lock().is_err() {
                std::thread::yield_now();
            }
            let mut told = 0;
            for _ in 0..100_000 {
                let before = ticks::exact_nanos();
                let Some(estimate) = about() else {
                    note(ticks::about);
                    continue;
                };
                told += 1;
                assert!(estimate <= ticks::exact_nanos(), "early");
                assert!(before.saturating_sub(estimate) < LATE.as_nanos() as u64, "late");
            }
            assert!(told > 90_000 || CLOCK.watched_in.load(Ordering::Relaxed) == NOWHERE, "told {told} times");
        }

        #[test]
        fn t4_a_fork_knows_nothing_of_what_its_parent_noted() {
            watch();
            note(ticks::about);
            // SAFETY: the fork reads atomics and ends.
            let fork = unsafe { libc::fork() };
            if fork == 0 {
                let known = CLOCK.noted.before() as u32 != NO_SECOND;
                // SAFETY: nothing else of the process is to be ended here.
                unsafe { libc::_exit(i32::from(known)) };
            }
            let mut status = -1;
            // SAFETY: the child that was just made, and where to put what became of it.
            assert_eq!(unsafe { libc::waitpid(fork, &raw mut status, 0) }, fork);
            assert_eq!(status, 0);
        }

        #[test]
        fn no_signal_of_the_process_is_given_to_the_thread_that_watches_the_clock() {
            let blocked_by = |task: &std::path::Path| {
                let status = std::fs::read_to_string(task.join("status")).ok()?;
                let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
                u64::from_str_radix(mask.trim(), 16).ok()
            };
            let own = std::path::Path::new("/proc/thread-self");
            let before = blocked_by(own);
            watch();
            assert_eq!(blocked_by(own), before, "whoever starts it has his own as before");
            while CLOCK.watched_in.load(Ordering::Relaxed) == NOWHERE && ONE_AT_A_TIME.try_lock().is_err() {
                std::thread::yield_now();
            }
            let watches = |task: &std::path::PathBuf| {
                std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "everfresh-clock")
            };
            let find = || std::fs::read_dir("/proc/self/task").ok()?.flatten().map(|task| task.path()).find(watches);
            if CLOCK.watched_in.load(Ordering::Relaxed) == NOWHERE {
                return;
            }
            // It gives itself its name.
            let task = loop {
                match find() {
                    Some(task) => break task,
                    None => std::thread::yield_now(),
                }
            };
            let blocked = blocked_by(&task).unwrap();
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGALRM, libc::SIGTERM, libc::SIGCHLD] {
                assert!(blocked >> (signal - 1) & 1 == 1, "signal {signal} may be given to it: {blocked:x}");
            }
        }

        #[test]
        fn who_is_forked_while_another_thread_begins_to_watch_does_not_wait_for_it() {
            let _begins = ONE_AT_A_TIME.lock();
            watch();
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_env = "gnu",
    not(target_feature = "crt-static"),
    not(any(miri, everfresh_loom, everfresh_shuttle))
)))]
mod system {
    pub(crate) const IS_THERE: bool = false;

    #[inline(always)]
    pub(crate) fn about() -> Option<u64> {
        None
    }

    #[inline(always)]
    pub(crate) fn note(estimate: impl FnOnce() -> Option<u64>) -> Option<u64> {
        estimate()
    }

    #[inline(always)]
    pub(crate) fn watch() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ticks::GUARD;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn t4_a_time_holds_for_its_own_second_and_is_the_latest() {
        let noted = Noted::nothing();
        assert!([0, 7, u32::MAX - 1].iter().all(|&second| noted.time_of(second).is_none()));
        for (second, nanos, latest) in
            [(7, 5, 5), (7, 9, 9), (7, 8, 9), (8, 8, 9), (9, SECOND, SECOND), (7, 11, SECOND)]
        {
            noted.note(noted.before(), second, nanos);
            assert_eq!(noted.time_of(second), Some(latest));
            assert_eq!((noted.time_of(second - 1), noted.time_of(second + 1)), (None, None));
        }
    }

    #[test]
    fn t4_what_is_forgotten_while_the_time_is_read_stays_forgotten() {
        let noted = Noted::nothing();
        for second in [7, 8, 7] {
            let before = noted.before();
            noted.forget();
            noted.note(before, second, SECOND);
            assert_eq!(noted.time_of(second), None);
            noted.note(noted.before(), second, SECOND);
            assert_eq!(noted.time_of(second), Some(SECOND));
        }
        noted.forget();
        assert_eq!(noted.time_of(7), None);
        noted.note(noted.before(), NO_SECOND, SECOND);
        assert!([7, 8].iter().all(|&second| noted.time_of(second).is_none()));
    }

    #[test]
    fn the_guard_covers_two_seconds_and_a_tick() {
        assert!(LATE >= Duration::from_secs(2) + GUARD);
    }
}
