//! Events as `metrics` counters and histograms (feature `metrics`).

use metrics::{SharedString, counter, histogram};

use crate::event::Event;

/// A listener that counts and measures each event with the `metrics` crate, labelled with the policy's name.
///
/// | metric | labels | what |
/// |---|---|---|
/// | `everfresh_resilience_events_total` | `policy`, `event` | events of each kind |
/// | `everfresh_resilience_call_seconds` | `policy`, `ending` (`success`, `failure`) | histogram: how long a call took |
/// | `everfresh_resilience_attempts` | `policy`, `ending` | histogram: how many attempts a call took |
pub fn metrics_listener() -> impl Fn(&str, &Event) + Send + Sync + 'static {
    |policy, event| {
        let policy = SharedString::from(policy.to_owned());
        counter!("everfresh_resilience_events_total", "policy" => policy.clone(), "event" => event.name()).increment(1);
        if let Event::Success { took, attempts } | Event::Failure { took, attempts } = event {
            let ending = event.name();
            histogram!("everfresh_resilience_call_seconds", "policy" => policy.clone(), "ending" => ending)
                .record(took.as_secs_f64());
            histogram!("everfresh_resilience_attempts", "policy" => policy, "ending" => ending)
                .record(f64::from(*attempts));
        }
    }
}
