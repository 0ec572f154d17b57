//! A fence in two halves: next to nothing for those who read, dear for those who free, who share theirs.
//!
//! A reader that announces what it reads must not look again before others can see the announcement. On Linux the kernel
//! can run a fence on all threads of the process at once (`membarrier(2)`), so that readers need none of their own; one
//! such call serves everybody who waits for it, in all stores. Elsewhere readers announce with a fence.

use crate::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// Announces an address: whatever the caller loads next is loaded after this, as far as those can tell who passed a
/// [`heavy`] barrier in between.
#[inline(always)]
pub(super) fn announce(slot: &AtomicUsize, address: usize) {
    if kernel::is_willing() {
        announce_cheaply(slot, address);
    } else {
        slot.store(address, Ordering::SeqCst);
        #[cfg(everfresh_loom)]
        fence(Ordering::SeqCst);
    }
}

/// As [`announce`], where [`is_cheap`] holds.
#[inline(always)]
pub(super) fn announce_cheaply(slot: &AtomicUsize, address: usize) {
    if kernel::EXISTS {
        // Release: what the slot guarded before was read before; who sees the new address in its place may free that.
        slot.store(address, Ordering::Release);
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    } else {
        slot.store(address, Ordering::SeqCst);
    }
}

/// What the caller has stored comes before what it loads next, as far as those can tell who passed a [`heavy`] barrier in between.
#[inline(always)]
pub(super) fn light() {
    if kernel::is_willing() {
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Whether readers may use the cheapest way that this platform has. Once it may, it always may.
pub(super) fn is_cheap() -> bool {
    !kernel::EXISTS || kernel::ask()
}

#[cfg(not(everfresh_loom))]
static STARTED: AtomicU64 = AtomicU64::new(0);
#[cfg(not(everfresh_loom))]
static ENDED: AtomicU64 = AtomicU64::new(0);
#[cfg(everfresh_loom)]
loom::lazy_static! {
    static ref STARTED: AtomicU64 = AtomicU64::new(0);
    static ref ENDED: AtomicU64 = AtomicU64::new(0);
}

/// A moment in the sequence of heavy barriers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// Now: after all that the caller has stored so far.
    #[inline]
    pub(super) fn now() -> Stamp {
        // SeqCst, after a fence in a read-modify-write's place: the stores before it come before a barrier that counts itself
        // later.
        Stamp(STARTED.fetch_add(0, Ordering::SeqCst))
    }

    /// Whether a heavy barrier has begun and ended since.
    #[inline]
    pub(super) fn is_passed(self) -> bool {
        ENDED.load(Ordering::SeqCst) > self.0
    }

    /// Whether one has begun since: it passes unless it fails.
    #[inline]
    pub(super) fn is_being_passed(self) -> bool {
        STARTED.load(Ordering::Relaxed) > self.0
    }
}

/// From here on all announcements are visible that were made by readers who saw what has been overwritten before. Returns whether
/// that could be done.
pub(super) fn heavy() -> bool {
    let number = STARTED.fetch_add(1, Ordering::SeqCst) + 1;
    let fenced = kernel::fence_everywhere();
    if fenced {
        ENDED.fetch_max(number, Ordering::SeqCst);
    }
    fenced
}

#[cfg(all(target_os = "linux", not(miri), not(everfresh_loom)))]
mod kernel {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering, fence};

    use rustix::thread::MembarrierCommand;

    pub(super) const EXISTS: bool = true;

    /// Set before anybody frees anything, and never changed afterwards: see `fence_everywhere`.
    static WILLING: AtomicBool = AtomicBool::new(false);
    static ASKED: OnceLock<bool> = OnceLock::new();

    #[inline(always)]
    pub(super) fn is_willing() -> bool {
        WILLING.load(Ordering::Relaxed)
    }

    /// Asks the kernel once whether it does, and says so to readers.
    pub(super) fn ask() -> bool {
        *ASKED.get_or_init(|| {
            let willing = membarrier(MembarrierCommand::RegisterPrivateExpedited);
            WILLING.store(willing, Ordering::SeqCst);
            willing
        })
    }

    /// Returns whether it was done.
    pub(super) fn fence_everywhere() -> bool {
        // Nobody announces cheaply before this was asked, so there is nobody whom the plain fence would miss.
        if ask() {
            // A child of a fork may have to register anew.
            return membarrier(MembarrierCommand::PrivateExpedited)
                || membarrier(MembarrierCommand::RegisterPrivateExpedited)
                    && membarrier(MembarrierCommand::PrivateExpedited);
        }
        fence(Ordering::SeqCst);
        true
    }

    fn membarrier(command: MembarrierCommand) -> bool {
        rustix::thread::membarrier(command).is_ok()
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(everfresh_loom))))]
mod kernel {
    pub(super) const EXISTS: bool = false;

    #[inline(always)]
    pub(super) fn is_willing() -> bool {
        false
    }

    pub(super) fn ask() -> bool {
        false
    }

    pub(super) fn fence_everywhere() -> bool {
        crate::sync::fence(crate::sync::Ordering::SeqCst);
        true
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_passed_by_the_next_barrier_and_not_before() {
        let stamp = Stamp::now();
        heavy();
        assert!(stamp.is_passed());
        // Other tests may raise barriers at any moment, but none that began before this stamp passes it.
        let later = Stamp::now();
        assert!(later > stamp);
    }
}
