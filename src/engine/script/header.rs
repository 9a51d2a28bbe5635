//! The first line of a script or a library: `#!lua`, and what the script says of itself.

use quoris_resp::split_quoted;

use crate::Error;

/// The promises and permissions of a script, by their names; a place is a bit of [`Flags`].
const FLAGS: [&str; 5] = ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

/// What a script or a function says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// From the bits that the prelude gives.
    pub(super) fn new(bits: u8) -> Flags {
        Flags(bits)
    }

    /// It promises not to write, and is held to it.
    pub(super) fn no_writes(self) -> bool {
        self.0 & 1 != 0
    }

    /// It may run, and write, when memory is short; who does not write may anyway.
    pub(super) fn allow_oom(self) -> bool {
        self.0 & 3 != 0
    }

    /// It does not run where keys are spread over groups.
    pub(super) fn no_cluster(self) -> bool {
        self.0 & 8 != 0
    }

    /// It may use keys of several slots.
    pub(super) fn cross_slot(self) -> bool {
        self.0 & 16 != 0
    }

    /// Their names.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        FLAGS.iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 != 0).map(|(_, name)| *name)
    }
}

/// The line without `#!`, and the text from its end on: an empty line stays, so that lines keep their numbers.
fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = body.strip_prefix(b"#!")?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some(rest.split_at(end))
}

/// Reads the first line of a script. One without such a line has no flags and may do what scripts always could.
///
/// # Errors
/// As Redis words them.
pub(super) fn script(body: &[u8]) -> Result<(Option<Flags>, &[u8]), Error> {
    if !body.starts_with(b"#!") {
        return Ok((None, body));
    }
    let (line, text) = split(body).ok_or_else(|| Error::text("ERR Invalid script shebang"))?;
    let words = split_quoted(line).filter(|words| !words.is_empty() && !line.starts_with(b" "));
    let Some(words) = words else {
        let engine: &[u8] = if line.starts_with(b" ") { b"#!" } else { line };
        return Err(Error::quoting(&[b"ERR Unexpected engine in script shebang: ", engine]));
    };
    if words[0] != b"lua" {
        return Err(Error::quoting(&[b"ERR Unexpected engine in script shebang: #!", &words[0]]));
    }
    let mut flags = Flags::default();
    for word in &words[1..] {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err(Error::quoting(&[b"ERR Unknown lua shebang option: ", word]));
        };
        for flag in list.split(|byte| *byte == b',').filter(|_| !list.is_empty()) {
            let bit = FLAGS.iter().position(|name| name.as_bytes() == flag);
            let bit = bit.ok_or_else(|| Error::quoting(&[b"ERR Unexpected flag in script shebang: ", flag]))?;
            flags.0 |= 1 << bit;
        }
    }
    Ok((Some(flags), text))
}

/// Reads the first line of a library: its name, and its text.
///
/// # Errors
/// As Redis words them.
pub(super) fn library(code: &[u8]) -> Result<(Vec<u8>, &[u8]), Error> {
    if !code.starts_with(b"#!") {
        return Err(Error::text("ERR Missing library metadata"));
    }
    let invalid = || Error::text("ERR Invalid library metadata");
    let (line, text) = split(code).ok_or_else(invalid)?;
    let words = split_quoted(line).filter(|words| !words.is_empty()).ok_or_else(invalid)?;
    // With a blank behind `#!` the engine has no name.
    let (engine, words): (&[u8], &[Vec<u8>]) =
        if line.starts_with(b" ") { (b"", &words) } else { (&words[0], &words[1..]) };
    let mut name = None;
    for word in words {
        let Some((field, value)) = word.split_at_checked(5).filter(|(field, _)| field.eq_ignore_ascii_case(b"name="))
        else {
            return Err(Error::quoting(&[b"ERR Invalid metadata value given: ", word]));
        };
        debug_assert_eq!(field.len(), 5);
        if name.replace(value.to_vec()).is_some() {
            return Err(Error::text("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or_else(|| Error::text("ERR Library name was not given"))?;
    if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
        return Err(Error::text(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
             character long",
        ));
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(Error::quoting(&[b"ERR Engine '", engine, b"' not found"]));
    }
    Ok((name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_mistakes_are_named() {
        assert_eq!(script(b"return 1"), Ok((None, &b"return 1"[..])));
        assert_eq!(script(b"#!lua\nreturn 1"), Ok((Some(Flags::default()), &b"\nreturn 1"[..])));
        let (flags, _) = script(b"#!lua flags=no-writes,allow-oom\nx").expect("well formed");
        let flags = flags.expect("there are some");
        assert!(flags.no_writes() && !flags.cross_slot());
        assert_eq!(flags.names().collect::<Vec<_>>(), ["no-writes", "allow-oom"]);
        for wrong in ["#!lua", "#!js\nx", "#!LUA\nx", "#! lua\nx", "#!lua name=x\n", "#!lua flags=what\n"] {
            assert!(script(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_library_says_its_name() {
        assert_eq!(library(b"#!LUA NAME=my_lib\nx"), Ok((b"my_lib".to_vec(), &b"\nx"[..])));
        assert_eq!(library(b"#!lua name=\"a\"\n").map(|(name, _)| name), Ok(b"a".to_vec()));
        for wrong in ["x", "#!lua", "#!\n", "#!lua\n", "#!lua name=a name=b\n", "#!lua a=b\n", "#!lua name=a-b\n"] {
            assert!(library(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for (engine, code) in [("js", &b"#!js name=a\n"[..]), ("", b"#! name=a\n")] {
            let error = library(code).expect_err("no such engine");
            assert_eq!(error.to_string(), format!("ERR Engine '{engine}' not found"));
        }
    }
}
