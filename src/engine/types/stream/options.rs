//! The options that XADD and XTRIM share, and trimming.

use std::borrow::Cow;

use quoris_resp::Argv;

use super::id::{Id, Wanted};
use super::produced;
use super::value::Stream;
use crate::types::collection::Collection;
use crate::{Error, Settings, number};

/// What `~` without LIMIT removes at most, at least and without a limit for nodes.
const LIMIT_MAX: i64 = 1_000_000;
const LIMIT_NODES: i64 = 100;
const LIMIT_DEFAULT: i64 = 10_000;

/// What happens to the groups' references to an entry that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum References {
    /// They stay.
    Keep,
    /// They go as well.
    Delete,
    /// Only entries are removed that all groups have read and acknowledged.
    Acknowledged,
}

impl References {
    /// The policy that a word names.
    pub(super) fn parse(word: &[u8]) -> Option<References> {
        match &word.to_ascii_lowercase()[..] {
            b"keepref" => Some(References::Keep),
            b"delref" => Some(References::Delete),
            b"acked" => Some(References::Acknowledged),
            _ => None,
        }
    }
}

/// What stays of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Len(u64),
    Id(Id),
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Without a stream there is nothing to do.
    pub(super) only_existing: bool,
    /// The id of the new entry.
    pub(super) id: Wanted,
    /// The argument behind the last option, or behind the id.
    pub(super) end: usize,
    bound: Option<Bound>,
    approximate: bool,
    limit: Option<i64>,
    references: Option<References>,
    /// The producer's argument, and the message's unless its content names it.
    produced: Option<(usize, Option<usize>)>,
}

impl Options {
    /// Reads the options of XADD up to the id, or of XTRIM.
    ///
    /// # Errors
    /// As Redis words them.
    pub(super) fn parse(argv: &Argv, is_add: bool) -> Result<Options, Error> {
        let mut options = Options {
            only_existing: false,
            id: Wanted::Now,
            end: 2,
            bound: None,
            approximate: false,
            limit: None,
            references: None,
            produced: None,
        };
        let mut found_id = false;
        while let Some(word) = argv.get(options.end).filter(|_| !found_id) {
            let more = argv.len() - 1 - options.end;
            match &word.to_ascii_lowercase()[..] {
                b"*" if is_add => found_id = true,
                which @ (b"maxlen" | b"minid") if more > 0 => options.parse_bound(argv, which == b"maxlen")?,
                b"limit" if more > 0 => options.parse_limit(argv)?,
                b"nomkstream" if is_add => options.only_existing = true,
                b"idmpauto" if is_add && more > 0 => options.parse_names(argv, false)?,
                b"idmp" if is_add && more > 1 => options.parse_names(argv, true)?,
                lower => match References::parse(lower).filter(|_| options.references.is_none()) {
                    Some(references) => options.references = Some(references),
                    None if is_add => {
                        options.id = Wanted::parse(word)?;
                        found_id = true;
                    }
                    None => return Err(Error::Syntax),
                },
            }
            options.end += 1;
        }
        if options.produced.is_some() && options.id != Wanted::Now {
            return Err(Error::text("ERR IDMP/IDMPAUTO can be used only with auto-generated IDs"));
        }
        options.check(is_add)?;
        Ok(options)
    }

    fn parse_bound(&mut self, argv: &Argv, is_len: bool) -> Result<(), Error> {
        if self.bound.is_some() {
            return Err(Error::text("ERR syntax error, MAXLEN and MINID options at the same time are not compatible"));
        }
        let mut at = self.end + 1;
        if at + 1 < argv.len() && matches!(&argv[at], b"~" | b"=") {
            self.approximate = &argv[at] == b"~";
            at += 1;
        }
        self.bound = Some(if is_len {
            let len = number::integer(&argv[at]).ok_or(Error::NotAnInteger)?;
            let len = u64::try_from(len).map_err(|_| Error::text("ERR The MAXLEN argument must be >= 0."))?;
            Bound::Len(len)
        } else {
            Bound::Id(Id::parse(&argv[at], 0)?)
        });
        self.end = at;
        Ok(())
    }

    fn parse_names(&mut self, argv: &Argv, has_message: bool) -> Result<(), Error> {
        if self.produced.is_some() {
            return Err(Error::text("ERR IDMP/IDMPAUTO specified multiple times"));
        }
        let producer = self.end + 1;
        let message = has_message.then_some(producer + 1);
        let option = if has_message { "IDMP" } else { "IDMPAUTO" };
        produced::check_names(option, &argv[producer], message.map_or(b"-", |at| &argv[at]))?;
        self.produced = Some((producer, message));
        self.end = message.unwrap_or(producer);
        Ok(())
    }

    /// Who produced the new entry, and the name of the message.
    pub(super) fn names<'a>(&self, argv: &'a Argv) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
        let (producer, message) = self.produced?;
        let message = match message {
            Some(at) => Cow::Borrowed(&argv[at]),
            None => Cow::Owned(produced::content_name(argv.iter().skip(self.end)).to_vec()),
        };
        Some((&argv[producer], message))
    }

    fn parse_limit(&mut self, argv: &Argv) -> Result<(), Error> {
        self.end += 1;
        let limit = number::integer(&argv[self.end]).ok_or(Error::NotAnInteger)?;
        if limit < 0 {
            return Err(Error::text("ERR The LIMIT argument must be >= 0."));
        }
        self.limit = Some(limit);
        Ok(())
    }

    fn check(&self, is_add: bool) -> Result<(), Error> {
        let has_limit = self.limit.is_some_and(|limit| limit > 0);
        let why = match self.bound {
            None if has_limit => "LIMIT cannot be used without specifying a trimming strategy",
            None if !is_add => "XTRIM must be called with a trimming strategy",
            _ if self.limit.is_some() && !self.approximate => "LIMIT cannot be used without the special ~ option",
            _ => return Ok(()),
        };
        Err(Error::text(format!("ERR syntax error, {why}")))
    }

    /// How many of the first entries may go.
    fn surplus(&self, stream: &Stream, settings: &Settings) -> u64 {
        let surplus = match self.bound {
            None => 0,
            Some(Bound::Len(len)) => stream.len().saturating_sub(len),
            Some(Bound::Id(id)) => stream.count_below(id),
        };
        if !self.approximate {
            return surplus;
        }
        let nodes = settings.stream_node_max_entries;
        let default = if nodes > 0 { nodes.saturating_mul(LIMIT_NODES).min(LIMIT_MAX) } else { LIMIT_DEFAULT };
        let limit = match self.limit.unwrap_or(default) {
            0 => u64::MAX,
            limit => limit.cast_unsigned(),
        };
        // As Redis removes whole nodes only, of which the last may be part full, and the first may have lost some.
        let (surplus, node) = (surplus.min(limit), stream.per_node_by(settings));
        let lost = stream.added().saturating_sub(stream.len()) % node;
        match surplus.checked_sub(node - lost) {
            _ if surplus == stream.len() => surplus,
            Some(behind) => node - lost + behind / node * node,
            None => 0,
        }
    }

    /// Whether trimming would look at any entry.
    pub(super) fn would_trim(&self, stream: &Stream, settings: &Settings) -> bool {
        self.surplus(stream, settings) > 0
    }

    /// Trims a stream and tells how many entries went.
    pub(super) fn trim(&self, stream: &mut Stream, settings: &Settings) -> u64 {
        let surplus = self.surplus(stream, settings);
        let first = |stream: &Stream, count| stream.iter_from(0).take(count).map(Id::of).collect::<Vec<_>>();
        match self.references.unwrap_or(References::Keep) {
            _ if surplus == 0 => return 0,
            References::Keep => {}
            References::Delete => {
                first(stream, surplus as usize).into_iter().for_each(|id| stream.forget_deliveries(id));
            }
            References::Acknowledged => {
                // With a length, entries that have to stay are made up for by later ones.
                let exact_len = !self.approximate && matches!(self.bound, Some(Bound::Len(_)));
                let among = if exact_len { stream.len() } else { surplus } as usize;
                let free = stream.iter_from(0).take(among).map(Id::of).filter(|id| !stream.is_wanted(*id));
                let free: Vec<Id> = free.take(surplus as usize).collect();
                let before = free.iter().zip(stream.iter_from(0)).take_while(|(id, item)| **id == Id::of(item)).count();
                // What goes from the front leaves no hole behind.
                for id in &free[before..] {
                    stream.remove(*id);
                }
                stream.remove_first(before as u64);
                return free.len() as u64;
            }
        }
        stream.remove_first(surplus);
        surplus
    }
}
