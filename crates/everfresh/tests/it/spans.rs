//! R5: work behind a caller has a span of its own, which follows from the caller's.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use everfresh::Cache;
use tracing::span::Id;
use tracing::{Metadata, Span, Subscriber, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::kit::{SECOND, poll_once};
use crate::support::{Bench, bench};

/// Notes which span followed from which.
struct Follows(Arc<Mutex<Vec<(String, String)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Follows {
    fn on_follows_from(&self, span: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name().to_owned();
        self.0.lock().unwrap().push((name(span), name(follows)));
    }
}

/// One for a loader inside of the span of work in the background.
fn in_its_span() -> u64 {
    u64::from(Span::current().metadata().map(Metadata::name) == Some("everfresh.load"))
}

#[test]
fn r5_work_behind_has_a_span_that_follows_from_its_callers_for_one_key_and_for_many() {
    type Call = fn(&Cache<u32, u64>);
    let calls: [(&str, Call); 3] = [
        ("one", |cache| assert_eq!(cache.get_or_load(&1, in_its_span).unwrap(), 7)),
        ("many", |cache| {
            let got = cache.get_many_or_load([1], |_| Ok::<_, ()>([(1, in_its_span())]));
            assert_eq!(got.unwrap()[&1], 7);
        }),
        ("many in a task", |cache| {
            let load = |_| async { Ok::<_, ()>([(1, in_its_span())]) };
            let got = poll_once(pin!(cache.get_many_or_load_async([1], load)));
            assert!(matches!(got, Poll::Ready(Ok(got)) if got[&1] == 7));
        }),
    ];
    let refresh = |call: Call| {
        let Bench { cache, clock, hand } = bench(|it| it);
        cache.insert(1, 7);
        clock.advance(11 * SECOND);
        info_span!("caller").in_scope(|| call(&cache));
        hand.run();
        cache.get(&1)
    };
    calls.iter().for_each(|(_, call)| assert!(refresh(*call).is_some()));
    for (name, call) in calls {
        let follows = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Follows(Arc::clone(&follows)));
        let mut got = (None, Vec::new());
        tracing::subscriber::with_default(subscriber, || {
            // A span that another test is just about to be the first to meet may stay unknown to this subscriber, until it is asked anew.
            for _ in 0..100 {
                got = (refresh(call), std::mem::take(&mut *follows.lock().unwrap()));
                if got.0 == Some(1) {
                    break;
                }
                thread::yield_now();
                tracing::callsite::rebuild_interest_cache();
            }
        });
        assert_eq!(got.0, Some(1), "{name}: its loader runs inside of that span");
        assert_eq!(got.1, [("everfresh.load".to_owned(), "caller".to_owned())], "{name}");
    }
}
