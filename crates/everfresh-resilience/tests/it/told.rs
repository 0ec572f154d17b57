//! Events with durations that are right, adapters, health, presets, the registry.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh::TokioClock;
use everfresh_resilience::{
    Bulkhead, CircuitBreaker, CircuitState, Error, Event, ManualClock, Policy, RateLimit, Registry, Retry, SystemClock,
    presets,
};
use futures_util::poll;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn durations_are_those_of_the_whole_call_with_and_without_retries() {
    let ear = Ear::default();
    let policy = builder().listener(ear.listener()).build().unwrap();
    policy.call(Calls::default().slow(ms(250))).await.unwrap();
    assert_eq!(ear.take(), [Event::Success { took: ms(250), attempts: 1 }]);
    let retry = Retry::attempts(3).base(SECOND).without_jitter();
    let policy = builder().retry(retry).listener(ear.listener()).build().unwrap();
    let calls = Calls::default();
    policy
        .call(|| {
            let number = calls.one_more();
            async move {
                tokio::time::sleep(ms(100)).await;
                if number == 3 { Ok(1) } else { Err(Broken(1)) }
            }
        })
        .await
        .unwrap();
    assert_eq!(ear.take().last(), Some(&Event::Success { took: ms(3300), attempts: 3 }));
}

#[tokio::test(start_paused = true)]
async fn a_calls_duration_holds_its_waits_and_a_slow_calls_only_the_function() {
    let ear = Ear::default();
    let breaker = CircuitBreaker::rate(0.5, 10).minimum_calls(10).slow_calls(ms(400), 1.0);
    let policy = builder()
        .circuit_breaker(breaker)
        .rate_limit(RateLimit::new(1, SECOND).max_wait(MINUTE))
        .bulkhead(Bulkhead::new(1).max_wait(MINUTE))
        .listener(ear.listener())
        .build()
        .unwrap();
    let calls = Calls::default();
    // The second waits a second at the limit, and then two and a half for the place of the first.
    let (first, second) = tokio::join!(policy.call(calls.slow(ms(3500))), policy.call(calls.slow(ms(500))));
    assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
    let expected = [
        Event::SlowCall { took: ms(3500) },
        Event::Success { took: ms(3500), attempts: 1 },
        Event::SlowCall { took: ms(500) },
        Event::Success { took: ms(4000), attempts: 1 },
    ];
    assert_eq!(ear.take(), expected);
    // One that gave up waiting for a place.
    let policy = builder().bulkhead(Bulkhead::new(1).max_wait(ms(200))).listener(ear.listener()).build().unwrap();
    let (_, refused) = tokio::join!(policy.call(calls.slow(SECOND)), policy.call(calls.slow(SECOND)));
    assert!(matches!(refused, Err(Error::BulkheadFull)));
    assert_eq!(ear.take()[..2], [Event::BulkheadRejected, Event::Failure { took: ms(200), attempts: 0 }]);
    // A timeout, of an attempt or of the whole, ends the call when it says so.
    let timeout = everfresh_resilience::Timeout::per_attempt(SECOND).and_whole(ms(1500));
    let policy = builder()
        .retry(Retry::attempts(3).base(ms(1)).without_jitter())
        .timeout(timeout)
        .listener(ear.listener())
        .build()
        .unwrap();
    policy.call(calls.slow(MINUTE)).await.unwrap_err();
    let expected = [
        Event::Timeout { after: SECOND },
        Event::Retry { attempt: 1, pause: ms(1) },
        Event::Timeout { after: ms(1500) },
        Event::Failure { took: ms(1500), attempts: 2 },
    ];
    assert_eq!(ear.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_told_once_and_ends_the_call() {
    let ear = Ear::default();
    let policy = builder()
        .circuit_breaker(CircuitBreaker::consecutive(1).open_for(MINUTE))
        .rate_limit(RateLimit::new(3, 60 * MINUTE))
        .bulkhead(Bulkhead::new(1))
        .fallback(|error| error.is_refusal().then_some(0))
        .listener(ear.listener())
        .build()
        .unwrap();
    let mut hung = Box::pin(policy.call(std::future::pending));
    assert!(poll!(&mut hung).is_pending());
    policy.call(Calls::default().numbered()).await.unwrap();
    assert_eq!(ear.names(), ["bulkhead_rejected", "failure", "fallback_used"]);
    drop(hung);
    policy.call(Calls::default().numbered()).await.unwrap();
    ear.take();
    policy.call(Calls::default().numbered()).await.unwrap();
    assert_eq!(ear.names(), ["rate_limited", "failure", "fallback_used"]);
    tokio::time::advance(60 * MINUTE).await;
    policy.call(Calls::default().failing()).await.unwrap_err();
    ear.take();
    policy.call(Calls::default().numbered()).await.unwrap();
    let told = ear.take();
    assert_eq!(told[0], Event::CircuitRejected { retry_after: MINUTE });
    assert_eq!(told[1], Event::Failure { took: Duration::ZERO, attempts: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_panics_harms_nobody_and_all_others_hear() {
    let ear = Ear::default();
    let policy =
        builder().listener(|_, _| panic!("on purpose")).listener(ear.listener()).name("github").build().unwrap();
    assert_eq!(policy.call(Calls::default().numbered()).await.unwrap(), 1);
    assert_eq!(ear.names(), ["success"]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_may_call_the_policy_and_hears_its_name() {
    let slot: Arc<Mutex<Option<Plain>>> = Arc::default();
    let names = Arc::new(Mutex::new(Vec::new()));
    let (inner, heard) = (Arc::clone(&slot), Arc::clone(&names));
    let breaker = CircuitBreaker::consecutive(1);
    let policy = builder()
        .name("github")
        .circuit_breaker(breaker)
        .listener(move |name, event| {
            heard.lock().unwrap().push((name.to_owned(), event.name()));
            if *event == Event::CircuitOpened {
                let policy = inner.lock().unwrap().clone().unwrap();
                assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open);
            }
        })
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(policy.clone());
    policy.call(Calls::default().failing()).await.unwrap_err();
    let expected = [("github".to_owned(), "circuit_opened"), ("github".to_owned(), "failure")];
    assert_eq!(*names.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_registry_shares_by_name_and_tells_the_health_of_each() {
    let registry = Registry::with_clock(TokioClock::new());
    let breaker = CircuitBreaker::consecutive(1).open_for(MINUTE);
    let one = Plain::builder().registry(&registry, "a").circuit_breaker(breaker).build().unwrap();
    let two = Policy::<String, Broken>::builder()
        .registry(&registry, "a")
        .circuit_breaker(breaker)
        .bulkhead(Bulkhead::new(4))
        .build()
        .unwrap();
    let other = Plain::builder().registry(&registry, "b").circuit_breaker(breaker).build().unwrap();
    let mut running = Box::pin(two.call(std::future::pending));
    assert!(poll!(&mut running).is_pending());
    one.call(Calls::default().failing()).await.unwrap_err();
    assert!(matches!(two.call(|| async { Ok(String::new()) }).await, Err(Error::CircuitOpen { .. })));
    assert!(other.call(Calls::default().numbered()).await.is_ok());
    let health = registry.health();
    assert_eq!(health.keys().collect::<Vec<_>>(), ["a", "b"]);
    let (a, b) = (health["a"], health["b"]);
    assert_eq!((a.in_flight, a.circuit.unwrap().state), (1, CircuitState::Open));
    assert_eq!(a.circuit.unwrap().retry_after, MINUTE);
    assert_eq!(a.bulkhead.map(|it| (it.running, it.places)), Some((1, 4)));
    assert_eq!((b.in_flight, b.circuit.unwrap().state, b.bulkhead), (0, CircuitState::Closed, None));
    // Closing one policy is not closing those that share its circuit.
    assert_eq!(one.close(SECOND).await, 0);
    tokio::time::advance(MINUTE).await;
    assert!(two.call(|| async { Ok(String::new()) }).await.is_ok());
}

#[test]
fn other_settings_under_a_known_name_are_refused() {
    let registry = Registry::new();
    let make = |limit| Plain::builder().registry(&registry, "a").rate_limit(limit).build();
    let limit = RateLimit::new(10, SECOND);
    let _first = make(limit).unwrap();
    let refused = make(limit.burst(1)).unwrap_err();
    assert!(refused.to_string().contains("\"a\" has a rate limit"), "{refused}");
    assert!(make(limit).is_ok());
}

#[test]
fn a_clock_that_the_registry_would_overrule_is_refused() {
    let clock = ManualClock::new();
    let make = |registry: &Registry| Plain::builder().registry(registry, "a").clock(clock.clone()).build();
    for in_system_time in [Registry::new(), Registry::with_clock(SystemClock)] {
        let refused = make(&in_system_time).unwrap_err();
        assert!(refused.to_string().contains("Registry::with_clock"), "{refused}");
        assert!(in_system_time.health().is_empty(), "it left nothing behind");
        assert!(Plain::builder().registry(&in_system_time, "a").clock(SystemClock).build().is_ok());
    }
    assert!(make(&Registry::with_clock(clock.clone())).is_ok());
}

#[test]
fn presets_are_values_that_can_be_changed() {
    let all = [presets::http(), presets::db(), presets::queue(), presets::llm(), presets::strict()];
    for preset in all {
        assert!(Plain::builder().preset(preset).build().is_ok());
        assert!(preset.timeout.is_some() && preset.retry.is_some() && preset.circuit_breaker.is_some());
    }
    let mut preset = presets::db();
    assert_eq!(preset.bulkhead, Some(Bulkhead::new(10).max_wait(5 * SECOND)));
    preset.bulkhead = None;
    preset.retry = Some(Retry::attempts(1));
    assert_ne!(preset, presets::db());
    assert_eq!(Plain::builder().preset(preset).build().unwrap().health().bulkhead, None);
}

#[tokio::test(start_paused = true)]
async fn the_strict_preset_tries_once() {
    let calls = Calls::default();
    let policy = builder().preset(presets::strict()).build().unwrap();
    let (result, took) = timed(policy.call(calls.slow(MINUTE))).await;
    assert!(matches!(result, Err(Error::TimedOut { .. })));
    assert_eq!((calls.count(), took), (1, 5 * SECOND));
}

#[test]
fn errors_keep_their_facts_and_their_cause() {
    let inner: Error<Broken> = Error::Inner(Broken(4));
    assert_eq!((inner.inner(), inner.to_string()), (Some(&Broken(4)), "broken 4".to_owned()));
    let open: Error<Error<Broken>> = Error::Inner(Error::CircuitOpen { retry_after: SECOND });
    assert!(matches!(open.flatten(), Error::CircuitOpen { retry_after: SECOND }));
    assert!(matches!(Error::Inner(1).map(|it| it + 1), Error::Inner(2)));
    for error in [Error::Closed, Error::BulkheadFull, Error::RateLimited { retry_after: SECOND }] {
        let error: Error<Broken> = error;
        assert!(error.is_refusal() && !error.is_timeout() && !error.to_string().is_empty());
    }
    for called in [true, false] {
        let late: Error<Broken> = Error::TimedOut { after: SECOND, called };
        assert!(late.is_timeout() && late.is_refusal() != called);
        assert_eq!(late.to_string().contains("not called"), !called, "{late}");
    }
    let words = |retry_after| Error::<Broken>::CircuitOpen { retry_after }.to_string();
    assert_eq!(words(SECOND), "the circuit is open for another 1s");
    assert!(words(ms(0)).contains("half-open"), "and not for another 0ns");
}

#[cfg(feature = "tracing")]
#[tokio::test(start_paused = true)]
async fn tracing_hears_every_event_with_the_policys_name() {
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            struct Line(String);
            impl tracing::field::Visit for Line {
                fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                    self.0.push_str(&format!(" {field}={value:?}"));
                }
            }
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let policy = builder()
        .name("github")
        .circuit_breaker(CircuitBreaker::consecutive(1))
        .listener(everfresh_resilience::tracing_listener())
        .build()
        .unwrap();
    policy.call(Calls::default().failing()).await.unwrap_err();
    let expected = [
        "WARN policy=\"github\" event=\"circuit_opened\"",
        "WARN policy=\"github\" event=\"failure\" took=0ns attempts=1",
    ];
    assert_eq!(*lines.0.lock().unwrap(), expected);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn metrics_count_every_event_and_measure_every_call() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let policy = builder()
        .name("github")
        .retry(Retry::attempts(2).base(Duration::ZERO))
        .listener(everfresh_resilience::metrics_listener())
        .build()
        .unwrap();
    let function = Calls::default().failing();
    metrics::with_local_recorder(&recorder, || at_once(policy.call(function)).unwrap().unwrap_err());
    let told: Vec<_> = snapshotter.snapshot().into_vec();
    let counted = |name: &str, label: &str| {
        told.iter().find_map(|(key, _, _, value)| {
            let has = key.key().name() == name && key.key().labels().any(|it| it.value() == label);
            let policy = key.key().labels().any(|it| (it.key(), it.value()) == ("policy", "github"));
            (has && policy).then_some(value)
        })
    };
    for event in ["retry", "retry_exhausted", "failure"] {
        assert_eq!(counted("everfresh_resilience_events_total", event), Some(&DebugValue::Counter(1)), "{event}");
    }
    let measured = |name: &str| match counted(name, "failure") {
        Some(DebugValue::Histogram(values)) => values.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(measured("everfresh_resilience_attempts"), [2.0]);
    assert_eq!(measured("everfresh_resilience_call_seconds").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_in_a_registry_may_have_a_name_of_its_own_in_whatever_order_that_is_said() {
    let registry = Registry::with_clock(everfresh_resilience::TokioClock::new());
    let breaker = CircuitBreaker::consecutive(1);
    let make = || Plain::builder().circuit_breaker(breaker);
    let users = make().registry(&registry, "github").name("users").build().unwrap();
    let repos = make().name("repos").registry(&registry, "github").build().unwrap();
    let nameless = make().registry(&registry, "github").build().unwrap();
    assert_eq!((users.name(), repos.name(), nameless.name()), ("users", "repos", "github"));
    assert_eq!(registry.health().into_keys().collect::<Vec<_>>(), ["github"]);
    users.call(Calls::default().failing()).await.unwrap_err();
    assert_eq!(repos.health().circuit.unwrap().state, CircuitState::Open, "one circuit, by the backend's name");
}

/// On a worker the caller's span was lost, and with it whose request a function's own lines belonged to.
#[cfg(feature = "tracing")]
#[test]
fn a_function_on_a_worker_is_in_its_callers_span() {
    use tracing::{Metadata, Span, info_span};

    let in_span = || Ok(u32::from(Span::current().metadata().map(Metadata::name) == Some("request")));
    let bounded = || Plain::builder().timeout(MINUTE);
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let _request = info_span!("request").entered();
        assert_eq!(bounded().build().unwrap().call_blocking(in_span).unwrap(), 1);
        let cached = bounded().cache(everfresh::Cache::builder().capacity(1).build().unwrap()).build().unwrap();
        assert_eq!(cached.call_blocking(&"key".to_owned(), in_span).unwrap(), 1);
        let here = Plain::builder().build().unwrap();
        assert_eq!(here.call_blocking(in_span).unwrap(), 1);
    });
}
