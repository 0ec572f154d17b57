//! Small numbers for the threads that live now, to give each its own line of a counter.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use crate::sync::plain_thread_local;

/// The number of all threads that have none of their own: those that are ending. Others may write under it, too.
pub(crate) const SHARED: usize = usize::MAX;

const UNKNOWN: usize = usize::MAX - 1;

plain_thread_local! {
    static NUMBER: Cell<usize> = Cell::new(UNKNOWN)
}

#[cfg(not(everfresh_loom))]
std::thread_local! {
    static LEASE: Lease = Lease::take();
}
#[cfg(everfresh_loom)]
loom::thread_local! {
    static LEASE: Lease = Lease::take();
}

/// The numbers that nobody has: those given back, and all from `next` on.
struct Free {
    returned: BinaryHeap<Reverse<usize>>,
    next: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { returned: BinaryHeap::new(), next: 0 });

/// The number of the calling thread: no two living threads share one, and the lowest free one is given first.
/// A thread that is past its end, in the destructors of its thread-locals, is [`SHARED`].
#[inline]
pub(crate) fn current_thread() -> usize {
    match NUMBER.with(Cell::get) {
        UNKNOWN => first_call(),
        number => number,
    }
}

#[cold]
fn first_call() -> usize {
    let number = LEASE.try_with(|lease| lease.0).unwrap_or(SHARED);
    NUMBER.with(|own| own.set(number));
    number
}

/// Gives the number back when the thread ends.
struct Lease(usize);

impl Lease {
    fn take() -> Lease {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let returned = free.returned.pop().map(|Reverse(number)| number);
        Lease(returned.unwrap_or_else(|| {
            free.next += 1;
            free.next - 1
        }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Loom ends all thread-locals of a thread at once; there is nothing to mark then.
        #[cfg(not(everfresh_loom))]
        NUMBER.with(|own| own.set(SHARED));
        FREE.lock().unwrap_or_else(PoisonError::into_inner).returned.push(Reverse(self.0));
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_keeps_its_number_and_no_two_living_threads_share_one() {
        let mine = current_thread();
        assert_eq!(current_thread(), mine);
        thread::scope(|scope| {
            let (tell, told) = channel();
            let (end, ended) = channel::<()>();
            let other = scope.spawn(move || {
                tell.send(current_thread()).unwrap();
                ended.recv().unwrap_err();
                current_thread()
            });
            let theirs = told.recv().unwrap();
            assert_ne!(theirs, mine);
            drop(end);
            assert_eq!(other.join().unwrap(), theirs);
        });
    }

    #[test]
    fn a_number_is_given_again_after_its_thread_has_ended() {
        let numbers: Vec<_> = (0..200).map(|_| thread::spawn(current_thread).join().unwrap()).collect();
        // Other tests run beside this one and take some, but two hundred ended threads do not need as many.
        assert!(numbers.iter().all(|&number| number < 150), "{numbers:?}");
    }

    #[test]
    fn in_the_destructors_of_a_thread_the_number_is_shared_or_its_own() {
        struct Late(std::sync::mpsc::Sender<usize>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.0.send(current_thread()).unwrap();
            }
        }
        std::thread_local! { static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) }; }
        let (tell, told) = channel();
        let own = thread::spawn(move || {
            LATE.with(|late| *late.borrow_mut() = Some(Late(tell)));
            current_thread()
        })
        .join()
        .unwrap();
        let late = told.recv().unwrap();
        assert!(late == own || late == SHARED);
    }
}
