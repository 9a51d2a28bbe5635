//! The scripts that a group knows by their SHA1.
//!
//! Those that SCRIPT LOAD brought stay until SCRIPT FLUSH. Those that EVAL brought are a cache: the oldest go when
//! there are too many, which is the same on every replica.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sha1::Digest;

/// Scripts that EVAL brought, at most; Redis keeps as many.
const CACHED_MAX: usize = 500;
/// Their bytes, at most.
const CACHED_BYTES_MAX: usize = 16 << 20;

/// The lower-case hexadecimal SHA1 of a script.
pub(crate) type Sha = [u8; 40];

/// Those that were loaded, and those that EVAL brought.
type Saved = (Vec<Vec<u8>>, Vec<Vec<u8>>);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bodies {
    bodies: BTreeMap<Sha, (Bytes, bool)>,
    /// Those that EVAL brought, oldest first.
    cached: VecDeque<Sha>,
    cached_bytes: usize,
}

/// The name of a script.
pub(crate) fn sha(body: &[u8]) -> Sha {
    let mut name = [0; 40];
    for (pair, byte) in name.chunks_exact_mut(2).zip(sha1::Sha1::digest(body)) {
        let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
        (pair[0], pair[1]) = (digit(byte >> 4), digit(byte & 15));
    }
    name
}

/// What a client calls a script, in any case.
pub(super) fn name(text: &[u8]) -> Option<Sha> {
    text.to_ascii_lowercase().try_into().ok()
}

impl Bodies {
    /// The text of a script.
    pub(super) fn get(&self, sha: &Sha) -> Option<&Bytes> {
        self.bodies.get(sha).map(|(body, _)| body)
    }

    /// Keeps a script until all are forgotten.
    pub(super) fn load(&mut self, sha: Sha, body: &[u8]) {
        if let Some((body, loaded)) = self.bodies.get_mut(&sha) {
            if !std::mem::replace(loaded, true) {
                self.cached_bytes -= body.len();
                self.cached.retain(|other| *other != sha);
            }
            return;
        }
        self.bodies.insert(sha, (Bytes::copy_from_slice(body), true));
    }

    /// Keeps a script for a while.
    pub(super) fn cache(&mut self, sha: Sha, body: &[u8]) {
        if self.bodies.contains_key(&sha) || body.len() > CACHED_BYTES_MAX {
            return;
        }
        self.bodies.insert(sha, (Bytes::copy_from_slice(body), false));
        self.cached.push_back(sha);
        self.cached_bytes += body.len();
        while self.cached.len() > CACHED_MAX || self.cached_bytes > CACHED_BYTES_MAX {
            let Some(oldest) = self.cached.pop_front() else { return };
            let gone = self.bodies.remove(&oldest);
            self.cached_bytes -= gone.map_or(0, |(body, _)| body.len());
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bodies.len()
    }

    /// A hash of all of it.
    pub(crate) fn digest(&self) -> u64 {
        if self.bodies.is_empty() { 0 } else { xxhash_rust::xxh3::xxh3_64(&self.saved()) }
    }

    /// All of it as bytes for a snapshot: those that were loaded, a mark, then the others, oldest first.
    pub(crate) fn saved(&self) -> Vec<u8> {
        let loaded = self.bodies.values().filter(|(_, loaded)| *loaded).map(|(body, _)| body.to_vec());
        let cached = self.cached.iter().filter_map(|sha| self.get(sha)).map(|body| body.to_vec());
        crate::codec::bytes::<Saved>(&(loaded.collect(), cached.collect()))
    }

    /// Restores what [`Bodies::saved`] gave.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub(crate) fn restore(bytes: &[u8]) -> Result<Bodies, String> {
        let (parts, end): (Saved, usize) = crate::codec::read(bytes, "scripts").map_err(|e| e.to_string())?;
        if end != bytes.len() {
            return Err("bytes behind the scripts".into());
        }
        let mut bodies = Bodies::default();
        parts.0.iter().for_each(|body| bodies.load(sha(body), body));
        parts.1.iter().for_each(|body| bodies.cache(sha(body), body));
        Ok(bodies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_stays_and_the_oldest_of_the_others_go() {
        let mut bodies = Bodies::default();
        let text = |n: usize| format!("return {n}").into_bytes();
        bodies.load(sha(&text(0)), &text(0));
        (1..=CACHED_MAX + 10).for_each(|n| bodies.cache(sha(&text(n)), &text(n)));
        let known = |bodies: &Bodies, n| bodies.get(&sha(&text(n))).is_some();
        assert!(known(&bodies, 0) && !known(&bodies, 10) && known(&bodies, 11));
        bodies.load(sha(&text(11)), &text(11));
        bodies.cache(sha(b"x"), b"x");
        assert!(known(&bodies, 11) && known(&bodies, 12), "the loaded one made room");
        let again = Bodies::restore(&bodies.saved()).expect("own bytes");
        assert_eq!((again.digest(), &again), (bodies.digest(), &bodies));
        assert!(Bodies::restore(&bodies.saved()[..20]).is_err());
    }

    #[test]
    fn a_script_is_called_by_its_sha1() {
        assert_eq!(&sha(b"return 1"), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(name(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(sha(b"return 1")));
        assert_eq!(name(b"short"), None);
    }
}
