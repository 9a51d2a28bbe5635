//! What a node says about itself and its groups: INFO raft, parsed.

use std::time::Duration;

use super::client::Client;

const INFO_TIME_MAX: Duration = Duration::from_secs(2);

/// One node's report.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node's id.
    pub id: u64,
    /// The epoch of its topology.
    pub epoch: u64,
    /// Whether its replicas have leaders and are caught up.
    pub ready: bool,
    /// Terms that began since its start, over all groups.
    pub elections: u64,
    /// Every group, the meta group (0) first.
    pub groups: Vec<GroupView>,
}

/// One group as one node sees it.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// The group's id.
    pub id: u64,
    /// `leader`, `follower`, …; `none` where the node holds no replica.
    pub role: String,
    /// The term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<u64>,
    /// The last applied index.
    pub applied: u64,
    /// The last index of the log.
    pub last: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The index that the newest snapshot covers.
    pub snapshot: u64,
    /// The last purged index.
    pub purged: u64,
    /// The applied version of the cluster's settings.
    pub settings: u64,
    /// Snapshots that were received and installed.
    pub snapshots_installed: u64,
    /// Whether the replica was found to be wrong and is being rebuilt.
    pub quarantined: bool,
    /// How often it was rebuilt.
    pub rebuilds: u64,
    /// Whether its clock stands still.
    pub clock_held: bool,
    /// Rounds in which a quorum confirmed its reads.
    pub read_rounds: u64,
    /// The last index at which a majority had its digest.
    pub verified: u64,
    /// Events above this index are kept.
    pub events_floor: u64,
    /// The index that the state stands at and its digest there.
    pub digest: Option<(u64, String)>,
    /// Owned slots, inclusive.
    pub slots: Vec<(u16, u16)>,
    /// Nodes that hold a replica.
    pub replicas: Vec<u64>,
}

impl NodeView {
    /// Asks the node that listens on `port`; nothing when it does not answer.
    pub fn ask(port: u16) -> Option<NodeView> {
        let mut client = Client::connect(port).ok()?;
        let text = client.text(&["INFO", "raft"], INFO_TIME_MAX).ok()??;
        Some(NodeView::parse(&text))
    }

    fn parse(text: &str) -> NodeView {
        let mut view = NodeView { id: 0, epoch: 0, ready: false, elections: 0, groups: Vec::new() };
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "node" => view.id = number(value),
                "epoch" => view.epoch = number(value),
                "ready" => view.ready = value == "1",
                "elections" => view.elections = number(value),
                "groups" | "groups_led" => {}
                name if name.starts_with("group") => view.groups.push(GroupView::parse(value)),
                _ => {}
            }
        }
        view
    }

    /// The group as this node sees it.
    pub fn group(&self, id: u64) -> Option<&GroupView> {
        self.groups.iter().find(|group| group.id == id)
    }
}

impl GroupView {
    fn parse(line: &str) -> GroupView {
        let field = |name: &str| {
            let found = line.split(',').filter_map(|field| field.split_once('=')).find(|(key, _)| *key == name);
            found.unwrap_or_else(|| panic!("no {name} in {line}")).1
        };
        let ranges = field("slots").split('+').filter_map(|range| range.split_once('-'));
        let replicas = field("replicas").split('+').filter_map(|replica| replica.split_once(':'));
        GroupView {
            id: number(field("id")),
            role: field("role").to_string(),
            term: number(field("term")),
            leader: field("leader").parse().ok(),
            applied: number(field("applied")),
            last: number(field("last")),
            log_bytes: number(field("log_bytes")),
            snapshot: number(field("snapshot")),
            purged: number(field("purged")),
            settings: number(field("settings")),
            snapshots_installed: number(field("snapshots_installed")),
            quarantined: field("quarantined") == "1",
            rebuilds: number(field("rebuilds")),
            clock_held: field("clock_held") == "1",
            read_rounds: number(field("read_rounds")),
            verified: number(field("verified")),
            events_floor: number(field("events_floor")),
            digest: field("digest").split_once(':').map(|(index, digest)| (number(index), digest.to_string())),
            slots: ranges.map(|(from, to)| (number(from) as u16, number(to) as u16)).collect(),
            replicas: replicas.map(|(node, _)| number(node)).collect(),
        }
    }

    /// Whether the node holds a replica.
    pub fn is_local(&self) -> bool {
        self.role != "none"
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}
