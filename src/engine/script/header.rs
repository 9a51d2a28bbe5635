//! The first line of a script that begins with `#!`: its engine and its flags.

use crate::Error;

/// What a script says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// It promises not to write, and is held to it.
    pub(super) no_writes: bool,
    /// It may use keys of slots that it did not name.
    pub(super) cross_slot: bool,
}

/// Reads the first line, and gives the script without it: an empty line stays, so that lines keep their numbers.
/// A script without such a line may do what scripts always could.
///
/// # Errors
/// As Redis words them.
pub(super) fn read(body: &[u8]) -> Result<(Header, &[u8]), Error> {
    let Some(rest) = body.strip_prefix(b"#!") else {
        return Ok((Header { cross_slot: true, ..Header::default() }, body));
    };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Err(Error::text("ERR Invalid script shebang"));
    };
    let mut words = rest[..end].split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let engine = words.next().unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(Error::quoting(&[b"ERR Could not find scripting engine '", engine, b"'"]));
    }
    let mut header = Header::default();
    for word in words {
        let Some(flags) = word.strip_prefix(b"flags=") else {
            return Err(Error::quoting(&[b"ERR Unknown lua shebang option: ", word]));
        };
        for flag in flags.split(|byte| *byte == b',').filter(|flag| !flag.is_empty()) {
            match flag {
                b"no-writes" => header.no_writes = true,
                b"allow-cross-slot-keys" => header.cross_slot = true,
                // Every script is stopped before it needs memory that is not there, and no replica is stale.
                b"allow-oom" | b"allow-stale" | b"no-cluster" => {}
                _ => return Err(Error::quoting(&[b"ERR Unexpected flag in script shebang: ", flag])),
            }
        }
    }
    Ok((header, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_mistakes_are_named() {
        assert_eq!(read(b"return 1"), Ok((Header { no_writes: false, cross_slot: true }, &b"return 1"[..])));
        assert_eq!(read(b"#!lua\nreturn 1"), Ok((Header::default(), &b"\nreturn 1"[..])));
        let (header, _) = read(b"#!lua flags=no-writes,allow-oom\nx").expect("well formed");
        assert!(header.no_writes && !header.cross_slot);
        for wrong in ["#!lua", "#!js\nx", "#!lua name=x\n", "#!lua flags=what\n"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
