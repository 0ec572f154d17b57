//! The story of one call: admitted, in turn, with a place, tried and tried again, each time no longer than told.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::bulkhead::{Place, Places};
use crate::circuit::{Change, Circuit, Permit, Slow};
use crate::clock::Timepiece;
use crate::error::Error;
use crate::event::{Event, Exhausted, Teller};
use crate::inflight::{Counted, InFlight};
use crate::rate::Limiter;
use crate::retry::{Retry, RetryBudget, Taken};
use crate::timeout::{Hedge, Timeout};
use crate::work::Work;

/// What a user's predicate looks at: how an attempt went.
type Predicate<V, E> = Box<dyn Fn(&Result<V, E>) -> bool + Send + Sync>;
type Hint<V, E> = Box<dyn Fn(&Result<V, E>) -> Option<Duration> + Send + Sync>;
type Answers<E, A> = Box<dyn Fn(&Error<E>) -> A + Send + Sync>;
pub(crate) type Later<V> = Pin<Box<dyn Future<Output = Option<V>> + Send>>;

/// What answers in place of an error: at once, or in time.
pub(crate) enum Fallback<V, E> {
    AtOnce(Answers<E, Option<V>>),
    InTime(Answers<E, Later<V>>),
}

/// What the user says of values and errors.
pub(crate) struct Judge<V, E> {
    pub(crate) retry_if: Option<Predicate<V, E>>,
    pub(crate) failure_if: Option<Predicate<V, E>>,
    pub(crate) delay_hint: Option<Hint<V, E>>,
    pub(crate) fallback: Option<Fallback<V, E>>,
}

impl<V, E> Judge<V, E> {
    /// Whether an attempt is worth another: an error by default, and what the predicate says.
    #[inline]
    fn is_bad(&self, result: &Result<V, E>) -> bool {
        self.retry_if.as_ref().map_or(result.is_err(), |predicate| predicate(result))
    }
}

/// All the layers of a policy, in their order.
pub(crate) struct Stack<V, E> {
    pub(crate) teller: Teller,
    pub(crate) clock: Timepiece,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) circuit: Option<Arc<Circuit>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) places: Option<Arc<Places>>,
    pub(crate) retry: Option<Retry>,
    pub(crate) budget: Option<RetryBudget>,
    pub(crate) timeout: Option<Timeout>,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) judge: Judge<V, E>,
}

/// Why there is no value that may be stored.
pub(crate) enum Undone<V, E> {
    /// There is none.
    Error(Error<E>),
    /// A predicate rejected it; the caller gets it all the same.
    Rejected(V),
}

impl<V, E> From<Error<E>> for Undone<V, E> {
    fn from(error: Error<E>) -> Undone<V, E> {
        Undone::Error(error)
    }
}

/// A fallback that was asked.
pub(crate) struct FallingBack<'a, V> {
    made: Option<V>,
    later: Option<Later<V>>,
    teller: &'a Teller,
}

impl<V> FallingBack<'_, V> {
    /// Whether it has to be waited for.
    pub(crate) fn takes_time(&self) -> bool {
        self.later.is_some()
    }

    /// Its value, if it has one for this error.
    pub(crate) async fn value(self) -> Option<V> {
        let value = match self.later {
            None => self.made,
            Some(later) => later.await,
        }?;
        self.teller.tell(Event::FallbackUsed);
        Some(value)
    }
}

/// How one attempt went.
enum Attempt<V, E> {
    Ended(Result<V, E>),
    TimedOut(Duration),
}

/// How far a call has come.
struct Course<'a> {
    permit: Option<Permit<'a>>,
    attempts: u32,
    running: Option<Running>,
}

/// An attempt that is under way.
#[derive(Clone, Copy)]
struct Running {
    since: Duration,
    /// How often the function had been called before.
    calls: Option<usize>,
}

impl Course<'_> {
    /// The attempt under way is over; it counts only if its function was called. When it began, if it counts.
    fn over(&mut self, calls: Option<usize>) -> Option<Duration> {
        let Running { since, calls: before } = self.running.take()?;
        let called = before.is_none() || before != calls;
        if !called {
            self.attempts -= 1;
        }
        called.then_some(since)
    }
}

impl<V, E> Stack<V, E> {
    /// A call behind a cache whose fallback has to be waited for: it is under way from its beginning to its end.
    pub(crate) fn counted(&self) -> Option<Arc<Counted>> {
        let waits = matches!(self.judge.fallback, Some(Fallback::InTime(_)));
        waits.then(|| Arc::new(Counted::enter(&self.in_flight)))
    }

    /// One call through all layers but the fallback. With its caller if that is counted already, so that it is one call.
    pub(crate) async fn run(&self, counted: Option<Arc<Counted>>, work: impl Work<V, E>) -> Result<V, Undone<V, E>> {
        let own = if counted.is_none() { self.in_flight.enter() } else { None };
        let let_in = own.is_some() || counted.as_ref().is_some_and(|counted| !counted.is_closed());
        self.run_counted(let_in, work).await
    }

    /// One call through all layers but the fallback, counted among those under way by its caller.
    async fn run_counted(&self, let_in: bool, mut work: impl Work<V, E>) -> Result<V, Undone<V, E>> {
        let began = self.clock.now();
        let mut course = Course { permit: None, attempts: 0, running: None };
        let whole = self.timeout.and_then(|timeout| timeout.whole);
        let ended = match (self.admitted(let_in, &mut course, began), whole) {
            (Ok(()), None) => caught(pin!(self.entered(&mut course, &mut work, began))).await,
            (Ok(()), Some(whole)) => caught(pin!(self.bounded(&mut course, &mut work, began, whole))).await,
            (Err(refused), _) => Ok(Err(refused.into())),
        };
        if let (Err(_), Some(Running { since, .. })) = (&ended, course.running) {
            // The function has panicked, which is no better than an error.
            self.note(&course, true, since);
        }
        if self.teller.any() {
            let (took, attempts) = (self.clock.now().saturating_sub(began), course.attempts);
            self.teller.tell(match &ended {
                Ok(Ok(_)) => Event::Success { took, attempts },
                Ok(Err(_)) | Err(_) => Event::Failure { took, attempts },
            });
        }
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// One call through all layers, as its caller gets it.
    pub(crate) async fn answer(&self, work: impl Work<V, E>) -> Result<V, Error<E>> {
        // Until the fallback has answered, too: who closes the policy waits for the whole call.
        let under = self.in_flight.enter();
        let error = match self.run_counted(under.is_some(), work).await {
            Ok(value) | Err(Undone::Rejected(value)) => return Ok(value),
            Err(Undone::Error(error)) => error,
        };
        let falling_back = self.fall_back(&error);
        let _refused = (under.is_none() && falling_back.takes_time()).then(|| self.in_flight.enter_anyway());
        falling_back.value().await.ok_or(error)
    }

    /// Asks the fallback. What is returned does not borrow the error, so that nobody holds that while waiting.
    pub(crate) fn fall_back(&self, error: &Error<E>) -> FallingBack<'_, V> {
        let (made, later) = match &self.judge.fallback {
            None => (None, None),
            Some(Fallback::AtOnce(fallback)) => (fallback(error), None),
            Some(Fallback::InTime(fallback)) => (None, Some(fallback(error))),
        };
        FallingBack { made, later, teller: &self.teller }
    }

    /// Whether a caller may go before the function has ended, so that one which blocks belongs on a worker.
    pub(crate) fn walks_away(&self) -> bool {
        self.timeout.is_some() || self.hedge.is_some()
    }

    /// Whether a call would be refused before anything is done for it.
    pub(crate) fn refuses(&self) -> bool {
        self.in_flight.is_closed()
            || self.circuit.as_ref().is_some_and(|circuit| circuit.refuses(self.clock.now()).is_some())
    }

    /// Let in, for the policy is not closed, and let through by the circuit.
    #[inline]
    fn admitted<'a>(&'a self, let_in: bool, course: &mut Course<'a>, now: Duration) -> Result<(), Error<E>> {
        if !let_in {
            return Err(Error::Closed);
        }
        if let Some(circuit) = &self.circuit {
            course.permit = Some(self.admit(circuit, now)?);
        }
        Ok(())
    }

    /// As [`entered`](Stack::entered), no longer than the whole call may take. If it does, that is a word about the
    /// backend only if it was at work.
    async fn bounded<'a>(
        &'a self,
        course: &mut Course<'a>,
        work: &mut impl Work<V, E>,
        began: Duration,
        whole: Duration,
    ) -> Result<V, Undone<V, E>> {
        {
            let entered = pin!(self.entered(course, work, began));
            if let Some(result) = self.clock.within(began, Some(whole), entered).await {
                return result;
            }
        }
        self.teller.tell(Event::Timeout { after: whole });
        if let Some(since) = course.over(work.calls()) {
            self.note(course, true, since);
        }
        Err(Error::TimedOut { after: whole, called: course.attempts > 0 }.into())
    }

    #[inline]
    fn admit<'a>(&self, circuit: &'a Circuit, now: Duration) -> Result<Permit<'a>, Error<E>> {
        match circuit.admit(now) {
            Ok((permit, change)) => {
                self.tell_change(change);
                Ok(permit)
            }
            Err(retry_after) => {
                self.teller.tell(Event::CircuitRejected { retry_after });
                Err(Error::CircuitOpen { retry_after })
            }
        }
    }

    /// After a wait: what the circuit said before it counts no longer if others have turned it meanwhile.
    fn let_through_still<'a>(&'a self, course: &mut Course<'a>, now: Duration) -> Result<(), Error<E>> {
        if let (Some(circuit), Some(permit)) = (&self.circuit, &course.permit)
            && !permit.holds()
        {
            course.permit = Some(self.admit(circuit, now)?);
        }
        Ok(())
    }

    /// Waits for its turn and a place, then tries.
    async fn entered<'a>(
        &'a self,
        course: &mut Course<'a>,
        work: &mut impl Work<V, E>,
        began: Duration,
    ) -> Result<V, Undone<V, E>> {
        let mut now = began;
        if let Some(limiter) = &self.limiter
            && let Err(earliest) = limiter.try_enter(began)
        {
            now = limiter.enter(began, earliest).await.map_err(|retry_after| self.over_the_limit(retry_after))?;
            self.let_through_still(course, now)?;
        }
        let mut place = match self.place_at_once() {
            Ok(place) => place,
            Err(places) => {
                let place = self.wait_for_place(places, &mut now).await?;
                self.let_through_still(course, now)?;
                Some(place)
            }
        };
        if let Some(budget) = &self.budget {
            budget.note_call(now);
        }
        loop {
            let attempt = self.attempt(course, work, place.as_mut(), now).await?;
            let bad = self.judged(course, &attempt, now);
            let Some(retry) = self.retry.as_ref().filter(|_| bad) else { return attempt.into_result(bad) };
            let (pause, taken) = match self.may_try_again(retry, course, &attempt, began) {
                Ok(next) => next,
                Err(why) => return self.exhausted(course, attempt, why),
            };
            self.teller.tell(Event::Retry { attempt: course.attempts, pause });
            drop(place.take());
            now = self.clock.now();
            if !pause.is_zero() {
                self.clock.sleep_until(now.saturating_add(pause)).await;
                now = self.clock.now();
            }
            if self.let_through_still(course, now).is_err() {
                return self.exhausted(course, attempt, Exhausted::Circuit);
            }
            place = match self.place_at_once() {
                Ok(place) => place,
                Err(places) => match self.wait_for_place(places, &mut now).await {
                    Ok(place) if self.let_through_still(course, now).is_ok() => Some(place),
                    Ok(_) => return self.exhausted(course, attempt, Exhausted::Circuit),
                    Err(_) => return self.exhausted(course, attempt, Exhausted::Bulkhead),
                },
            };
            taken.spend();
        }
    }

    fn over_the_limit(&self, retry_after: Duration) -> Error<E> {
        self.teller.tell(Event::RateLimited { retry_after });
        Error::RateLimited { retry_after }
    }

    /// A place, if there is a bulkhead; or the bulkhead that has to be waited for.
    #[inline]
    fn place_at_once(&self) -> Result<Option<Place<'_>>, &Arc<Places>> {
        match &self.places {
            None => Ok(None),
            Some(places) => places.try_enter().map(Some).ok_or(places),
        }
    }

    async fn wait_for_place<'a>(&self, places: &'a Arc<Places>, now: &mut Duration) -> Result<Place<'a>, Error<E>> {
        let Some(place) = places.enter(&self.clock).await else {
            self.teller.tell(Event::BulkheadRejected);
            return Err(Error::BulkheadFull);
        };
        *now = self.clock.now();
        Ok(place)
    }

    /// One attempt. The error is that its time was over before a worker took it, which says nothing about the backend.
    #[inline]
    async fn attempt(
        &self,
        course: &mut Course<'_>,
        work: &mut impl Work<V, E>,
        place: Option<&mut Place<'_>>,
        now: Duration,
    ) -> Result<Attempt<V, E>, Error<E>> {
        course.attempts += 1;
        course.running = Some(Running { since: now, calls: work.calls() });
        let bound = self.timeout.and_then(|timeout| timeout.attempt);
        let ended = match self.hedge {
            None => self.clock.within(now, bound, pin!(work.begin(place))).await,
            Some(hedge) => self.clock.within(now, bound, Box::pin(self.hedged(hedge, work, place, now)).as_mut()).await,
        };
        let Some(result) = ended else {
            let after = bound.unwrap_or_default();
            self.teller.tell(Event::Timeout { after });
            return match course.over(work.calls()) {
                Some(_) => Ok(Attempt::TimedOut(after)),
                None => Err(Error::TimedOut { after, called: course.attempts > 0 }),
            };
        };
        course.running = None;
        Ok(Attempt::Ended(result))
    }

    /// An attempt, and others beside it if it takes long.
    async fn hedged<W: Work<V, E>>(
        &self,
        hedge: Hedge,
        work: &mut W,
        mut place: Option<&mut Place<'_>>,
        now: Duration,
    ) -> Result<V, E> {
        let mut first = pin!(work.begin(place.as_deref_mut()));
        if let Some(result) = self.clock.within(now, Some(hedge.after), first.as_mut()).await {
            return result;
        }
        let mut begun = now;
        let mut first_runs = true;
        let mut others: Vec<Pin<Box<W::Attempt>>> = Vec::new();
        let mut left = hedge.more;
        loop {
            if left > 0
                && let Some(taken) = self.taken()
            {
                taken.spend();
                left -= 1;
                self.teller.tell(Event::Hedged);
                others.push(Box::pin(work.begin(place.as_deref_mut())));
                begun = begun.saturating_add(hedge.after);
            } else {
                left = 0;
            }
            let mut any_good = std::future::poll_fn(|cx| {
                let mut last = None;
                if first_runs && let Poll::Ready(result) = first.as_mut().poll(cx) {
                    first_runs = false;
                    last = Some(result);
                }
                let mut turn = 0;
                while last.as_ref().is_none_or(|result| self.judge.is_bad(result)) && turn < others.len() {
                    match others[turn].as_mut().poll(cx) {
                        Poll::Pending => turn += 1,
                        Poll::Ready(result) => {
                            drop(others.swap_remove(turn));
                            last = Some(result);
                        }
                    }
                }
                match last {
                    Some(result) if !self.judge.is_bad(&result) || (!first_runs && others.is_empty()) => {
                        Poll::Ready(result)
                    }
                    _ => Poll::Pending,
                }
            });
            if left == 0 {
                return any_good.await;
            }
            if let Some(result) = self.clock.within(begun, Some(hedge.after), Pin::new(&mut any_good)).await {
                return result;
            }
        }
    }

    /// Tells the circuit how an attempt went; whether it is worth another.
    #[inline]
    fn judged(&self, course: &Course<'_>, attempt: &Attempt<V, E>, began: Duration) -> bool {
        let (bad, failed) = match attempt {
            Attempt::TimedOut(_) => (true, true),
            Attempt::Ended(result) => {
                let bad = self.judge.is_bad(result);
                let failed = match &self.judge.failure_if {
                    Some(predicate) => predicate(result),
                    None => bad || result.is_err(),
                };
                (bad, failed)
            }
        };
        self.note(course, failed, began);
        bad
    }

    #[inline]
    fn note(&self, course: &Course<'_>, failed: bool, began: Duration) {
        let (Some(circuit), Some(permit)) = (&self.circuit, &course.permit) else { return };
        let slow = circuit.settings.slow.is_some_and(|bound| self.is_slow(bound, began));
        let change = permit.note(failed, slow, || self.clock.now());
        self.tell_change(change);
    }

    #[cold]
    fn is_slow(&self, bound: Slow, began: Duration) -> bool {
        let took = self.clock.now().saturating_sub(began);
        let slow = took > bound.longer_than;
        if slow {
            self.teller.tell(Event::SlowCall { took });
        }
        slow
    }

    #[inline]
    fn tell_change(&self, change: Option<Change>) {
        match change {
            None => {}
            Some(Change::Opened) => self.teller.tell(Event::CircuitOpened),
            Some(Change::HalfOpened) => self.teller.tell(Event::CircuitHalfOpened),
            Some(Change::Closed) => self.teller.tell(Event::CircuitClosed),
        }
    }

    /// One more attempt or hedge, if the shared budget allows it.
    fn taken(&self) -> Option<Taken<'_>> {
        match &self.budget {
            None => Some(Taken::FREE),
            Some(budget) => budget.take(self.clock.now()),
        }
    }

    /// How long to pause before the next attempt, and what pays for it; or why there is none.
    fn may_try_again(
        &self,
        retry: &Retry,
        course: &Course<'_>,
        attempt: &Attempt<V, E>,
        began: Duration,
    ) -> Result<(Duration, Taken<'_>), Exhausted> {
        if course.attempts >= retry.attempts {
            return Err(Exhausted::Attempts);
        }
        let hint = match (attempt, &self.judge.delay_hint) {
            (Attempt::Ended(result), Some(hint)) => hint(result),
            _ => None,
        };
        let pause = match hint {
            Some(hint) if hint > retry.max_delay => return Err(Exhausted::Hint),
            Some(hint) => hint,
            None => retry.pause(course.attempts),
        };
        let now = || self.clock.now();
        let comes_back_too_early = |circuit: &Arc<Circuit>| circuit.refuses(now()).is_some_and(|open| open > pause);
        if self.circuit.as_ref().is_some_and(comes_back_too_early) {
            return Err(Exhausted::Circuit);
        }
        let whole = self.timeout.and_then(|timeout| timeout.whole);
        if whole.is_some_and(|whole| now().saturating_add(pause) >= began.saturating_add(whole)) {
            return Err(Exhausted::Time);
        }
        let taken = self.taken().ok_or(Exhausted::Budget)?;
        Ok((pause, taken))
    }

    fn exhausted(&self, course: &Course<'_>, attempt: Attempt<V, E>, why: Exhausted) -> Result<V, Undone<V, E>> {
        self.teller.tell(Event::RetryExhausted { attempts: course.attempts, why });
        attempt.into_result(true)
    }
}

/// What a future makes, or what it panicked with.
fn caught<F: Future>(mut future: Pin<&mut F>) -> impl Future<Output = std::thread::Result<F::Output>> {
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
}

impl<V, E> Attempt<V, E> {
    fn into_result(self, bad: bool) -> Result<V, Undone<V, E>> {
        match self {
            Attempt::Ended(Ok(value)) if bad => Err(Undone::Rejected(value)),
            Attempt::Ended(Ok(value)) => Ok(value),
            Attempt::Ended(Err(error)) => Err(Error::Inner(error).into()),
            Attempt::TimedOut(after) => Err(Error::TimedOut { after, called: true }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CircuitBreaker, ManualClock, Policy, RetryBudget};

    /// Work for which there is no worker, or not before its second attempt.
    struct Queued {
        calls: usize,
        called_once: bool,
    }

    impl Work<u32, &'static str> for Queued {
        type Attempt = Pin<Box<dyn Future<Output = Result<u32, &'static str>>>>;

        fn begin(&mut self, _place: Option<&mut Place<'_>>) -> Self::Attempt {
            if std::mem::take(&mut self.called_once) {
                self.calls += 1;
                return Box::pin(std::future::ready(Err("broken")));
            }
            Box::pin(std::future::pending())
        }

        fn calls(&self) -> Option<usize> {
            Some(self.calls)
        }
    }

    #[test]
    fn an_attempt_for_which_no_worker_was_free_is_no_word_about_the_backend() {
        const BOUND: Duration = Duration::from_secs(1);
        let bounds = [Timeout::per_attempt(BOUND), Timeout::whole(BOUND)];
        for (timeout, called_once) in bounds.into_iter().flat_map(|bound| [(bound, false), (bound, true)]) {
            let clock = ManualClock::new();
            let budget = RetryBudget::new(10, 0.0);
            let policy = Policy::<u32, &'static str>::builder()
                .clock(clock.clone())
                .circuit_breaker(CircuitBreaker::consecutive(2))
                .retry(Retry::attempts(3).base(Duration::ZERO))
                .retry_budget(&budget)
                .timeout(timeout)
                .build()
                .unwrap_or_else(|error| panic!("{error}"));
            for _ in 0..if called_once { 1 } else { 3 } {
                let mut call = pin!(policy.stack.answer(Queued { calls: 0, called_once }));
                let mut look = || call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                assert!(look().is_pending());
                clock.advance(BOUND);
                let told = look();
                let expected =
                    |called| matches!(told, Poll::Ready(Err(Error::TimedOut { called: is, .. })) if is == called);
                assert!(expected(called_once), "{timeout:?}, called once: {called_once}: {told:?}");
            }
            let (failures, retries) = if called_once { (1, 1) } else { (0, 0) };
            assert_eq!(policy.health().circuit.map(|circuit| circuit.failures), Some(failures), "{timeout:?}");
            assert_eq!(budget.left(), 10 - retries);
        }
    }
}
