//! A day of requests against a slow, sometimes failing backend: one sees who waits, with and without everfresh.

mod args;
mod backend;
mod chart;
mod contestant;
mod live;
mod painted;
mod report;
mod simulate;
mod table;
mod tally;
mod trace;
mod units;
mod waits;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use args::{Instead, Plan};
use contestant::Kind;
use indicatif::{ProgressBar, ProgressStyle};
use simulate::Scene;
use tally::Score;

fn main() -> ExitCode {
    let plan = match args::plan(std::env::args_os()) {
        Ok(plan) => plan,
        Err(Instead::Print(text)) => {
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
        Err(Instead::Refuse(line)) => return refuse(&line),
    };
    let began = Instant::now();
    let scores = match scores(&plan) {
        Ok(scores) => scores,
        Err(line) => return refuse(&line),
    };
    match tell(&plan, &scores, began.elapsed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => refuse(&line),
    }
}

fn refuse(line: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "replay: {line}");
    ExitCode::from(2)
}

/// Runs the three: in virtual time at once, in real time one after the other so that they do not disturb each other.
fn scores(plan: &Plan) -> Result<Vec<Score>, String> {
    let requests = plan.trace.len();
    // So that each part of the day has enough requests to speak of quantiles.
    let slots = (requests / 250).clamp(12, 288);
    let scene =
        Scene { trace: &plan.trace, span: plan.span, slots, policy: plan.policy, behaviour: plan.behaviour.clone() };
    let bar = progress_bar(plan, Kind::ALL.len() * requests);
    let advance = |more| bar.inc(more);
    let run = |kind| match plan.live {
        Some(threads) => live::replay(&scene, kind, threads, advance),
        None => simulate::simulate(&scene, kind, advance).map_err(|error| error.to_string()),
    };
    let scores: Result<Vec<Score>, String> = if plan.live.is_some() {
        Kind::ALL.into_iter().map(run).collect()
    } else {
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for kind in Kind::ALL {
                let (run, done) = (&run, &done);
                let work = move || {
                    let score = run(kind);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((kind as usize, score));
                };
                if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    // No thread could be had: this one does it, one after the other.
                    work();
                }
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_by_key(|(order, _)| *order);
        done.into_iter().map(|(_, score)| score).collect()
    };
    bar.finish_and_clear();
    scores
}

/// Seen on a terminal only: indicatif hides it elsewhere.
fn progress_bar(plan: &Plan, requests: usize) -> ProgressBar {
    if !plan.progress {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(requests as u64);
    if let Ok(style) = ProgressStyle::with_template("  replaying {wide_bar} {percent:>3} %  {eta} left") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

/// The result is told also where the picture cannot be written: it may have taken long.
fn tell(plan: &Plan, scores: &[Score], took: Duration) -> Result<(), String> {
    let drawn = plan.plot.as_deref().map_or(Ok(None), |path| plot(plan, scores, path).map(|()| Some(path)));
    let text = match (plan.json, &drawn) {
        (true, _) => report::json(plan, scores)?,
        (false, Ok(picture)) => table::text(plan, scores, took, *picture),
        (false, Err(_)) => table::text(plan, scores, took, None),
    };
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads us has read enough: `replay | head`.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("the result cannot be written: {error}"))
        }
        _ => drawn.map(|_| ()),
    }
}

fn plot(plan: &Plan, scores: &[Score], path: &Path) -> Result<(), String> {
    let chart = chart::draw(plan, scores);
    let bytes = match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("png") => painted::png(&chart)?,
        _ => painted::svg(&chart).into_bytes(),
    };
    std::fs::write(path, bytes)
        .map_err(|error| format!("--plot {} cannot be written ({error}); choose another place", path.display()))
}
