//! The proxy beside nginx and varnish: same machine, same origin, same load, in turn.

mod contender;
mod load;
mod origin;
mod rows;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measures everfresh beside nginx and varnish, in one run", version)]
struct Arguments {
    /// The binary of everfresh
    #[arg(long, default_value = "target/dist/everfresh")]
    everfresh: PathBuf,
    /// Which of everfresh, nginx, varnish; all that are installed without
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Rows: hits, stampede, expiry, outage, memory, bound; all without
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Interleaved rounds of hits; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round of hits
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Connections that ask for hits
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Cold keys that are stampeded
    #[arg(long, default_value_t = 5)]
    stampedes: usize,
    /// Seconds of readers on a hot key that expires each second
    #[arg(long, default_value_t = 20)]
    expiry: u64,
    /// Seconds that the origin is away
    #[arg(long, default_value_t = 60)]
    outage: u64,
    /// Small objects whose memory is measured
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(run(&arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    const ROWS: [&str; 6] = ["hits", "stampede", "expiry", "outage", "memory", "bound"];
    if let Some(wrong) = arguments.rows.iter().find(|row| !ROWS.contains(&row.as_str())) {
        return Err(format!("there is no row \"{wrong}\"; there are {}", ROWS.join(", ")));
    }
    if [arguments.rounds, arguments.connections, arguments.stampedes, arguments.objects].contains(&0) {
        return Err("rounds, connections, stampedes and objects have to be at least 1".into());
    }
    machine();
    let contenders = contender::found(&arguments.everfresh, &arguments.peers);
    contenders.iter().for_each(|it| println!("{:<10} {}", it.name, it.version));
    if contenders.is_empty() {
        return Err("nothing to measure".into());
    }
    let wanted = |row: &str| arguments.rows.is_empty() || arguments.rows.iter().any(|wanted| wanted == row);
    if wanted("hits") {
        if Command::new("wrk").arg("-v").output().is_err() {
            println!("hits are left out: wrk does not run here; install it with `apt-get install wrk`");
        } else {
            for (size, keys) in [(1 << 10, 1000), (100 << 10, 100)] {
                rows::hits(&contenders, size, keys, arguments).await?;
            }
        }
    }
    if wanted("stampede") {
        rows::stampede(&contenders, arguments.stampedes).await?;
    }
    if wanted("expiry") {
        rows::expiry(&contenders, arguments.expiry).await?;
    }
    if wanted("outage") {
        rows::outage(&contenders, arguments.outage).await?;
    }
    if wanted("memory") {
        rows::memory(&contenders, arguments.objects).await?;
    }
    if wanted("bound") {
        rows::bound(&contenders).await?;
    }
    Ok(())
}

fn machine() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ");
    println!("machine{model}, {cores} cores; load before: {load}");
}
