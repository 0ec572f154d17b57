//! The day drawn: waiting, errors and backend calls of the three, one below the other, outages shaded.

use std::time::Duration;

use crate::args::Plan;
use crate::tally::{Score, Slot};
use crate::units::{grouped, written};

/// A picture as a list of shapes, the first at the bottom; whoever paints it need not know what it shows.
pub(crate) struct Chart {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// What it shows, for those who cannot see it.
    pub(crate) title: String,
    pub(crate) shapes: Vec<Shape>,
}

/// `#rrggbb` as a number.
pub(crate) type Colour = u32;

pub(crate) enum Shape {
    Box { left: f32, top: f32, width: f32, height: f32, fill: Colour },
    Line { points: Vec<(f32, f32)>, colour: Colour, width: f32, dashed: bool },
    Text { x: f32, y: f32, size: f32, anchor: Anchor, colour: Colour, bold: bool, text: String },
}

#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

const INK: Colour = 0x20_24_28;
const SOFT: Colour = 0x6b_72_7a;
const GRID: Colour = 0xe4_e7_ea;
const SHADE: Colour = 0xfb_e3_e0;
const SHADE_INK: Colour = 0xb3_26_1e;
/// Told apart by lightness too, and the first is dashed: no colour need be seen.
const COLOURS: [Colour; 3] = [0x8a_91_99, 0xd9_73_0d, 0x0b_6e_5d];

const WIDTH: f32 = 960.0;
const LEFT: f32 = 74.0;
const RIGHT: f32 = WIDTH - 24.0;
const TOP: f32 = 112.0;
/// In letters; with what stands before it a line of the picture is full.
const LONGEST_SOURCE: usize = 72;
/// How far apart two words below the outages have to stand.
const WORD: f32 = 44.0;

pub(crate) fn draw(plan: &Plan, scores: &[Score]) -> Chart {
    let count = grouped(plan.trace.len() as u64);
    let what = format!("{count} requests over {}: {}", written(plan.span), ending(&plan.source, LONGEST_SOURCE));
    let mut canvas = Canvas { plan, shapes: Vec::new() };
    let slot_seconds = plan.span.as_secs_f64() / scores.first().map_or(1, |score| score.tally.slots.len()) as f64;
    let series = |value: &dyn Fn(&Score, usize, &Slot) -> f64| -> Vec<Vec<Option<f64>>> {
        let of = |score: &Score| {
            let slots = score.tally.slots.iter().enumerate();
            slots.map(|(index, slot)| (slot.requests > 0).then(|| value(score, index, slot))).collect()
        };
        scores.iter().map(of).collect()
    };
    let wait = series(&|_, _, slot| slot.wait.mean().as_secs_f64());
    let errors = series(&|_, _, slot| 100.0 * slot.errors as f64 / slot.requests as f64);
    let calls = series(&|score, index, _| score.load.by_slot.get(index).copied().unwrap_or(0) as f64 / slot_seconds);
    let panels = [
        Panel { title: "mean wait of a reader", top: TOP, height: 250.0, scale: Scale::decades(&wait), values: wait },
        Panel {
            title: "requests that ended in an error",
            top: TOP + 308.0,
            height: 90.0,
            scale: Scale::linear(&errors, "%"),
            values: errors,
        },
        Panel {
            title: "backend calls a second",
            top: TOP + 456.0,
            height: 130.0,
            scale: Scale::linear(&calls, ""),
            values: calls,
        },
    ];
    let height = TOP + 456.0 + 130.0 + 52.0;
    canvas.shapes.push(Shape::Box { left: 0.0, top: 0.0, width: WIDTH, height, fill: 0xff_ff_ff });
    canvas.text(LEFT, 30.0, 17.0, Anchor::Start, INK, true, "Who waits for the backend?");
    canvas.text(LEFT, 50.0, 12.0, Anchor::Start, SOFT, false, &what);
    canvas.text(LEFT, 67.0, 12.0, Anchor::Start, SOFT, false, &conditions(plan));
    canvas.legend(scores);
    for (index, panel) in panels.iter().enumerate() {
        canvas.panel(panel, index == 0);
    }
    canvas.moments(height - 30.0);
    Chart { width: WIDTH, height, title: what, shapes: canvas.shapes }
}

/// The last so many letters: of a long path the name of the file tells most.
fn ending(text: &str, letters: usize) -> String {
    match text.chars().count() {
        few if few <= letters => text.into(),
        many => std::iter::once('…').chain(text.chars().skip(many - letters + 1)).collect(),
    }
}

fn conditions(plan: &Plan) -> String {
    let policy = plan.policy;
    format!(
        "backend {}, {} entries, ttl {}, stale_while_revalidate {}, stale_if_error {}",
        plan.behaviour.latency,
        grouped(policy.capacity as u64),
        written(policy.ttl),
        written(policy.stale_while_revalidate),
        written(policy.stale_if_error)
    )
}

struct Panel {
    title: &'static str,
    top: f32,
    height: f32,
    scale: Scale,
    /// For each contestant a value for each part of the span, where there is one.
    values: Vec<Vec<Option<f64>>>,
}

impl Panel {
    /// A line through all values that stand side by side. One that stands alone is as wide as its part of the span: a line of
    /// a single point is not drawn.
    fn lines(&self, values: &[Option<f64>]) -> Vec<Vec<(f32, f32)>> {
        let width = (RIGHT - LEFT) / values.len().max(1) as f32;
        let across = |slot: usize| LEFT + (slot as f32 + 0.5) * width;
        let up = |value: f64| self.top + (1.0 - self.scale.place(value)) * self.height;
        let points = values.iter().enumerate().map(|(slot, value)| value.map(|value| (across(slot), up(value))));
        let points: Vec<Option<(f32, f32)>> = points.collect();
        let runs = points.split(Option::is_none).map(|run| run.iter().flatten().copied().collect());
        let widened = runs.map(|run: Vec<(f32, f32)>| match run[..] {
            [(x, y)] => vec![(x - width / 2.0, y), (x + width / 2.0, y)],
            _ => run,
        });
        widened.filter(|line| !line.is_empty()).collect()
    }
}

/// From values to heights, and the lines that are named.
struct Scale {
    ticks: Vec<(f64, String)>,
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// Powers of ten of a second; what is below the lowest lies on the ground line.
    fn decades(values: &[Vec<Option<f64>>]) -> Scale {
        let positive = || values.iter().flatten().flatten().copied().filter(|value| *value > 0.0);
        let high = (positive().fold(1e-3, f64::max).log10() - 0.05).ceil().clamp(-6.0, 10.0);
        let low = positive().fold(high, |low, value| low.min(value.log10())).floor().clamp(high - 5.0, high - 2.0);
        let ticks = (low as i32..=high as i32).map(|power| {
            let name = match power {
                ..=-7 => format!("{} ns", 10_u64.pow((power + 9).max(0) as u32)),
                -6..=-4 => format!("{} µs", 10_u64.pow((power + 6) as u32)),
                -3..=-1 => format!("{} ms", 10_u64.pow((power + 3) as u32)),
                _ => format!("{} s", 10_u64.pow(power as u32)),
            };
            (f64::from(power), name)
        });
        Scale { ticks: ticks.collect(), low, high, logarithmic: true }
    }

    fn linear(values: &[Vec<Option<f64>>], unit: &str) -> Scale {
        let most = values.iter().flatten().flatten().copied().fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let power = 10_f64.powf((most / 3.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| most / step <= 4.0);
        let step = step.unwrap_or(10.0 * power);
        let count = (most / step).ceil() as usize;
        let digits = if step < 1.0 { (-step.log10().floor()) as usize } else { 0 };
        let ticks = (0..=count).map(|tick| {
            let value = tick as f64 * step;
            (value, if unit.is_empty() { format!("{value:.digits$}") } else { format!("{value:.digits$} {unit}") })
        });
        Scale { ticks: ticks.collect(), low: 0.0, high: count as f64 * step, logarithmic: false }
    }

    /// From 0 at the ground to 1 at the top.
    fn place(&self, value: f64) -> f32 {
        let value = if self.logarithmic { value.max(1e-12).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0) as f32
    }
}

struct Canvas<'a> {
    plan: &'a Plan,
    shapes: Vec<Shape>,
}

impl Canvas<'_> {
    #[allow(clippy::too_many_arguments, reason = "a word has a place, a look and a text")]
    fn text(&mut self, x: f32, y: f32, size: f32, anchor: Anchor, colour: Colour, bold: bool, text: &str) {
        self.shapes.push(Shape::Text { x, y, size, anchor, colour, bold, text: text.into() });
    }

    fn line(&mut self, points: Vec<(f32, f32)>, colour: Colour, width: f32, dashed: bool) {
        self.shapes.push(Shape::Line { points, colour, width, dashed });
    }

    fn across(&self, moment: Duration) -> f32 {
        let share = moment.as_secs_f64() / self.plan.span.as_secs_f64();
        LEFT + share.min(1.0) as f32 * (RIGHT - LEFT)
    }

    fn legend(&mut self, scores: &[Score]) {
        for (index, score) in scores.iter().enumerate() {
            let x = RIGHT - 120.0 * (scores.len() - index) as f32 + 24.0;
            self.line(vec![(x, 26.0), (x + 24.0, 26.0)], COLOURS[index % 3], 2.5, index == 0);
            self.text(x + 30.0, 30.0, 12.0, Anchor::Start, INK, false, score.name);
        }
    }

    fn panel(&mut self, panel: &Panel, names_outages: bool) {
        let (top, bottom) = (panel.top, panel.top + panel.height);
        let mut named_up_to = LEFT - WORD;
        for outage in &self.plan.behaviour.outages {
            let (left, right) = (self.across(outage.from), self.across(outage.to));
            let width = (right - left).max(1.5);
            self.shapes.push(Shape::Box { left, top, width, height: panel.height, fill: SHADE });
            let x = (left + width / 2.0).clamp(LEFT + WORD / 2.0, RIGHT - WORD / 2.0);
            // One word for those that stand too near to each other for more.
            if names_outages && x - named_up_to >= WORD {
                self.text(x, bottom + 14.0, 11.0, Anchor::Middle, SHADE_INK, false, "outage");
                named_up_to = x;
            }
        }
        self.text(LEFT, top - 8.0, 12.0, Anchor::Start, INK, true, panel.title);
        for (value, name) in &panel.scale.ticks {
            let share = (value - panel.scale.low) / (panel.scale.high - panel.scale.low);
            let y = bottom - share as f32 * panel.height;
            self.line(vec![(LEFT, y), (RIGHT, y)], GRID, 1.0, false);
            self.text(LEFT - 8.0, y + 4.0, 11.0, Anchor::End, SOFT, false, name);
        }
        for (index, values) in panel.values.iter().enumerate() {
            for points in panel.lines(values) {
                self.line(points, COLOURS[index % 3], if index == 2 { 2.4 } else { 1.8 }, index == 0);
            }
        }
    }

    /// The names of the moments, below everything.
    fn moments(&mut self, y: f32) {
        let step = stride(self.plan.span);
        let mut moment = Duration::ZERO;
        while moment <= self.plan.span {
            let x = self.across(moment);
            self.line(vec![(x, y - 22.0), (x, y - 17.0)], SOFT, 1.0, false);
            self.text(x, y - 4.0, 11.0, Anchor::Middle, SOFT, false, &written(moment));
            moment += step;
        }
    }
}

/// From one named moment to the next, so that a dozen of them have room.
fn stride(span: Duration) -> Duration {
    const MILLIS: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];
    const SECONDS: [u64; 15] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200];
    const DAYS: [u64; 9] = [1, 7, 30, 100, 200, 500, 1_000, 2_000, 5_000];
    let days = DAYS.map(|days| Duration::from_secs(days * 86_400));
    let mut steps = MILLIS.map(Duration::from_millis).into_iter().chain(SECONDS.map(Duration::from_secs)).chain(days);
    // No span is longer than a century.
    steps.find(|step| span.as_secs_f64() / step.as_secs_f64() <= 12.5).unwrap_or(span / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_name_round_values_and_hold_all_of_them() {
        let scale = Scale::linear(&[vec![Some(0.0), Some(23.0), None]], "%");
        let names: Vec<&str> = scale.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["0 %", "10 %", "20 %", "30 %"]);
        assert!((scale.place(15.0) - 0.5).abs() < 1e-6);
        let scale = Scale::decades(&[vec![Some(0.050), Some(0.000_3), Some(0.0)]]);
        let names: Vec<&str> = scale.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(scale.place(0.0), 0.0);
    }

    #[test]
    fn the_names_of_moments_have_room_however_long_the_day_is() {
        let day = Duration::from_secs(86_400);
        let spans = [
            Duration::from_nanos(1),
            Duration::from_millis(13),
            90 * day / 86_400,
            day,
            40 * day,
            60 * day,
            400 * day,
            1_096 * day,
            crate::units::CENTURY,
        ];
        for span in spans {
            let step = stride(span);
            let names: Vec<String> = (0..).map(|mark| step * mark).take_while(|at| *at <= span).map(written).collect();
            assert!(names.len() <= 13 && names.iter().all(|name| name.len() <= 8), "{span:?}: {names:?}");
        }
    }

    #[test]
    fn a_value_that_stands_alone_is_drawn_too() {
        let values = [None, Some(1.0), None, Some(1.0), Some(0.0), None, None, None].to_vec();
        let scale = Scale::linear(std::slice::from_ref(&values), "");
        let panel = Panel { title: "", top: 0.0, height: 10.0, scale, values: vec![] };
        let part = (RIGHT - LEFT) / 8.0;
        let lines = panel.lines(&values);
        assert_eq!(lines[0], [(LEFT + part, 0.0), (LEFT + 2.0 * part, 0.0)]);
        assert_eq!(lines[1..], [vec![(LEFT + 3.5 * part, 0.0), (LEFT + 4.5 * part, 10.0)]]);
    }

    #[test]
    fn hours_have_a_scale_too() {
        let scale = Scale::decades(&[vec![Some(7_200.0), Some(2e6)]]);
        assert_eq!(scale.ticks.last().map(|(_, name)| name.as_str()), Some("10000000 s"));
    }

    #[test]
    fn a_long_source_is_told_by_its_end() {
        assert_eq!((ending("web.txt", 7), ending("day/web.txt", 8)), ("web.txt".into(), "…web.txt".into()));
    }

    #[test]
    fn nothing_at_all_still_has_a_scale() {
        assert!(Scale::linear(&[vec![None]], "").high > 0.0);
        let scale = Scale::decades(&[vec![None]]);
        assert!(scale.high > scale.low);
    }
}
