//! When nodes are ready, and what they hold when nobody writes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::{Nodes, PAUSE, PREFIX};
use crate::client::{Client, Trouble};
use crate::faults::Fault;

/// How long nodes may take until each of them takes writes for every group.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Keys that are tried, enough to meet every group.
const PROBES: usize = 64;
const PROBE_TIME_MAX: Duration = Duration::from_secs(5);

impl Nodes {
    /// Waits until every node takes writes, whatever group they go to.
    ///
    /// # Errors
    /// With what the last one said.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIME_MAX;
        if self.has_primary {
            while let Err(why) = self.replicate() {
                anyhow::ensure!(Instant::now() < deadline, "the replicas are not ready: {why}");
                std::thread::sleep(PAUSE);
            }
            return Ok(());
        }
        for address in self.members() {
            while let Err(why) = probe(address) {
                anyhow::ensure!(Instant::now() < deadline, "{address} is not ready: {why}");
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Waits until every Sentinel knows all replicas and the other Sentinels: without them it cannot act.
    ///
    /// # Errors
    /// When one does not.
    pub fn wait_until_watched(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIME_MAX;
        let knows = |address: SocketAddr, whom: &str| match connect(address)?.call(&["SENTINEL", whom, "quorum"]) {
            Ok(Reply::Array(list)) if list.len() + 1 == self.watchers.len() => Ok(()),
            other => Err(format!("{address}: {whom} {other:?}")),
        };
        for address in &self.watchers {
            while let Err(why) = knows(*address, "REPLICAS").and_then(|()| knows(*address, "SENTINELS")) {
                anyhow::ensure!(Instant::now() < deadline, "a Sentinel does not know all others: {why}");
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Where a fault hits that is meant for these sites: whatever node has the site now, and a single one is the
    /// primary, where there is one. With a minority goes the node that leads the group of this slot.
    pub fn aim(&self, fault: Fault, sites: &[usize], slot: u64) -> Vec<usize> {
        let leads = |address: &SocketAddr| {
            let mut client = connect(*address).ok()?;
            client.call(&["ROLE"]).ok().filter(is_primary)
        };
        if !self.has_primary || sites.len() > 1 {
            let mut nodes: Vec<usize> = sites.iter().map(|site| self.seats[*site]).collect();
            let leader = if fault == Fault::Minority { self.leader(slot) } else { None };
            if let Some(leader) = leader.filter(|leader| !nodes.contains(leader)) {
                nodes[0] = leader;
            }
            return nodes;
        }
        let primary = self.addresses.iter().position(|address| leads(address).is_some());
        primary.map_or_else(|| sites.to_vec(), |primary| vec![primary])
    }

    /// Who leads the group that has this slot, as any node says that can be asked.
    fn leader(&self, slot: u64) -> Option<usize> {
        let well = self.seats.iter().filter(|at| self.runs(**at) && self.is_well(**at));
        let said = well.filter_map(|at| connect(self.addresses[*at]).ok()?.call(&["CLUSTER", "SLOTS"]).ok());
        said.filter_map(|slots| port_of(&slots, slot))
            .find_map(|port| self.addresses.iter().position(|address| i64::from(address.port()) == port))
    }

    /// Whether there is one primary, which all others follow.
    fn replicate(&self) -> Result<(), String> {
        let mut primaries = 0;
        for address in &self.addresses {
            let mut client = connect(*address)?;
            let role = client.call(&["ROLE"]).map_err(|trouble| format!("{trouble:?}"))?;
            primaries += usize::from(is_primary(&role));
            let followers = match &role {
                Reply::Array(words) if is_primary(&role) => words.last().cloned(),
                Reply::Array(words) if words.contains(&Reply::bulk("connected")) => continue,
                other => return Err(format!("{address} says {other:?}")),
            };
            match followers {
                Some(Reply::Array(list)) if list.len() + 1 == self.addresses.len() => {}
                other => return Err(format!("{address} leads {other:?}")),
            }
        }
        if primaries == 1 { Ok(()) } else { Err(format!("{primaries} primaries")) }
    }
}

/// Whether a server that answers ROLE like this leads.
pub fn is_primary(role: &Reply) -> bool {
    matches!(role, Reply::Array(words) if words.first() == Some(&Reply::bulk("master")))
}

/// The port of the node that has a slot, in an answer of CLUSTER SLOTS.
fn port_of(slots: &Reply, slot: u64) -> Option<i64> {
    let Reply::Array(ranges) = slots else { return None };
    ranges.iter().find_map(|range| {
        let Reply::Array(words) = range else { return None };
        let [Reply::Int(first), Reply::Int(last), Reply::Array(leader), ..] = &words[..] else { return None };
        let is_here = (*first..=*last).contains(&i64::try_from(slot).ok()?);
        if let (true, Some(Reply::Int(port))) = (is_here, leader.get(1)) { Some(*port) } else { None }
    })
}

fn connect(address: SocketAddr) -> Result<Client, String> {
    Client::connect(address, PROBE_TIME_MAX, PREFIX).map_err(|why| why.to_string())
}

/// Whether writes to all groups are acknowledged through this node.
fn probe(address: SocketAddr) -> Result<(), String> {
    let mut client = connect(address)?;
    for at in 0..PROBES {
        let key = client.name(&format!("probe:{at}"));
        client.call(&["SET", &key, "ready"]).map_err(|trouble| format!("{trouble:?}"))?;
    }
    Ok(())
}

/// A group, the index up to which it is applied, and the digest of what it holds then.
pub type Standing = (u64, u64, String);

/// Where each node says that its replicas stand; nothing for a system that does not say it.
pub fn standings(addresses: &[SocketAddr]) -> Option<Vec<Vec<Standing>>> {
    let of_line = |line: &Reply| {
        let Reply::Status(line) = line else { return None };
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_string()))
    };
    let of_node = |address: &SocketAddr| match connect(*address).ok()?.call(&["DEBUG", "DIGEST", "GROUPS"]) {
        Ok(Reply::Array(lines)) => lines.iter().map(of_line).collect(),
        Ok(_) | Err(Trouble::Refused(_) | Trouble::Open(_) | Trouble::Strange(_)) => None,
    };
    addresses.iter().map(of_node).collect()
}

/// How many replicas have cut their logs, and how many snapshots were installed, as these nodes say.
pub fn snapshots(addresses: &[SocketAddr]) -> [usize; 2] {
    let text = |address: &SocketAddr| match connect(*address).ok()?.call(&["INFO", "raft"]) {
        Ok(Reply::Bulk(text) | Reply::Verbatim(_, text)) => Some(String::from_utf8_lossy(&text).into_owned()),
        _ => None,
    };
    let counts = addresses.iter().filter_map(text).map(|text| counts(&text));
    counts.fold([0, 0], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]])
}

fn counts(info: &str) -> [usize; 2] {
    let of = |name: &str| -> Vec<usize> {
        let fields = info.lines().filter(|line| line.starts_with("group")).flat_map(|line| line.split(','));
        fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).collect()
    };
    [of("purged").iter().filter(|index| **index > 0).count(), of("snapshots_installed").iter().sum()]
}

/// Which replicas differ though they have applied the same; nothing yet while some are behind.
pub fn differences(standings: &[Vec<Standing>]) -> Option<Vec<String>> {
    let all: Vec<(usize, &Standing)> =
        standings.iter().enumerate().flat_map(|(node, list)| list.iter().map(move |s| (node + 1, s))).collect();
    let same_group = |(_, a): &&(usize, &Standing), group: u64| a.0 == group;
    let mut found = Vec::new();
    let mut is_level = true;
    for (node, standing) in &all {
        let first = all.iter().find(|other| same_group(other, standing.0));
        let Some((other, first)) = first else { continue };
        is_level &= first.1 == standing.1;
        if first.1 == standing.1 && first.2 != standing.2 {
            found.push(format!(
                "group {} at index {}: node {other} holds {}, node {node} {}",
                standing.0, standing.1, first.2, standing.2
            ));
        }
    }
    (is_level || !found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_of_a_slot_is_read_from_the_map() {
        let node = |port| Reply::Array(vec![Reply::bulk("127.0.0.1"), Reply::Int(port), Reply::bulk("id")]);
        let range = |from, to, port| Reply::Array(vec![Reply::Int(from), Reply::Int(to), node(port), node(1)]);
        let slots = Reply::Array(vec![range(0, 99, 7001), range(100, 16383, 7002)]);
        assert_eq!([0, 99, 100].map(|slot| port_of(&slots, slot)), [Some(7001), Some(7001), Some(7002)]);
        assert_eq!(port_of(&Reply::Array(Vec::new()), 5), None);
    }

    #[test]
    fn cut_logs_are_counted_as_nodes_tell_them() {
        let info =
            "groups:2\r\ngroup0:id=0,purged=0,snapshots_installed=2\r\ngroup1:id=1,purged=7,snapshots_installed=1\r\n";
        assert_eq!(counts(info), [1, 3]);
    }

    #[test]
    fn digests_are_compared_at_one_index() {
        let at = |index, digest: &str| vec![(1, index, digest.to_string())];
        assert_eq!(differences(&[at(5, "a"), at(5, "a")]), Some(Vec::new()));
        assert_eq!(differences(&[at(5, "a"), at(6, "b")]), None);
        assert_eq!(differences(&[at(5, "a"), at(5, "b")]).map(|found| found.len()), Some(1));
        assert_eq!(differences(&[at(5, "a"), Vec::new()]), Some(Vec::new()));
    }
}
