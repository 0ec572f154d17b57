//! The measuring stand: everfresh beside its peers, in one run, as ratios of interleaved rounds.

mod bars;
mod flight;
mod functions;
mod http;
mod keys;
mod memory;
mod peer;
mod race;
mod ratio;
mod resilient;
mod resilient_paths;
mod speed;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures everfresh beside its peers, as ratios in one run", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Operations a second: hit, hot, str, mix, readthrough, small (both of these in a cache of 10,000), load, churn, macro, stale
    Speed(Speed),
    /// 64 tasks on one cold key
    Flight {
        #[arg(long, default_value_t = 2000)]
        waves: usize,
    },
    /// All layers of a policy against the same made by hand of tower's
    Resilient {
        #[arg(long, default_value_t = 21)]
        rounds: usize,
        #[arg(long, default_value_t = 200_000)]
        each: usize,
    },
    /// A hit of the HTTP cache against http-cache's and against the bare service
    Http {
        #[arg(long, default_value_t = 41)]
        rounds: usize,
        #[arg(long, default_value_t = 5_000)]
        each: usize,
    },
    /// Hit ratios on traces
    Ratio(Ratio),
    /// Bytes an entry, in one cache of a million and in a hundred of 10,000
    Memory,
    #[command(hide = true)]
    MemoryChild { peer: String, size: u64 },
    /// Everything, as BENCHMARKS.md quotes it
    All {
        #[command(flatten)]
        speed: Speed,
        #[command(flatten)]
        ratio: Ratio,
    },
}

#[derive(clap::Args)]
struct Speed {
    /// Measured rounds; the median counts
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Operations of each thread in each round
    #[arg(long, default_value_t = 1_000_000)]
    each: usize,
    /// Only rows whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Do not go through the work once before it is timed: each turn begins with what the others left in the processor's caches
    #[arg(long)]
    cold: bool,
}

#[derive(clap::Args)]
struct Ratio {
    /// A folder of traces, files of little-endian 64-bit keys that end in .u64le; made-up ones without
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Capacities in percent of the distinct keys
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 5.0, 20.0])]
    percent: Vec<f64>,
    /// Check instead that Eviction::Lru hits exactly when a reference list does
    #[arg(long)]
    lru: bool,
}

fn main() -> ExitCode {
    let told = match Arguments::parse().what {
        What::Speed(speed) => measure_speed(&speed),
        What::Flight { waves } => measure_flight(waves),
        What::Resilient { rounds, each } => measure_resilient(rounds, each),
        What::Http { rounds, each } => measure_http(rounds, each),
        What::Ratio(ratio) => measure_ratio(&ratio),
        What::Memory => measure_memory(),
        What::MemoryChild { peer, size } => {
            memory::child(&peer, size);
            Ok(())
        }
        What::All { speed, ratio } => {
            machine();
            measure_speed(&speed)
                .and_then(|()| measure_flight(2000))
                .and_then(|()| measure_resilient(21, 200_000))
                .and_then(|()| measure_http(41, 5_000))
                .and_then(|()| measure_memory())
                .and_then(|()| measure_ratio(&Ratio { lru: true, traces: ratio.traces.clone(), percent: vec![] }))
                .and_then(|()| measure_ratio(&ratio))
        }
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine{model}, {cores} cores");
}

fn measure_speed(speed: &Speed) -> Result<(), String> {
    if speed.rounds == 0 || speed.each == 0 {
        return Err("--rounds and --each have to be at least 1".into());
    }
    let course = race::Course { threads: 1, rounds: speed.rounds, each: speed.each, cold: speed.cold };
    let rows = speed::run(course, &speed.only);
    if rows.is_empty() {
        return Err(format!("no row has {:?} in its name; see --help", speed.only));
    }
    Ok(())
}

fn measure_flight(waves: usize) -> Result<(), String> {
    if waves == 0 {
        return Err("--waves has to be at least 1".into());
    }
    flight::print(&flight::run(waves));
    Ok(())
}

fn measure_resilient(rounds: usize, each: usize) -> Result<(), String> {
    if rounds == 0 || each == 0 {
        return Err("--rounds and --each have to be at least 1".into());
    }
    resilient::print(&resilient::run(rounds, each));
    resilient_paths::run(each as u64 / 2);
    Ok(())
}

fn measure_http(rounds: usize, each: usize) -> Result<(), String> {
    if rounds == 0 || each == 0 {
        return Err("--rounds and --each have to be at least 1".into());
    }
    http::run(rounds, each).iter().for_each(http::Row::print);
    Ok(())
}

fn measure_memory() -> Result<(), String> {
    memory::print(&memory::run());
    Ok(())
}

fn measure_ratio(ratio: &Ratio) -> Result<(), String> {
    let traces = match &ratio.traces {
        Some(folder) => ratio::read(folder)?,
        None => ratio::made(),
    };
    if ratio.lru {
        let points = ratio::lru_is_exact(&traces)?;
        println!("Eviction::Lru hits exactly when a reference list does, at {points} points");
        return Ok(());
    }
    if ratio.percent.iter().any(|percent| !(*percent > 0.0 && *percent <= 100.0)) {
        return Err("--percent takes figures above 0 and up to 100".into());
    }
    ratio::print(&ratio::measure(&traces, &ratio.percent));
    Ok(())
}
