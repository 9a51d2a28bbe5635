//! Restoring a snapshot of our own.
//!
//! Invariants:
//! * The engine is given out only after the checksum was right and every field was there.
//! * A restored engine has the digest of the one that was saved, and writes the same file again.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;

use super::{FORMAT, FORMAT_MOVING, NO_SLOTS, field, numbers};
use crate::events::Outbox;
use crate::keyspace::Restored;
use crate::moves::Moves;
use crate::rdb::{Item, Parser, RdbError, Strictness};
use crate::script::Bodies;
use crate::session::Sessions;
use crate::{Engine, EngineSeed, Keyspace, SLOTS, Settings, Value, payload};

/// Progress is told each time this many bytes were read.
const PROGRESS_BYTES: u64 = 1 << 20;
/// More databases than this are not believed.
const DATABASES_MAX: u32 = 1 << 16;

/// A restored snapshot.
#[derive(Debug)]
pub struct Loaded {
    /// The state.
    pub engine: Engine,
    /// The fields that are not the engine's own. The parts of a field that came several times are joined.
    pub aux: BTreeMap<String, Vec<u8>>,
}

/// What has been read so far.
#[derive(Default)]
struct Loading {
    own: BTreeMap<String, Vec<u8>>,
    aux: BTreeMap<String, Vec<u8>>,
    engine: Option<Engine>,
    versions: VecDeque<u64>,
    /// What belongs to the value of the next key.
    beside: Option<Vec<u8>>,
    sessions: Sessions,
    /// Keys of slots that are to become the group's own.
    arriving: Vec<Vec<u8>>,
    /// The texts of the libraries of functions.
    libraries: Vec<Vec<u8>>,
}

impl Engine {
    /// Restores a snapshot. `progress` gets the number of bytes that were read, now and then and at the
    /// end. May read beyond the end of the snapshot.
    ///
    /// # Errors
    /// When the file is damaged, incomplete, or not a snapshot of ours.
    pub fn load(reader: &mut dyn Read, progress: &mut dyn FnMut(u64)) -> Result<Loaded, RdbError> {
        let mut parser = Parser::new(reader, Strictness { skip_unsupported: false, checksum_required: true })?;
        let mut loading = Loading::default();
        let encodings = [0, 1, 2, 3].map(payload::encodings);
        let mut told = 0;
        loop {
            if let Some(version) = loading.versions.front() {
                parser.set_settings(encodings[(version & 3) as usize]);
            }
            let item = parser.next()?;
            if parser.offset() - told >= PROGRESS_BYTES {
                told = parser.offset();
                progress(told);
            }
            if matches!(item, Item::End) {
                break;
            }
            loading.take(item).map_err(|why| parser.malformed(why))?;
        }
        progress(parser.offset());
        loading.finish().map_err(|why| parser.malformed(why))
    }
}

impl Loading {
    fn take(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Aux(name, value) => self.take_aux(name, value),
            Item::Function(code) => {
                self.libraries.push(code);
                Ok(())
            }
            Item::Skipped { kind } => Err(format!("a {kind}")),
            Item::Entry { database, key, value, expire_at_ms, .. } => {
                self.take_entry(database, &key, value, expire_at_ms)
            }
            Item::End => Ok(()),
        }
    }

    fn take_aux(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), String> {
        let name = String::from_utf8(name).map_err(|_| "the name of a field is not text")?;
        match name.as_str() {
            field::KEYS => self.take_versions(&value),
            field::BESIDE => {
                let twice = self.beside.replace(value).is_some();
                if twice { Err("two fields for one value".into()) } else { Ok(()) }
            }
            field::SESSIONS => self.sessions.restore(&value),
            field::ARRIVING => {
                self.arriving.push(value);
                Ok(())
            }
            field::FORMAT
            | field::INDEX
            | field::CLOCK
            | field::SEED
            | field::DATABASES
            | field::EXCHANGES
            | field::EXPIRED
            | field::SLOTS
            | field::SCRIPTS
            | field::OUTBOX
            | field::OWN
            | field::MOVES
            | field::SETTINGS => {
                let twice = self.own.insert(name, value).is_some();
                if twice { Err("a field of our own twice".into()) } else { Ok(()) }
            }
            _ => {
                self.aux.entry(name).or_default().extend_from_slice(&value);
                Ok(())
            }
        }
    }

    fn take_versions(&mut self, mut text: &[u8]) -> Result<(), String> {
        if !self.versions.is_empty() {
            return Err("versions of keys that did not come".into());
        }
        while !text.is_empty() {
            self.versions.push_back(numbers::take(&mut text).ok_or("the versions of keys are damaged")?);
        }
        Ok(())
    }

    fn take_entry(&mut self, database: u64, key: &[u8], value: Value, expire_at_ms: Option<u64>) -> Result<(), String> {
        if self.engine.is_none() {
            self.engine = Some(self.new_engine()?);
        }
        let keys = &mut self.engine.as_mut().expect("just made").keyspace;
        let version = self.versions.pop_front().ok_or("a key without a version: this is not a snapshot of Quoris")?;
        let database =
            u32::try_from(database).ok().filter(|n| *n < keys.databases()).ok_or("a database out of range")?;
        let (version, origin) = (version >> 2, (version & 3) as u8);
        if version > keys.slot_versions(crate::slot(key)).0 {
            return Err("a key is younger than its slot".into());
        }
        let mut value = payload::with_origin(value, origin).ok_or("a key of unknown origin")?;
        if let Some(text) = self.beside.take() {
            let taken = value.collection_mut().is_some_and(|collection| collection.restore_beside(&text));
            if !taken {
                return Err("what belongs to a value does not fit it".into());
            }
        }
        let restored = Restored { value, expire_at_ms, version, print: None };
        if keys.restore(database, key, restored) { Ok(()) } else { Err("a key twice".into()) }
    }

    fn finish(mut self) -> Result<Loaded, String> {
        if !self.versions.is_empty() || self.beside.is_some() {
            return Err("versions of keys that did not come".into());
        }
        let mut engine = match self.engine.take() {
            Some(engine) => engine,
            None => self.new_engine()?,
        };
        engine.sessions = self.sessions;
        Ok(Loaded { engine, aux: self.aux })
    }

    /// An engine without keys, from the fields in front of them.
    fn new_engine(&self) -> Result<Engine, String> {
        let format = self.number(field::FORMAT)?;
        if format != FORMAT && format != FORMAT_MOVING {
            return Err(format!("snapshot of format {format}; this program reads {FORMAT} and {FORMAT_MOVING}"));
        }
        let databases = u32::try_from(self.number(field::DATABASES)?).ok().filter(|n| (1..=DATABASES_MAX).contains(n));
        let databases = databases.ok_or("the number of databases is out of range")?;
        let seed = self.text(field::SEED)?;
        let half =
            |range| seed.get(range).and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or("the seed is damaged");
        let hash_seed = [half(0..16)?, half(16..32)?];
        let mut engine = Engine::new(EngineSeed { hash_seed, databases });
        engine.applied_index = self.number(field::INDEX)?;
        let keys = &mut engine.keyspace;
        keys.advance(self.number(field::CLOCK)?);
        keys.set_expired(self.number(field::EXPIRED)?);
        let mut exchanges = &self.own.get(field::EXCHANGES).ok_or("no field of exchanges")?[..];
        for database in 0..databases {
            let count = numbers::take(&mut exchanges).and_then(|n| u16::try_from(n).ok());
            keys.set_exchanges(database, count.ok_or("the exchanges are damaged")?);
        }
        restore_slots(keys, self.own.get(field::SLOTS).ok_or("no field of slots")?)?;
        keys.set_settings(Settings::parse(self.text(field::SETTINGS)?.as_bytes())?);
        keys.set_slots(read_own_slots(self.text(field::OWN)?)?);
        if let Some(saved) = self.own.get(field::MOVES) {
            let moves = Moves::restore(saved, &self.arriving, databases)?;
            moves.own_again(keys);
            *keys.moves_mut() = moves;
        }
        if (format == FORMAT_MOVING) != keys.moves().is_some_and(Moves::is_busy) {
            return Err("slots on their way, or none, in a snapshot of another format".into());
        }
        *keys.scripts_mut() = Bodies::restore(self.own.get(field::SCRIPTS).ok_or("no field of scripts")?)?;
        self.libraries.iter().try_for_each(|code| keys.libraries_mut().restore(code))?;
        if let Some(saved) = self.own.get(field::OUTBOX) {
            *keys.outbox_mut() = Outbox::restore(saved)?;
        }
        Ok(engine)
    }

    fn text(&self, name: &str) -> Result<&str, String> {
        let value = self.own.get(name).ok_or_else(|| format!("no field {name}: this is not a snapshot of Quoris"))?;
        std::str::from_utf8(value).map_err(|_| format!("field {name} is not text"))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        let number = self.text(name)?.parse().ok().filter(|n| *n < i64::MAX.cast_unsigned());
        number.ok_or_else(|| format!("field {name} is not a number in range"))
    }
}

/// The slots that a group owns.
pub(super) type SlotRanges = Box<[(u16, u16)]>;

pub(super) fn read_own_slots(text: &str) -> Result<Option<SlotRanges>, String> {
    if text == NO_SLOTS {
        return Ok(Some(Box::default()));
    }
    let range = |range: &str| {
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last < SLOTS).then_some((first, last))
    };
    let ranges: Option<Vec<_>> = text.split_whitespace().map(range).collect();
    let ranges = ranges.ok_or("the group's own slots are damaged")?;
    Ok((!ranges.is_empty()).then(|| ranges.into()))
}

fn restore_slots(keys: &mut Keyspace, mut text: &[u8]) -> Result<(), String> {
    let mut expected = 0u64;
    while !text.is_empty() {
        let mut next = || numbers::take(&mut text).ok_or("the slots are damaged");
        let (passed, counter, behind) = (next()?, next()?, next()?);
        if counter >= numbers::MAX {
            return Err("a version counter is out of range".into());
        }
        let slot = expected.checked_add(passed).and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
        let slot = slot.ok_or("a slot out of range")?;
        keys.set_slot_versions(slot, counter, counter.checked_sub(behind).ok_or("the slots are damaged")?);
        expected = u64::from(slot) + 1;
    }
    Ok(())
}
