//! Snapshots for people: the files that SAVE joins, and the one of a group that a backup fetches.

use std::io;
use std::sync::Arc;

use crate::group::Group;
use crate::node::Node;
use crate::seam::SnapshotSource;
use crate::types::{GroupId, META};

/// A snapshot that is open for reading. It stays readable when a newer one takes its place.
pub struct GroupCopy {
    /// The last entry that is in it.
    pub index: u64,
    /// The term of the leader that wrote that entry.
    pub term: u64,
    /// Its length.
    pub bytes: u64,
    /// An RDB file.
    pub source: Box<dyn SnapshotSource>,
}

impl Node {
    /// Writes a snapshot of every local data group and opens it; each is durable by then.
    ///
    /// # Errors
    /// When one could not be written, or slots are moving.
    pub async fn save(&self) -> io::Result<Vec<(GroupId, u64, Box<dyn SnapshotSource>)>> {
        let groups: Vec<Arc<Group>> = self.inner().groups.load().values().cloned().collect();
        let mut files = Vec::new();
        let owners = self.owners_at_rest()?;
        for group in groups {
            group.take_snapshot().await?;
            let file = group.replica.snapshot.lock().clone();
            if let Some(file) = file.filter(|_| group.replica.group != META) {
                let (bytes, source) = self.inner().seams.disk.open_snapshot(group.replica.group, &file.name)?;
                files.push((group.replica.group, bytes, source));
            }
        }
        if self.owners_at_rest()? == owners { Ok(files) } else { Err(io::Error::other("slots have moved meanwhile")) }
    }

    /// Writes a snapshot of a data group that is led here and opens it. Everything is in it that was acknowledged
    /// before this was asked.
    ///
    /// # Errors
    /// When the group is not led here, or the snapshot could not be written.
    pub async fn copy_group(&self, id: GroupId) -> io::Result<GroupCopy> {
        let not_led = || io::Error::other(format!("{id} is not led here"));
        let group = self.group(id).filter(|group| id != META && group.leads()).ok_or_else(not_led)?;
        group.confirm(&[]).await.map_err(|_| not_led())?;
        group.take_snapshot().await?;
        let file = group.replica.snapshot.lock().clone();
        let last = file.as_ref().and_then(|file| file.meta.last_log_id);
        let (file, last) = file.zip(last).ok_or_else(|| io::Error::other(format!("{id} has no entries yet")))?;
        let (bytes, source) = self.inner().seams.disk.open_snapshot(id, &file.name)?;
        Ok(GroupCopy { index: last.index, term: last.leader_id.term, bytes, source })
    }
}
