//! Who may come in. One user exists: `default`, with or without passwords.
//!
//! Passwords are compared by their SHA-256 in constant time. Rules that would restrict commands, keys or
//! channels are refused: a restriction that is accepted and not enforced would be worse than none.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

#[derive(Debug)]
pub(crate) struct Users {
    default: RwLock<User>,
    /// Whether a connection is authenticated from the start.
    open: AtomicBool,
}

#[derive(Clone, Debug)]
struct User {
    enabled: bool,
    passwords: Vec<Hash>,
    no_password: bool,
}

impl Default for Users {
    fn default() -> Users {
        Users {
            default: RwLock::new(User { enabled: true, passwords: Vec::new(), no_password: true }),
            open: AtomicBool::new(true),
        }
    }
}

fn hash(password: &[u8]) -> Hash {
    Sha256::digest(password).into()
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// Compares without an early end.
fn same(one: &Hash, other: &Hash) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

impl Users {
    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether a name and a password belong together.
    pub fn check(&self, name: &[u8], password: &[u8]) -> bool {
        let user = self.default.read();
        let given = hash(password);
        let known = user.passwords.iter().fold(false, |found, password| found | same(password, &given));
        name == b"default" && user.enabled && (user.no_password || known)
    }

    /// `requirepass`: one password for the default user, or none.
    pub fn set_password(&self, password: &str) {
        let mut user = self.default.write();
        user.passwords = if password.is_empty() { Vec::new() } else { vec![hash(password.as_bytes())] };
        user.no_password = password.is_empty();
        self.refresh(&user);
    }

    /// ACL SETUSER default: all rules or none.
    ///
    /// # Errors
    /// With the first rule that cannot be kept.
    pub fn set_rules<'a>(&self, rules: impl Iterator<Item = &'a [u8]>) -> Result<(), String> {
        let mut user = self.default.read().clone();
        for rule in rules {
            let text = String::from_utf8_lossy(rule);
            user.take(&text).map_err(|why| format!("ERR Error in ACL SETUSER modifier '{text}': {why}"))?;
        }
        let mut stored = self.default.write();
        *stored = user;
        self.refresh(&stored);
        Ok(())
    }

    /// The line of ACL LIST.
    pub fn line(&self) -> String {
        let user = self.default.read();
        let mut line = format!("user default {}", if user.enabled { "on" } else { "off" });
        if user.no_password {
            line += " nopass";
        }
        user.passwords.iter().for_each(|password| line += &format!(" #{}", hex(password)));
        line + " ~* &* +@all"
    }

    /// The flags and the password hashes of ACL GETUSER.
    pub fn show(&self) -> (Vec<&'static str>, Vec<String>) {
        let user = self.default.read();
        let mut flags = vec![if user.enabled { "on" } else { "off" }];
        if user.no_password {
            flags.push("nopass");
        }
        (flags, user.passwords.iter().map(hex).collect())
    }

    fn refresh(&self, user: &User) {
        self.open.store(user.enabled && user.no_password, Ordering::Relaxed);
    }
}

impl User {
    fn take(&mut self, rule: &str) -> Result<(), String> {
        let malformed = || {
            "The provided password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
                .to_string()
        };
        match rule.to_ascii_lowercase().as_str() {
            "on" => self.enabled = true,
            "off" => self.enabled = false,
            "nopass" => (self.no_password, self.passwords) = (true, Vec::new()),
            "resetpass" => (self.no_password, self.passwords) = (false, Vec::new()),
            "allkeys" | "~*" | "allchannels" | "&*" | "allcommands" | "+@all" | "sanitize-payload" | "skip-sanitize-payload" | "clearselectors" => {}
            _ => match rule.split_at_checked(1) {
                Some((">", password)) => self.add(hash(password.as_bytes())),
                Some(("#", digits)) => self.add(unhex(digits).ok_or_else(malformed)?),
                Some(("<", password)) => self.remove(&hash(password.as_bytes()))?,
                Some(("!", digits)) => self.remove(&unhex(digits).ok_or_else(malformed)?)?,
                _ => return Err("this version keeps passwords and on/off only; restrictions are not enforced yet, so they are refused".into()),
            },
        }
        Ok(())
    }

    fn add(&mut self, password: Hash) {
        self.no_password = false;
        if !self.passwords.contains(&password) {
            self.passwords.push(password);
        }
    }

    fn remove(&mut self, password: &Hash) -> Result<(), String> {
        let before = self.passwords.len();
        self.passwords.retain(|known| known != password);
        if self.passwords.len() < before {
            Ok(())
        } else {
            Err("The password you are trying to remove from the user does not exist".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_open_and_close_the_door() {
        let users = Users::default();
        assert!(users.is_open() && users.check(b"default", b"anything"));
        users.set_password("secret");
        assert!(!users.is_open() && users.check(b"default", b"secret"));
        assert!(!users.check(b"default", b"wrong") && !users.check(b"other", b"secret"));
        users.set_rules([&b">two"[..]].into_iter()).expect("valid");
        assert!(users.check(b"default", b"two") && users.check(b"default", b"secret"));
        users.set_rules([&b"off"[..]].into_iter()).expect("valid");
        assert!(!users.check(b"default", b"two"));
        assert!(users.set_rules([&b"on"[..], b"-flushall"].into_iter()).is_err());
        assert!(!users.check(b"default", b"two"), "rules are taken together or not at all");
    }

    #[test]
    fn a_hash_is_shown_and_taken() {
        let users = Users::default();
        users.set_password("foo");
        let digits = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        assert_eq!(users.line(), format!("user default on #{digits} ~* &* +@all"));
        users.set_rules([&b"resetpass"[..], format!("#{digits}").as_bytes()].into_iter()).expect("valid");
        assert!(users.check(b"default", b"foo"));
    }
}
