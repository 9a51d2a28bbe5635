//! One page about a run, for somebody who has never seen this code: the verdict, what contradicts what, and what
//! clients saw while faults happened. Beside it `results.json`, the same verdicts for programs.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::faults::Done;
use crate::history::{Event, Kind, read_events};
use crate::judge::read_json;
use crate::run::{Notes, Settings};
use crate::verdict::{Validity, Verdict};

mod plot;

use plot::{Sample, availability, latency, throughput};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em}svg{width:100%;height:auto;background:#fff}\
table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}\
pre{background:#f6f6f4;padding:.8em;overflow-x:auto;font-size:13px}\
.valid{color:#1a7f37}.invalid{color:#cf222e}.unknown{color:#9a6700}.small{color:#666;font-size:13px}";

/// Text between tags.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes page and results into the folder of a run; gives the page's path.
///
/// # Errors
/// When the folder does not hold a run, or cannot be written.
pub fn write(dir: &Path, verdicts: &[(String, Verdict)]) -> anyhow::Result<PathBuf> {
    let settings: Settings = read_json(&dir.join("run.json"))?;
    let notes: Notes = read_json(&dir.join("notes.json"))?;
    let mut samples = Vec::new();
    for name in &settings.workloads {
        let events = read_events(BufReader::new(File::open(dir.join(format!("{name}.jsonl")))?))?;
        samples.extend(sampled(&events));
    }
    samples.sort_by_key(|sample| sample.end);
    std::fs::write(dir.join("results.json"), serde_json::to_vec_pretty(verdicts)?)?;
    let path = dir.join("report.html");
    std::fs::write(&path, page(&settings, &notes, verdicts, &samples))?;
    Ok(path)
}

/// What became of each operation, when and where.
fn sampled(events: &[Event]) -> Vec<Sample> {
    let mut calls = std::collections::HashMap::new();
    let mut samples = Vec::with_capacity(events.len() / 2);
    for event in events {
        if event.kind == Kind::Invoke {
            calls.insert(event.process, event.time);
        } else if let Some(call) = calls.remove(&event.process) {
            let node = event.node.unwrap_or(1);
            samples.push(Sample { end: event.time, took: event.time - call, kind: event.kind, node });
        }
    }
    samples
}

fn page(settings: &Settings, notes: &Notes, verdicts: &[(String, Verdict)], samples: &[Sample]) -> String {
    let validity = verdicts.last().map_or(Validity::Unknown, |(_, all)| all.validity());
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>chaos: {validity}</title><style>{STYLE}</style>\
         <h1>Clients, faults, and what they prove: <span class={validity}>{validity}</span></h1>"
    );
    html += &format!("<p>{}</p>", meaning(validity));
    html += &summary(settings, samples);
    html += "<h2>Each workload</h2><table>";
    for (name, verdict) in verdicts {
        let figures: Vec<String> = verdict.figures.iter().map(|(name, number)| format!("{name} {number}")).collect();
        let (validity, figures) = (verdict.validity(), plain(&figures.join(", ")));
        html += &format!("<tr><th>{name}<td class={validity}>{validity}<td>{figures}</tr>");
    }
    html += "</table>";
    if let Some((_, all)) = verdicts.last().filter(|(_, all)| !all.findings.is_empty()) {
        html += "<h2>What was found</h2><p>Each with the fewest operations that show it. Times are milliseconds since \
                 the run began, from the call to its answer.</p>";
        for finding in &all.findings {
            let (name, text) = (plain(&finding.name), plain(&finding.text));
            html += &format!("<h3 class={}>{name}</h3><pre>{text}</pre>", finding.validity);
        }
    }
    html += &plots(&notes.faults, samples);
    html += &happened(&notes.faults);
    html += "<h2>The folder</h2><p><code>run.json</code> is all that decides the run, the schedule of faults included; \
             <code>*.jsonl</code> are the histories, <code>chaos export</code> writes them as EDN; <code>notes.json</code> \
             what happened besides; <code>node-*/log</code> what the nodes said. <code>chaos replay</code> runs it again.</p>";
    html + "</html>\n"
}

fn meaning(validity: Validity) -> &'static str {
    match validity {
        Validity::Valid => "Nothing that clients were told contradicts the promises, and enough happened to say so.",
        Validity::Invalid => "A promise was broken. The operations below contradict each other.",
        Validity::Unknown => "Nothing wrong was found, but that means little here; below is why.",
    }
}

fn summary(settings: &Settings, samples: &[Sample]) -> String {
    let count = |kind| samples.iter().filter(|sample| sample.kind == kind).count();
    let faults: Vec<&str> = settings.faults.iter().map(|fault| fault.name()).collect();
    format!(
        "<p>{} nodes, {} groups, {} s, seed {}; workloads {}; faults {}. {} operations were answered, {} certainly did \
         not happen, of {} nobody knows.</p>",
        settings.shape.nodes,
        settings.shape.groups,
        settings.time_ms / 1000,
        settings.seed,
        settings.workloads.join(", "),
        if faults.is_empty() { "none".to_string() } else { faults.join(", ") },
        count(Kind::Ok),
        count(Kind::Fail),
        count(Kind::Info)
    )
}

fn plots(faults: &[Done], samples: &[Sample]) -> String {
    let end = samples.iter().map(|sample| sample.end).max().unwrap_or(1);
    format!(
        "<h2>Operations a second</h2>{}<h2>How long an answer took</h2>{}<h2>Through which node there were answers</h2>{}\
         <p class=small>Shaded: faults. The last part of each plot is after the last fault, when everything is read \
         once more.</p>",
        throughput(samples, faults, end),
        latency(samples, faults, end),
        availability(samples, faults, end)
    )
}

fn happened(faults: &[Done]) -> String {
    let mut html =
        "<h2>Faults as they happened</h2><table><tr><th>from, s<th>until, s<th>fault<th>nodes</tr>".to_string();
    for done in faults {
        let seconds = |time: u64| format!("{:.1}", time as f64 / 1e9);
        let nodes: Vec<String> = done.nodes.iter().map(|node| (node + 1).to_string()).collect();
        let until = done.until.map_or("-".to_string(), seconds);
        html +=
            &format!("<tr><td>{}<td>{until}<td>{}<td>{}</tr>", seconds(done.from), done.fault.name(), nodes.join(", "));
    }
    html + "</table>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Fault;

    #[test]
    fn a_page_shows_every_part_and_no_tag_of_others() {
        let sample = |at: u64, kind| Sample { end: at * 1_000_000_000, took: 2_000_000, kind, node: 1 + at % 2 };
        let samples: Vec<Sample> =
            (1..20).map(|at| sample(at, if at % 7 == 0 { Kind::Info } else { Kind::Ok })).collect();
        let faults = [Done { fault: Fault::Kill, nodes: vec![0], from: 3_000_000_000, until: Some(5_000_000_000) }];
        let html = plots(&faults, &samples) + &happened(&faults);
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(html.contains("class=fault") && html.contains("<td>3.0<td>5.0<td>kill<td>1"), "{html}");
        assert_eq!(plain("<b>&"), "&lt;b&gt;&amp;");
        assert_eq!(plots(&[], &[]).matches("<svg").count(), 3, "nothing at all is a page, too");
    }
}
