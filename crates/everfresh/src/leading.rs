//! Which flights this thread leads itself: a loader that asks for its own key is told so instead of waiting for itself.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use crate::sync::raced::thread_local;

thread_local! {
    /// The flights whose loaders run on this thread right now, innermost last.
    static LED_FROM_HERE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Only compared, never followed.
fn address<T>(flight: &Arc<T>) -> usize {
    Arc::as_ptr(flight).cast::<()>() as usize
}

/// Whether this thread is inside the loader of the flight, or lands what it made.
pub(crate) fn is_led_from_here<T>(flight: &Arc<T>) -> bool {
    LED_FROM_HERE.try_with(|led| led.borrow().contains(&address(flight))).unwrap_or(false)
}

/// Runs a loader so that a call of the same key from inside it is recognised (contract L8).
pub(crate) async fn leading<T, F: Future>(flight: &Arc<T>, loader: F) -> F::Output {
    leading_all(std::slice::from_ref(flight), loader).await
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
pub(crate) struct Inside(usize);

impl Inside {
    pub(crate) fn enter<T>(flights: &[Arc<T>]) -> Inside {
        let addresses = flights.iter().map(address);
        let entered = LED_FROM_HERE.try_with(|led| led.borrow_mut().extend(addresses)).is_ok();
        Inside(if entered { flights.len() } else { 0 })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = LED_FROM_HERE.try_with(|led| {
            let mut led = led.borrow_mut();
            let before = led.len() - self.0;
            led.truncate(before);
        });
    }
}
