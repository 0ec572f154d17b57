//! Events as `metrics` counters and histograms (feature `metrics`).

use std::sync::Arc;

use metrics::{SharedString, counter, histogram};

use crate::event::{Event, RefreshStatus};

/// A listener that counts and measures each event with the `metrics` crate, labelled with the cache's name.
///
/// | metric | labels | what |
/// |---|---|---|
/// | `everfresh_lookups_total` | `cache`, `outcome` | lookups |
/// | `everfresh_age_at_serve_seconds` | `cache`, `outcome` | histogram: how old the served value was |
/// | `everfresh_load_seconds` | `cache`, `kind` (`load`, `refresh`), `ending` | histogram: how long a load ran |
/// | `everfresh_load_waiters` | `cache`, `kind` | histogram: how many callers waited for a load |
/// | `everfresh_refreshes_skipped_total` | `cache`, `reason` | refreshes that a stale value wanted and did not get |
/// | `everfresh_left_total` | `cache`, `cause` | entries that left |
/// | `everfresh_not_stored_total` | `cache`, `reason` | values that were made and not stored |
/// | `everfresh_level_failures_total` | `cache` | failed calls of the second level |
pub fn metrics_listener<K, V>(name: impl Into<Arc<str>>) -> impl Fn(&Event<'_, K, V>) + Send + Sync + 'static {
    let name: SharedString = SharedString::from(name.into());
    move |happened| {
        let cache = name.clone();
        match happened {
            Event::Lookup { outcome, age, refresh, .. } => {
                counter!("everfresh_lookups_total", "cache" => cache.clone(), "outcome" => outcome.name()).increment(1);
                if let Some(age) = age {
                    histogram!("everfresh_age_at_serve_seconds", "cache" => cache.clone(), "outcome" => outcome.name())
                        .record(age.as_secs_f64());
                }
                if !matches!(refresh, RefreshStatus::NotNeeded | RefreshStatus::Started) {
                    counter!("everfresh_refreshes_skipped_total", "cache" => cache, "reason" => refresh.name())
                        .increment(1);
                }
            }
            Event::Load { ending, took, waiters, .. } => {
                load(cache, "load", ending.name(), took.as_secs_f64(), *waiters)
            }
            Event::Refresh { ending, took, waiters, .. } => {
                load(cache, "refresh", ending.name(), took.as_secs_f64(), *waiters);
            }
            Event::Left { cause, .. } => {
                counter!("everfresh_left_total", "cache" => cache, "cause" => cause.name()).increment(1);
            }
            Event::NotStored { why, .. } => {
                counter!("everfresh_not_stored_total", "cache" => cache, "reason" => why.name()).increment(1);
            }
            Event::LevelFailed { .. } => counter!("everfresh_level_failures_total", "cache" => cache).increment(1),
            Event::RefreshStarted { .. } | Event::RefreshUnavailable { .. } => {}
        }
    }
}

fn load(cache: SharedString, kind: &'static str, ending: &'static str, seconds: f64, waiters: usize) {
    histogram!("everfresh_load_seconds", "cache" => cache.clone(), "kind" => kind, "ending" => ending).record(seconds);
    histogram!("everfresh_load_waiters", "cache" => cache, "kind" => kind).record(waiters as f64);
}
