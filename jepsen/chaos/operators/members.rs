//! Nodes that are exchanged: one joins with an empty folder, and another one is drained, removed, or lost and replaced.
//! The one that left joins again the next time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quoris_resp::Reply;

use super::{Operator, PAUSE, say};

/// How long the cluster may take to be what it should be, once there are no faults any more.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);

/// A node, as the cluster lists it.
#[derive(Clone, Debug)]
struct Listed {
    id: String,
    address: String,
    state: String,
}

/// The nodes in few words.
fn brief(listed: &[Listed]) -> String {
    let nodes: Vec<String> = listed.iter().map(|node| format!("{} {} {}", node.id, node.address, node.state)).collect();
    nodes.join(", ")
}

fn list(address: SocketAddr) -> Result<Vec<Listed>, String> {
    let text = match say(address, &["CLUSTER", "NODE", "LIST"])? {
        Reply::Bulk(text) | Reply::Verbatim(_, text) => String::from_utf8_lossy(&text).into_owned(),
        other => return Err(format!("{other:?} is no list of nodes")),
    };
    let line = |line: &str| {
        let field = |name: &str| {
            let found = line.split(',').filter_map(|field| field.split_once('=')).find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_string()).ok_or_else(|| format!("no {name} in {line}"))
        };
        Ok(Listed { id: field("id")?, address: field("clients")?, state: field("state")? })
    };
    text.lines().map(line).collect()
}

/// Nothing is awaited: every group is as it should be.
fn quiet(address: SocketAddr) -> Result<(), String> {
    match say(address, &["CLUSTER", "NODE", "AWAITED"])? {
        Reply::Array(lines) if lines.is_empty() => Ok(()),
        Reply::Array(lines) => {
            let text = |line: &Reply| {
                if let Reply::Bulk(text) = line { String::from_utf8_lossy(text).into() } else { String::new() }
            };
            Err(format!("awaited: {}", lines.iter().map(text).collect::<Vec<_>>().join("; ")))
        }
        other => Err(format!("{other:?} is no list of what is awaited")),
    }
}

/// Waits until no slot is on its way and exactly these nodes are what the cluster says that it has; as it says it.
///
/// # Errors
/// With what is awaited for too long.
pub fn settled(members: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    let deadline = Instant::now() + SETTLE_TIME_MAX;
    let look = || {
        let moves = say(members[0], &["CLUSTER", "MOVES"])?;
        if moves != Reply::Null {
            return Err(format!("slots are on their way: {moves:?}"));
        }
        quiet(members[0])?;
        let listed = list(members[0])?;
        let found: Result<Vec<SocketAddr>, _> = listed.iter().map(|node| node.address.parse()).collect();
        let mut found = found.map_err(|why| format!("{}: {why}", brief(&listed)))?;
        let mut wanted = members.to_vec();
        found.sort();
        wanted.sort();
        let is_right = found == wanted && listed.iter().all(|node| node.state == "serving");
        if is_right { Ok(found) } else { Err(format!("the cluster has {} instead of {wanted:?}", brief(&listed))) }
    };
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

impl Operator {
    /// Exchanges the node that has this place, in one of several ways; tells which nodes took part.
    pub(super) fn exchange(&self, place: usize, took_part: &mut Vec<usize>) -> Result<(), String> {
        let old = self.nodes().seat(place);
        took_part.push(old);
        match self.below(5) {
            0 => self.replace_in_place(old),
            1 => self.drain_and_fill(old),
            way => {
                let new = self.take_in()?;
                took_part.push(new);
                // Faults that are meant for the place hit the newcomer from now on, or later.
                if way == 2 {
                    self.nodes().take_seat(place, new);
                }
                if way == 3 { self.replace(old, || self.nodes().take_seat(place, new)) } else { self.remove(old) }?;
                self.nodes().take_seat(place, new);
                Ok(())
            }
        }
    }

    /// A node that belongs to no cluster joins this one.
    fn take_in(&self) -> Result<usize, String> {
        let at = self.persist("a node is free", || {
            let mut nodes = self.nodes();
            let at = nodes.spare().ok_or("it has not ended yet")?;
            let asks = nodes.seat(self.turn.get() % nodes.members().len());
            nodes.join(at, asks).map(|()| at).map_err(|why| format!("{why:#}"))
        })?;
        self.joined(at)?;
        Ok(at)
    }

    /// Waits until a node has joined and has what it is to hold.
    fn joined(&self, at: usize) -> Result<(), String> {
        let address = self.nodes().addresses[at].to_string();
        self.until_listed(&format!("node {} joins", at + 1), |listed| {
            listed.iter().any(|node| node.address == address && node.state == "serving")
        })
    }

    /// Waits until the nodes are listed like this and nothing is awaited.
    fn until_listed(&self, what: &str, is_so: impl Fn(&[Listed]) -> bool) -> Result<(), String> {
        self.persist(what, || {
            let address = self.someone();
            let listed = list(address)?;
            if !is_so(&listed) {
                return Err(brief(&listed));
            }
            quiet(address)
        })
    }

    /// Decides about a node, as often as it takes.
    fn decide(&self, wish: &str, id: &str) -> Result<(), String> {
        self.persist(&format!("{wish} {id}"), || match self.ask(&["CLUSTER", "NODE", wish, id]) {
            // An answer that was lost had decided it.
            Err(why) if why.contains("there is no node") || why.contains("is being replaced") => Ok(()),
            other => other.map(drop),
        })
    }

    fn id(&self, at: usize) -> Result<String, String> {
        let address = self.nodes().addresses[at].to_string();
        self.persist(&format!("the number of node {}", at + 1), || {
            let listed = list(self.someone())?;
            let found = listed.iter().find(|node| node.address == address && node.state != "replaced");
            found.map(|node| node.id.clone()).ok_or_else(|| brief(&listed))
        })
    }

    fn forgotten(&self, id: &str) -> Result<(), String> {
        self.until_listed(&format!("{id} is forgotten"), |listed| listed.iter().all(|node| node.id != id))
    }

    fn remove(&self, at: usize) -> Result<(), String> {
        let id = self.id(at)?;
        self.nodes().may_end(at, true);
        self.decide("REMOVE", &id)?;
        self.forgotten(&id)?;
        self.persist(&format!("node {} ends", at + 1), || {
            let nodes = self.nodes();
            if nodes.runs(at) || !nodes.is_well(at) { Err("it runs".to_string()) } else { Ok(()) }
        })
    }

    /// It is killed and its disk lost, as soon as no fault is on it.
    fn lose(&self, at: usize) -> Result<(), String> {
        self.persist(&format!("node {} is lost", at + 1), || {
            let mut nodes = self.nodes();
            if !nodes.is_well(at) || !nodes.runs(at) {
                return Err("a fault is on it".to_string());
            }
            nodes.lose(at).map_err(|why| format!("{why:#}"))
        })
    }

    fn replace(&self, at: usize, lost: impl FnOnce()) -> Result<(), String> {
        let id = self.id(at)?;
        self.lose(at)?;
        lost();
        self.decide("REPLACE", &id)?;
        self.forgotten(&id)
    }

    /// It is lost, and joins again at the same address.
    pub(super) fn replace_in_place(&self, at: usize) -> Result<(), String> {
        let id = self.id(at)?;
        if self.nodes().runs(at) {
            self.lose(at)?;
        }
        self.decide("REPLACE", &id)?;
        self.persist(&format!("node {} starts anew", at + 1), || {
            let mut nodes = self.nodes();
            let other = (0..nodes.members().len()).map(|place| nodes.seat(place)).find(|other| *other != at);
            nodes.join(at, other.ok_or("there is no other node")?).map_err(|why| format!("{why:#}"))
        })?;
        self.forgotten(&id)?;
        self.joined(at)
    }

    /// It gives away what it holds, as far as others can take it, and gets some back.
    fn drain_and_fill(&self, at: usize) -> Result<(), String> {
        let id = self.id(at)?;
        self.decide("DRAIN", &id)?;
        self.wait();
        self.decide("SERVE", &id)?;
        self.joined(at)
    }
}
