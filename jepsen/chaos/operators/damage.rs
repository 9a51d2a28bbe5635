//! What becomes of the files of a dead node: a flipped bit, a log that lacks its end, a folder from an earlier day.
//!
//! The node starts with that. It may come up right, or has to end with a text that says what to do, which is done then.
//! Meanwhile no other node is harmed: what was acknowledged has to be on the others' disks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Operator, PAUSE};

/// A node that starts with damaged files has found that out within this time, if it looks at them at all.
const NOTICE: Duration = Duration::from_secs(3);
/// An older folder is found out by the others, who have to be met.
const OLDER_NOTICE: Duration = Duration::from_secs(20);
/// What the text of a node that refuses to start has in it: what is wrong, and what to do.
const WHAT_TO_DO: [&str; 2] = ["folder", "quoris admin node replace"];
/// Files that hold nothing of the node's.
const NOTES: [&str; 3] = ["LOG", "LOCK", "OPTIONS"];

fn text(why: impl std::fmt::Display) -> String {
    why.to_string()
}

/// All files below a folder that hold something, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).map_err(text)? {
        let path = item.map_err(text)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if !NOTES.iter().any(|note| name.starts_with(note)) && path.metadata().map_err(text)?.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for item in std::fs::read_dir(from)? {
        let item = item?;
        let (path, to) = (item.path(), to.join(item.file_name()));
        if path.is_dir() { copy(&path, &to) } else { std::fs::copy(&path, &to).map(|_| ()) }?;
    }
    Ok(())
}

/// How much of a file was written: logs have room for more behind it.
fn written(path: &Path) -> Result<i64, String> {
    let bytes = std::fs::read(path).map_err(text)?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1) as i64)
}

impl Operator {
    /// Harms the files of the node at a place, and mends that.
    pub(super) fn damage(&self, place: usize, took_part: &mut Vec<usize>) -> Result<(), String> {
        let at = self.nodes().seat(place);
        took_part.push(at);
        self.down(at)?;
        let (data, _) = self.nodes().paths(at);
        match self.below(3) {
            0 => self.flip(&data)?,
            1 => self.cut(&data)?,
            _ => return self.roll_back(at, &data),
        }
        self.wait();
        let said = self.start(at, NOTICE)?;
        if let Some(said) = &said {
            self.advised(at, said)?;
        }
        // Nobody keeps a disk that has lost something once.
        self.up(at);
        self.replace_in_place(at)
    }

    /// The node is dead, and nobody else's.
    fn down(&self, at: usize) -> Result<(), String> {
        self.persist(&format!("node {} is killed", at + 1), || {
            let mut nodes = self.nodes();
            if !nodes.is_well(at) || !nodes.runs(at) {
                return Err("a fault is on it".to_string());
            }
            nodes.is_in_work(at, true);
            nodes.kill(&[at]).map_err(|why| format!("{why:#}"))
        })
    }

    fn up(&self, at: usize) {
        self.nodes().is_in_work(at, false);
    }

    fn flip(&self, data: &Path) -> Result<(), String> {
        let found = files(data)?;
        let path = &found[self.below(found.len() as i64) as usize];
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(text)?;
        let at = self.below(written(path)?) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).map_err(text)?;
        byte[0] ^= 1 << self.below(8);
        self.say(&format!("a bit of {} flips at {at}", path.display()));
        file.write_all_at(&byte, at).map_err(text)
    }

    /// The newest log loses its end.
    fn cut(&self, data: &Path) -> Result<(), String> {
        let logs = files(data)?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        let newest = logs.max().ok_or("there is no log")?;
        let file = OpenOptions::new().write(true).open(&newest).map_err(text)?;
        let len = written(&newest)?;
        let left = self.below(len) as u64;
        self.say(&format!("{} keeps {left} of {len} bytes", newest.display()));
        file.set_len(left).map_err(text)
    }

    /// The node goes on for a while, and then finds what it had before. When it has said so it gets the newest back.
    fn roll_back(&self, at: usize, data: &Path) -> Result<(), String> {
        let (older, newest) = (data.with_extension("older"), data.with_extension("newest"));
        copy(data, &older).map_err(text)?;
        self.nodes().spawn(at).map_err(text)?;
        self.up(at);
        self.wait();
        self.down(at)?;
        let moved = std::fs::rename(data, &newest).and_then(|()| std::fs::rename(&older, data));
        moved.map_err(text)?;
        self.say(&format!("node {} gets a folder from before", at + 1));
        let Some(said) = self.start(at, OLDER_NOTICE)? else {
            return Err(format!("node {} went on with a folder from before", at + 1));
        };
        self.advised(at, &said)?;
        let aside = data.with_extension("refused");
        let _ = std::fs::remove_dir_all(&aside);
        let moved = std::fs::rename(data, &aside).and_then(|()| std::fs::rename(&newest, data));
        moved.map_err(text)?;
        let mut nodes = self.nodes();
        nodes.may_end(at, false);
        nodes.is_in_work(at, false);
        nodes.spawn(at).map_err(text)
    }

    /// It starts; what it says if it ends again.
    fn start(&self, at: usize, notice: Duration) -> Result<Option<String>, String> {
        let (_, log) = self.nodes().paths(at);
        let before = File::open(&log).and_then(|file| file.metadata()).map_or(0, |meta| meta.len() as usize);
        {
            let mut nodes = self.nodes();
            nodes.may_end(at, true);
            nodes.spawn(at).map_err(text)?;
        }
        let deadline = Instant::now() + notice;
        while self.nodes().runs(at) {
            if Instant::now() > deadline {
                self.say(&format!("node {} goes on", at + 1));
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
        let said = std::fs::read(&log).map_err(text)?;
        Ok(Some(String::from_utf8_lossy(said.get(before..).unwrap_or_default()).into_owned()))
    }

    /// A node that ends says what is wrong and what to do.
    fn advised(&self, at: usize, said: &str) -> Result<(), String> {
        let last = said.lines().last().unwrap_or_default();
        self.say(&format!("node {} ends: {last}", at + 1));
        if WHAT_TO_DO.iter().all(|words| said.contains(words)) {
            return Ok(());
        }
        Err(format!("node {} ended without saying what to do: {last}", at + 1))
    }
}
