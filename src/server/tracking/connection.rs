//! One connection's side of tracking: what it asked for, and which of its reads are under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
};

use bytes::{Bytes, BytesMut};
use quoris_engine::{
    command::{self, Found, Handler},
    script_has_read, slot,
};
use quoris_raft::GroupId;
use quoris_resp::Argv;

use super::{Landed, Tracker};
use crate::{
    client::Client,
    clients::flag,
    gather::{Answered, Answers, Waits},
};

/// Which reads are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// All.
    #[default]
    All,
    /// Those behind CLIENT CACHING YES.
    OptIn,
    /// All but those behind CLIENT CACHING NO.
    OptOut,
}

/// What CLIENT TRACKING ON asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracks {
    pub redirect: Option<u64>,
    /// BCAST: with which beginnings.
    pub prefixes: Option<BTreeSet<Bytes>>,
    pub choice: Choice,
    pub no_loop: bool,
    /// CLIENT CACHING was called for the next command, or the next transaction.
    pub caching: bool,
    /// The same for the command that runs now.
    pub caching_now: bool,
    /// Keys of reads that are under way, and their groups.
    pub under_way: BTreeMap<Bytes, GroupId>,
}

impl Tracks {
    /// Whether what the present command reads is kept.
    fn keeps(&self) -> bool {
        match self.choice {
            Choice::All => true,
            Choice::OptIn => self.caching_now,
            Choice::OptOut => !self.caching_now,
        }
    }

    /// Whether it is to be told of a key.
    fn cares_for(&self, key: &[u8]) -> bool {
        let prefixes = self.prefixes.as_ref();
        prefixes.is_none_or(|prefixes| prefixes.iter().any(|prefix| key.starts_with(prefix)))
    }
}

/// The keys that a command reads, or may read: of a script all that it names, as in Redis.
fn keys_read(found: &Found, argv: &Argv) -> Vec<Bytes> {
    let reads = match found.command.handler {
        Handler::Read(_) => found.command.name != "watch",
        _ => found.command.runs_script(),
    };
    let positions = if reads { found.command.keys(argv).unwrap_or_default() } else { Default::default() };
    positions.into_iter().filter_map(|at| argv.get(at)).map(Bytes::copy_from_slice).collect()
}

impl Client {
    /// Begins to track.
    pub(crate) fn start_tracking(&mut self, tracks: Tracks) {
        let info = &self.info;
        info.set(flag::BROKEN_REDIRECT, false);
        info.set(flag::TRACKING, true);
        info.set(flag::TRACKING_BROADCAST, tracks.prefixes.is_some());
        info.redirect.store(tracks.redirect.map_or(0, |id| id as i64), Relaxed);
        self.session.sign(tracks.no_loop);
        let tracker = Tracker {
            info: info.clone(),
            silent_for: tracks.no_loop.then(|| self.session.id()),
            redirect: tracks.redirect,
            prefixes: tracks.prefixes.clone(),
            under_way: BTreeMap::new(),
        };
        self.server.tracking.add(&self.server, tracker);
        self.tracks = Some(Box::new(tracks));
    }

    /// Ceases to track.
    pub(crate) fn stop_tracking(&mut self) {
        if self.tracks.take().is_some() {
            let flags = [flag::TRACKING, flag::TRACKING_BROADCAST, flag::BROKEN_REDIRECT];
            flags.iter().for_each(|flag| self.info.set(*flag, false));
            self.info.redirect.store(-1, Relaxed);
            self.session.sign(false);
            self.server.tracking.remove(&self.server, self.info.link.id);
        }
    }

    /// A command is about to run: CLIENT CACHING holds for one, or for a whole transaction.
    pub(crate) fn begin_caching(&mut self, found: &Found) {
        let queues = self.queue.is_some() && found.command.name != "exec" && found.command.name != "discard";
        let keeps = queues || found.command.name == "multi" || found.container.is_some_and(|c| c.name == "client");
        if let Some(tracks) = &mut self.tracks {
            tracks.caching_now = tracks.caching;
            tracks.caching &= keeps;
        }
    }

    /// A group's lock is held: what changed before goes out before the replies that show it.
    pub(crate) fn say_what_changed(&self, output: &mut BytesMut) {
        if self.tracks.is_some() && self.gather.is_empty() {
            self.info.link.take_messages(output);
        }
    }

    /// A command was answered under a group's lock, which is still held.
    pub(crate) fn has_read(&self, found: &Found, argv: &Argv) {
        let keeps = self.tracks.as_ref().is_some_and(|tracks| tracks.prefixes.is_none() && tracks.keeps());
        if keeps && (!found.command.runs_script() || script_has_read()) {
            let keys = keys_read(found, argv);
            self.server.tracking.has_read(&self.server, self.info.link.id, keys.iter().map(|key| &key[..]));
        }
    }

    /// The same for the commands of a transaction.
    pub(crate) fn has_read_all(&self, commands: &[Argv]) {
        if self.tracks.is_some() {
            let found = commands.iter().filter_map(|argv| Some((command::lookup(argv).ok()?, argv)));
            found.for_each(|(found, argv)| self.has_read(&found, argv));
        }
    }

    /// A command is about to be sent.
    pub(crate) fn will_read(&mut self, found: &Found, argv: &Argv) {
        let Some(tracks) = self.tracks.as_mut().filter(|tracks| tracks.keeps()) else { return };
        let node = &self.server.node;
        let mut keys = keys_read(found, argv);
        keys.retain(|key| tracks.cares_for(key));
        let groups = keys.iter().filter_map(|key| Some((key.clone(), node.group_of(slot(key))?)));
        tracks.under_way.extend(groups);
        self.server.tracking.begin(&self.server, self.info.link.id, &keys);
    }

    /// The same for the commands of a transaction.
    pub(crate) fn will_read_all(&mut self, commands: &[Argv]) {
        if self.tracks.is_some() {
            let found = commands.iter().filter_map(|argv| Some((command::lookup(argv).ok()?, argv)));
            found.for_each(|(found, argv)| self.will_read(&found, argv));
        }
    }

    /// The answers of a batch are here: waits until everything that they show has been heard, and says it, if none
    /// of them is of a write. Gives what each group's replies have seen.
    pub(crate) async fn hear_up_to(
        &self,
        groups: Vec<GroupId>,
        answers: &Answers,
        output: &mut BytesMut,
    ) -> BTreeMap<GroupId, Landed> {
        let node = &self.server.node;
        let (mut landed, mut wrote) = (BTreeMap::new(), false);
        for (group, lane) in groups.into_iter().zip(&answers.lanes) {
            let how = match lane {
                Answered::Done { seen: u64::MAX, .. } => Landed::Unread,
                Answered::Done { executed: None, seen, .. } if node.hears_up_to(group, *seen).await => {
                    Landed::Seen(*seen)
                }
                Answered::Done { executed: Some(_), seen, .. } if node.hears(group) => Landed::Seen(*seen),
                Answered::Done { .. } | Answered::Failed(_) => Landed::Deaf,
            };
            wrote |= matches!(lane, Answered::Done { executed: Some(_), .. });
            landed.insert(group, how);
        }
        // A reply that was there before stands in front of what has changed since.
        if !wrote && answers.slots.iter().all(|slot| !matches!(slot.what, Waits::Nothing(_))) {
            let keys = self.tracks.iter().flat_map(|tracks| tracks.under_way.keys());
            self.server.tracking.outdate(&self.server, self.info.link.id, keys);
            self.info.link.take_messages(output);
        }
        landed
    }

    /// The replies of a batch are written.
    pub(crate) fn land(&mut self, landed: &BTreeMap<GroupId, Landed>) {
        let Some(tracks) = &mut self.tracks else { return };
        let keys = std::mem::take(&mut tracks.under_way);
        let keys = keys.into_iter().map(|(key, group)| (key, landed.get(&group).copied().unwrap_or(Landed::Deaf)));
        self.server.tracking.land(&self.server, self.info.link.id, keys);
    }

    /// What a command reads whose reply nobody can say which state it shows, because it waited.
    pub(crate) fn reads_somewhen(&self, found: &Found, argv: &Argv) -> Vec<Bytes> {
        let Some(tracks) = self.tracks.as_ref().filter(|tracks| tracks.keeps()) else { return Vec::new() };
        keys_read(found, argv).into_iter().filter(|key| tracks.cares_for(key)).collect()
    }
}
