//! What a policy behind a cache does besides plain hits: misses, stale hits, refreshes; and hits of many threads.

use std::future::ready;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use everfresh::resilience::{
    Behind, Bulkhead, CircuitBreaker, Error, Policy, RateLimit, Retry, TokioClock as PolicyClock,
};
use everfresh::{Cache, Lifetime, TokioClock};

type Guarded = Policy<u64, Down, Behind<Cache<u64, u64>>>;

#[derive(Debug)]
struct Down;

const FOREVER: Duration = Duration::from_secs(1_000_000);
const THREADS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const KEYS: u64 = 1000;

/// Nanoseconds a call, the clock's own reading included.
struct Path {
    name: &'static str,
    p50: u64,
    p99: u64,
}

/// Calls in all, a second, in millions.
struct Crowd {
    threads: usize,
    policy: f64,
    cache: f64,
}

/// In the runtime's time, as a program of tasks has it, or in the system's, where blocking functions belong.
#[derive(Clone, Copy)]
enum Time {
    Runtime,
    System,
}

fn guarded(time: Time, lifetime: Lifetime, capacity: usize) -> Guarded {
    let cache = Cache::builder().capacity(capacity).lifetime(lifetime);
    let cache = match time {
        Time::Runtime => cache.clock(TokioClock::new()).build(),
        Time::System => cache.build(),
    };
    let policy = Policy::builder();
    let policy = match time {
        Time::Runtime => policy.clock(PolicyClock::new()),
        Time::System => policy,
    };
    policy
        .cache(cache.unwrap_or_else(|error| panic!("{error}")))
        .circuit_breaker(CircuitBreaker::consecutive(5).open_for(FOREVER))
        .rate_limit(RateLimit::new(1_000_000_000, Duration::from_secs(1)))
        .bulkhead(Bulkhead::new(64))
        .retry(Retry::attempts(3).base(Duration::ZERO))
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap_or_else(|error| panic!("{error}"))
}

async fn each(name: &'static str, calls: u64, mut call: impl AsyncFnMut(u64)) -> Path {
    let mut took = Vec::with_capacity(calls as usize);
    for number in 0..calls {
        let began = Instant::now();
        call(number).await;
        took.push(began.elapsed().as_nanos() as u64);
    }
    took.sort_unstable();
    Path { name, p50: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
}

async fn get(policy: &Guarded, key: u64) {
    let value: Result<u64, std::sync::Arc<Error<Down>>> = policy.call(&key, move || ready(Ok(key))).await;
    let _ = black_box(value);
}

async fn paths(calls: u64) -> Vec<Path> {
    let lasting = Lifetime::ttl(FOREVER);
    let at_once_stale = Lifetime::ttl(Duration::from_nanos(1)).stale_while_revalidate(FOREVER);
    let mut paths = Vec::new();
    let policy = guarded(Time::Runtime, lasting, KEYS as usize);
    for key in 0..KEYS / 2 {
        get(&policy, key).await;
    }
    paths.push(each("fresh hit", calls, async |number| get(&policy, number % (KEYS / 2)).await).await);
    let policy = guarded(Time::Runtime, lasting, KEYS as usize);
    paths.push(
        each("miss, through all layers, with an eviction", calls, async |number| get(&policy, number).await).await,
    );
    let policy = guarded(Time::Runtime, at_once_stale, KEYS as usize);
    get(&policy, 0).await;
    let while_it_runs = async |_| get(&policy, 0).await;
    paths.push(each("stale hit while its refresh runs", calls, while_it_runs).await);
    let refreshed = async |_| {
        let stored = || policy.cache().stats().refreshes.stored;
        let before = stored();
        get(&policy, 0).await;
        while stored() == before {
            tokio::task::yield_now().await;
        }
    };
    paths.push(each("stale hit, and its refresh to the end", calls / 10, refreshed).await);
    let policy = guarded(Time::Runtime, at_once_stale, KEYS as usize);
    get(&policy, 0).await;
    while policy.health().circuit.is_some_and(|circuit| circuit.retry_after.is_zero()) {
        let _ = policy.call(&1, || ready(Err(Down))).await;
    }
    paths.push(each("stale hit under an open circuit", calls, async |_| get(&policy, 0).await).await);
    paths.push(each("miss under an open circuit: refused", calls, async |number| get(&policy, 2 + number).await).await);
    paths
}

fn millions(threads: usize, calls: u64, call: impl Fn(u64) + Sync) -> f64 {
    let (start, calls) = (Barrier::new(threads + 1), calls / threads as u64);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads as u64)
            .map(|thread| {
                let (start, call) = (&start, &call);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..calls {
                        call((number * 7 + thread) % KEYS);
                    }
                })
            })
            .collect();
        start.wait();
        let began = Instant::now();
        for worker in workers {
            let _ = worker.join();
        }
        (calls * threads as u64) as f64 / began.elapsed().as_secs_f64() / 1e6
    })
}

fn crowds(time: Time, calls: u64) -> Vec<Crowd> {
    let policy = guarded(time, Lifetime::ttl(FOREVER), 2 * KEYS as usize);
    for key in 0..KEYS {
        let _ = policy.call_blocking(&key, move || Ok(key));
    }
    let hit = |key: u64| {
        let _ = black_box(policy.call_blocking(&key, move || Ok(key)));
    };
    let bare = |key: u64| {
        let _ = black_box(policy.cache().get(&key));
    };
    let crowd = |threads| {
        let mut rounds: Vec<(f64, f64)> =
            (0..5).map(|_| (millions(threads, calls, hit), millions(threads, calls, bare))).collect();
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let policy = rounds[rounds.len() / 2].0;
        rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
        Crowd { threads, policy, cache: rounds[rounds.len() / 2].1 }
    };
    THREADS.map(crowd).into()
}

/// Measures and prints everything.
pub fn run(calls: u64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| panic!("{error}"));
    println!("\na policy behind a cache, nanoseconds a call\n| path | p50 | p99 |\n|---|---|---|");
    for Path { name, p50, p99 } in runtime.block_on(paths(calls)) {
        println!("| {name} | {p50} | {p99} |");
    }
    let _inside = runtime.enter();
    for (time, name) in [(Time::System, "the system's"), (Time::Runtime, "a runtime's")] {
        println!(
            "\nhits of many threads in {name} time, M/s\n| threads | through the policy | `Cache::get` |\n|---|---|---|"
        );
        for Crowd { threads, policy, cache } in crowds(time, 10 * calls) {
            println!("| {threads} | {policy:.1} | {cache:.1} |");
        }
    }
}
