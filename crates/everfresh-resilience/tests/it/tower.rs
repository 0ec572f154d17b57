//! A policy as a tower layer, whole, and each of its layers alone.

use std::task::{Context, Poll};
use std::time::Duration;

use everfresh_resilience::{Bulkhead, CircuitBreaker, Error, Hedge, ManualClock, RateLimit, Retry, layer};
use futures_util::poll;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::support::*;

/// A request that cannot be cloned.
struct Request(u32);

#[tokio::test]
async fn a_circuit_breaker_alone() {
    let layer = layer::circuit_breaker(CircuitBreaker::consecutive(1)).unwrap();
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(|request: Request| async move { Err::<u32, _>(Broken(request.0)) }));
    let first = service.ready().await.unwrap().call(Request(7)).await;
    assert!(matches!(first, Err(Error::Inner(Broken(7)))));
    let second = service.clone().ready().await.unwrap().call(Request(8)).await;
    assert!(matches!(second, Err(Error::CircuitOpen { .. })), "clones share the circuit");
}

#[tokio::test]
async fn a_rate_limit_and_a_bulkhead_alone() {
    let work = service_fn(|request: Request| async move { Ok::<u32, Broken>(request.0) });
    let limited = ServiceBuilder::new().layer(layer::rate_limit(RateLimit::new(1, MINUTE)).unwrap()).service(work);
    assert_eq!(limited.clone().oneshot(Request(1)).await.unwrap(), 1);
    assert!(matches!(limited.oneshot(Request(2)).await, Err(Error::RateLimited { .. })));

    let hangs = service_fn(|_: Request| std::future::pending::<Result<u32, Broken>>());
    let bulkhead = ServiceBuilder::new().layer(layer::bulkhead(Bulkhead::new(1)).unwrap()).service(hangs);
    let mut first = Box::pin(bulkhead.clone().oneshot(Request(1)));
    assert!(poll!(&mut first).is_pending());
    assert!(matches!(bulkhead.oneshot(Request(2)).await, Err(Error::BulkheadFull)));
}

#[tokio::test]
async fn a_retry_alone_waits_until_the_service_is_ready_again() {
    /// Ready for one call at a time; says so only after having been asked.
    #[derive(Clone, Default)]
    struct Shy {
        asked: bool,
        calls: Calls,
    }
    impl Service<u32> for Shy {
        type Response = u32;
        type Error = Broken;
        type Future = std::future::Ready<Result<u32, Broken>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            self.asked = true;
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: u32) -> Self::Future {
            assert!(std::mem::take(&mut self.asked), "called without being ready");
            let number = self.calls.one_more() as u32;
            std::future::ready(if number < request { Err(Broken(number)) } else { Ok(number) })
        }
    }
    let layer = layer::retry(Retry::attempts(3).base(Duration::ZERO)).unwrap();
    let service = ServiceBuilder::new().layer(layer).service(Shy::default());
    assert_eq!(service.clone().oneshot(3).await.unwrap(), 3);
    let other = ServiceBuilder::new().layer(layer::retry(Retry::attempts(2).base(Duration::ZERO)).unwrap());
    assert!(matches!(other.service(Shy::default()).oneshot(9).await, Err(Error::Inner(Broken(2)))));
}

#[tokio::test]
async fn a_timeout_a_hedge_and_a_fallback_alone() {
    let clock = ManualClock::new();
    let hangs = service_fn(|_: u32| std::future::pending::<Result<u32, Broken>>());
    let policy = Plain::builder().timeout(SECOND).clock(clock.clone()).build().unwrap();
    let mut call = Box::pin(ServiceBuilder::new().layer(policy.once_layer().unwrap()).service(hangs).oneshot(1));
    assert!(poll!(&mut call).is_pending());
    clock.advance(SECOND);
    assert!(matches!(call.await, Err(Error::TimedOut { after: SECOND, called: true })));
    assert!(layer::timeout::<u32, Broken>(Duration::ZERO).is_err());

    let calls = Calls::default();
    let policy = Plain::builder().hedge(Hedge::after(SECOND)).clock(clock.clone()).build().unwrap();
    let counted = calls.clone();
    let second_answers = service_fn(move |_: u32| {
        let number = counted.one_more() as u32;
        async move { if number == 1 { std::future::pending().await } else { Ok::<_, Broken>(number) } }
    });
    let mut call = Box::pin(ServiceBuilder::new().layer(policy.layer()).service(second_answers).oneshot(1));
    assert!(poll!(&mut call).is_pending());
    clock.advance(SECOND);
    assert_eq!(call.await.unwrap(), 2);
    assert!(layer::hedge::<u32, Broken>(Hedge::after(SECOND).up_to(0)).is_err());

    let fails = service_fn(|request: Request| async move { Err::<u32, _>(Broken(request.0)) });
    let layer = layer::fallback(|error| error.inner().map(|broken: &Broken| broken.0 + 100)).unwrap();
    assert_eq!(ServiceBuilder::new().layer(layer).service(fails).oneshot(Request(1)).await.unwrap(), 101);
}

#[tokio::test]
async fn a_whole_policy_as_a_layer_shares_its_parts_with_plain_calls() {
    let policy = Plain::builder()
        .circuit_breaker(CircuitBreaker::consecutive(2))
        .retry(Retry::attempts(2).base(Duration::ZERO))
        .timeout(MINUTE)
        .build()
        .unwrap();
    let fails = service_fn(|request: u32| async move { Err::<u32, _>(Broken(request)) });
    let service = ServiceBuilder::new().layer(policy.layer()).service(fails);
    assert!(matches!(service.oneshot(5).await, Err(Error::Inner(Broken(5)))));
    assert!(matches!(policy.call(Calls::default().numbered()).await, Err(Error::CircuitOpen { .. })));
    assert!(policy.once_layer().is_err(), "it retries");
}

#[tokio::test]
async fn layers_in_layers_make_one_error() {
    let service = ServiceBuilder::new()
        .layer(layer::circuit_breaker(CircuitBreaker::consecutive(5)).unwrap())
        .layer(layer::bulkhead(Bulkhead::new(1)).unwrap())
        .service(service_fn(|request: Request| async move { Err::<u32, _>(Broken(request.0)) }));
    let error: Error<Error<Broken>> = service.oneshot(Request(3)).await.unwrap_err();
    assert!(matches!(error.flatten(), Error::Inner(Broken(3))));
}

/// A client without a connection, which says so as many times when it is asked whether it is ready.
#[derive(Clone)]
struct Unconnected {
    failures: usize,
    asked: Calls,
}

impl Service<u32> for Unconnected {
    type Response = u32;
    type Error = Broken;
    type Future = std::future::Ready<Result<u32, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let failed = self.asked.one_more() <= self.failures;
        Poll::Ready(if failed { Err(Broken(503)) } else { Ok(()) })
    }

    fn call(&mut self, request: u32) -> Self::Future {
        std::future::ready(Ok(request))
    }
}

/// It went past all layers: nothing was tried again, no circuit opened, and no fallback answered.
#[tokio::test]
async fn a_service_that_does_not_become_ready_has_failed_as_one_that_answers_with_an_error() {
    let twice = Unconnected { failures: 2, asked: Calls::default() };
    let retry = layer::retry(Retry::attempts(3).base(Duration::ZERO)).unwrap();
    let mut service = ServiceBuilder::new().layer(retry).service(twice);
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);

    let policy = Plain::builder()
        .circuit_breaker(CircuitBreaker::consecutive(2))
        .fallback(|error| error.is_refusal().then_some(0))
        .build()
        .unwrap();
    let never = Unconnected { failures: usize::MAX, asked: Calls::default() };
    let mut service = ServiceBuilder::new().layer(policy.once_layer().unwrap()).service(never.clone());
    for _ in 0..2 {
        assert!(matches!(service.ready().await.unwrap().call(7).await, Err(Error::Inner(Broken(503)))));
    }
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 0, "the circuit is open");
    assert_eq!(ServiceBuilder::new().layer(policy.layer()).service(never).oneshot(7).await.unwrap(), 0);
}

#[tokio::test]
async fn what_has_failed_to_become_ready_and_is_ready_in_the_end_is_called() {
    let once = Unconnected { failures: 1, asked: Calls::default() };
    let layer = layer::circuit_breaker(CircuitBreaker::consecutive(1)).unwrap();
    let mut service = ServiceBuilder::new().layer(layer).service(once);
    service.ready().await.unwrap();
    assert_eq!(service.ready().await.unwrap().call(7).await.unwrap(), 7);
}
