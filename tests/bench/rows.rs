//! What is measured: the floor table, one row per claim.
//!
//! A floor is the least ratio of Quoris's median to its peer's median. Rows of three nodes are
//! measured twice: with the connections spread over all nodes, which is what any plain client may
//! do and what the floor is for, and with all of them at the leader, for comparison and without a
//! floor. `--leader-only` leaves the spread out and holds the leader's rows to the floors.

use crate::messages::WINDOW;
use crate::resp::Command;
use std::collections::BTreeSet;

/// Which servers stand against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// One node beside one redis-server.
    OneRedis,
    /// Three nodes beside a redis-server with two replicas.
    ThreeRedis,
    /// Three nodes beside three etcd members.
    ThreeEtcd,
}

impl Setting {
    pub const ALL: [Setting; 3] = [Setting::OneRedis, Setting::ThreeRedis, Setting::ThreeEtcd];

    pub fn nodes(self) -> usize {
        match self {
            Setting::OneRedis => 1,
            Setting::ThreeRedis | Setting::ThreeEtcd => 3,
        }
    }

    /// Connections to a Redis-speaking server, or logical clients of etcd.
    pub fn connections(self) -> usize {
        match self {
            Setting::OneRedis | Setting::ThreeRedis => 50,
            Setting::ThreeEtcd => 200,
        }
    }

    pub fn subject(self) -> &'static str {
        match self {
            Setting::OneRedis => "Quoris, one node",
            Setting::ThreeRedis | Setting::ThreeEtcd => "Quoris, three nodes",
        }
    }

    pub fn peer(self) -> &'static str {
        match self {
            Setting::OneRedis => "redis-server, fsync always",
            Setting::ThreeRedis => "redis-server and two replicas, fsync always, WAIT 1 0",
            Setting::ThreeEtcd => "three etcd members",
        }
    }
}

/// Where connections go when there are several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    Spread,
    Leader,
}

/// What one run measures on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    pub setting: Setting,
    pub command: Command,
    pub pipeline: usize,
    pub placement: Placement,
}

impl Job {
    /// What it sends, in words.
    pub fn load(self) -> String {
        let (command, pipeline) = (self.command.name(), self.pipeline);
        match self.command {
            Command::Publish(subscribers) => format!("{command} to {subscribers}, window {pipeline}"),
            Command::Set | Command::Get => {
                format!("{command}, {} connections, pipeline {pipeline}", self.setting.connections())
            }
        }
    }
}

/// A line of the result: Quoris's job beside its peer's.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub subject: Job,
    pub peer: Job,
    /// `None` for a row that is only for information.
    pub floor: Option<f64>,
}

struct Floor(&'static str, Setting, Command, usize, Option<f64>);

const FLOORS: &[Floor] = &[
    Floor("one-set-p1", Setting::OneRedis, Command::Set, 1, Some(0.9)),
    Floor("one-set-p16", Setting::OneRedis, Command::Set, 16, Some(0.9)),
    Floor("one-get-p1", Setting::OneRedis, Command::Get, 1, Some(0.9)),
    Floor("one-get-p16", Setting::OneRedis, Command::Get, 16, Some(0.8)),
    Floor("one-get-p64", Setting::OneRedis, Command::Get, 64, Some(1.0)),
    Floor("one-publish-1", Setting::OneRedis, Command::Publish(1), WINDOW, None),
    Floor("one-publish-10", Setting::OneRedis, Command::Publish(10), WINDOW, Some(0.5)),
    Floor("one-publish-100", Setting::OneRedis, Command::Publish(100), WINDOW, Some(0.5)),
    Floor("three-publish-10", Setting::ThreeRedis, Command::Publish(10), WINDOW, None),
    Floor("three-set-p1", Setting::ThreeRedis, Command::Set, 1, Some(0.9)),
    Floor("three-set-p16", Setting::ThreeRedis, Command::Set, 16, Some(0.9)),
    Floor("etcd-set", Setting::ThreeEtcd, Command::Set, 1, Some(3.0)),
    Floor("etcd-get", Setting::ThreeEtcd, Command::Get, 1, Some(3.0)),
];

/// The rows to measure. `only` selects by whole name or by its first words: `three` is all rows
/// of three nodes beside Redis, `one-get` the three of GET. Empty selects all.
pub fn select(only: &[String], leader_only: bool) -> Vec<Row> {
    let wanted = |row: &Row| only.is_empty() || only.iter().any(|name| matches(&row.name, name));
    FLOORS.iter().flat_map(|floor| floor.rows(leader_only)).filter(wanted).collect()
}

fn matches(row: &str, name: &str) -> bool {
    row.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

impl Floor {
    fn rows(&self, leader_only: bool) -> Vec<Row> {
        let &Floor(name, setting, command, pipeline, floor) = self;
        let job = |placement| Job { setting, command, pipeline, placement };
        let row =
            |name: String, placement, floor| Row { name, subject: job(placement), peer: job(Placement::Spread), floor };
        let at_leader = format!("{name}-leader");
        match (setting.nodes() > 1, leader_only) {
            (false, _) => vec![row(name.to_owned(), Placement::Spread, floor)],
            (true, true) => vec![row(at_leader, Placement::Leader, floor)],
            (true, false) => {
                vec![row(name.to_owned(), Placement::Spread, floor), row(at_leader, Placement::Leader, None)]
            }
        }
    }
}

/// The rows that are measured together, because they share a load.
pub fn rounds(rows: &[Row]) -> Vec<Vec<Row>> {
    let mut rounds: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match rounds.iter_mut().find(|round| round[0].peer == row.peer) {
            Some(round) => round.push(row.clone()),
            None => rounds.push(vec![row.clone()]),
        }
    }
    rounds
}

/// The different jobs of one setting, in a fixed order, for one side.
pub fn jobs(rows: &[Row], setting: Setting, side: impl Fn(&Row) -> Job) -> Vec<Job> {
    let jobs: BTreeSet<Job> = rows.iter().map(side).filter(|job| job.setting == setting).collect();
    jobs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], leader_only: bool) -> Vec<String> {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        select(&only, leader_only).into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn every_row_has_its_own_name() {
        let names = names(&[], false);
        assert_eq!(names.len(), 13 + 5);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn rows_are_selected_by_name_or_first_words() {
        assert_eq!(names(&["one-set-p1"], false), ["one-set-p1"]);
        assert_eq!(names(&["one-get"], false).len(), 3);
        assert_eq!(names(&["three-set-p1"], false), ["three-set-p1", "three-set-p1-leader"]);
        assert_eq!(names(&["on"], false), [""; 0]);
    }

    #[test]
    fn leader_only_holds_the_leaders_rows_to_the_floors() {
        let rows = select(&["three".to_owned()], true);
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| row.floor == Some(0.9) || row.name.starts_with("three-publish")));
        assert!(rows.iter().all(|row| row.subject.placement == Placement::Leader));
    }

    #[test]
    fn a_round_is_a_row_and_its_twin_at_the_leader() {
        let sizes: Vec<usize> = rounds(&select(&[], false)).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn the_peer_is_measured_once_for_both_placements() {
        let rows = select(&[], false);
        assert_eq!(jobs(&rows, Setting::ThreeRedis, |row| row.subject).len(), 6);
        assert_eq!(jobs(&rows, Setting::ThreeRedis, |row| row.peer).len(), 3);
    }
}
