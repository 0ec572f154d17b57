//! How a thread takes the steps that a task would take.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
#[cfg(not(everfresh_shuttle))]
use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    task::Wake,
    thread::{self, Thread},
};

#[cfg(everfresh_shuttle)]
pub(crate) use shuttle::future::block_on;

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
///
/// Most loads on a thread never wait: the first poll needs no waker that could wake anybody.
pub(crate) fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => block_on(future),
    }
}

/// Polls a future to its end, and sleeps in between.
///
/// What it was woken for stands in a flag of its own: code of the user's that blocks while it is polled parks the same thread, and may
/// take the thread's one token, which was meant for this.
#[cfg(not(everfresh_shuttle))]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let sleeper = Arc::new(Sleeper { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&sleeper));
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        // Acquire: pairs with the Release in `wake_by_ref`.
        while !sleeper.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(not(everfresh_shuttle))]
struct Sleeper {
    thread: Thread,
    woken: AtomicBool,
}

#[cfg(not(everfresh_shuttle))]
impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

/// Whether this thread is inside a runtime, which a blocking wait would stop.
pub(crate) fn in_a_runtime() -> bool {
    #[cfg(feature = "tokio")]
    return tokio::runtime::Handle::try_current().is_ok();
    #[cfg(not(feature = "tokio"))]
    return false;
}
