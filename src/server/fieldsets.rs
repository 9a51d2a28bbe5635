//! HIMPORT: names of fields that a connection has prepared, and hashes made of them.
//!
//! A fieldset is the connection's alone, so what goes to the group names every field: HIMPORT SET is written out
//! before it is queued or sent. Within MULTI it takes the fieldset that was prepared in front of it.
//!
//! Invariant: a connection's fieldsets have at most [`BYTES_MAX`] bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quoris_engine::command::Found;
use quoris_resp::{Argv, Reply};

use crate::{client::Client, commands::Served};

/// Bytes of names that a connection may prepare.
const BYTES_MAX: usize = 16 << 20;
/// Bytes of a field beside its name.
const FIELD_BYTES: usize = size_of::<Bytes>();

#[derive(Debug, Default)]
pub(crate) struct Fieldsets {
    sets: BTreeMap<Vec<u8>, Vec<Bytes>>,
    bytes: usize,
}

fn bytes(name: &[u8], fields: &[Bytes]) -> usize {
    name.len() + fields.iter().map(|field| field.len() + FIELD_BYTES).sum::<usize>()
}

impl Fieldsets {
    fn prepare(&mut self, argv: &Argv) -> Result<(), &'static str> {
        let name = &argv[2];
        if argv.iter().skip(3).collect::<BTreeSet<_>>().len() < argv.len() - 3 {
            return Err("ERR duplicate field name in fieldset");
        }
        // They may live long: they must not pin a read buffer.
        let fields: Vec<Bytes> = argv.iter().skip(3).map(Bytes::copy_from_slice).collect();
        let (more, less) = (bytes(name, &fields), self.sets.get(name).map_or(0, |old| bytes(name, old)));
        if self.bytes - less + more > BYTES_MAX {
            return Err("ERR the fieldsets of this connection are too large");
        }
        self.bytes = self.bytes - less + more;
        self.sets.insert(name.to_vec(), fields);
        Ok(())
    }

    fn discard(&mut self, name: &[u8]) -> bool {
        let old = self.sets.remove(name);
        old.inspect(|fields| self.bytes -= bytes(name, fields)).is_some()
    }

    /// Forgets all of them and tells how many there were.
    pub fn clear(&mut self) -> usize {
        self.bytes = 0;
        std::mem::take(&mut self.sets).len()
    }

    /// HIMPORT SET with the fields in front of their values.
    fn write_out(&self, argv: &Argv) -> Result<Argv, &'static str> {
        let fields = self.sets.get(&argv[3]).ok_or("ERR no such fieldset")?;
        if fields.len() != argv.len() - 4 {
            return Err("ERR value count does not match the fieldset");
        }
        let mut parts: Vec<&[u8]> = argv.iter().take(4).collect();
        for (field, value) in fields.iter().zip(argv.iter().skip(4)) {
            parts.extend([field, value]);
        }
        Ok(Argv::from_parts(&parts))
    }
}

/// HIMPORT PREPARE, DISCARD and DISCARDALL.
pub(crate) fn run(client: &mut Client, sub: &str, argv: &Argv) -> Served {
    let fieldsets = &mut client.fieldsets;
    match sub {
        "prepare" => match fieldsets.prepare(argv) {
            Ok(()) => Reply::Ok.into(),
            Err(text) => Served::error(text),
        },
        "discard" => Reply::Int(i64::from(fieldsets.discard(&argv[2]))).into(),
        "discardall" => Reply::Int(fieldsets.clear() as i64).into(),
        _ => Served::unknown(argv),
    }
}

impl Client {
    /// The command as it is queued or sent: HIMPORT SET is written out, every other stays as it is.
    ///
    /// # Errors
    /// When there is no such fieldset, or it has other fields.
    pub(crate) fn written_out(&self, found: &Found, argv: Argv) -> Result<Argv, Reply> {
        let is_import = found.command.name == "set" && found.container.is_some_and(|c| c.name == "himport");
        if !is_import || !self.authenticated {
            return Ok(argv);
        }
        self.fieldsets.write_out(&argv).map_err(Reply::error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Argv {
        Argv::from_parts(&text.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn values_are_paired_with_the_fields_that_were_prepared() {
        let mut sets = Fieldsets::default();
        assert_eq!(sets.prepare(&words("HIMPORT PREPARE u name age")), Ok(()));
        let argv = sets.write_out(&words("HIMPORT SET k u ann 7")).expect("prepared");
        assert_eq!(argv.frame(), words("HIMPORT SET k u name ann age 7").frame());
        assert!(sets.write_out(&words("HIMPORT SET k u ann")).is_err());
        assert!(sets.write_out(&words("HIMPORT SET k v ann 7")).is_err());
        assert!(sets.prepare(&words("HIMPORT PREPARE v a b a")).is_err());
        assert_eq!(sets.prepare(&words("HIMPORT PREPARE u x")), Ok(()));
        assert_eq!(sets.bytes, 2 + FIELD_BYTES);
        assert!(sets.discard(b"u") && !sets.discard(b"u") && sets.bytes == 0);
        let large = format!("HIMPORT PREPARE u {}", "x".repeat(BYTES_MAX));
        assert!(sets.prepare(&words(&large)).is_err() && sets.clear() == 0);
    }
}
