//! The result for machines.

use std::time::Duration;

use serde::Serialize;

use crate::args::Plan;
use crate::tally::Score;

/// Times are in seconds.
#[derive(Serialize)]
struct Report<'a> {
    source: &'a str,
    requests: usize,
    distinct_keys: usize,
    span: f64,
    threads: Option<usize>,
    backend: Backend,
    caches: Caches,
    contestants: Vec<Contestant>,
}

#[derive(Serialize)]
struct Backend {
    mean: f64,
    standard_deviation: f64,
    outages: Vec<[f64; 2]>,
    fail_after: f64,
    error_rate: f64,
    seed: u64,
}

#[derive(Serialize)]
struct Caches {
    capacity: usize,
    ttl: f64,
    stale_while_revalidate: f64,
    stale_if_error: f64,
    soft_timeout: Option<f64>,
    max_refreshes: usize,
    ttl_cache_coalesces: bool,
}

#[derive(Serialize)]
struct Contestant {
    name: &'static str,
    requests: u64,
    outcomes: Outcomes,
    errors: u64,
    unserved: u64,
    answered_at_once: u64,
    wait: Wait,
    oldest_age: f64,
    backend: Calls,
    over_time: Vec<Part>,
}

#[derive(Serialize)]
struct Outcomes {
    fresh: u64,
    stale: u64,
    loaded: u64,
    coalesced: u64,
    fallback: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Wait {
    mean: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct Calls {
    calls: u64,
    failed: u64,
    peak_concurrent: u64,
}

#[derive(Serialize)]
struct Part {
    from: f64,
    requests: u64,
    errors: u64,
    backend_calls: u64,
    wait_mean: f64,
    wait_p99: f64,
}

pub(crate) fn json(plan: &Plan, scores: &[Score]) -> Result<String, String> {
    let seconds = |span: Duration| span.as_secs_f64();
    let (behaviour, policy) = (&plan.behaviour, plan.policy);
    let report = Report {
        source: &plan.source,
        requests: plan.trace.len(),
        distinct_keys: plan.distinct_keys,
        span: seconds(plan.span),
        threads: plan.live,
        backend: Backend {
            mean: seconds(behaviour.latency.mean),
            standard_deviation: seconds(behaviour.latency.spread),
            outages: behaviour.outages.iter().map(|outage| [seconds(outage.from), seconds(outage.to)]).collect(),
            fail_after: seconds(behaviour.fail_after),
            error_rate: behaviour.error_rate,
            seed: behaviour.seed,
        },
        caches: Caches {
            capacity: policy.capacity,
            ttl: seconds(policy.ttl),
            stale_while_revalidate: seconds(policy.stale_while_revalidate),
            stale_if_error: seconds(policy.stale_if_error),
            soft_timeout: policy.soft_timeout.map(seconds),
            max_refreshes: policy.max_refreshes,
            ttl_cache_coalesces: policy.coalesce,
        },
        contestants: scores.iter().map(|score| contestant(score, plan.span)).collect(),
    };
    let text = serde_json::to_string_pretty(&report).map_err(|error| format!("the result is no JSON: {error}"))?;
    Ok(text + "\n")
}

fn contestant(score: &Score, span: Duration) -> Contestant {
    let tally = &score.tally;
    let outcomes = tally.outcomes;
    let part = span.as_secs_f64() / tally.slots.len() as f64;
    Contestant {
        name: score.name,
        requests: tally.requests(),
        outcomes: Outcomes {
            fresh: outcomes.fresh,
            stale: outcomes.stale,
            loaded: outcomes.loaded,
            coalesced: outcomes.coalesced,
            fallback: outcomes.fallback,
            failed: outcomes.failed,
        },
        errors: outcomes.failed,
        unserved: tally.unserved,
        answered_at_once: tally.at_once,
        wait: Wait {
            mean: tally.wait.mean().as_secs_f64(),
            p50: tally.wait.quantile(0.5).as_secs_f64(),
            p99: tally.wait.quantile(0.99).as_secs_f64(),
            p999: tally.wait.quantile(0.999).as_secs_f64(),
            max: tally.wait.longest().as_secs_f64(),
        },
        oldest_age: tally.oldest.as_secs_f64(),
        backend: Calls { calls: score.load.calls, failed: score.load.failed, peak_concurrent: score.load.peak },
        over_time: std::iter::zip(&tally.slots, &score.load.by_slot)
            .enumerate()
            .map(|(index, (slot, &calls))| Part {
                from: index as f64 * part,
                requests: slot.requests,
                errors: slot.errors,
                backend_calls: calls,
                wait_mean: slot.wait.mean().as_secs_f64(),
                wait_p99: slot.wait.quantile(0.99).as_secs_f64(),
            })
            .collect(),
    }
}
