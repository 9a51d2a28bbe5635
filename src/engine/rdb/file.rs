//! An RDB file put together from DUMP payloads: `quoris admin export`.

use std::io::{self, Seek, SeekFrom, Write};

use super::{VERSION, VERSION_MAX, crc64, opcode, write};

/// A payload's version and checksum, which a file has once for all.
const FOOTER_BYTES: usize = 10;

/// Writes keys as they come. Keys of one database should come together: every change costs a few bytes.
/// The file has the version of the newest payload.
#[derive(Debug)]
pub struct FileWriter<W> {
    out: W,
    version: u16,
    /// Of what stands behind the version.
    digest: crc_fast::Digest,
    written: u64,
    database: Option<u32>,
}

impl<W: Write + Seek> FileWriter<W> {
    /// Begins a file with fields beside the keys.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(out: W, fields: &[(&str, &str)]) -> io::Result<FileWriter<W>> {
        let digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
        let mut writer = FileWriter { out, version: VERSION, digest, written: 0, database: None };
        let mut head = Vec::new();
        write::magic(VERSION, &mut head);
        writer.out.write_all(&head)?;
        head.clear();
        fields.iter().for_each(|(name, value)| write::aux(name, value.as_bytes(), &mut head));
        writer.put(&head)?;
        Ok(writer)
    }

    /// Adds a key with the payload that DUMP gave; the payload is taken as it is.
    ///
    /// # Errors
    /// When writing fails, or the payload is too short or newer than the file's version.
    pub fn push(&mut self, database: u32, key: &[u8], expire_at_ms: Option<u64>, payload: &[u8]) -> io::Result<()> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let body = payload.len().checked_sub(FOOTER_BYTES).ok_or_else(|| invalid("a DUMP payload of no value"))?;
        let (value, footer) = payload.split_at(body);
        let (Some((kind, value)), version) = (value.split_first(), u16::from_le_bytes([footer[0], footer[1]])) else {
            return Err(invalid("a DUMP payload of no value"));
        };
        if version > VERSION_MAX {
            return Err(invalid("a DUMP payload of a newer version"));
        }
        self.version = self.version.max(version);
        let mut head = Vec::with_capacity(key.len() + 32);
        if self.database != Some(database) {
            self.database = Some(database);
            head.push(opcode::SELECTDB);
            write::length(u64::from(database), &mut head);
        }
        if let Some(at) = expire_at_ms {
            head.push(opcode::EXPIRETIME_MS);
            head.extend_from_slice(&at.to_le_bytes());
        }
        head.push(*kind);
        write::string(key, &mut head);
        self.put(&head)?;
        self.put(value)
    }

    /// Adds the libraries of functions of a payload that FUNCTION DUMP gave.
    ///
    /// # Errors
    /// When writing fails, or the payload is none.
    pub fn push_functions(&mut self, payload: &[u8]) -> io::Result<()> {
        let codes = super::restore_functions(payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let mut out = Vec::new();
        codes.iter().for_each(|code| write::function(code, &mut out));
        self.put(&out)
    }

    /// Ends the file with its checksum and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[opcode::EOF])?;
        let mut head = Vec::new();
        write::magic(self.version, &mut head);
        let algorithm = crc_fast::CrcAlgorithm::Crc64Redis;
        let sum = crc_fast::checksum_combine(algorithm, crc64(&head), self.digest.finalize(), self.written);
        self.out.write_all(&sum.to_le_bytes())?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head)?;
        self.out.seek(SeekFrom::End(0))?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::rdb::{ForeignOptions, VERSION_EXPIRING_FIELDS, dump_value, read_foreign};
    use crate::testing::{SEED, run};
    use crate::{Engine, StringValue, Value};

    #[test]
    fn what_is_written_reads_back() {
        let value = Value::String(StringValue::new(b"some text"));
        let mut writer = FileWriter::new(io::Cursor::new(Vec::new()), &[("redis-ver", "7.0.15")]).expect("memory");
        let code = b"#!lua name=lib\n-- nothing".as_slice();
        writer.push_functions(&crate::rdb::dump_functions([code].into_iter())).expect("memory");
        assert!(writer.push_functions(b"no payload").is_err());
        for (database, key, at) in [(0, "a", None), (0, "b", Some(5)), (3, "a", None)] {
            writer.push(database, key.as_bytes(), at, &dump_value(&value)).expect("memory");
        }
        assert!(writer.push(0, b"x", None, b"short").is_err());
        let file = writer.finish().expect("memory").into_inner();
        let mut seen = Vec::new();
        let result = read_foreign(&mut &file[..], ForeignOptions::default(), &mut |entry, _| {
            assert_eq!(entry.value, value);
            seen.push((entry.database, entry.key, entry.expire_at_ms));
            ControlFlow::Continue(())
        });
        let read = result.expect("valid");
        assert_eq!((read.keys, read.version, read.functions), (3, VERSION, vec![code.to_vec()]));
        assert_eq!(seen, [(0, b"a".to_vec(), None), (0, b"b".to_vec(), Some(5)), (3, b"a".to_vec(), None)]);
    }

    #[test]
    fn a_file_has_the_version_that_its_keys_need() {
        let mut engine = Engine::new(SEED);
        run(&mut engine, 1000, "HSET h f v g w");
        run(&mut engine, 1000, "HPEXPIREAT h 5000 FIELDS 1 f");
        let value = engine.keyspace().value(0, b"h").expect("it was set").clone();
        let mut writer = FileWriter::new(io::Cursor::new(Vec::new()), &[]).expect("memory");
        writer.push(0, b"h", None, &dump_value(&value)).expect("memory");
        let file = writer.finish().expect("memory").into_inner();
        let mut seen = Vec::new();
        let read = read_foreign(&mut &file[..], ForeignOptions::default(), &mut |entry, _| {
            seen.push(entry.value);
            ControlFlow::Continue(())
        });
        assert_eq!((read.expect("valid").version, seen), (VERSION_EXPIRING_FIELDS, vec![value]));
    }
}
