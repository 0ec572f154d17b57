//! What is measured, and the bars that are asked for.

use std::time::Duration;

use crate::Arguments;
use crate::contender::{Contender, Running};
use crate::load::{self, Flood};
use crate::origin::{Origin, path};

/// More than all that these rows store.
const ROOMY: u64 = 1 << 30;
/// How long the origin takes where a reader could have to wait for it.
const SLOW: Duration = Duration::from_millis(500);
/// Nobody waits this long but for the origin.
const WAITED: Duration = Duration::from_millis(250);

const MIB: f64 = (1 << 20) as f64;

fn start(contenders: &[Contender], origin: &Origin, capacity: u64) -> Result<Vec<Running>, String> {
    contenders.iter().map(|it| it.start(origin.address, capacity)).collect()
}

fn bar(what: &str, reached: bool) {
    println!("    bar: {what}: {}", if reached { "reached" } else { "MISSED" });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Hits a second of processor time of the proxy, and what clients wait when it has all there is.
pub async fn hits(contenders: &[Contender], size: usize, keys: usize, how: &Arguments) -> Result<(), String> {
    println!(
        "hits · {} KiB · {keys} keys, {} connections, {} rounds of {} s",
        size >> 10,
        how.connections,
        how.rounds,
        how.seconds
    );
    let origin = Origin::start().await?;
    let running = start(contenders, &origin, ROOMY)?;
    let prefix = path(size, Duration::ZERO, 86_400, 0);
    for it in &running {
        let filled = load::fill(it.address, &prefix, keys).await;
        if filled < keys {
            return Err(format!("{} answered {filled} of {keys} keys", it.name));
        }
        load::flood(it.address, &prefix, keys, how.connections, 1)?;
    }
    let cold = origin.asked();
    let mut rounds: Vec<Vec<(Flood, f64)>> = vec![Vec::new(); running.len()];
    for round in 0..how.rounds {
        for at in 0..running.len() {
            // Each comes after each other as often.
            let at = (at + round) % running.len();
            let before = running[at].cpu();
            let flood = load::flood(running[at].address, &prefix, keys, how.connections, how.seconds)?;
            rounds[at].push((flood, running[at].cpu() - before));
        }
    }
    let of = |at: usize, figure: fn(&(Flood, f64)) -> f64| median(rounds[at].iter().map(figure).collect());
    let each = |(flood, cpu): &(Flood, f64)| flood.requests as f64 / cpu;
    for (at, it) in running.iter().enumerate() {
        let all: Vec<f64> = rounds[at].iter().map(each).collect();
        let (least, most) =
            all.iter().fold((f64::MAX, 0.0), |(low, high): (f64, f64), it| (low.min(*it), high.max(*it)));
        println!(
            "    {:<10} {:>7.0} a CPU second ({least:.0}..{most:.0})  {:>6.0}/s  \
             p50 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  errors {}",
            it.name,
            of(at, each),
            of(at, |it| it.0.rate),
            of(at, |it| it.0.p50),
            of(at, |it| it.0.p99),
            of(at, |it| it.0.p999),
            rounds[at].iter().map(|it| it.0.errors).sum::<u64>(),
        );
    }
    if origin.asked() != cold {
        println!("    {} of these were no hits", origin.asked() - cold);
    }
    if running.first().is_some_and(|it| it.name == "everfresh") {
        for at in 1..running.len() {
            // Round by round, so that what else the machine did meanwhile counts for both.
            let ratio = median(rounds[0].iter().zip(&rounds[at]).map(|(own, peer)| each(own) / each(peer)).collect());
            bar(&format!("everfresh at {ratio:.2}× {} a CPU second, asked for 1.00×", running[at].name), ratio >= 1.0);
        }
    }
    Ok(())
}

/// 500 clients ask for the same cold key at once.
pub async fn stampede(contenders: &[Contender], stampedes: usize) -> Result<(), String> {
    const CLIENTS: usize = 500;
    println!("stampede · {CLIENTS} clients at once on a cold key, {stampedes} times; the origin takes {SLOW:.0?}");
    let origin = Origin::start().await?;
    let running = start(contenders, &origin, ROOMY)?;
    let prefix = path(1 << 10, SLOW, 86_400, 0);
    for it in &running {
        let (mut asked, mut errors, mut most, mut half) = (Vec::new(), 0, 0.0_f64, Vec::new());
        for key in 0..stampedes {
            let before = origin.asked();
            let seen = load::stampede(it.address, &format!("{prefix}{key}"), CLIENTS).await;
            asked.push(origin.asked() - before);
            errors += seen.errors;
            most = most.max(seen.wait(1.0));
            half.push(seen.wait(0.5));
        }
        println!(
            "    {:<10} requests to the origin {asked:?}  errors {errors}  p50 {:.0} ms  longest {most:.0} ms",
            it.name,
            median(half)
        );
        if it.name == "everfresh" {
            bar("one request to the origin a stampede", asked.iter().all(|asked| *asked == 1) && errors == 0);
        }
    }
    Ok(())
}

/// A hot key that is stale after a second, and takes the origin half a second.
pub async fn expiry(contenders: &[Contender], seconds: u64) -> Result<(), String> {
    const RATE: u32 = 500;
    println!("expiry · one key of 1 s, {RATE} readers a second for {seconds} s; the origin takes {SLOW:.0?}");
    let origin = Origin::start().await?;
    for contender in contenders {
        let it = contender.start(origin.address, ROOMY)?;
        let key = format!("{}hot", path(1 << 10, SLOW, 1, 3600));
        load::timetable(it.address, vec![key.clone()], 1, 1, Duration::from_secs(1)).await;
        let before = origin.asked();
        let seen = load::timetable(it.address, vec![key], RATE, 50, Duration::from_secs(seconds)).await;
        let waited = seen.waited(WAITED);
        println!(
            "    {:<10} waited for the origin {waited}  p50 {:.2} ms  p99 {:.2} ms  longest {:.2} ms  errors {}  \
             requests to the origin {}",
            it.name,
            seen.wait(0.5),
            seen.wait(0.99),
            seen.wait(1.0),
            seen.errors,
            origin.asked() - before,
        );
        if it.name == "everfresh" {
            bar("nobody waits at expiry", waited == 0 && seen.errors == 0);
        }
    }
    Ok(())
}

/// The origin goes away under readers of 20 keys, and comes back.
pub async fn outage(contenders: &[Contender], seconds: u64) -> Result<(), String> {
    const RATE: u32 = 200;
    const KEYS: usize = 20;
    println!(
        "outage · {KEYS} keys of 1 s with windows of 10 min, {RATE} readers a second; \
         the origin is away for {seconds} s"
    );
    for contender in contenders {
        let mut origin = Origin::start().await?;
        let it = contender.start(origin.address, ROOMY)?;
        let prefix = path(1 << 10, Duration::from_millis(20), 1, 600);
        load::fill(it.address, &prefix, KEYS).await;
        let paths = (0..KEYS).map(|key| format!("{prefix}{key}")).collect();
        let to = it.address;
        let all = Duration::from_secs(seconds + 4);
        let readers = tokio::spawn(async move { load::timetable(to, paths, RATE, 20, all).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        origin.go_away().await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        origin.come_back().await?;
        let seen = readers.await.map_err(|error| error.to_string())?;
        println!(
            "    {:<10} errors {} of {}  p50 {:.2} ms  p99 {:.2} ms  longest {:.2} ms",
            it.name,
            seen.errors,
            seen.waits.len(),
            seen.wait(0.5),
            seen.wait(0.99),
            seen.wait(1.0),
        );
        if it.name == "everfresh" {
            bar("no reader sees an error", seen.errors == 0);
        }
    }
    Ok(())
}

/// What is resident with many small objects stored.
pub async fn memory(contenders: &[Contender], objects: usize) -> Result<(), String> {
    println!("memory · {objects} objects of 1 KiB");
    let origin = Origin::start().await?;
    for contender in contenders {
        let it = contender.start(origin.address, ROOMY)?;
        let empty = it.memory();
        let filled = load::fill(it.address, &path(1 << 10, Duration::ZERO, 86_400, 0), objects).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let full = it.memory();
        let more = (full.anonymous + full.mapped).saturating_sub(empty.anonymous + empty.mapped);
        println!(
            "    {:<10} {:>5.0} MiB of its own and {:>4.0} MiB mapped, {} bytes an object; \
             {:.0} + {:.0} MiB when empty",
            it.name,
            full.anonymous as f64 / MIB,
            full.mapped as f64 / MIB,
            more / filled.max(1) as u64,
            empty.anonymous as f64 / MIB,
            empty.mapped as f64 / MIB,
        );
        if it.name == "nginx" {
            println!("    {:<10} its bodies are in files, in the kernel's page cache, which is not counted", "");
        }
    }
    Ok(())
}

/// What is resident after eight times as much was stored as there is room for.
pub async fn bound(contenders: &[Contender]) -> Result<(), String> {
    const ROOM: u64 = 64 << 20;
    println!("bound · {} MiB of room, eight times as much stored", ROOM >> 20);
    let origin = Origin::start().await?;
    // What nginx keeps is in files.
    for contender in contenders.iter().filter(|it| it.name != "nginx") {
        for size in [1 << 10, 100 << 10] {
            let it = contender.start(origin.address, ROOM)?;
            let empty = it.memory();
            let count = usize::try_from(8 * ROOM).unwrap_or(usize::MAX) / size;
            load::fill(it.address, &path(size, Duration::ZERO, 86_400, 0), count).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let full = it.memory();
            println!(
                "    {:<10} {:>3} KiB: {:>4.0} MiB of its own and {:>3.0} MiB mapped; {:.0} + {:.0} MiB when empty; \
                 {:.2} of the room",
                it.name,
                size >> 10,
                full.anonymous as f64 / MIB,
                full.mapped as f64 / MIB,
                empty.anonymous as f64 / MIB,
                empty.mapped as f64 / MIB,
                (full.anonymous + full.mapped).saturating_sub(empty.anonymous + empty.mapped) as f64 / ROOM as f64,
            );
        }
    }
    Ok(())
}
