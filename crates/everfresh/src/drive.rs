//! How a thread takes the steps that a task would take.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

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
/// Not by the thread's own token (`std::thread::park`): code of the user's that blocks while it is polled sleeps by that, too, and may take
/// what was meant for this.
#[cfg(not(everfresh_shuttle))]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => parker.park(),
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
