//! How a thread takes the steps that a task would take.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Runs a future to its end on this thread, which sleeps while there is nothing to do.
pub(crate) fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    // Most calls on a thread never wait: the first poll needs no waker that could wake anybody.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => block_on(future),
    }
}

/// Polls a future to its end, and sleeps in between.
///
/// Not by the thread's own token (`std::thread::park`): code of the user's that blocks while it is polled sleeps by that, too, and may take
/// what was meant for this.
fn block_on<T>(mut future: Pin<&mut impl Future<Output = T>>) -> T {
    let (parker, unparker) = parking::pair();
    let waker = Waker::from(unparker);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => parker.park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::thread;

    use super::*;

    #[test]
    fn what_blocks_while_it_is_polled_takes_no_wake_away() {
        let mut polls = 0;
        drive(poll_fn(|cx| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            // As a lock or a channel does that waits: it returns at once, and the thread's token is gone.
            cx.waker().wake_by_ref();
            thread::current().unpark();
            thread::park();
            Poll::Pending
        }));
        assert_eq!(polls, 3);
    }
}
