//! Settings of the cluster: decided in the meta group, applied by every group.
//!
//! The meta group holds them under one key, as text with a version, and they change by compare-and-set.
//! The first leader of the meta group writes those of its configuration: that is the cluster's founder,
//! since others take part in elections only once they have heard from it. Each data group has a copy in
//! its own state, which an entry of its log replaces. Whoever changes the settings proposes that entry to
//! every group and waits until all have applied it; the leader of the meta group looks for groups that
//! have not, after each change, after elections, and when a group is new.
//!
//! Invariants:
//! * A version is decided once. An entry names all values, and an engine takes only a newer version, so
//!   proposing one twice, or late, does no harm.
//! * The version that a node knows never goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use quoris_engine::Settings;
use quoris_resp::Reply;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::follow::{operation, stored};
use crate::group::Group;
use crate::node::Node;
use crate::propose::Operation;
use crate::session::{Error, Session};
use crate::types::{GroupId, META};

/// The key of the meta group that holds the settings.
const KEY: &[u8] = b"settings";
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the leader of the meta group looks for groups that lack settings, and how long it waits for one.
const ROUND: Duration = Duration::from_millis(500);

/// Why a change of settings is not known to hold everywhere.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nothing has changed.
    #[error("the settings of the cluster cannot be changed now: {0}")]
    Unchanged(String),
    /// They may have changed, or still change.
    #[error("the settings of the cluster may have changed: {0}")]
    Unknown(String),
    /// The change is decided; these groups have not applied it yet, and will as soon as they can.
    #[error("settings version {version} is decided but not applied yet by {}", names(.groups))]
    Pending {
        /// The version that was decided.
        version: u64,
        /// The groups.
        groups: Vec<GroupId>,
    },
}

fn names(groups: &[GroupId]) -> String {
    groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Node {
    /// The settings of the cluster as this node knows them; version 0 until it has heard of any.
    pub fn settings(&self) -> watch::Receiver<Settings> {
        self.inner().settings.subscribe()
    }

    /// Changes settings of the cluster and waits until every group has applied them, no longer than the
    /// request timeout. Names and values must be of the engine's table.
    ///
    /// # Errors
    /// When that is not certain in time; the error says what is.
    pub async fn change_settings(&self, changes: &[(&str, String)]) -> Result<(), SettingsError> {
        let deadline = Instant::now() + self.config().request_timeout;
        let session = self.session();
        let mut sent = false;
        let decided = timeout_at(deadline, decide(&session, changes, &mut sent)).await;
        let settings = match decided {
            Ok(decided) => decided.map_err(SettingsError::Unchanged)?,
            Err(_) if sent => return Err(SettingsError::Unknown("the meta group does not answer".into())),
            Err(_) => return Err(SettingsError::Unchanged("the meta group has no leader that answers".into())),
        };
        self.learn_settings(settings);
        let applied = async |group: GroupId| {
            let done = async {
                while !propose(&session, group, &settings).await {
                    sleep(PAUSE).await;
                }
            };
            timeout_at(deadline, done).await.is_err().then_some(group)
        };
        let groups: Vec<GroupId> =
            join_all(self.groups().into_iter().map(applied)).await.into_iter().flatten().collect();
        if groups.is_empty() { Ok(()) } else { Err(SettingsError::Pending { version: settings.version, groups }) }
    }

    fn learn_settings(&self, settings: Settings) {
        self.inner().settings.send_if_modified(|known| {
            let newer = settings.version > known.version;
            if newer {
                *known = settings;
            }
            newer
        });
    }
}

/// Changes what the meta group holds until the changes are in it, whoever else is at it.
async fn decide(session: &Session, changes: &[(&str, String)], sent: &mut bool) -> Result<Settings, String> {
    loop {
        // Without an answer, or before the founder has written the first ones, there is nothing to change.
        if let Ok(Some(held)) = ask(session).await {
            let old = Settings::parse(&held)?;
            let mut new = old;
            changes.iter().try_for_each(|(name, value)| new.set(name, value))?;
            // Also when an attempt of ours went through that seemed to have failed.
            if new == old {
                return Ok(old);
            }
            new.version += 1;
            *sent = true;
            let set = operation(&[b"SET", KEY, new.to_string().as_bytes(), b"IFEQ", &held]);
            match session.execute(META, vec![set], true).await {
                Ok(done) if done.replies == [Reply::Ok] => return Ok(new),
                Ok(_) => continue,
                Err(_) => {}
            }
        }
        sleep(PAUSE).await;
    }
}

/// The text that the meta group holds now.
async fn ask(session: &Session) -> Result<Option<Bytes>, Error> {
    let done = session.execute(META, vec![operation(&[b"GET", KEY])], true).await?;
    Ok(done.replies.into_iter().next().and_then(|reply| if let Reply::Bulk(text) = reply { Some(text) } else { None }))
}

/// Proposes settings to a group; true when it has applied them or newer ones.
async fn propose(session: &Session, group: GroupId, settings: &Settings) -> bool {
    let executed = session.execute(group, vec![Operation::of_node(settings.to_argv())], true).await;
    let reply = executed.ok().and_then(|done| done.replies.into_iter().next());
    matches!(reply, Some(Reply::Int(version)) if version.cast_unsigned() >= settings.version)
}

/// Takes over what this node's replica of the meta group says; its leader writes the first settings.
pub(crate) async fn follow(node: &Node, meta: &Group) {
    match stored(meta, KEY).map(|text| Settings::parse(&text)) {
        Some(Ok(settings)) => node.learn_settings(settings),
        Some(Err(e)) => tracing::error!(error = e, "the settings of the cluster cannot be read: upgrade this node"),
        None if meta.leads() => {
            let first = Settings { version: 1, ..node.config().settings };
            meta.propose(vec![operation(&[b"SET", KEY, first.to_string().as_bytes(), b"NX"])], None, false).await;
        }
        None => {}
    }
}

/// Asks for the settings, on a node that has no replica of the meta group.
pub(crate) async fn look_from_afar(node: &Node, session: &Session) {
    if let Ok(Some(text)) = ask(session).await
        && let Ok(settings) = Settings::parse(&text)
    {
        node.learn_settings(settings);
    }
}

/// While this node leads the meta group: sees to it that every group has the newest settings.
pub(crate) async fn spread(node: Node) {
    let mut changed = node.settings();
    // The newest version that a group is known to have; it never goes back there.
    let mut applied: BTreeMap<GroupId, u64> = BTreeMap::new();
    loop {
        let settings = *changed.borrow_and_update();
        if settings.version > 0 && node.group(META).is_some_and(|meta| meta.leads()) {
            let lacks = |group: &GroupId| {
                let local = node.peek(*group).map_or(0, |engine| engine.keyspace().settings().version);
                local.max(applied.get(group).copied().unwrap_or(0)) < settings.version
            };
            let lacking: Vec<GroupId> = node.groups().into_iter().filter(lacks).collect();
            // A session for this round alone: what is given up here must not hold on to a window.
            let session = node.session();
            let tries = lacking.iter().map(|group| timeout(ROUND, propose(&session, *group, &settings)));
            for (group, done) in lacking.iter().zip(join_all(tries).await) {
                if done == Ok(true) {
                    applied.insert(*group, settings.version);
                }
            }
        }
        let _ = timeout(ROUND, changed.changed()).await;
    }
}
