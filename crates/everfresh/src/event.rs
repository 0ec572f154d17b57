//! What a cache tells of itself: one outcome a lookup, one cause a leaving, one reason a "no".

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// What one lookup was (contract O1). Every lookup has exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh value was served.
    Hit,
    /// A stale value was served at once.
    Stale,
    /// This caller's load made the value.
    Loaded,
    /// The value came from a load that somebody else had begun.
    Coalesced,
    /// The loader answered that the old value still holds.
    Revalidated,
    /// The load failed, or took too long, and an old value was served instead.
    Fallback,
    /// The caller asked to load whatever the cache holds.
    Bypass,
    /// The value came from the second level.
    SecondLevel,
    /// A remembered error or absence was answered (`negative_ttl`).
    Negative,
    /// Nothing to serve, and the lookup was one that does not load.
    Miss,
    /// A load failed, or could not begin (too many wait, no loader), and there was nothing to serve instead.
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 11] = [
        Outcome::Hit,
        Outcome::Stale,
        Outcome::Loaded,
        Outcome::Coalesced,
        Outcome::Revalidated,
        Outcome::Fallback,
        Outcome::Bypass,
        Outcome::SecondLevel,
        Outcome::Negative,
        Outcome::Miss,
        Outcome::Failed,
    ];

    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Loaded => "loaded",
            Outcome::Coalesced => "coalesced",
            Outcome::Revalidated => "revalidated",
            Outcome::Fallback => "fallback",
            Outcome::Bypass => "bypass",
            Outcome::SecondLevel => "second_level",
            Outcome::Negative => "negative",
            Outcome::Miss => "miss",
            Outcome::Failed => "failed",
        }
    }
}

/// What became of the wish to refresh a value (contract R7, O2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum RefreshStatus {
    /// A refresh was started behind the caller.
    Started,
    /// The key is being loaded or refreshed already.
    AlreadyRunning,
    /// The last attempt failed a short while ago.
    BackingOff,
    /// `max_refreshes` others are running; the next access tries again.
    Saturated,
    /// No worker or runtime could be had, or the cache is closed.
    Unavailable,
    /// Nobody said how to load this key.
    NoLoader,
    /// The policy behind the cache would refuse the load: its circuit is open, or it is closed.
    Refused,
    /// The value is fresh: there was nothing to do.
    NotNeeded,
}

impl RefreshStatus {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            RefreshStatus::Started => "started",
            RefreshStatus::AlreadyRunning => "already_running",
            RefreshStatus::BackingOff => "backing_off",
            RefreshStatus::Saturated => "saturated",
            RefreshStatus::Unavailable => "unavailable",
            RefreshStatus::NoLoader => "no_loader",
            RefreshStatus::Refused => "refused",
            RefreshStatus::NotNeeded => "not_needed",
        }
    }
}

/// How a load or a refresh ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// It made a value, and the value was stored.
    Stored,
    /// The old value still holds and lives anew.
    NotModified,
    /// There is no such value; what was stored was removed.
    Absent,
    /// It made a value that was not stored, or would have changed an entry that was taken away meanwhile. Or it was overtaken before it
    /// began, and not begun, as nobody waited for it.
    Discarded(NotStored),
    /// The loader answered with an error.
    Failed,
    /// The loader panicked.
    Panicked,
    /// Its deadline passed.
    TimedOut,
    /// It was dropped before its end: by its caller, or by a runtime that shut down.
    Abandoned,
}

impl Ending {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            Ending::Stored => "stored",
            Ending::NotModified => "not_modified",
            Ending::Absent => "absent",
            Ending::Discarded(why) => why.name(),
            Ending::Failed => "failed",
            Ending::Panicked => "panicked",
            Ending::TimedOut => "timed_out",
            Ending::Abandoned => "abandoned",
        }
    }
}

/// Why a value that was made was not stored (contract O2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum NotStored {
    /// The key was inserted, removed, invalidated or cleared after the load began (contract I1).
    Overtaken,
    /// The entry that the refresh was for had been evicted (contract R4).
    EntryGone,
    /// It is heavier than the whole cache may be (contract M1).
    TooHeavy,
    /// `store_if` said no (contract L7).
    Rejected,
    /// It was stale at once, and no window lets it be served. What it would have replaced has left.
    NotServable,
}

impl NotStored {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            NotStored::Overtaken => "overtaken",
            NotStored::EntryGone => "entry_gone",
            NotStored::TooHeavy => "too_heavy",
            NotStored::Rejected => "rejected",
            NotStored::NotServable => "not_servable",
        }
    }
}

/// Why an entry left the cache (contract O2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// Pushed out for room.
    Evicted,
    /// Past every window.
    Expired,
    /// A newer value took its place.
    Replaced,
    /// Taken out by `remove`, or found absent by a loader.
    Removed,
    /// Made unservable by key, tag, predicate, or all at once.
    Invalidated,
}

impl Cause {
    pub(crate) const ALL: [Cause; 5] =
        [Cause::Evicted, Cause::Expired, Cause::Replaced, Cause::Removed, Cause::Invalidated];

    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Evicted => "evicted",
            Cause::Expired => "expired",
            Cause::Replaced => "replaced",
            Cause::Removed => "removed",
            Cause::Invalidated => "invalidated",
        }
    }
}

/// Something that happened, told to listeners after the fact and outside of every lock (contract O3).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, K, V> {
    /// A lookup ended. The key is there where it was at hand: at most fresh hits, and in a lookup of many keys. Each load
    /// and each refresh has it, in the events of their own.
    #[non_exhaustive]
    Lookup {
        /// The key, if it was at hand.
        key: Option<&'a K>,
        /// What the lookup was.
        outcome: Outcome,
        /// The age of the value served, if one was.
        age: Option<Duration>,
        /// What became of the refresh that a stale value wants.
        refresh: RefreshStatus,
    },
    /// A load ended, in the foreground or where [`refresh`](crate::Cache::refresh), [`warm`](crate::Cache::warm) or a schedule found
    /// no value.
    #[non_exhaustive]
    Load {
        /// The key.
        key: &'a K,
        /// How it ended.
        ending: Ending,
        /// How long it ran.
        took: Duration,
        /// How many callers waited for it beside the one that ran it.
        waiters: usize,
    },
    /// A refresh of a value that is there was started. Who started it tells it: the end of one that ends at once may be told before.
    #[non_exhaustive]
    RefreshStarted {
        /// The key.
        key: &'a K,
    },
    /// A refresh ended.
    #[non_exhaustive]
    Refresh {
        /// The key.
        key: &'a K,
        /// How it ended.
        ending: Ending,
        /// How long it ran.
        took: Duration,
        /// How many callers waited for it after all.
        waiters: usize,
    },
    /// No worker or runtime could be had; told once, until one can be had again.
    #[non_exhaustive]
    RefreshUnavailable {
        /// What the spawner said.
        reason: &'a str,
    },
    /// An entry left.
    #[non_exhaustive]
    Left {
        /// Its key.
        key: &'a K,
        /// Its value.
        value: &'a V,
        /// Why it left.
        cause: Cause,
    },
    /// A value that was made was not stored.
    #[non_exhaustive]
    NotStored {
        /// Its key.
        key: &'a K,
        /// Why.
        why: NotStored,
    },
    /// The second level failed; the lookup went on without it (contract S1).
    #[non_exhaustive]
    LevelFailed {
        /// The key; `None` if it was to forget a tag, or all.
        key: Option<&'a K>,
        /// What it said.
        reason: &'a str,
    },
}

/// A function that gets every event.
pub(crate) type Listener<K, V> = dyn Fn(&Event<'_, K, V>) + Send + Sync;

/// Keeps a listener subscribed; dropping it ends the subscription.
#[must_use = "dropping a subscription ends it; keep it, or call `forever`"]
pub struct Subscription {
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// Keeps the listener for as long as the cache lives.
    pub fn forever(mut self) {
        self.end = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// A listener and the number by which its subscription ends it.
type Numbered<K, V> = (u64, Arc<Listener<K, V>>);

/// Everybody who listens to one cache.
pub(crate) struct Listeners<K, V> {
    any: AtomicBool,
    next_id: AtomicU64,
    list: RwLock<Arc<[Numbered<K, V>]>>,
}

impl<K: 'static, V: 'static> Listeners<K, V> {
    pub(crate) fn new() -> Listeners<K, V> {
        Listeners { any: AtomicBool::new(false), next_id: AtomicU64::new(0), list: RwLock::new(Arc::from([])) }
    }

    /// Cheap enough for every hit.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribe(self: &Arc<Self>, listener: Arc<Listener<K, V>>) -> Subscription {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.change(|list| list.push((id, listener)));
        let listeners = Arc::downgrade(self);
        Subscription {
            end: Some(Box::new(move || {
                if let Some(listeners) = listeners.upgrade() {
                    listeners.change(|list| list.retain(|(other, _)| *other != id));
                }
            })),
        }
    }

    /// Does that while nobody can begin to listen, if nobody listens.
    pub(crate) fn if_none(&self, act: impl FnOnce()) {
        if !self.any() {
            let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
            if list.is_empty() {
                act();
            }
        }
    }

    /// Tells everybody. A listener that panics is cut off from this event only; the cache goes on.
    pub(crate) fn tell(&self, event: &Event<'_, K, V>) {
        if !self.any() {
            return;
        }
        let list = Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner));
        for (_, listener) in list.iter() {
            let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Numbered<K, V>>)) {
        let before = {
            let mut current = self.list.write().unwrap_or_else(PoisonError::into_inner);
            let mut list = current.to_vec();
            edit(&mut list);
            self.any.store(!list.is_empty(), Ordering::Relaxed);
            std::mem::replace(&mut *current, list.into())
        };
        // A listener is user code, its drop too: outside of the lock.
        drop(before);
    }
}
