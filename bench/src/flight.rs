//! One cold key, 64 tasks: how long until all have the value, and how often its loader ran, also when it fails.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::keys::median;

const TASKS: usize = 64;

/// Waves of one contestant: microseconds each, and loads a wave.
pub struct Waves {
    pub name: &'static str,
    pub micros: Vec<f64>,
    pub loads: f64,
    pub failing_loads: usize,
    pub failing_took: Duration,
}

async fn load(loads: Arc<AtomicUsize>) -> u64 {
    loads.fetch_add(1, Ordering::Relaxed);
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    1
}

async fn fail(loads: Arc<AtomicUsize>) -> Result<u64, &'static str> {
    loads.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(10)).await;
    Err("down")
}

async fn wave<F, Fut>(ask: F) -> Duration
where
    F: Fn() -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let began = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(ask())).collect();
    for task in tasks {
        task.await.expect("a task panicked");
    }
    began.elapsed()
}

async fn everfresh(key: u64, cache: everfresh::Cache<u64, u64>, loads: Arc<AtomicUsize>, fails: bool) {
    match fails {
        false => drop(cache.get_or_load_async(&key, move || load(loads)).await),
        true => drop(cache.get_or_load_async(&key, move || fail(loads)).await),
    }
}

async fn quick(key: u64, cache: Arc<quick_cache::sync::Cache<u64, u64>>, loads: Arc<AtomicUsize>, fails: bool) {
    match fails {
        false => drop(cache.get_or_insert_async(&key, async { Ok::<_, ()>(load(loads).await) }).await),
        true => drop(cache.get_or_insert_async(&key, fail(loads)).await),
    }
}

async fn moka(key: u64, cache: moka::future::Cache<u64, u64>, loads: Arc<AtomicUsize>, fails: bool) {
    match fails {
        false => drop(cache.get_with(key, load(loads)).await),
        true => drop(cache.try_get_with(key, fail(loads)).await),
    }
}

/// Runs all contestants, wave by wave in turn.
pub fn run(waves: usize) -> Vec<Waves> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let ours = everfresh::Cache::builder().capacity(100_000).build().expect("a bound is given");
        let theirs = Arc::new(quick_cache::sync::Cache::new(100_000));
        let others = moka::future::Cache::new(100_000);
        let mut results: Vec<Waves> = ["everfresh", "quick_cache", "moka"]
            .map(|name| Waves { name, micros: vec![], loads: 0.0, failing_loads: 0, failing_took: Duration::ZERO })
            .into();
        let mut order: Vec<usize> = (0..results.len()).collect();
        for key in 0..waves as u64 {
            // Who comes after whom finds the processor as that one left it.
            fastrand::shuffle(&mut order);
            for &at in &order {
                let result = &mut results[at];
                let loads = Arc::new(AtomicUsize::new(0));
                let took = match result.name {
                    "everfresh" => wave(|| everfresh(key, ours.clone(), Arc::clone(&loads), false)).await,
                    "quick_cache" => wave(|| quick(key, Arc::clone(&theirs), Arc::clone(&loads), false)).await,
                    _ => wave(|| moka(key, others.clone(), Arc::clone(&loads), false)).await,
                };
                result.micros.push(took.as_secs_f64() * 1e6);
                result.loads += loads.load(Ordering::Relaxed) as f64 / waves as f64;
            }
        }
        let key = u64::MAX;
        for result in &mut results {
            let loads = Arc::new(AtomicUsize::new(0));
            result.failing_took = match result.name {
                "everfresh" => wave(|| everfresh(key, ours.clone(), Arc::clone(&loads), true)).await,
                "quick_cache" => wave(|| quick(key, Arc::clone(&theirs), Arc::clone(&loads), true)).await,
                _ => wave(|| moka(key, others.clone(), Arc::clone(&loads), true)).await,
            };
            result.failing_loads = loads.load(Ordering::Relaxed);
        }
        results
    })
}

pub fn print(results: &[Waves]) {
    println!("flight · {TASKS} tasks on one cold key, 2 workers");
    for waves in results {
        let mut sorted = waves.micros.clone();
        let p50 = median(&mut sorted);
        let p99 = sorted[sorted.len() * 99 / 100];
        println!(
            "    {:<12} p50 {p50:>7.1} µs   p99 {p99:>7.1} µs   loads a wave {:.2}   failing: {} load(s), {:.0?}",
            waves.name, waves.loads, waves.failing_loads, waves.failing_took
        );
    }
    let ratio = {
        let (ours, theirs) = (&results[0].micros, &results[1].micros);
        median(&mut ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    };
    let reached = ratio <= 1.0 && results[0].failing_loads == 1;
    let verdict = if reached { "reached" } else { "MISSED" };
    println!("    bar: {ratio:.2}× the time of quick_cache, asked for 1.00×, one load also when it fails: {verdict}");
}
