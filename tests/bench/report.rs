//! The result as Markdown: facts first, then the verdicts, then every run behind them.

use crate::cpu::Usage;
use crate::machine::Machine;
use crate::measure::{Measured, Plan, Results, Series, side_name};
use crate::random::{KEYS, VALUE_BYTES};
use crate::rows::{Job, Placement, Row, Setting, jobs};
use crate::sides::{Commands, Side};
use crate::verdict::{Judged, Verdict, median_of};
use std::fmt::Write;
use std::time::Duration;

/// Everything that a report tells.
pub struct Report<'a> {
    pub command_line: String,
    pub machine: &'a Machine,
    /// Name and version of every program that was started.
    pub versions: &'a [(String, String)],
    pub plan: &'a Plan,
    pub commands: &'a Commands,
    pub rows: &'a [Row],
    pub results: &'a Results,
    pub judged: &'a [Judged],
}

impl Report<'_> {
    /// The whole text.
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Quoris beside its peers\n\n");
        self.facts(&mut out);
        out.push_str("\n## Verdicts\n\n");
        verdicts(&mut out, self.judged);
        out.push_str("\n## Runs\n\n");
        self.runs(&mut out);
        self.notes(&mut out);
        failures(&mut out, self.judged);
        out
    }

    fn facts(&self, out: &mut String) {
        let machine = self.machine;
        let mut line = |name: &str, text: String| {
            writeln!(out, "* {name}: {text}").expect("a string takes all");
        };
        line("machine", format!("{}, {} cores, {} GiB", machine.processor, machine.cores, machine.memory_gib));
        line("kernel", machine.kernel.clone());
        line("disk", format!("4 KiB write and fdatasync {} µs (median)", machine.fsync.as_micros()));
        for (name, version) in self.versions {
            line(name, version.clone());
        }
        line("command", format!("`{}`", self.command_line));
        line(
            "load",
            format!(
                "{KEYS} keys at random, values of {VALUE_BYTES} bytes, {} runs of {} per side, \
                 alternating, client in one thread on the same machine",
                self.plan.runs,
                limit_text(self.plan),
            ),
        );
        line(
            "etcd client",
            format!(
                "{} logical clients on {} HTTP/2 connections {}",
                Setting::ThreeEtcd.connections(),
                self.plan.etcd_connections,
                if self.plan.etcd_spread { "spread over the members" } else { "to the leader" },
            ),
        );
    }

    fn runs(&self, out: &mut String) {
        out.push_str(
            "Medians over the runs; latencies in ms; processor time in µs per operation, \
             the servers' summed over all their processes; the other programs' at its most.\n\n\
             | side | load | runs (op/s) | median op/s | p50 | p99 | p99.9 | server µs/op \
             | server cores | client µs/op | client cores | other cores |\n\
             |---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        let empty = Series::default();
        for setting in Setting::ALL {
            let sides = [
                (Side::Subject, jobs(self.rows, setting, |row| row.subject)),
                (Side::Peer, jobs(self.rows, setting, |row| row.peer)),
            ];
            for (side, jobs) in sides {
                for job in jobs {
                    let series = self.results.series.get(&(side, job)).unwrap_or(&empty);
                    series_line(out, side, job, series);
                }
            }
        }
    }

    fn notes(&self, out: &mut String) {
        out.push_str("\n## Commands and notes\n\n");
        let mut told = Vec::new();
        for setting in Setting::ALL {
            for side in [Side::Subject, Side::Peer] {
                if self.rows.iter().all(|row| row.subject.setting != setting) {
                    continue;
                }
                for template in self.commands.templates(side, setting).unwrap_or_default() {
                    told.push(format!("{}: `{template}`", side_name(side, setting)));
                }
            }
        }
        for (index, line) in told.iter().enumerate() {
            // Two settings start the same three nodes.
            if told[..index].contains(line) {
                continue;
            }
            writeln!(out, "* {line}").expect("a string takes all");
        }
        let mut notes = self.results.notes.clone();
        if self.machine.in_memory {
            notes.push("The servers' directory is in memory: fsync cost nothing here.".to_owned());
        }
        if self.plan.runs < 3 {
            notes.push("Fewer than three runs: a trial, not a measurement.".to_owned());
        }
        for note in notes {
            writeln!(out, "* {note}").expect("a string takes all");
        }
    }
}

fn limit_text(plan: &Plan) -> String {
    if plan.limit.time < crate::window::TIME_MAX {
        format!("{} s", plan.limit.time.as_secs_f64())
    } else {
        format!("{} requests", plan.limit.operations)
    }
}

/// The table of verdicts.
pub fn verdicts(out: &mut String, judged: &[Judged]) {
    out.push_str("| row | Quoris op/s | peer | peer op/s | ratio | floor | verdict |\n");
    out.push_str("|---|---:|---|---:|---:|---:|---|\n");
    for judged in judged {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.0}"));
        let two = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            judged.row.name,
            number(judged.subject),
            judged.row.peer.setting.peer(),
            number(judged.peer),
            two(judged.ratio),
            two(judged.row.floor),
            verdict_text(&judged.verdict),
        )
        .expect("a string takes all");
    }
}

/// What went wrong, with what the servers wrote last.
fn failures(out: &mut String, judged: &[Judged]) {
    for judged in judged {
        if let Verdict::Failed(text) | Verdict::Broken(text) = &judged.verdict {
            let name = &judged.row.name;
            write!(out, "\n## Failure of {name}\n\n```text\n{text}\n```\n").expect("a string takes all");
        }
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    let text = match verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Misses => "**below the floor**".to_owned(),
        Verdict::Failed(text) => format!("**failed**: {text}"),
        Verdict::NotMeasured(text) => format!("not measured: {text}"),
        Verdict::Broken(text) => format!("**harness failed**: {text}"),
        Verdict::Information => "for information".to_owned(),
    };
    // A cell is one line, and a bar would end it; the whole text follows below the tables.
    text.lines().next().unwrap_or_default().replace('|', "/")
}

fn series_line(out: &mut String, side: Side, job: Job, series: &Series) {
    let runs: Vec<String> = series.runs.iter().map(|run| format!("{:.0}", run.sample.throughput())).collect();
    let median = |number: &dyn Fn(&Measured) -> f64, digits: usize| {
        median_of(series, number).map_or("-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let latency = |index: usize| median(&|run| run.sample.latency[index].as_secs_f64() * 1e3, 3);
    let operations = |run: &Measured| (run.sample.operations as f64).max(1.0);
    let seconds = |run: &Measured| run.sample.elapsed.as_secs_f64().max(1e-9);
    let place = match (side, job.placement) {
        (Side::Subject, Placement::Leader) => " at the leader",
        (Side::Subject, Placement::Spread) | (Side::Peer, _) => "",
    };
    let load = format!("{}{place}", job.load());
    let per_operation =
        |time: fn(&Usage) -> Duration| median(&|run| time(&run.cpu).as_secs_f64() * 1e6 / operations(run), 2);
    let cores = |time: fn(&Usage) -> Duration| median(&|run| time(&run.cpu).as_secs_f64() / seconds(run), 2);
    let others = series.runs.iter().map(|run| run.cpu.others.as_secs_f64() / seconds(run));
    let others = others.reduce(f64::max).map_or("-".to_owned(), |most| format!("{most:.2}"));
    let cells = [
        side_name(side, job.setting).to_owned(),
        load,
        if runs.is_empty() { "not measured".to_owned() } else { runs.join(" ") },
        median(&|run| run.sample.throughput(), 0),
        latency(0),
        latency(1),
        latency(2),
        per_operation(|cpu| cpu.servers),
        cores(|cpu| cpu.servers),
        per_operation(|cpu| cpu.client),
        cores(|cpu| cpu.client),
        others,
    ];
    writeln!(out, "| {} |", cells.join(" | ")).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::select;

    #[test]
    fn a_row_that_was_not_measured_says_so() {
        let row = select(&["one-set-p1".to_owned()], false).remove(0);
        let judged = |verdict| Judged { row: row.clone(), subject: Some(9.6), peer: None, ratio: None, verdict };
        let mut out = String::new();
        verdicts(&mut out, &[judged(Verdict::NotMeasured("redis-server is not installed".to_owned()))]);
        let line = out.lines().last().expect("a row");
        assert_eq!(
            line,
            "| one-set-p1 | 10 | redis-server, fsync always | - | - | 0.90 | \
             not measured: redis-server is not installed |"
        );
    }

    #[test]
    fn a_verdict_stays_in_its_cell() {
        let text = verdict_text(&Verdict::Failed("a|b\nc".to_owned()));
        assert_eq!(text, "**failed**: a/b");
    }
}
