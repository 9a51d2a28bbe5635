//! From series to verdicts: medians, ratios, and the exit code.
//!
//! Invariants:
//! * a ratio exists only where both sides have all their runs;
//! * what was not measured never holds, and nothing measured at all is a failure.

use crate::measure::{Failure, Measured, Results, Series};
use crate::rows::Row;
use crate::sides::Side;

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Holds,
    /// The ratio is below the floor.
    Misses,
    /// Quoris misbehaved under load.
    Failed(String),
    /// The peer is not installed.
    NotMeasured(String),
    /// The harness, or the peer, failed.
    Broken(String),
    /// A row without a floor.
    Information,
}

/// A row with its result.
#[derive(Clone, Debug)]
pub struct Judged {
    pub row: Row,
    pub subject: Option<f64>,
    pub peer: Option<f64>,
    pub ratio: Option<f64>,
    pub verdict: Verdict,
}

/// The exit codes of the program.
pub const ALL_HOLD: u8 = 0;
pub const SOME_MISS: u8 = 1;
pub const HARNESS_FAILED: u8 = 2;

/// The middle value; between the two middle ones where there are two. `None` for none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median of one number of all runs.
pub fn median_of(series: &Series, number: impl Fn(&Measured) -> f64) -> Option<f64> {
    let values: Vec<f64> = series.runs.iter().map(number).collect();
    median(&values)
}

/// Judges every row. `missing` names the reason why a row's peer cannot be measured.
pub fn judge(rows: &[Row], results: &Results, missing: impl Fn(&Row) -> Option<String>) -> Vec<Judged> {
    let empty = Series::default();
    let judge_row = |row: &Row| {
        let of = |side, job| results.series.get(&(side, job)).unwrap_or(&empty);
        let (subject, peer) = (of(Side::Subject, row.subject), of(Side::Peer, row.peer));
        let throughput = |series| median_of(series, |run| run.sample.throughput());
        let (subject_median, peer_median) = (throughput(subject), throughput(peer));
        let ratio = match (subject_median, peer_median) {
            (Some(subject), Some(peer)) if peer > 0.0 => Some(subject / peer),
            _ => None,
        };
        let verdict = verdict(row.floor, subject, peer, ratio, missing(row));
        Judged { row: row.clone(), subject: subject_median, peer: peer_median, ratio, verdict }
    };
    rows.iter().map(judge_row).collect()
}

fn verdict(
    floor: Option<f64>,
    subject: &Series,
    peer: &Series,
    ratio: Option<f64>,
    missing: Option<String>,
) -> Verdict {
    match (&subject.failure, &peer.failure) {
        (Some(Failure::Misbehaved(text)), _) => return Verdict::Failed(text.clone()),
        (Some(Failure::Broken(text)), _) => return Verdict::Broken(text.clone()),
        (None, Some(Failure::Broken(text) | Failure::Misbehaved(text))) => {
            return Verdict::Broken(text.clone());
        }
        (None, None) => {}
    }
    match (missing, ratio, floor) {
        (Some(reason), _, _) => Verdict::NotMeasured(reason),
        (None, None, _) => Verdict::Broken("there is no ratio".to_owned()),
        (None, Some(_), None) => Verdict::Information,
        (None, Some(ratio), Some(floor)) if ratio >= floor => Verdict::Holds,
        (None, Some(_), Some(_)) => Verdict::Misses,
    }
}

/// 0 when every measured ratio holds, 1 when one does not, 2 when the harness failed or nothing
/// was held against a floor.
pub fn exit_code(judged: &[Judged]) -> u8 {
    let any = |test: fn(&Verdict) -> bool| judged.iter().any(|row| test(&row.verdict));
    if any(|verdict| matches!(verdict, Verdict::Broken(_))) {
        HARNESS_FAILED
    } else if any(|verdict| matches!(verdict, Verdict::Misses | Verdict::Failed(_))) {
        SOME_MISS
    } else if any(|verdict| *verdict == Verdict::Holds) {
        ALL_HOLD
    } else {
        HARNESS_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Usage;
    use crate::rows::select;
    use crate::window::Sample;
    use std::time::Duration;

    fn series(throughputs: &[u64]) -> Series {
        let run = |&operations: &u64| Measured {
            sample: Sample { operations, elapsed: Duration::from_secs(1), latency: [Duration::ZERO; 3] },
            cpu: Usage::default(),
        };
        Series { runs: throughputs.iter().map(run).collect(), failure: None }
    }

    fn judged(subject: Series, peer: Series, missing: Option<&str>) -> Judged {
        let rows = select(&["one-set-p1".to_owned()], false);
        let mut results = Results::default();
        results.series.insert((Side::Subject, rows[0].subject), subject);
        results.series.insert((Side::Peer, rows[0].peer), peer);
        let missing = missing.map(str::to_owned);
        judge(&rows, &results, |_| missing.clone()).remove(0)
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_at_the_floor_holds_and_one_below_misses() {
        let at = judged(series(&[80, 90, 100]), series(&[100, 100, 100]), None);
        assert_eq!((at.ratio, &at.verdict), (Some(0.9), &Verdict::Holds));
        assert_eq!(exit_code(std::slice::from_ref(&at)), ALL_HOLD);
        let below = judged(series(&[89, 89, 200]), series(&[100, 100, 100]), None);
        assert_eq!(below.verdict, Verdict::Misses);
        assert_eq!(exit_code(&[at, below]), SOME_MISS);
    }

    #[test]
    fn a_missing_peer_is_never_a_pass() {
        let missing = judged(series(&[100]), Series::default(), Some("not installed"));
        assert_eq!(missing.verdict, Verdict::NotMeasured("not installed".to_owned()));
        assert_eq!(missing.ratio, None);
        assert_eq!(exit_code(std::slice::from_ref(&missing)), HARNESS_FAILED, "nothing was measured");
        let holds = judged(series(&[100]), series(&[100]), None);
        assert_eq!(exit_code(&[missing, holds]), ALL_HOLD);
    }

    #[test]
    fn a_misbehaving_subject_fails_and_a_broken_peer_breaks() {
        let failure = |failure| Series { failure: Some(failure), ..series(&[100, 100]) };
        let text = || "an error reply".to_owned();
        let failed = judged(failure(Failure::Misbehaved(text())), series(&[1]), None);
        assert_eq!(failed.verdict, Verdict::Failed(text()));
        assert_eq!(exit_code(std::slice::from_ref(&failed)), SOME_MISS);
        let broken = judged(series(&[100]), failure(Failure::Broken(text())), None);
        assert_eq!(broken.verdict, Verdict::Broken(text()));
        assert_eq!(exit_code(&[failed, broken]), HARNESS_FAILED);
    }

    #[test]
    fn a_row_without_runs_is_broken() {
        let empty = judged(Series::default(), series(&[100]), None);
        assert!(matches!(empty.verdict, Verdict::Broken(_)));
    }
}
