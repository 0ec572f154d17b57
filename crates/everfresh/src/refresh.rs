//! Renewing a value behind the reader's back: when, how many at once, and what if it fails.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::beneath::{Enough, Telling};
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Stage, Value};
use crate::entry::{Attempt, Entry};
use crate::error::Failure;
use crate::event::{Ending, Event, NotStored, RefreshStatus};
use crate::flight::{Flight, Joined, Leader, Plan, Purpose, Wait, Waited};
use crate::housekeeper;
use crate::key::AsKey;
use crate::landing::Origin;
use crate::load::Previous;
use crate::loader::{AsyncWork, Detached, Made, Work};
use crate::moment::Moment;
use crate::pool::{Permit, Running};
use crate::spawn::SpawnError;

/// After no worker could be had, the next try is made so much later.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(5);

/// A load that runs behind its callers.
pub(crate) struct Behind<K, V, S>
where
    K: Key,
    V: Value,
    S: Hasher,
{
    engine: Arc<Engine<K, V, S>>,
    /// There until the flight is landed.
    leader: Option<Leader<K, V>>,
    flight: Arc<Flight<K, V>>,
    enough: Enough,
    /// Given back last: whoever waits for the pool to be idle finds all of this done.
    _permit: Option<Permit>,
    _running: Running,
    /// The spawner took it, or it was dropped before its end; the second of the two to happen tells that both did.
    one_of_two: Arc<AtomicBool>,
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Starts a refresh of an entry, unless one of the reasons against it holds (contract R1, R2, R3).
    pub(crate) fn refresh(
        self: &Arc<Self>,
        hash: u64,
        entry: &Entry<K, V>,
        now: Moment,
        watch: Option<&mut Option<Wait<K, V>>>,
        loader: impl FnOnce() -> Result<Detached<K, V>, RefreshStatus>,
    ) -> RefreshStatus {
        let status = self.try_refresh(hash, entry, now, watch, loader);
        self.counters.refresh_status(status);
        if status == RefreshStatus::Started {
            self.listeners.tell(&Event::RefreshStarted { key: &entry.key });
        }
        status
    }

    fn try_refresh(
        self: &Arc<Self>,
        hash: u64,
        entry: &Entry<K, V>,
        now: Moment,
        watch: Option<&mut Option<Wait<K, V>>>,
        loader: impl FnOnce() -> Result<Detached<K, V>, RefreshStatus>,
    ) -> RefreshStatus {
        let deadline = self.refresh_deadline(now);
        let claim = match self.claim(hash, entry, now, deadline) {
            Ok(claim) => claim,
            Err(status) => return status,
        };
        let status = self.launch_refresh(hash, entry, (now, deadline), watch, loader);
        if status == RefreshStatus::Started {
            claim.hand_over();
        }
        status
    }

    pub(crate) fn refresh_deadline(&self, now: Moment) -> Moment {
        self.policy.refresh_timeout.map_or(Moment::NEVER, |bound| now.after(bound))
    }

    /// Stamps an entry as being refreshed, before it is: only one of many readers gets further.
    pub(crate) fn claim<'e>(
        &self,
        hash: u64,
        entry: &'e Entry<K, V>,
        now: Moment,
        deadline: Moment,
    ) -> Result<Claim<'e, K, V>, RefreshStatus> {
        let before = entry.attempt();
        let is_to_come = before.until > now;
        if before.running {
            if is_to_come && !entry.may_be_over(before, now) {
                return Err(RefreshStatus::AlreadyRunning);
            }
            // If it hung past its deadline, that is a failure, and backs off like one.
            match self.flights.find(hash, &entry.key).filter(|flight| now >= flight.deadline) {
                Some(hung) => self.time_out(&hung),
                None if is_to_come => return Err(RefreshStatus::AlreadyRunning),
                // It was overtaken, and another may have begun since.
                None => self.back_off(entry, self.stage(entry, now).fresh_until, now),
            }
            return Err(RefreshStatus::BackingOff);
        }
        if is_to_come && before.failures > 0 {
            return Err(RefreshStatus::BackingOff);
        }
        if !self.may_start(now) {
            return Err(RefreshStatus::Unavailable);
        }
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        match entry.change_attempt(before, Attempt::running(before.failures, deadline, number)) {
            true => Ok(Claim { entry, before: Some(before) }),
            false => Err(RefreshStatus::AlreadyRunning),
        }
    }

    fn launch_refresh(
        self: &Arc<Self>,
        hash: u64,
        entry: &Entry<K, V>,
        (now, deadline): (Moment, Moment),
        watch: Option<&mut Option<Wait<K, V>>>,
        loader: impl FnOnce() -> Result<Detached<K, V>, RefreshStatus>,
    ) -> RefreshStatus {
        let Some(permit) = self.pool.acquire(&self.clock, deadline) else {
            return RefreshStatus::Saturated;
        };
        let loader = match loader() {
            Ok(loader) => loader,
            Err(why_not) => return why_not,
        };
        match self.begin(hash, &entry.key, Purpose::Refresh, now, deadline) {
            Joined::Lead(leader) => {
                leader.flight().note_claim(entry, entry.attempt());
                self.launch(leader, loader, Enough::Nothing, permit, now, watch)
            }
            _ => RefreshStatus::AlreadyRunning,
        }
    }

    /// Starts the load of a key that has no entry, behind the caller, who counts what came of it.
    pub(crate) fn load_behind<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        now: Moment,
        enough: Enough,
        watch: &mut Option<Wait<K, V>>,
        loader: impl FnOnce() -> Result<Detached<K, V>, RefreshStatus>,
    ) -> RefreshStatus {
        if !self.may_start(now) {
            return RefreshStatus::Unavailable;
        }
        let deadline = self.refresh_deadline(now);
        let acquire = || self.pool.acquire(&self.clock, deadline);
        // The place before the flight: else others would wait for a flight that is given up at once.
        let mut permit = None;
        if self.flights.find(hash, key).is_none() {
            permit = acquire();
            if permit.is_none() {
                return RefreshStatus::Saturated;
            }
        }
        match self.begin(hash, key, Purpose::Load, now, deadline) {
            Joined::Lead(leader) => match (permit.or_else(acquire), loader()) {
                (Some(permit), Ok(loader)) => self.launch(leader, loader, enough, permit, now, Some(watch)),
                (None, _) => RefreshStatus::Saturated,
                (_, Err(why_not)) => why_not,
            },
            _ => RefreshStatus::AlreadyRunning,
        }
    }

    fn launch(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        loader: Detached<K, V>,
        enough: Enough,
        permit: Permit,
        now: Moment,
        watch: Option<&mut Option<Wait<K, V>>>,
    ) -> RefreshStatus {
        let running = self.background.begin();
        // Again: who closes the cache waits for what has begun, and nothing that begins later is to run.
        if self.is_closed() {
            return RefreshStatus::Unavailable;
        }
        if let Some(watch) = watch {
            *watch = Some(leader.wait());
        }
        match self.run_behind(leader, loader, enough, Some(permit), running) {
            Ok(()) => RefreshStatus::Started,
            Err(error) => {
                self.note_unavailable(now, &error);
                RefreshStatus::Unavailable
            }
        }
    }

    /// Begins a flight, or finds the one that runs.
    pub(crate) fn begin<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        purpose: Purpose,
        now: Moment,
        deadline: Moment,
    ) -> Joined<K, V> {
        let plan = Plan { hash, purpose, began: self.history.now(), started: now, deadline };
        self.flights.join(
            key,
            plan,
            self.policy.max_waiters,
            |began| !self.history.is_cleared(began),
            |overdue| self.time_out(overdue),
        )
    }

    /// Hands a flight over to a worker or a runtime; `enough` as for [`make_by`](Engine::make_by). On an error the flight is vacated.
    pub(crate) fn run_behind(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        loader: Detached<K, V>,
        enough: Enough,
        permit: Option<Permit>,
        running: Running,
    ) -> Result<(), SpawnError> {
        let one_of_two = Arc::new(AtomicBool::new(false));
        let flight = Arc::clone(leader.flight());
        let behind = Behind {
            engine: Arc::clone(self),
            flight: Arc::clone(&flight),
            leader: Some(leader),
            enough,
            _permit: permit,
            _running: running,
            one_of_two: Arc::clone(&one_of_two),
        };
        let Detached { wants_previous, work } = loader;
        #[cfg(feature = "tracing")]
        let span = crate::trace::background_span();
        let taken = match work {
            Work::Blocking(load) => self.pool.spawner().spawn_job(Box::new(move || {
                #[cfg(feature = "tracing")]
                let _inside = span.entered();
                behind.run_blocking(|behind| load(&behind.flight.key, behind.previous(wants_previous)));
            })),
            Work::Async(load) => {
                let work = async move { behind.run_async(wants_previous, load).await };
                #[cfg(feature = "tracing")]
                let work = tracing::Instrument::instrument(work, span);
                self.pool.spawner().spawn_task(Box::pin(work))
            }
        };
        if taken.is_ok() {
            if one_of_two.swap(true, Ordering::AcqRel) {
                self.note_dropped(&flight);
            } else {
                self.told_unavailable.store(false, Ordering::Relaxed);
            }
            housekeeper::try_again();
        }
        taken
    }

    /// Ends a flight that nobody will run: nothing was tried, and the next reader may try again.
    pub(crate) fn give_up(&self, leader: Leader<K, V>) {
        let flight = Arc::clone(leader.flight());
        flight.note_ending(Ending::Abandoned);
        // Contained, for this may be part of a panic already: a second one would end the process.
        let released = leader.vacate(|_| {
            catch_unwind(AssertUnwindSafe(|| {
                let entry = self.store.peek_locked(flight.hash, &flight.key)?;
                flight.release_claim(&entry);
                Some(entry)
            }))
        });
        // Not under the flight's lock: the end of a guard may drop what was removed.
        drop(released);
    }

    /// Whether what a flight brings would not be stored, and nobody waits for it; nor will anybody, but for one who joins in the moment
    /// in which all is cleared.
    pub(crate) fn is_for_nobody(&self, flight: &Flight<K, V>) -> bool {
        let would_be_stored = !flight.is_fenced() && !self.history.is_cleared(flight.began);
        !would_be_stored && (flight.has_ended() || !flight.is_awaited())
    }

    /// Ends such a flight before its loader is called; who has joined it after all starts over.
    pub(crate) fn skip(&self, leader: Leader<K, V>) {
        let (flight, ending) = (Arc::clone(leader.flight()), Ending::Discarded(NotStored::Overtaken));
        flight.note_ending(ending);
        self.give_up(leader);
        self.report(&flight, ending, self.clock.now());
    }

    /// Counts and tells that accepted work was dropped before its end.
    pub(crate) fn note_dropped(&self, flight: &Flight<K, V>) {
        let now = self.clock.now();
        self.report(flight, Ending::Abandoned, now);
        self.note_unavailable(now, &SpawnError::new("the work was dropped before its end"));
    }

    /// Nothing more is refreshed. Asked after [`begin`](crate::pool::Background::begin) it is certain: who closed the cache before that
    /// found nothing running, and whoever does so later waits.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether background work may be tried at all now.
    pub(crate) fn may_start(&self, now: Moment) -> bool {
        !self.is_closed() && now.nanos() >= self.unavailable_until.load(Ordering::Relaxed)
    }

    pub(crate) fn note_unavailable(&self, now: Moment, error: &SpawnError) {
        self.unavailable_until.store(now.after(UNAVAILABLE_PAUSE).nanos(), Ordering::Relaxed);
        self.tell_unavailable(error);
    }

    pub(crate) fn tell_unavailable(&self, error: &SpawnError) {
        if !self.told_unavailable.swap(true, Ordering::Relaxed) {
            self.listeners.tell(&Event::RefreshUnavailable { reason: &error.to_string() });
        }
    }

    /// Whether a fresh value is to be refreshed already: past `refresh_ahead` of its life, or by the lot of XFetch (Vattani,
    /// Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015).
    pub(crate) fn wants_early_refresh(&self, entry: &Entry<K, V>, stage: Stage, now: Moment) -> bool {
        if stage.fresh_until == Moment::NEVER {
            return false;
        }
        let left = stage.fresh_until.since(now).as_secs_f64();
        let ahead = self.policy.refresh_ahead.is_some_and(|fraction| {
            let life = stage.fresh_until.since(entry.loaded_at()).as_secs_f64();
            now.since(entry.loaded_at()).as_secs_f64() >= life * fraction
        });
        ahead
            || self.policy.early_refresh.is_some_and(|beta| {
                let took = entry.extra().map_or(0, |extra| extra.load_took) as f64 / 1e9;
                // One less a throw is in (0, 1]: its logarithm is finite.
                -took * beta * (1.0 - self.dice.throw()).ln() >= left
            })
    }
}

/// The stamp on an entry whose refresh is about to begin. Dropped before that, be it by a panic of the key's clone, it is taken
/// off, and what stood there is put back.
pub(crate) struct Claim<'e, K, V> {
    entry: &'e Entry<K, V>,
    /// There until it is handed over.
    before: Option<Attempt>,
}

impl<K, V> Claim<'_, K, V> {
    /// The refresh has begun: its end takes the stamp off.
    pub(crate) fn hand_over(mut self) {
        self.before = None;
    }
}

impl<K, V> Drop for Claim<'_, K, V> {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            self.entry.set_attempt(before);
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Behind<K, V, S> {
    fn previous(&self, wanted: bool) -> Option<Previous<V>> {
        if wanted { self.engine.previous(&self.flight) } else { None }
    }

    /// What has been overtaken before it began is not begun, unless somebody waits for it.
    fn is_needed(&mut self) -> bool {
        let needed = !self.engine.is_for_nobody(&self.flight);
        if !needed && let Some(leader) = self.leader.take() {
            self.engine.skip(leader);
        }
        needed
    }

    fn run_blocking(mut self, load: impl FnOnce(&Self) -> Made<V, Failure>) {
        if !self.is_needed() {
            return;
        }
        let flight = Arc::clone(&self.flight);
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let (made, origin) = drive(self.engine.make_by(&flight, self.enough, async { load(&self) }));
            if let Some((telling, ending)) = self.finish(made, origin) {
                drive(telling.send(ending));
            }
        }));
        if attempt.is_err() {
            self.panicked();
        }
    }

    async fn run_async(mut self, wants_previous: bool, load: AsyncWork<K, V>) {
        if !self.is_needed() {
            return;
        }
        let (engine, flight, enough) = (Arc::clone(&self.engine), Arc::clone(&self.flight), self.enough);
        let mut work = Unpanicking(Box::pin({
            let (engine, flight) = (Arc::clone(&engine), Arc::clone(&flight));
            async move {
                let later = async {
                    let previous = if wants_previous { engine.previous(&flight) } else { None };
                    load(&flight.key, previous).await
                };
                engine.make_by(&flight, enough, later).await
            }
        }));
        match first_of(&mut work, engine.clock.sleep_until(flight.deadline)).await {
            Some(Ok((made, origin))) => match catch_unwind(AssertUnwindSafe(|| self.finish(made, origin))) {
                Ok(Some((telling, ending))) => {
                    let limit = engine.clock.sleep_until(flight.deadline);
                    let _ = first_of(telling.send(ending), limit).await;
                }
                Ok(None) => {}
                Err(_panic) => self.panicked(),
            },
            Some(Err(Panicked)) => self.panicked(),
            None => {
                engine.give_up_in_time(&flight);
                drop(self.leader.take());
                work.give_up();
            }
        }
    }

    /// Lands the flight; returns what the second level is to be told of it.
    fn finish(&mut self, made: Made<V, Failure>, origin: Origin) -> Option<(Telling<K, V, S>, Ending)> {
        let telling = self.engine.telling(&self.flight, &made, origin);
        let landed = self.engine.land(self.leader.take()?, made, origin);
        telling.map(|telling| (telling, landed.ending))
    }

    fn panicked(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.engine.land_panic(leader);
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Behind<K, V, S> {
    /// Dropped before its end: by a spawner that could not run it, or a runtime that shut down.
    fn drop(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        self.engine.give_up(leader);
        // What was never accepted is its starter's to tell.
        if self.one_of_two.swap(true, Ordering::AcqRel) {
            self.engine.note_dropped(&self.flight);
        }
    }
}

pub(crate) struct Panicked;

/// Turns a panic of a future into a value.
pub(crate) struct Unpanicking<T>(pub(crate) Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Unpanicking<T> {
    /// Drops it before its end: after those who wait were told, for that is the user's code and may take its time, or panic.
    pub(crate) fn give_up(self) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.0)));
    }
}

impl<T> Future for Unpanicking<T> {
    type Output = Result<T, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Panicked>> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_panic) => Poll::Ready(Err(Panicked)),
        }
    }
}

/// The result of `work`, or `None` if `limit` completes first.
pub(crate) async fn first_of<T>(work: impl Future<Output = T>, limit: impl Future<Output = ()>) -> Option<T> {
    let mut work = pin!(work);
    let mut limit = pin!(limit);
    std::future::poll_fn(move |cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => limit.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits for a flight, but not beyond `until`, and ends it when its own deadline passes, unless it lands just then.
pub(crate) async fn wait_until<K: Key, V: Value, S: Hasher>(
    engine: &Engine<K, V, S>,
    wait: &mut Wait<K, V>,
    until: Moment,
) -> Option<Waited<K, V>> {
    let deadline = wait.flight().deadline;
    let first = until.min(deadline);
    if first == Moment::NEVER {
        return Some(wait.await);
    }
    if let Some(waited) = first_of(&mut *wait, engine.clock.sleep_until(first)).await {
        return Some(waited);
    }
    if deadline > until {
        return None;
    }
    engine.time_out(wait.flight());
    first_of(wait, engine.clock.sleep_until(until)).await
}
