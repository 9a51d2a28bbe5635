//! Settings: the table, what they hold now, the files they come from.
//!
//! Values are kept as text in one canonical spelling each. The few that are looked at often live as
//! atomics elsewhere and are set from here when they change.
//!
//! Invariant: what is stored has passed its key's check, whatever its source.

pub mod file;
pub mod kind;
mod remembered;
mod replicated;
mod rewrite;
pub mod sample;
pub mod table;

use std::path::{Path, PathBuf};

use parking_lot::RwLock;

use file::Directive;
use kind::Kind;
use remembered::HIDDEN;
use table::{Effect, Key, Scope};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not what its format asks for.
    #[error("{0}")]
    Syntax(String),
    /// There is no such setting.
    #[error("unknown setting '{0}'")]
    Unknown(String),
    /// The value does not fit.
    #[error("{name}: {why}")]
    Value {
        /// The setting.
        name: String,
        /// Why not.
        why: String,
    },
    /// No file was loaded that could be rewritten.
    #[error("the server is running without a config file")]
    NoFile,
}

/// All settings with their present values.
#[derive(Debug)]
pub struct Config {
    /// In the order of [`table::all`].
    values: RwLock<Vec<String>>,
    file: Option<PathBuf>,
    ignored: Vec<String>,
    /// Replicated settings that the file or the command line names, and what they were given.
    seeds: Vec<(&'static Key, String)>,
}

impl Default for Config {
    fn default() -> Config {
        let values = table::all().map(|key| key.default.to_string()).collect();
        Config { values: RwLock::new(values), file: None, ignored: Vec::new(), seeds: Vec::new() }
    }
}

impl Config {
    /// Reads a file, then what the command line says on top of it.
    ///
    /// # Errors
    /// When the file cannot be read, a value does not fit, or a setting is unknown; unknown directives of
    /// a `redis.conf` are only listed in [`Config::ignored`].
    pub fn load(path: Option<&Path>, command_line: &[Directive]) -> Result<Config, Error> {
        let mut config = Config::default();
        if let Some(path) = path {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Io { path: path.into(), source })?;
            let is_toml = file::is_toml(path);
            let directives =
                file::parse(&text, is_toml).map_err(|e| Error::Syntax(format!("{}: {e}", path.display())))?;
            config.file = Some(std::path::absolute(path).unwrap_or_else(|_| path.into()));
            config.take(&directives, !is_toml)?;
        }
        config.take(command_line, false)?;
        Ok(config)
    }

    fn take(&mut self, directives: &[Directive], unknown_are_ignored: bool) -> Result<(), Error> {
        let values = self.values.get_mut();
        let mut seen = Vec::new();
        for directive in directives {
            let Some(at) = table::position(&directive.name) else {
                if unknown_are_ignored {
                    self.ignored.push(directive.name.clone());
                    continue;
                }
                return Err(Error::Unknown(directive.name.clone()));
            };
            let key = key(at);
            if matches!(key.effect, Effect::None | Effect::Fixed) && !seen.contains(&at) {
                self.ignored.push(key.name.into());
            }
            let mut text = directive.text(key.kind);
            // Redis's files say `save` once per pair.
            if key.kind == Kind::SavePoints && seen.contains(&at) && !text.is_empty() {
                text = format!("{} {text}", values[at]);
            }
            seen.push(at);
            values[at] = key
                .kind
                .normalise(&text, &values[at])
                .map_err(|why| Error::Value { name: directive.name.clone(), why })?;
            if key.scope == Scope::Replicated {
                self.seeds.retain(|(seed, _)| seed.name != key.name);
                self.seeds.push((key, values[at].clone()));
            }
        }
        Ok(())
    }

    /// The loaded file.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Names from the file that have no effect here.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// A setting's value. Panics for a name that is not in the table: that is a programmer's mistake.
    pub fn text(&self, name: &str) -> String {
        let at = table::position(name).expect("a name of the table");
        self.values.read()[at].clone()
    }

    /// A number or a count of bytes.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().expect("numbers are checked when they are stored")
    }

    /// A number that the table bounds to what is wanted.
    pub fn count<T: TryFrom<i64>>(&self, name: &str) -> T {
        T::try_from(self.number(name)).ok().expect("the table bounds it")
    }

    /// A yes or no.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "yes"
    }

    /// The words of a list.
    pub fn words(&self, name: &str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_string).collect()
    }

    /// Every name and alias that `wanted` accepts, with its value. Settings that Redis hides are only shown to
    /// those who `know` their names.
    pub fn select(&self, wanted: impl Fn(&str) -> bool, know: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let values = self.values.read();
        let names = table::all().zip(values.iter()).flat_map(|(key, value)| {
            let names = std::iter::once(key.name).chain(key.aliases.iter().copied());
            names.map(move |name| (name, value))
        });
        names
            .filter(|(name, _)| wanted(name) && (!HIDDEN.contains(name) || know(name)))
            .map(|(name, value)| (name, value.clone()))
            .collect()
    }

    /// Checks one change and gives the position and the canonical value.
    ///
    /// # Errors
    /// When the value does not fit.
    pub(crate) fn check(&self, at: usize, text: &str) -> Result<String, String> {
        key(at).kind.normalise(text, &self.values.read()[at])
    }

    /// Stores a checked value and gives back what was there.
    pub(crate) fn store(&self, at: usize, value: String) -> String {
        std::mem::replace(&mut self.values.write()[at], value)
    }

    /// Writes the present values into the loaded file, keeping its comments and its order.
    ///
    /// # Errors
    /// When there is no file, or it cannot be written.
    pub fn rewrite(&self) -> Result<(), Error> {
        let path = self.file.as_deref().ok_or(Error::NoFile)?;
        rewrite::rewrite(path, &self.values.read()).map_err(|source| Error::Io { path: path.into(), source })
    }
}

/// The setting at a position.
pub(crate) fn key(at: usize) -> &'static Key {
    table::all().nth(at).expect("positions come from the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        Config::load(Some(&path), &[])
    }

    #[test]
    fn a_redis_file_is_mapped_and_the_rest_listed() {
        let text = "# comment\nPORT 7000\nbind 127.0.0.1 ::1\nsave 900 1\nsave 300 10\nrename-command FLUSHALL \"\"\nhash-max-ziplist-entries 7\n\
                    requirepass \"a b\"\nclient-output-buffer-limit pubsub 1mb 0 0\n";
        let config = load("redis.conf", text).expect("valid");
        assert_eq!((config.number("port"), config.words("bind").len()), (7000, 2));
        assert_eq!(config.text("save"), "900 1 300 10");
        assert_eq!(config.text("requirepass"), "a b");
        assert_eq!(config.number("hash-max-listpack-entries"), 7);
        assert!(
            config
                .text("client-output-buffer-limit")
                .starts_with("normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 0 0")
        );
        assert_eq!(config.ignored(), ["save", "rename-command"]);
    }

    #[test]
    fn a_toml_file_refuses_what_it_does_not_know() {
        let config =
            load("q.toml", "port = 7001\nprotected-mode = false\npeers = [\"a:1\", \"b:2\"]\nmaxmemory = \"1gb\"\n")
                .expect("valid");
        assert_eq!(
            (config.number("port"), config.flag("protected-mode"), config.number("maxmemory")),
            (7001, false, 1 << 30)
        );
        assert_eq!(config.words("peers"), ["a:1", "b:2"]);
        assert!(matches!(load("q.toml", "prot = 7001\n"), Err(Error::Unknown(_))));
        assert!(matches!(load("q.toml", "port = \"x\"\n"), Err(Error::Value { .. })));
        assert!(matches!(load("q.toml", "port == 1\n"), Err(Error::Syntax(_))));
    }

    #[test]
    fn the_sample_file_loads_to_the_defaults() {
        let config = load("q.toml", &sample::sample()).expect("valid");
        assert_eq!(*config.values.read(), *Config::default().values.read());
        assert!(config.ignored().is_empty());
    }
}
