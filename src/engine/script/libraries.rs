//! The libraries of functions that a group holds: FUNCTION LOAD brings them, FCALL runs their functions.
//!
//! A library is its text; what it registers was found by running the text once, and is found again so when a
//! snapshot is restored.
//!
//! Invariants:
//! * No two functions have names that differ in case only, in one library or in two.
//! * A change is made as a whole or not at all.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bodies::{Sha, sha};
use super::header::{self, Flags};
use super::run;
use crate::Error;

/// A function as its library registered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FunctionRow {
    pub(super) name: Vec<u8>,
    pub(super) description: Option<Vec<u8>>,
    pub(super) flags: Flags,
}

/// A library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// Its whole text.
    pub(super) code: Bytes,
    /// The SHA1 of the text.
    pub(super) sha: Sha,
    /// Its functions, in the order of their names.
    pub(super) functions: Vec<FunctionRow>,
}

impl Library {
    /// The text behind the first line.
    pub(super) fn text(&self) -> &[u8] {
        let end = self.code.iter().position(|byte| *byte == b'\n');
        &self.code[end.unwrap_or(self.code.len())..]
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Libraries {
    libraries: BTreeMap<Vec<u8>, Library>,
    /// The library of each function, by the function's name in lower case, and its place there.
    functions: BTreeMap<Vec<u8>, (Vec<u8>, usize)>,
}

fn named(what: &[u8], name: &[u8], rest: &[u8]) -> Error {
    Error::quoting(&[b"ERR ", what, name, rest])
}

impl Libraries {
    /// Adds a library, and gives its name. Another of the same name is replaced or in the way.
    ///
    /// # Errors
    /// As Redis words them; nothing has changed.
    pub(super) fn load(&mut self, code: &[u8], replace: bool) -> Result<Vec<u8>, Error> {
        let (name, text) = header::library(code)?;
        if self.libraries.contains_key(&name) && !replace {
            return Err(named(b"Library '", &name, b"' already exists"));
        }
        let sha = sha(code);
        let mut functions = run::load(&sha, text)?;
        if functions.is_empty() {
            return Err(Error::text("ERR No functions registered"));
        }
        functions.sort_by(|one, other| one.name.cmp(&other.name));
        self.add(name.clone(), Library { code: Bytes::copy_from_slice(code), sha, functions })?;
        Ok(name)
    }

    /// Adds a library whose name is free or may be taken.
    fn add(&mut self, name: Vec<u8>, library: Library) -> Result<(), Error> {
        let mut added = BTreeMap::new();
        for (place, function) in library.functions.iter().enumerate() {
            let folded = function.name.to_ascii_lowercase();
            let taken = self.functions.get(&folded).is_some_and(|(other, _)| *other != name);
            if taken || added.insert(folded, (name.clone(), place)).is_some() {
                return Err(named(b"Function ", &function.name, b" already exists"));
            }
        }
        self.delete(&name);
        self.functions.append(&mut added);
        self.libraries.insert(name, library);
        Ok(())
    }

    /// Takes the libraries of another set over. Those of the same name are replaced or in the way.
    ///
    /// # Errors
    /// As Redis words them; nothing has changed.
    pub(super) fn join(&mut self, others: Libraries, replace: bool) -> Result<(), Error> {
        let mut joined = self.clone();
        let taken = others.libraries.keys().find(|name| joined.libraries.contains_key(*name));
        if let Some(name) = taken.filter(|_| !replace) {
            return Err(named(b"Library ", name, b" already exists"));
        }
        others.libraries.keys().for_each(|name| {
            joined.delete(name);
        });
        others.libraries.into_iter().try_for_each(|(name, library)| joined.add(name, library))?;
        *self = joined;
        Ok(())
    }

    /// Removes a library; false when there is none of the name.
    pub(super) fn delete(&mut self, name: &[u8]) -> bool {
        self.functions.retain(|_, (library, _)| library != name);
        self.libraries.remove(name).is_some()
    }

    /// A function, in any case, and its library.
    pub(super) fn function(&self, name: &[u8]) -> Option<(&Library, &FunctionRow)> {
        let (library, place) = self.functions.get(&name.to_ascii_lowercase())?;
        let library = self.libraries.get(library)?;
        Some((library, library.functions.get(*place)?))
    }

    /// All of them, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &Library)> {
        self.libraries.iter().map(|(name, library)| (name.as_slice(), library))
    }

    /// The texts of all, for a snapshot.
    pub(crate) fn codes(&self) -> impl Iterator<Item = &Bytes> {
        self.libraries.values().map(|library| &library.code)
    }

    /// Adds a library that a snapshot holds.
    ///
    /// # Errors
    /// When it cannot be loaded, or is there already.
    pub(crate) fn restore(&mut self, code: &[u8]) -> Result<(), String> {
        self.load(code, false).map(drop).map_err(|error| format!("a function library: {error}"))
    }

    /// The number of libraries, and of functions.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.libraries.len(), self.functions.len())
    }

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        self.libraries.values().for_each(|library| hasher.update(&library.sha));
        if self.libraries.is_empty() { 0 } else { hasher.digest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, functions: &[&str]) -> String {
        let register = functions.iter().map(|f| format!("redis.register_function('{f}', function() end)\n"));
        format!("#!lua name={name}\n{}", register.collect::<String>())
    }

    #[test]
    fn a_change_is_made_as_a_whole_or_not_at_all() {
        let mut all = Libraries::default();
        all.load(library("a", &["f", "g"]).as_bytes(), false).expect("well formed");
        all.load(library("b", &["h"]).as_bytes(), false).expect("well formed");
        let before = all.clone();
        assert!(all.load(library("b", &["i", "F"]).as_bytes(), true).is_err());
        assert!(all.load(library("c", &["i", "H"]).as_bytes(), false).is_err());
        assert!(all.load(library("d", &["x", "X"]).as_bytes(), false).is_err());
        let mut others = Libraries::default();
        others.load(library("a", &["h"]).as_bytes(), false).expect("well formed");
        others.load(library("e", &["e"]).as_bytes(), false).expect("well formed");
        assert!(all.join(others.clone(), true).is_err(), "h is b's");
        assert_eq!((&all, all.digest()), (&before, before.digest()));
        all.delete(b"b");
        assert!(all.join(others.clone(), false).is_err(), "a is there");
        all.join(others, true).expect("nothing is in the way");
        assert_eq!(all.counts(), (2, 2));
        assert!(all.function(b"H").is_some() && all.function(b"g").is_none());
        let mut again = Libraries::default();
        all.codes().for_each(|code| again.restore(code).expect("own text"));
        assert_eq!(again, all);
    }
}
