//! Who does what is due at some time, for the whole process: one thread reclaims what has expired, another refreshes on schedules, for
//! what a destructor takes its time over is no schedule's business.
//!
//! Each starts with the first chore and ends with the last; in between it sleeps until a clock wakes it. Where a clock is moved by
//! hand there is no such thread: whoever wakes a chore does it.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_util::stream::{FuturesUnordered, Stream};
use slab::Slab;

use crate::clock::{Sleep, Timepiece};
use crate::drive::block_on;

/// Something that is done again and again, sleeping in between.
pub(crate) type Chore = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Belongs to what chores are done for; dropping it ends their sleep, so that none outlives its purpose.
#[derive(Default)]
pub(crate) struct Purpose {
    shared: Arc<Mutex<Served>>,
}

#[derive(Default)]
struct Served {
    over: bool,
    for_ever: bool,
    sleeping: Slab<Waker>,
}

impl Purpose {
    pub(crate) fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }

    /// Is never over, though nobody has it any more.
    pub(crate) fn for_ever(self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).for_ever = true;
    }
}

impl Drop for Purpose {
    fn drop(&mut self) {
        let sleeping = {
            let mut served = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            if served.for_ever {
                return;
            }
            served.over = true;
            std::mem::take(&mut served.sleeping)
        };
        sleeping.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// What a chore sees of its purpose.
pub(crate) struct Watch {
    shared: Arc<Mutex<Served>>,
}

impl Watch {
    /// Sleeps; `false` if the purpose is over.
    pub(crate) async fn sleep(&self, mut sleep: Sleep) -> bool {
        let mut bed = Bed { watch: self, place: None };
        poll_fn(move |cx| match bed.lie_down(cx.waker()) {
            true => sleep.as_mut().poll(cx).map(|()| true),
            false => Poll::Ready(false),
        })
        .await
    }

    /// Completes when the purpose is over.
    pub(crate) async fn end(&self) {
        let _over = self.sleep(Box::pin(pending())).await;
    }

    /// Whether the purpose is over.
    pub(crate) fn is_over(&self) -> bool {
        self.served().over
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a purpose finds the waker of one sleep, until that ends.
struct Bed<'w> {
    watch: &'w Watch,
    place: Option<usize>,
}

impl Bed<'_> {
    /// Notes or replaces the waker; `false` if the purpose is over.
    fn lie_down(&mut self, waker: &Waker) -> bool {
        let mut served = self.watch.served();
        if served.over {
            return false;
        }
        let replaced = match self.place.and_then(|place| served.sleeping.get_mut(place)) {
            Some(noted) => (!noted.will_wake(waker)).then(|| std::mem::replace(noted, waker.clone())),
            None => {
                self.place = Some(served.sleeping.insert(waker.clone()));
                None
            }
        };
        drop(served);
        drop(replaced);
        true
    }
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let forgotten = self.watch.served().sleeping.try_remove(place);
        // The last waker of a chore may be all that holds it.
        drop(forgotten);
    }
}

/// What lies on the desk is done by one thread.
struct House {
    name: &'static str,
    desk: Mutex<Desk>,
    /// On the desk lie chores for which no thread could be had.
    stranded: AtomicBool,
    #[cfg(test)]
    nobody_to_hire: AtomicBool,
}

struct Desk {
    new: Vec<Chore>,
    awake: bool,
    waker: Option<Waker>,
}

static RECLAIMING: House = House::new("everfresh-housekeeper");
static SCHEDULES: House = House::new("everfresh-scheduler");

/// Takes reclaiming on; `false` if no thread can be had for it.
pub(crate) fn take_on(chore: Chore, clock: &Timepiece) -> bool {
    RECLAIMING.take_on(chore, clock).is_ok()
}

/// Takes a schedule on; `false` if no thread can be had for it, which then waits until one can.
pub(crate) fn take_on_schedule(chore: Chore, clock: &Timepiece) -> bool {
    let Err(chore) = SCHEDULES.take_on(chore, clock) else { return true };
    SCHEDULES.leave(chore);
    false
}

/// Looks whether a thread can be had by now for schedules that wait for one. To be called where something is done anyway that takes its time.
#[inline]
pub(crate) fn try_again() {
    if SCHEDULES.stranded.load(Ordering::Relaxed) {
        SCHEDULES.try_again();
    }
}

impl House {
    const fn new(name: &'static str) -> House {
        House {
            name,
            desk: Mutex::new(Desk { new: Vec::new(), awake: false, waker: None }),
            stranded: AtomicBool::new(false),
            #[cfg(test)]
            nobody_to_hire: AtomicBool::new(false),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the chore back if no thread can be had for it.
    fn take_on(&'static self, chore: Chore, clock: &Timepiece) -> Result<(), Chore> {
        if cfg!(everfresh_shuttle) {
            // The model checker knows no thread that outlives a round; chores only give back room.
            return Ok(());
        }
        if clock.moves_by_hand() {
            Arc::new(ByHand { chore: Mutex::new(Some(Contained(chore))), rounds: AtomicUsize::new(0) }).wake();
            return Ok(());
        }
        let mut desk = self.desk();
        if !self.is_attended(&mut desk) {
            return Err(chore);
        }
        desk.new.push(chore);
        desk.ring();
        Ok(())
    }

    fn leave(&self, chore: Chore) {
        self.desk().new.push(chore);
        self.stranded.store(true, Ordering::Release);
    }

    #[cold]
    fn try_again(&'static self) {
        let mut desk = self.desk();
        if self.is_attended(&mut desk) {
            desk.ring();
        }
    }

    /// Whether somebody is there, or could be had now.
    fn is_attended(&'static self, desk: &mut Desk) -> bool {
        desk.awake = desk.awake || self.hire();
        desk.awake
    }

    fn hire(&'static self) -> bool {
        #[cfg(test)]
        if self.nobody_to_hire.load(Ordering::Relaxed) {
            return false;
        }
        thread::Builder::new().name(self.name.into()).spawn(|| self.keep()).is_ok()
    }

    fn keep(&self) {
        let mut chores = FuturesUnordered::new();
        block_on(poll_fn(|cx| {
            loop {
                {
                    let mut desk = self.desk();
                    self.stranded.store(false, Ordering::Relaxed);
                    chores.extend(desk.new.drain(..).map(Contained));
                    desk.waker = Some(cx.waker().clone());
                    if chores.is_empty() {
                        desk.awake = false;
                        desk.waker = None;
                        return Poll::Ready(());
                    }
                }
                match Pin::new(&mut chores).poll_next(cx) {
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        }));
    }
}

impl Desk {
    fn ring(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A chore that is done by whoever wakes it.
struct ByHand {
    chore: Mutex<Option<Contained>>,
    /// How often it was woken since it was last looked at; whoever finds nobody at it does it for the others.
    rounds: AtomicUsize,
}

impl Wake for ByHand {
    fn wake(self: Arc<Self>) {
        if self.rounds.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        loop {
            let seen = self.rounds.load(Ordering::Acquire);
            // Not under the lock: a chore may wake itself.
            let taken = self.chore.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut chore) = taken
                && Pin::new(&mut chore).poll(&mut Context::from_waker(&waker)).is_pending()
            {
                *self.chore.lock().unwrap_or_else(PoisonError::into_inner) = Some(chore);
            }
            if self.rounds.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }
}

/// A chore whose panic ends it alone.
struct Contained(Chore);

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))).unwrap_or(Poll::Ready(()))
    }
}

#[cfg(all(test, not(any(everfresh_shuttle, everfresh_loom))))]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn r3_a_chore_for_which_no_thread_can_be_had_begins_when_one_can() {
        let house: &'static House = Box::leak(Box::new(House::new("a test's")));
        let (clock, (told, hears)) = (Timepiece::System, channel());
        let chore = |name| {
            let told = told.clone();
            Box::pin(async move { told.send(name).unwrap() }) as Chore
        };
        house.nobody_to_hire.store(true, Ordering::Relaxed);
        let refused = house.take_on(chore("waits"), &clock);
        house.leave(refused.expect_err("there is nobody"));
        house.try_again();
        assert_eq!(hears.try_iter().count(), 0, "still nobody");
        house.nobody_to_hire.store(false, Ordering::Relaxed);
        assert!(house.stranded.load(Ordering::Relaxed));
        house.try_again();
        assert_eq!(hears.recv_timeout(Duration::from_secs(60)), Ok("waits"));
        assert!(!house.stranded.load(Ordering::Relaxed), "nothing more to try");
    }

    #[test]
    fn m3_a_chore_that_has_ended_leaves_nothing_with_its_purpose() {
        let (purpose, manual) = (Purpose::default(), ManualClock::new());
        let clock = Timepiece::Other(Arc::new(manual.clone()));
        for _ in 0..3 {
            let (watch, sleep) = (purpose.watch(), clock.sleep_until(clock.now().after(Duration::from_secs(1))));
            assert!(take_on(Box::pin(async move { assert!(watch.sleep(sleep).await) }), &clock));
            assert_eq!(purpose.shared.lock().unwrap().sleeping.len(), 1);
            manual.advance(Duration::from_secs(1));
        }
        assert_eq!(purpose.shared.lock().unwrap().sleeping.len(), 0, "wakers of chores that have ended");
    }
}
