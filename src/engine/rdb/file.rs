//! An RDB file put together from DUMP payloads: `quoris admin export`.

use std::io::{self, Write};

use super::{VERSION, opcode, write};

/// A payload's version and checksum, which a file has once for all.
const FOOTER_BYTES: usize = 10;

/// Writes keys as they come. Keys of one database should come together: every change costs a few bytes.
#[derive(Debug)]
pub struct FileWriter<W> {
    out: W,
    digest: crc_fast::Digest,
    database: Option<u32>,
}

impl<W: Write> FileWriter<W> {
    /// Begins a file with fields beside the keys.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(out: W, fields: &[(&str, &str)]) -> io::Result<FileWriter<W>> {
        let digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
        let mut writer = FileWriter { out, digest, database: None };
        let mut head = Vec::new();
        write::magic(&mut head);
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
        if version > VERSION {
            return Err(invalid("a DUMP payload of a newer version"));
        }
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

    /// Ends the file with its checksum and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(&[opcode::EOF])?;
        let sum = self.digest.finalize();
        self.out.write_all(&sum.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::rdb::{ForeignOptions, dump_value, read_foreign};
    use crate::{StringValue, Value};

    #[test]
    fn what_is_written_reads_back() {
        let value = Value::String(StringValue::new(b"some text"));
        let mut writer = FileWriter::new(Vec::new(), &[("redis-ver", "7.0.15")]).expect("memory");
        for (database, key, at) in [(0, "a", None), (0, "b", Some(5)), (3, "a", None)] {
            writer.push(database, key.as_bytes(), at, &dump_value(&value)).expect("memory");
        }
        assert!(writer.push(0, b"x", None, b"short").is_err());
        let file = writer.finish().expect("memory");
        let mut seen = Vec::new();
        let result = read_foreign(&mut &file[..], ForeignOptions::default(), &mut |entry, _| {
            assert_eq!(entry.value, value);
            seen.push((entry.database, entry.key, entry.expire_at_ms));
            ControlFlow::Continue(())
        });
        assert_eq!(result.expect("valid").keys, 3);
        assert_eq!(seen, [(0, b"a".to_vec(), None), (0, b"b".to_vec(), Some(5)), (3, b"a".to_vec(), None)]);
    }
}
