//! Which flights this thread leads itself: a loader that asks for its own key is told so instead of waiting for itself.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use crate::sync::raced::thread_local;

thread_local! {
    /// The flight whose loader runs on this thread right now, mostly the only one; zero for none at all.
    static FIRST_FROM_HERE: Cell<usize> = const { Cell::new(0) };
    /// The others: of the same loader, or of loaders that were called by that one; innermost last.
    static OTHERS_FROM_HERE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Only compared, never followed.
fn address<T>(flight: &Arc<T>) -> usize {
    Arc::as_ptr(flight).cast::<()>() as usize
}

/// Whether this thread is inside the loader of the flight, or lands what it made.
pub(crate) fn is_led_from_here<T>(flight: &Arc<T>) -> bool {
    let flight = address(flight);
    match FIRST_FROM_HERE.with(Cell::get) {
        0 => false,
        first if first == flight => true,
        _ => OTHERS_FROM_HERE.try_with(|others| others.borrow().contains(&flight)).unwrap_or(false),
    }
}

/// Whether this thread is inside of any loader.
pub(crate) fn leads_any_from_here() -> bool {
    FIRST_FROM_HERE.with(Cell::get) != 0
}

/// Runs a loader so that a call of the same key from inside it is recognised (contract L8).
pub(crate) fn leading<T, F: Future>(flight: &Arc<T>, loader: F) -> impl Future<Output = F::Output> {
    leading_all(std::slice::from_ref(flight), loader)
}

/// As [`leading`], for one loader of many flights.
pub(crate) async fn leading_all<T, F: Future>(flights: &[Arc<T>], loader: F) -> F::Output {
    let mut loader = pin!(loader);
    poll_fn(move |cx| {
        let _inside = Inside::enter(flights);
        loader.as_mut().poll(cx)
    })
    .await
}

/// While it lives, this thread is inside the loader of so many flights, or lands what it made.
pub(crate) struct Inside {
    first: bool,
    others: usize,
}

impl Inside {
    #[inline]
    pub(crate) fn enter<T>(flights: &[Arc<T>]) -> Inside {
        let (first, others) = match flights.split_first() {
            Some((flight, others)) if FIRST_FROM_HERE.with(Cell::get) == 0 => {
                FIRST_FROM_HERE.with(|first| first.set(address(flight)));
                (true, others)
            }
            _ => (false, flights),
        };
        let entered = others.is_empty()
            || OTHERS_FROM_HERE.try_with(|all| all.borrow_mut().extend(others.iter().map(address))).is_ok();
        Inside { first, others: if entered { others.len() } else { 0 } }
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        if self.others > 0 {
            let _ = OTHERS_FROM_HERE.try_with(|all| {
                let mut all = all.borrow_mut();
                let before = all.len() - self.others;
                all.truncate(before);
            });
        }
        if self.first {
            FIRST_FROM_HERE.with(|first| first.set(0));
        }
    }
}
