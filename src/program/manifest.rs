//! A backup as a folder: an RDB file of each group, what they are, and sums of all files.
//!
//! `manifest.toml` says what was copied and when, `SHA256SUMS` has the sum of every other file, in the form that
//! `sha256sum -c` reads. `src/docs/backup.md` describes both.
//!
//! Invariants: nothing of a folder is used before all sums were right; the slots of a backup's groups are all slots,
//! each once.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{Read, Write},
    path::Path,
};

use anyhow::{Context, bail};
use quoris_engine::SLOTS;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "manifest.toml";
const SUMS: &str = "SHA256SUMS";
/// The version of the folder.
const FORMAT: u32 = 1;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// The program that took it.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// When it was begun and ended, by the clock of the machine that took it, in Unix milliseconds.
    pub began_ms: u64,
    pub ended_ms: u64,
    /// Numbered databases that hold keys, up to the highest one.
    pub databases: u64,
    /// Those of the cluster.
    pub settings: BTreeMap<String, String>,
    #[serde(rename = "group")]
    pub groups: Vec<GroupFile>,
    #[serde(rename = "node")]
    pub nodes: Vec<NodeLine>,
}

/// The file of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GroupFile {
    pub id: u64,
    pub file: String,
    pub bytes: u64,
    pub keys: u64,
    /// The last entry of the group's log that is in it, and the term of the leader that wrote that.
    pub index: u64,
    pub term: u64,
    /// The group's clock there, in Unix milliseconds.
    pub clock_ms: u64,
    /// The slots whose keys it holds.
    pub slots: String,
}

/// A node, for whoever builds the cluster anew; restoring does not look at it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NodeLine {
    pub id: u64,
    pub clients: String,
    pub peers: String,
}

impl Manifest {
    /// A manifest that is to be filled.
    pub fn new(cluster: &str, began_ms: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            version: quoris_server::version::QUORIS.into(),
            cluster: cluster.into(),
            began_ms,
            ended_ms: began_ms,
            databases: 0,
            settings: BTreeMap::new(),
            groups: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Keys of all groups.
    pub fn keys(&self) -> u64 {
        self.groups.iter().map(|group| group.keys).sum()
    }

    /// Writes it beside the files of the groups, then the sums of all of them; durable on return.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let mut sums = String::new();
        put(dir, MANIFEST, &toml::to_string(self)?)?;
        for name in self.groups.iter().map(|group| group.file.as_str()).chain([MANIFEST]) {
            writeln!(sums, "{}  {name}", sum(dir, name, &mut |_| {})?)?;
        }
        put(dir, SUMS, &sums)?;
        File::open(dir)?.sync_all().with_context(|| dir.display().to_string())
    }

    /// Reads it, once every file has the sum that it should have. `progress` counts bytes.
    pub fn read_checked(dir: &Path, progress: &mut dyn FnMut(u64)) -> anyhow::Result<Manifest> {
        let sums = std::fs::read_to_string(dir.join(SUMS));
        let sums = sums.with_context(|| format!("{} is no backup: {SUMS} cannot be read", dir.display()))?;
        let mut checked = Vec::new();
        for line in sums.lines() {
            let Some((wanted, name)) = line.split_once("  ").filter(|(_, name)| !name.contains('/')) else {
                bail!("{}: {line:?} is not a line of sha256sum: use another copy of this backup", shown(dir, SUMS));
            };
            let found = sum(dir, name, progress)
                .context("a file of the backup is missing or cannot be read: use another copy of this backup")?;
            if found != wanted {
                bail!(
                    "{} is damaged: its SHA-256 is {found}, and {SUMS} says {wanted}. Use another copy of this backup",
                    shown(dir, name)
                );
            }
            checked.push(name);
        }
        let manifest = parse(&std::fs::read_to_string(dir.join(MANIFEST))?).with_context(|| shown(dir, MANIFEST))?;
        for name in manifest.groups.iter().map(|group| group.file.as_str()).chain([MANIFEST]) {
            if !checked.contains(&name) {
                bail!("{} has no sum of {name}: use another copy of this backup", shown(dir, SUMS));
            }
        }
        Ok(manifest)
    }
}

fn shown(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

fn parse(text: &str) -> anyhow::Result<Manifest> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let Versioned { format } = toml::from_str(text)?;
    if format != FORMAT {
        bail!("a backup of format {format}; this program knows {FORMAT}: use a newer one");
    }
    Ok(toml::from_str(text)?)
}

fn put(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = File::create_new(dir.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| shown(dir, name))
}

/// The SHA-256 of a file.
fn sum(dir: &Path, name: &str, progress: &mut dyn FnMut(u64)) -> anyhow::Result<String> {
    let mut read = || {
        let (mut file, mut hash, mut piece) = (File::open(dir.join(name))?, Sha256::new(), vec![0; PIECE_BYTES]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok::<_, std::io::Error>(hash.finalize()),
                bytes => {
                    hash.update(&piece[..bytes]);
                    progress(bytes as u64);
                }
            }
        }
    };
    let hash = read().with_context(|| shown(dir, name))?;
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Checks that groups hold every slot once.
pub(super) fn check_slots(groups: &[(u64, Vec<(u16, u16)>)]) -> anyhow::Result<()> {
    let mut owners: Vec<Option<u64>> = vec![None; usize::from(SLOTS)];
    let moved = "slots have moved while the backup was taken: take it again when they rest";
    for (group, ranges) in groups {
        for slot in ranges.iter().flat_map(|(first, last)| *first..=*last) {
            if let Some(other) = owners[usize::from(slot)].replace(*group) {
                bail!("slot {slot} is in the files of the groups {other} and {group}: {moved}");
            }
        }
    }
    match owners.iter().position(Option::is_none) {
        Some(slot) => bail!("slot {slot} is in no file: {moved}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_groups_hold_every_slot_once() {
        let whole = [(1, vec![(0, 99), (200, 16_383)]), (2, vec![]), (3, vec![(100, 199)])];
        check_slots(&whole).expect("each slot once");
        let text = |groups: &[(u64, Vec<(u16, u16)>)]| check_slots(groups).expect_err("not so").to_string();
        assert!(text(&whole[..1]).starts_with("slot 100 is in no file"));
        let twice = [whole[0].clone(), (2, vec![(99, 199)])];
        assert!(text(&twice).starts_with("slot 99 is in the files of the groups 1 and 2"));
    }

    #[test]
    fn a_folder_is_read_when_nothing_of_it_has_changed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut manifest = Manifest::new("c1", 7);
        let group = GroupFile {
            id: 1,
            file: "group-1.rdb".into(),
            bytes: 3,
            keys: 1,
            index: 2,
            term: 1,
            clock_ms: 5,
            slots: "0-16383".into(),
        };
        manifest.groups.push(group);
        manifest.settings.insert("notify-keyspace-events".into(), String::new());
        std::fs::write(dir.path().join("group-1.rdb"), "abc").expect("written");
        manifest.write(dir.path()).expect("written");
        let read = || Manifest::read_checked(dir.path(), &mut |_| {});
        let found = read().expect("whole");
        assert_eq!((found.keys(), &found.groups[0].slots, found.settings.len()), (1, &"0-16383".to_string(), 1));
        std::fs::write(dir.path().join("group-1.rdb"), "abd").expect("written");
        assert!(format!("{:#}", read().expect_err("another file")).contains("group-1.rdb is damaged"));
        std::fs::remove_file(dir.path().join("group-1.rdb")).expect("removed");
        assert!(format!("{:#}", read().expect_err("no file")).contains("group-1.rdb"));
        assert!(parse("format = 2").expect_err("a later one").to_string().contains("format 2"));
    }
}
