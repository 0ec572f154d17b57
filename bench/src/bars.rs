//! What the project asks of itself, as ratios.

/// One bar: the subject's rate over the peer's has to reach it.
pub struct Bar {
    row: &'static str,
    threads: usize,
    pub subject: &'static str,
    pub peer: &'static str,
    least: f64,
}

const fn bar(row: &'static str, threads: usize, peer: &'static str, least: f64) -> Bar {
    Bar { row, threads, subject: "everfresh", peer, least }
}

const fn stale(threads: usize, subject: &'static str) -> Bar {
    // At most 1.3 times the time of a fresh hit.
    Bar { row: "stale", threads, subject, peer: "fresh", least: 1.0 / 1.3 }
}

const BARS: &[Bar] = &[
    bar("hit", 1, "papaya", 0.85),
    bar("hit", 2, "papaya", 0.9),
    bar("hit", 1, "quick_cache", 1.2),
    bar("hit", 2, "quick_cache", 3.0),
    bar("hit", 1, "fibre-swr", 4.0),
    bar("hit", 2, "fibre-swr", 4.0),
    bar("hot", 2, "papaya", 0.8),
    bar("str", 1, "papaya", 0.9),
    bar("str", 2, "papaya", 0.9),
    bar("str", 1, "quick_cache", 1.0),
    bar("str", 2, "quick_cache", 1.0),
    bar("mix", 1, "quick_cache", 1.0),
    bar("mix", 2, "quick_cache", 2.0),
    bar("readthrough", 1, "quick_cache", 0.9),
    bar("readthrough", 2, "quick_cache", 2.2),
    bar("churn", 1, "quick_cache", 0.7),
    bar("churn", 2, "quick_cache", 1.5),
    stale(1, "one runs"),
    stale(2, "one runs"),
    stale(1, "backing off"),
    stale(2, "backing off"),
];

impl Bar {
    pub fn of(row: &str, threads: usize) -> impl Iterator<Item = &'static Bar> {
        BARS.iter().filter(move |bar| bar.row == row && bar.threads == threads)
    }

    pub fn holds(&self, ratio: f64) -> bool {
        ratio >= self.least
    }

    pub fn verdict(&self, ratio: f64) -> String {
        let word = if self.holds(ratio) { "reached" } else { "MISSED" };
        format!("{} at {:.2}× {}, asked for {:.2}×: {word}", self.subject, ratio, self.peer, self.least)
    }
}
