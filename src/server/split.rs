//! Commands over several groups.
//!
//! Some commands are split into one part per group and their replies joined; each part is linearizable,
//! the whole is not atomic. Every other command over several groups is refused with CROSSSLOT.

use quoris_engine::{SLOTS, command::Found, number, slot};
use quoris_raft::{GroupId, Operation};
use quoris_resp::{Argv, Reply};

use crate::server::Server;

/// How replies become one.
#[derive(Clone, Debug)]
pub(crate) enum Join {
    /// Integers are added.
    Sum,
    /// Arrays stand behind each other.
    Concat,
    /// All must say OK.
    AllOk,
    /// The first that is not null, from a random part on.
    First,
    /// MGET: for every part, the places of its values among `count`.
    Places {
        /// One list per part.
        places: Vec<Vec<usize>>,
        /// All values.
        count: usize,
    },
    /// SCAN: the cursor of the one part gets its group's place; 0 goes on with the next group.
    Cursor {
        /// The place of the group in the list of groups.
        at: usize,
        /// Groups in all.
        of: usize,
    },
}

impl Join {
    /// Joins one reply per part. An error of any part is the whole's.
    pub fn join(self, replies: Vec<Reply>) -> Reply {
        if let Some(error) = replies.iter().find(|reply| reply.is_error()) {
            return error.clone();
        }
        match self {
            Join::Sum => Reply::Int(replies.iter().map(|reply| if let Reply::Int(n) = reply { *n } else { 0 }).sum()),
            Join::Concat => Reply::Array(replies.into_iter().flat_map(items).collect()),
            Join::AllOk => Reply::Ok,
            Join::First => replies.into_iter().find(|reply| *reply != Reply::Null).unwrap_or(Reply::Null),
            Join::Places { places, count } => {
                let mut all = vec![Reply::Null; count];
                for (places, reply) in places.into_iter().zip(replies) {
                    places.into_iter().zip(items(reply)).for_each(|(place, item)| all[place] = item);
                }
                Reply::Array(all)
            }
            Join::Cursor { at, of } => {
                replies.into_iter().next().map_or(Reply::Null, |reply| cursor_reply(reply, at, of))
            }
        }
    }
}

fn items(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(items) | Reply::Set(items) => items,
        other => vec![other],
    }
}

/// A cursor over groups: the group's own cursor times the number of groups, plus the group's place.
/// The place alone, with an own cursor of 0, means "from the beginning of that group".
fn cursor_reply(reply: Reply, at: usize, of: usize) -> Reply {
    let mut parts = items(reply);
    let own = match parts.first() {
        Some(Reply::Bulk(digits)) => number::cursor(digits).unwrap_or(0),
        _ => return Reply::Array(parts),
    };
    let next = match own {
        0 if at + 1 == of => 0,
        0 => at as u64 + 1,
        own => own * of as u64 + at as u64,
    };
    parts[0] = Reply::bulk(next.to_string());
    Reply::Array(parts)
}

/// A group, the words of its part of a command, and the places of its keys among all.
type Part<'a> = (GroupId, Vec<&'a [u8]>, Vec<usize>);

/// A command's parts and how to join their replies.
pub(crate) struct Plan {
    pub join: Join,
    pub parts: Vec<(GroupId, Operation)>,
}

/// Where a command goes.
pub(crate) enum Route {
    /// To one group; the slot is what a redirection names.
    One(GroupId, u16),
    /// To several.
    Split(Plan),
    /// Nowhere: nobody owns the slot.
    NoOwner(u16),
    /// Nowhere: its keys belong to different groups.
    Cross,
}

impl Server {
    /// Finds the group or the groups of a command that reads or writes keys.
    pub(crate) fn route(&self, found: &Found, argv: &Argv, database: u32) -> Route {
        let redirects = self.redirects();
        if let (Some(group), false) = (self.sole_group(), redirects) {
            return Route::One(group, 0);
        }
        let Ok(positions) = found.command.keys(argv) else { return self.anywhere() };
        let Some((first, rest)) = positions.split_first() else { return self.keyless(found, argv, database) };
        let first_slot = slot(&argv[*first]);
        let Some(group) = self.node.group_of(first_slot) else { return Route::NoOwner(first_slot) };
        if rest.iter().all(|at| self.node.group_of(slot(&argv[*at])) == Some(group)) {
            return Route::One(group, first_slot);
        }
        if redirects { Route::Cross } else { self.by_key(found, argv, &positions, database) }
    }

    /// For a command whose keys cannot be found: any group's handler names the mistake.
    fn anywhere(&self) -> Route {
        self.groups().first().map_or(Route::NoOwner(0), |group| Route::One(*group, 0))
    }

    fn keyless(&self, found: &Found, argv: &Argv, database: u32) -> Route {
        if let Some(channel) = found.command.channel.and_then(|at| argv.get(at)) {
            let slot = slot(channel);
            return self.node.group_of(slot).map_or(Route::NoOwner(slot), |group| Route::One(group, slot));
        }
        let groups = self.groups_to_walk();
        let (all, operation) = (groups.as_slice(), self.operation(found, argv.clone(), database));
        if all.is_empty() {
            return self.anywhere();
        }
        let plan = |join, groups: &[GroupId]| Plan {
            join,
            parts: groups.iter().map(|group| (*group, operation.clone())).collect(),
        };
        match (found.container.map_or("", |container| container.name), found.command.name) {
            ("", "dbsize") => Route::Split(plan(Join::Sum, all)),
            ("", "keys") => Route::Split(plan(Join::Concat, all)),
            ("", "flushall" | "flushdb" | "swapdb") | ("script", "flush") => Route::Split(plan(Join::AllOk, all)),
            ("function", "delete" | "flush" | "restore") => Route::Split(plan(Join::AllOk, all)),
            ("script" | "function", "load") => Route::Split(plan(Join::First, all)),
            ("", "randomkey") => {
                let start = if all.is_empty() { 0 } else { self.rng().below(all.len() as u64) as usize };
                let turned = [&all[start..], &all[..start]].concat();
                Route::Split(plan(Join::First, &turned))
            }
            ("", "scan") => self.scan(found, argv, all, database),
            ("cluster", _) => self.of_slot(argv),
            _ => self.anywhere(),
        }
    }

    /// CLUSTER COUNTKEYSINSLOT and GETKEYSINSLOT name a slot; what is none, any group's handler refuses.
    fn of_slot(&self, argv: &Argv) -> Route {
        let slot = argv.get(2).and_then(number::integer).and_then(|n| u16::try_from(n).ok()).filter(|n| *n < SLOTS);
        let Some(slot) = slot else { return self.anywhere() };
        self.node.group_of(slot).map_or(Route::NoOwner(slot), |group| Route::One(group, slot))
    }

    /// The groups that a command without keys is about: all of them; with redirections those that this node
    /// leads, because a cluster client asks every master and adds up, or those that it follows if it leads none.
    fn groups_to_walk(&self) -> Vec<GroupId> {
        let groups = self.groups();
        if !self.redirects() {
            return groups.to_vec();
        }
        let own = self.node.id();
        let led: Vec<GroupId> =
            groups.iter().copied().filter(|group| self.node.leader_of(*group) == Some(own)).collect();
        if !led.is_empty() {
            return led;
        }
        groups.iter().copied().filter(|group| self.node.group(*group).is_some()).collect()
    }

    fn scan(&self, found: &Found, argv: &Argv, groups: &[GroupId], database: u32) -> Route {
        let Some(cursor) = argv.get(1).and_then(number::cursor) else { return self.anywhere() };
        let of = groups.len();
        let at = (cursor % (of as u64).max(1)) as usize;
        let Some(group) = groups.get(at) else { return Route::NoOwner(0) };
        let own = (cursor / of as u64).to_string();
        let mut parts: Vec<&[u8]> = argv.iter().collect();
        parts[1] = own.as_bytes();
        let operation = self.operation(found, Argv::from_parts(&parts), database);
        Route::Split(Plan { join: Join::Cursor { at, of }, parts: vec![(*group, operation)] })
    }

    fn by_key(&self, found: &Found, argv: &Argv, positions: &[usize], database: u32) -> Route {
        let sums = matches!(found.command.name, "exists" | "touch" | "del" | "unlink");
        if !sums && found.command.name != "mget" {
            return Route::Cross;
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        for (place, at) in positions.iter().enumerate() {
            let slot = slot(&argv[*at]);
            let Some(group) = self.node.group_of(slot) else { return Route::NoOwner(slot) };
            let part = match parts.iter().position(|(known, ..)| *known == group) {
                Some(part) => part,
                None => {
                    parts.push((group, vec![&argv[0]], Vec::new()));
                    parts.len() - 1
                }
            };
            parts[part].1.push(&argv[*at]);
            parts[part].2.push(place);
        }
        let operations = parts
            .iter()
            .map(|(group, words, _)| (*group, self.operation(found, Argv::from_parts(words), database)))
            .collect();
        let join = if sums {
            Join::Sum
        } else {
            Join::Places { places: parts.into_iter().map(|(.., places)| places).collect(), count: positions.len() }
        };
        Route::Split(Plan { join, parts: operations })
    }

    /// An operation for a command as it came.
    pub(crate) fn operation(&self, found: &Found, argv: Argv, database: u32) -> Operation {
        Operation {
            command: found.command,
            argv,
            database,
            user: 0,
            transaction: false,
            own: None,
            write: found.command.is_write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_walks_through_all_groups() {
        let own = |cursor: &str| Reply::Array(vec![Reply::bulk(cursor), Reply::Array(vec![])]);
        let next = |cursor: &str, at| match cursor_reply(own(cursor), at, 3) {
            Reply::Array(parts) => parts[0].clone(),
            other => other,
        };
        assert_eq!(next("7", 1), Reply::bulk("22"));
        assert_eq!((22 % 3, 22 / 3), (1, 7));
        assert_eq!(next("0", 1), Reply::bulk("2"));
        assert_eq!(next("0", 2), Reply::bulk("0"));
    }

    #[test]
    fn values_find_their_places_and_errors_win() {
        let join = Join::Places { places: vec![vec![0, 2], vec![1]], count: 3 };
        let parts = vec![Reply::Array(vec![Reply::Int(0), Reply::Int(2)]), Reply::Array(vec![Reply::Int(1)])];
        assert_eq!(join.clone().join(parts), Reply::Array(vec![Reply::Int(0), Reply::Int(1), Reply::Int(2)]));
        assert!(join.join(vec![Reply::Array(vec![]), Reply::error("CLUSTERDOWN x")]).is_error());
        assert_eq!(Join::Sum.join(vec![Reply::Int(2), Reply::Int(3)]), Reply::Int(5));
        assert_eq!(Join::First.join(vec![Reply::Null, Reply::bulk("k")]), Reply::bulk("k"));
    }
}
