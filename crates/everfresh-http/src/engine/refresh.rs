//! Renewing a stored response behind its readers' backs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use everfresh::RefreshStatus;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::request;
use tokio::sync::oneshot;

use super::answer::{RefreshAction, StaleContext, Uncacheable};
use super::event::{HttpEvent, RefreshEnding};
use super::fetch::Origin;
use super::flight::{Asks, Role};
use super::inner::{Ask, Inner, Permit};
use super::key::head_of;
use super::lead::{Led, Sent};
use super::page::Stored;
use crate::rfc9111::Failure;

impl Inner {
    /// Starts a refresh, or says why not; never waits.
    ///
    /// `served` is the age of what was served, for how long it had been stale, and what was left of its window.
    pub(crate) fn refresh_behind(
        self: &Arc<Self>,
        ask: &Ask,
        stored: &Arc<Stored>,
        served: (Duration, Duration, Duration),
        origin: Option<Box<dyn Origin>>,
    ) -> RefreshStatus {
        let now = self.time.elapsed();
        let until = now.saturating_add(self.settings.refresh_timeout);
        // Stamped before it starts (contract R3): whoever comes next finds it running.
        if !stored.claim(now, until) {
            return if stored.has_failed() { RefreshStatus::BackingOff } else { RefreshStatus::AlreadyRunning };
        }
        let Some(permit) = self.permit() else {
            stored.refresh_not_before(now);
            return RefreshStatus::Saturated;
        };
        let work = Behind {
            inner: Arc::clone(self),
            key: ask.key.as_str().into(),
            asked: head_of(&ask.parts),
            sent: self.renewal(&ask.parts, &stored.meta),
            stored: Arc::clone(stored),
            served,
        };
        let task = Box::pin(work.run(origin, permit));
        match self.spawner.spawn_task(task) {
            Ok(()) => RefreshStatus::Started,
            Err(_) => {
                stored.refresh_not_before(now.saturating_add(self.settings.min_refresh_interval));
                RefreshStatus::Unavailable
            }
        }
    }

    /// Asks the origin whether a stored response still holds, and puts its answer in its place.
    pub(crate) async fn renew(
        self: Arc<Self>,
        key: Arc<str>,
        mut parts: request::Parts,
        stored: Arc<Stored>,
        origin: Box<dyn Origin>,
        permit: Option<Permit>,
    ) -> RefreshEnding {
        let bounded = permit.is_some();
        let (first, conditional) = (origin.again(), stored.meta.has_validator());
        let (own, of) = (Arc::clone(&self), (Arc::clone(&key), Arc::clone(&stored)));
        let mut ended = own.renew_once(of, parts.clone(), first, permit, conditional).await;
        if ended.is_none() {
            // What a 304 of something else does not say, the whole response will.
            let permit = if bounded { self.permit() } else { None };
            if permit.is_some() || !bounded {
                [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().for_each(|name| drop(parts.headers.remove(name)));
                let (own, of) = (Arc::clone(&self), (key, Arc::clone(&stored)));
                ended = own.renew_once(of, parts, origin, permit, false).await;
            }
        }
        let (ending, failure) = ended.unwrap_or((RefreshEnding::Failed, Failure::Unreachable));
        if matches!(ending, RefreshEnding::Failed | RefreshEnding::TimedOut) {
            self.note_failure(&stored, failure);
        } else if ending == RefreshEnding::Discarded {
            // No failure, and no reason to wait for the end of a refresh that has ended (contract R4).
            stored.refresh_not_before(self.time.elapsed().saturating_add(self.settings.min_refresh_interval));
        }
        ending
    }

    /// One request of a refresh; `None` for a 304 that is about something else.
    async fn renew_once(
        self: Arc<Self>,
        (key, stored): (Arc<str>, Arc<Stored>),
        parts: request::Parts,
        origin: Box<dyn Origin>,
        permit: Option<Permit>,
        conditional: bool,
    ) -> Option<(RefreshEnding, Failure)> {
        let began = self.time.elapsed();
        let role = {
            let asks = Asks {
                parts: &parts,
                vary: Some(stored.meta.vary()),
                now: began,
                patience: self.settings.patience,
                alone: false,
                // A part is for nobody who may wait for another, or for the whole.
                shared: !parts.headers.contains_key(RANGE),
                // That its answer may be shared was said when it was stored.
                credentials: None,
            };
            let changed = || !self.shelf.peek(&key).is_some_and(|page| page.holds(&stored));
            self.shelf.flights.enter(&key, &asks, changed)
        };
        let ended = |ending| Some((ending, Failure::Unreachable));
        let flight = match role {
            Role::Lead(flight, _) => flight,
            // Somebody asks for it already, or it is gone.
            Role::Join(..) | Role::Again => {
                stored.refresh_not_before(began.saturating_add(self.settings.min_refresh_interval));
                return ended(RefreshEnding::Discarded);
            }
        };
        flight.keep();
        let fetching = origin.fetch(parts.clone());
        let (old, named) = (Some(Arc::clone(&stored)), vec![stored]);
        let sent = Sent { old, named, conditional, refresh: true, ..Sent::of(parts) };
        let deadline = Some(self.settings.refresh_timeout);
        match self.lead(flight, sent, fetching, deadline, permit).await {
            Led::Head { reader, done, .. } => {
                drop(reader);
                ended(done.await.unwrap_or(RefreshEnding::Failed))
            }
            Led::Renewed { ending, .. } => ended(ending),
            Led::Own { why: Uncacheable::OriginFailed(status), .. } => {
                Some((RefreshEnding::Failed, Failure::Status(status)))
            }
            Led::Own { .. } => ended(RefreshEnding::Dropped),
            Led::TimedOut => ended(RefreshEnding::TimedOut),
            Led::Unusable => None,
            Led::Failed(_) | Led::Failing { .. } | Led::Unwanted | Led::Panicked(_) => ended(RefreshEnding::Failed),
        }
    }
}

/// A stale answer that wants a refresh, after it was given.
struct Behind {
    inner: Arc<Inner>,
    key: Arc<str>,
    asked: request::Parts,
    sent: Option<request::Parts>,
    stored: Arc<Stored>,
    served: (Duration, Duration, Duration),
}

impl Behind {
    async fn run(self, origin: Option<Box<dyn Origin>>, permit: Permit) {
        let inner = Arc::clone(&self.inner);
        let key = Arc::clone(&self.key);
        let ending = self.decide(origin, permit).await;
        inner.teller.tell(&HttpEvent::Refreshed { key: &key, ending });
    }

    async fn decide(self, origin: Option<Box<dyn Origin>>, permit: Permit) -> RefreshEnding {
        let interval = self.inner.settings.min_refresh_interval;
        let pause = |own: &Self| own.stored.refresh_not_before(own.inner.time.elapsed().saturating_add(interval));
        let action = self.hook().await;
        match (action, origin, self.sent.clone()) {
            (RefreshAction::Refresh, Some(origin), Some(sent)) => {
                self.inner.renew(self.key, sent, self.stored, origin, Some(permit)).await
            }
            (RefreshAction::Handled, ..) => RefreshEnding::Handled,
            // Skipped, or nothing to refresh it with: no fetch, or no credentials.
            _ => {
                pause(&self);
                RefreshEnding::Skipped
            }
        }
    }

    /// Asks `on_stale`, on a thread where it may block.
    async fn hook(&self) -> RefreshAction {
        let Some(on_stale) = self.inner.settings.on_stale.clone() else { return RefreshAction::Refresh };
        let (key, asked, stored) = (Arc::clone(&self.key), head_of(&self.asked), Arc::clone(&self.stored));
        let (age, stale_for, remaining) = self.served;
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            let (method, uri, headers) = (&asked.method, &asked.uri, &asked.headers);
            let stored = &stored.meta;
            let context = StaleContext { key: &key, method, uri, headers, stored, age, stale_for, remaining };
            let said = catch_unwind(AssertUnwindSafe(|| on_stale(&context)));
            let _ = tell.send(said.ok());
        });
        if self.inner.spawner.spawn_job(job).is_err() {
            return RefreshAction::Skip;
        }
        match told.await {
            Ok(Some(action)) => action,
            Ok(None) => {
                self.inner.teller.tell(&HttpEvent::HookPanicked { key: &self.key });
                RefreshAction::Refresh
            }
            Err(_) => RefreshAction::Skip,
        }
    }
}
