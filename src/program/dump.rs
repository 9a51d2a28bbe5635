//! `quoris admin log dump`: the log of a stopped node, entry by entry, or what the entries did.
//!
//! What is printed goes to stdout, remarks go to stderr, so that effects can be piped into redis-cli.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;
use quoris_engine::{
    entry::{EntryReader, SessionStamp, Transaction},
    events::Event,
};
use quoris_log::RocksDisk;
use quoris_raft::{
    GroupId, META,
    offline::{Folder, GroupLog, Logged},
    record::LogIdRecord,
    types::Payload,
};
use quoris_resp::{Argv, quoted};

/// What to print.
#[derive(Debug, Args)]
pub(super) struct Dump {
    /// The data folder.
    #[arg(value_name = "DIR", required_unless_present = "dir")]
    folder: Option<PathBuf>,
    /// The data folder.
    #[arg(long, conflicts_with = "folder")]
    dir: Option<PathBuf>,
    /// One group; by default all groups with keys. 0 is the meta group.
    #[arg(long)]
    group: Option<u32>,
    /// The first index; by default as far back as the folder goes.
    #[arg(long)]
    from: Option<u64>,
    /// The last index; by default the end of the log, with --as-effects the last entry that is known to be
    /// committed.
    #[arg(long)]
    to: Option<u64>,
    /// Prints what the entries did, as commands for redis-cli --pipe.
    #[arg(long)]
    as_effects: bool,
    /// Prints what the entries told to those who listen, each event behind its position.
    #[arg(long, conflicts_with = "as_effects")]
    as_events: bool,
}

/// Prints the log.
pub(super) fn dump(options: &Dump) -> anyhow::Result<()> {
    let dir = options.dir.as_ref().or(options.folder.as_ref()).context("no data folder")?;
    let folder = Folder::open(Arc::new(RocksDisk::open_read_only(dir)?))?;
    let groups = options.group.map_or_else(|| folder.groups(), |group| vec![GroupId(group)]);
    if groups.len() > 1 && (options.from.is_some() || options.to.is_some()) {
        bail!("each group has indexes of its own: choose one of {} groups with --group", groups.len());
    }
    let replays = options.as_effects || options.as_events;
    if replays && groups.contains(&META) {
        bail!("the meta group holds no keys of clients, so it has no effects and no events to print");
    }
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let result = groups.into_iter().try_for_each(|group| {
        let log = folder.log(group)?;
        if replays { replay(&log, dir, options, &mut out) } else { raw(&log, options, &mut out) }
    });
    match result.and_then(|()| out.flush()) {
        // Whoever read has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

fn replay(log: &GroupLog, dir: &Path, options: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let what = if options.as_events { "events" } else { "effects" };
    let plan = log.plan(options.from, options.to)?;
    match &plan.base {
        Some((index, name)) if index + 1 == plan.from => eprintln!(
            "{}: {what} of {} to {}, on top of what {} holds",
            log.group,
            plan.from,
            plan.to,
            dir.join("snapshots").join(format!("group-{}", log.group.0)).join(name).display()
        ),
        _ => eprintln!("{}: {what} of {} to {}", log.group, plan.from, plan.to),
    }
    let end = log.range.map_or(0, |(_, last)| last);
    if options.to.is_none() && end > plan.to {
        eprintln!(
            "{}: entries {} to {end} are not known to be committed and left out; --to {end} takes them in",
            log.group,
            plan.to + 1
        );
    }
    // In front of the first key nothing is selected.
    let mut selected = None;
    let replayed = log.replay(&plan, &mut |index, effects, events| {
        for (event, n) in events.iter().zip(1..).filter(|_| options.as_events) {
            writeln!(out, "{}:{index}-{n}  {}", log.group.0, told(event))?;
        }
        for effect in effects.iter().filter(|_| options.as_effects) {
            if let Some(database) = effect.database().filter(|database| selected != Some(*database)) {
                out.write_all(Argv::from_parts(&["SELECT", &database.to_string()]).frame())?;
                selected = Some(database);
            }
            out.write_all(effect.argv().frame())?;
        }
        Ok(())
    });
    replayed.map(drop)
}

/// An event as a line.
fn told(event: &Event) -> String {
    match event {
        Event::Message { channel, payload, sharded } => {
            let kind = if *sharded { "smessage" } else { "message" };
            format!("{kind} {} {}", quoted(channel), quoted(payload))
        }
        Event::Key { name, database, key, .. } => format!("{name} db {database} {}", quoted(key)),
        Event::Moved { range, group, index } => format!("moved {}-{} to {group}:{index}", range.first, range.last),
        Event::Arrived { range, index } => format!("arrived {}-{} above {index}", range.first, range.last),
    }
}

fn raw(log: &GroupLog, options: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let purged = log.purged.map_or(String::new(), |index| format!(", purged up to {index}"));
    writeln!(out, "# {}{purged}, known to be committed up to {}", log.group, log.committed)?;
    log.entries(options.from.unwrap_or(0), options.to.unwrap_or(u64::MAX), &mut |entry| show(&entry, out))
}

/// One entry: a line, and one for each command.
fn show(entry: &Logged, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "index {}", entry.index)?;
    match &entry.record {
        Err(e) => writeln!(out, "  cannot be read: {e}")?,
        Ok((id, payload)) => {
            write!(out, "  term {}  leader {}", id.term, id.leader)?;
            match payload {
                Payload::Blank => writeln!(out, "  blank")?,
                Payload::Membership(membership) => {
                    let voters: Vec<String> = membership.voter_ids().map(|id| id.to_string()).collect();
                    writeln!(out, "  membership, voters {}", voters.join(" "))?;
                    for (id, member) in membership.nodes() {
                        writeln!(out, "  replica {id} on node {} {}", member.node, member.addr)?;
                    }
                }
                Payload::Normal(body) => out.write_all(commands(&body.0).as_bytes())?,
            }
        }
    }
    if let Some(reason) = &entry.skipped {
        writeln!(out, "  passed over: {reason}")?;
    }
    Ok(())
}

/// The rest of an entry's first line, and its commands.
pub(super) fn commands(body: &bytes::Bytes) -> String {
    let mut out = String::new();
    let mut reader = match EntryReader::new(body) {
        Ok(reader) => reader,
        Err(e) => return format!("  cannot be applied: {e}\n"),
    };
    let header = *reader.header();
    out += &format!("  clock {}  seed {:016x}", header.clock_ms, header.seed);
    out += if header.commands == 0 { "  tick\n" } else { "\n" };
    loop {
        let command = match reader.next_command() {
            Ok(Some(command)) => command,
            Ok(None) => return out,
            Err(e) => return out + &format!("  cannot be applied: {e}\n"),
        };
        out += &format!("  db {}", command.meta.database);
        if let Some(SessionStamp { session, sequence, .. }) = command.meta.session {
            out += &format!("  session {:016x}-{} command {sequence}", session.origin, session.connection);
        }
        if !command.meta.transaction {
            out += &format!("  {}\n", words(&command.argv));
            continue;
        }
        match Transaction::from_argv(&command.argv) {
            Err(e) => out += &format!("  transaction, cannot be applied: {e}\n"),
            Ok(transaction) => {
                out += "  transaction\n";
                for watch in &transaction.watches {
                    out += &format!(
                        "    watches db {} {} version {}\n",
                        watch.database,
                        quoted(&watch.key),
                        watch.version
                    );
                }
                transaction.commands.iter().for_each(|argv| out += &format!("    {}\n", words(argv)));
            }
        }
    }
}

fn words(argv: &Argv) -> String {
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Names an entry in a message.
pub(super) fn place(group: GroupId, id: &LogIdRecord) -> String {
    format!("{group}, index {} (term {}, leader {})", id.index, id.term, id.leader)
}
