//! Plots as SVG: time from left to right, faults shaded behind.

use crate::faults::Done;
use crate::history::Kind;

/// One operation that ended.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds since the run began.
    pub end: u64,
    /// Nanoseconds from its call.
    pub took: u64,
    /// How.
    pub kind: Kind,
    /// Through which node.
    pub node: u64,
}

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;
const BASE: f64 = 30.0;
const BUCKETS: usize = 150;
/// The latency plot goes from 0.1 ms to 10 s: so many powers of ten.
const DECADES: f64 = 5.0;

/// A plot of some height, with time up to `end` and the faults in it.
struct Frame {
    height: f64,
    end: u64,
    body: String,
}

impl Frame {
    fn new(height: f64, faults: &[Done], end: u64) -> Frame {
        let mut frame = Frame { height, end: end.max(1), body: String::new() };
        for done in faults {
            let (from, until) = (frame.x(done.from), frame.x(done.until.unwrap_or(end)));
            let nodes: Vec<String> = done.nodes.iter().map(|node| (node + 1).to_string()).collect();
            frame.body += &format!(
                "<rect class=fault x={from:.1} y=0 width={:.1} height={:.1} fill='#e8590c' opacity=.13>\
                 <title>{} of {}</title></rect>",
                (until - from).max(1.0),
                height - BASE,
                done.fault.name(),
                nodes.join(", ")
            );
        }
        for second in (0..=frame.end / 1_000_000_000).step_by((frame.end / 10_000_000_000).max(1) as usize) {
            let x = frame.x(second * 1_000_000_000);
            frame.text(x, height - 10.0, "middle", &format!("{second} s"));
        }
        frame
    }

    fn x(&self, time: u64) -> f64 {
        LEFT + (WIDTH - LEFT - 10.0) * (time.min(self.end) as f64 / self.end as f64)
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.body += &format!("<text x={x:.1} y={y:.1} font-size=12 fill='#666' text-anchor={anchor}>{text}</text>");
    }

    /// A line at a height of 0 to 1, with its name.
    fn rule(&mut self, share: f64, name: &str) {
        let y = self.y(share);
        self.body += &format!("<line x1={LEFT} x2={WIDTH} y1={y:.1} y2={y:.1} stroke='#ddd'/>");
        self.text(LEFT - 6.0, y + 4.0, "end", name);
    }

    fn y(&self, share: f64) -> f64 {
        (self.height - BASE) * (1.0 - share.clamp(0.0, 1.0)) + 6.0 * share.clamp(0.0, 1.0)
    }

    /// A line through points of a time and a height of 0 to 1.
    fn line(&mut self, points: &[(u64, f64)], colour: &str, name: &str) {
        let points: Vec<String> =
            points.iter().map(|(time, share)| format!("{:.1},{:.1}", self.x(*time), self.y(*share))).collect();
        self.body += &format!(
            "<polyline points='{}' fill=none stroke='{colour}' stroke-width=1.6><title>{name}</title></polyline>",
            points.join(" ")
        );
    }

    fn legend(&mut self, names: &[(&str, &str)]) {
        for (at, (name, colour)) in names.iter().enumerate() {
            let x = WIDTH - 90.0 * (names.len() - at) as f64;
            self.body += &format!("<rect x={x:.1} y=4 width=10 height=10 fill='{colour}'/>");
            self.text(x + 14.0, 13.0, "start", name);
        }
    }

    fn svg(self) -> String {
        format!("<svg viewBox='0 0 {WIDTH} {}' role=img>{}</svg>", self.height, self.body)
    }
}

fn bucket(time: u64, end: u64) -> usize {
    ((time as f64 / end.max(1) as f64 * BUCKETS as f64) as usize).min(BUCKETS - 1)
}

fn middle(bucket: usize, end: u64) -> u64 {
    ((bucket as f64 + 0.5) / BUCKETS as f64 * end as f64) as u64
}

/// How many operations ended how, each second.
pub fn throughput(samples: &[Sample], faults: &[Done], end: u64) -> String {
    let mut frame = Frame::new(220.0, faults, end);
    let kinds = [(Kind::Ok, "ok", "#1a7f37"), (Kind::Fail, "fail", "#9a6700"), (Kind::Info, "unknown", "#cf222e")];
    let seconds = end.max(1) as f64 / 1e9 / BUCKETS as f64;
    let counts = kinds.map(|(kind, ..)| {
        let mut counts = [0.0; BUCKETS];
        for sample in samples.iter().filter(|sample| sample.kind == kind) {
            counts[bucket(sample.end, end)] += 1.0 / seconds;
        }
        counts
    });
    let most = counts.iter().flatten().fold(1.0, |most: f64, count| most.max(*count));
    [0.0, 0.5, 1.0].into_iter().for_each(|share| frame.rule(share, &format!("{:.0}", most * share)));
    for ((_, name, colour), counts) in kinds.iter().zip(&counts) {
        let points: Vec<(u64, f64)> =
            counts.iter().enumerate().map(|(at, count)| (middle(at, end), count / most)).collect();
        frame.line(&points, colour, name);
    }
    frame.legend(&kinds.map(|(_, name, colour)| (name, colour)));
    frame.svg()
}

/// A height on a scale of powers of ten.
fn decade(took: u64) -> f64 {
    ((took as f64 / 1e5).max(1.0).log10() / DECADES).min(1.0)
}

/// Half of all answers, and all but one of a hundred, took no longer; and the slowest.
pub fn latency(samples: &[Sample], faults: &[Done], end: u64) -> String {
    let mut frame = Frame::new(240.0, faults, end);
    let names = ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"];
    names.iter().enumerate().for_each(|(at, name)| frame.rule(at as f64 / DECADES, name));
    let mut buckets: Vec<Vec<u64>> = vec![Vec::new(); BUCKETS];
    samples.iter().filter(|s| s.kind == Kind::Ok).for_each(|s| buckets[bucket(s.end, end)].push(s.took));
    buckets.iter_mut().for_each(|bucket| bucket.sort_unstable());
    let lines = [("half", 0.5, "#0969da"), ("99 of 100", 0.99, "#8250df"), ("slowest", 1.0, "#cf222e")];
    for (name, share, colour) in lines {
        let pick = |took: &[u64]| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
        let points: Vec<(u64, f64)> = buckets
            .iter()
            .enumerate()
            .filter(|(_, took)| !took.is_empty())
            .map(|(at, took)| (middle(at, end), decade(pick(took))))
            .collect();
        frame.line(&points, colour, name);
    }
    frame.legend(&lines.map(|(name, _, colour)| (name, colour)));
    frame.svg()
}

/// A row for each node: green where it gave answers, red where questions came to nothing, empty where none was asked.
pub fn availability(samples: &[Sample], faults: &[Done], end: u64) -> String {
    let nodes = samples.iter().map(|sample| sample.node).max().unwrap_or(1);
    let mut frame = Frame::new(26.0 * nodes as f64 + BASE + 4.0, faults, end);
    let width = (WIDTH - LEFT - 10.0) / BUCKETS as f64;
    for node in 1..=nodes {
        let y = 26.0 * (node - 1) as f64 + 4.0;
        let mut counts = [[0_u32; 2]; BUCKETS];
        let mut last = 0;
        let mut gap = 0;
        for sample in samples.iter().filter(|sample| sample.node == node) {
            let is_bad = sample.kind == Kind::Info;
            counts[bucket(sample.end, end)][usize::from(is_bad)] += 1;
            if sample.kind == Kind::Ok {
                gap = gap.max(sample.end - last);
                last = sample.end;
            }
        }
        for (at, [good, bad]) in counts.iter().enumerate().filter(|(_, [good, bad])| good + bad > 0) {
            let share = f64::from(*good) / f64::from(good + bad);
            let x = LEFT + at as f64 * width;
            let colour = if share > 0.99 {
                "#2da44e"
            } else if share > 0.5 {
                "#d4a72c"
            } else {
                "#cf222e"
            };
            frame.body += &format!("<rect x={x:.1} y={y:.1} width={width:.2} height=20 fill='{colour}'/>");
        }
        frame.text(LEFT - 6.0, y + 14.0, "end", &format!("node {node}"));
        let told = format!("longest without an answer: {:.1} s", gap as f64 / 1e9);
        frame.text(WIDTH - 12.0, y + 14.0, "end", &told);
    }
    frame.svg()
}
