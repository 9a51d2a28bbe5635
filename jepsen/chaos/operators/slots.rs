//! Slots that move between groups, by `quoris admin slots`, as long as the fault lasts.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Operator, PAUSE};

const SLOTS: i64 = 16384;
/// What goes in a second where a move is to last.
const GENTLY_BYTES: &str = "20000";
/// A command that watches a move is ended and asked again after this time.
const WATCH_TIME_MAX: Duration = Duration::from_secs(5);

impl Operator {
    /// One move after the other, until the time is over and the last one has come to its end.
    pub(super) fn move_slots(&self) -> Result<(), String> {
        loop {
            let is_gentle = self.below(2) == 0;
            let mut words = self.order();
            if is_gentle {
                words.extend(["--rate", GENTLY_BYTES].map(String::from));
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.persist(&words.join(" "), || {
                // What goes gently may take longer than the rest of the run.
                if is_gentle && Instant::now() >= self.until { self.admin(&["cancel"]) } else { self.admin(&words) }
            })?;
            if Instant::now() >= self.until {
                return Ok(());
            }
        }
    }

    /// What to do: the words after `quoris admin slots`.
    fn order(&self) -> Vec<String> {
        let from = self.below(self.scene.groups);
        let to = (from + 1 + self.below(self.scene.groups - 1)) % self.scene.groups + 1;
        let (from, to) = ((from + 1).to_string(), to.to_string());
        let words = |list: [&str; 3]| list.map(String::from).to_vec();
        match self.below(4) {
            0 => vec!["rebalance".to_string()],
            1 => words(["split", &from, &to]),
            2 => words(["merge", &from, &to]),
            _ => {
                let first = self.below(SLOTS);
                let last = first + self.below(SLOTS - first);
                words(["move", &format!("{first}-{last}"), &to])
            }
        }
    }

    fn admin(&self, words: &[&str]) -> Result<(), String> {
        let address = self.someone();
        let child = self.command(words, address).spawn();
        let said = ended(child.map_err(|why| why.to_string())?)?;
        if said.is_empty() { Ok(()) } else { Err(said) }
    }

    fn command(&self, words: &[&str], address: SocketAddr) -> Command {
        let mut command = Command::new(&self.scene.program);
        command.args(["admin", "slots"]).args(words).args(["--port", &address.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// What a command says at its end; nothing when it succeeded.
fn ended(mut child: Child) -> Result<String, String> {
    let deadline = Instant::now() + WATCH_TIME_MAX;
    while child.try_wait().map_err(|why| why.to_string())?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill().and_then(|()| child.wait());
            return Err("it goes on".to_string());
        }
        std::thread::sleep(PAUSE);
    }
    let output = child.wait_with_output().map_err(|why| why.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Ok(if output.status.success() { String::new() } else { format!("{}: {text}", output.status) })
}
