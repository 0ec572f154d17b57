//! Which flights this thread leads itself: a loader that asks for its own key is told so instead of waiting for itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "resilience")]
use std::sync::Weak;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::sync::raced::thread_local;

/// In the place of a first flight on a thread that works for another: no flight has this address, as those are aligned.
#[cfg(feature = "resilience")]
const FOR_ANOTHER: usize = 1;

thread_local! {
    /// The flight whose loader runs on this thread right now, mostly the only one; zero for none at all.
    static FIRST_FROM_HERE: Cell<usize> = const { Cell::new(0) };
    /// The others: of the same loader, or of loaders that were called by that one; innermost last.
    static OTHERS_FROM_HERE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

#[cfg(feature = "resilience")]
thread_local! {
    /// Those of the thread for which this one works, while that one waits.
    static FOR_ANOTHER_FROM_HERE: RefCell<Weak<Led>> = const { RefCell::new(Weak::new()) };
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
        _ => is_among_others(flight),
    }
}

fn is_among_others(flight: usize) -> bool {
    let is_other = OTHERS_FROM_HERE.try_with(|others| others.borrow().contains(&flight)).unwrap_or(false);
    #[cfg(feature = "resilience")]
    let is_other = is_other || for_another().is_some_and(|led| led.0.contains(&flight));
    is_other
}

#[cfg(feature = "resilience")]
fn for_another() -> Option<Arc<Led>> {
    FOR_ANOTHER_FROM_HERE.try_with(|led| led.borrow().upgrade()).ok().flatten()
}

/// The flights that one thread leads, for another that works for it. Their addresses mean them for no longer than the one waits:
/// then it drops this, and they may be given to others.
#[cfg(feature = "resilience")]
pub(crate) struct Led(Vec<usize>);

/// What this thread leads, if anything.
#[cfg(feature = "resilience")]
pub(crate) fn led_from_here() -> Option<Arc<Led>> {
    let first = match FIRST_FROM_HERE.with(Cell::get) {
        0 => return None,
        FOR_ANOTHER => None,
        first => Some(first),
    };
    let mut led: Vec<usize> = first.into_iter().collect();
    let _ = OTHERS_FROM_HERE.try_with(|others| led.extend_from_slice(&others.borrow()));
    led.extend(for_another().into_iter().flat_map(|led| led.0.clone()));
    Some(Arc::new(Led(led)))
}

/// Runs a function on this thread for another that leads those flights, so that it is inside of them here, too.
#[cfg(feature = "resilience")]
pub(crate) fn working_for(led: &Weak<Led>, function: impl FnOnce()) {
    struct Working {
        before: Weak<Led>,
        first: bool,
    }
    impl Drop for Working {
        fn drop(&mut self) {
            let before = std::mem::take(&mut self.before);
            let _ = FOR_ANOTHER_FROM_HERE.try_with(|led| led.replace(before));
            if self.first {
                FIRST_FROM_HERE.with(|first| first.set(0));
            }
        }
    }
    let first = FIRST_FROM_HERE.with(Cell::get) == 0;
    if first {
        FIRST_FROM_HERE.with(|first| first.set(FOR_ANOTHER));
    }
    let before = FOR_ANOTHER_FROM_HERE.try_with(|here| here.replace(led.clone())).unwrap_or_default();
    let _working = Working { before, first };
    function();
}

/// Whether this thread is inside of any loader.
pub(crate) fn leads_any_from_here() -> bool {
    FIRST_FROM_HERE.with(Cell::get) != 0
}

/// Runs a loader so that a call of the same key from inside it is recognised (contract L8).
pub(crate) fn leading<T, F: Future>(flight: &Arc<T>, loader: F) -> Leading<'_, T, F> {
    leading_all(std::slice::from_ref(flight), loader)
}

/// As [`leading`], for one loader of many flights.
pub(crate) fn leading_all<T, F: Future>(flights: &[Arc<T>], loader: F) -> Leading<'_, T, F> {
    Leading { flights, loader: Some(loader) }
}

pin_project! {
    /// A loader that is polled, and dropped, inside of its flights.
    pub(crate) struct Leading<'l, T, F> {
        flights: &'l [Arc<T>],
        // There until it has ended, or this is dropped.
        #[pin]
        loader: Option<F>,
    }

    impl<T, F> PinnedDrop for Leading<'_, T, F> {
        // What a loader holds when it is cancelled is dropped before its flight has ended, and may ask for its key, too.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.loader.is_some() {
                let _inside = Inside::enter(this.flights);
                this.loader.set(None);
            }
        }
    }
}

impl<T, F: Future> Future for Leading<'_, T, F> {
    type Output = F::Output;

    // At each step of the loader.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let Some(loader) = this.loader.as_mut().as_pin_mut() else { return Poll::Pending };
        let _inside = Inside::enter(this.flights);
        let polled = loader.poll(cx);
        if polled.is_ready() {
            this.loader.set(None);
        }
        polled
    }
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
        let others = if others.is_empty() { 0 } else { enter_others(others) };
        Inside { first, others }
    }
}

/// Returns how many it was told of, if that can still be noted.
#[cold]
#[inline(never)]
fn enter_others<T>(others: &[Arc<T>]) -> usize {
    let entered = OTHERS_FROM_HERE.try_with(|all| all.borrow_mut().extend(others.iter().map(address)));
    entered.map_or(0, |()| others.len())
}

#[cold]
#[inline(never)]
fn leave_others(count: usize) {
    let _ = OTHERS_FROM_HERE.try_with(|all| {
        let mut all = all.borrow_mut();
        let before = all.len() - count;
        all.truncate(before);
    });
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        if self.others > 0 {
            leave_others(self.others);
        }
        if self.first {
            FIRST_FROM_HERE.with(|first| first.set(0));
        }
    }
}
