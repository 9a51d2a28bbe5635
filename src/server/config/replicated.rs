//! Settings that belong to the cluster and not to this node.
//!
//! The engine has them as state of each group; the file only seeds them when the cluster is founded. Here
//! they are shown beside the node's own, as the cluster says.
//!
//! Invariant: the engine's table and the replicated rows of [`super::table`] are the same settings.

use quoris_engine::{Settings, settings::SETTINGS};
use tokio::sync::watch;

use super::{Config, table};

impl Config {
    /// What this node would found a cluster with.
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        for setting in SETTINGS {
            settings.set(setting.name, &self.text(setting.name)).expect("both tables allow the same");
        }
        settings
    }

    /// Settings to which the file or the command line gives another value than the cluster: name, given
    /// value, the cluster's.
    pub(crate) fn differing(&self, cluster: &Settings) -> Vec<(&'static str, String, String)> {
        let pairs = self.seeds.iter().filter_map(|(key, given)| {
            let setting = SETTINGS.iter().find(|setting| setting.name == key.name)?;
            Some((key.name, given.clone(), cluster.text(setting)))
        });
        pairs.filter(|(_, given, holds)| given != holds).collect()
    }

    /// Shows the cluster's settings from now on, once they are known.
    pub(crate) fn show_cluster(&self, cluster: &watch::Receiver<Settings>) {
        let mut values = self.values.write();
        // Looked at under the lock, so that an older state never replaces a newer one.
        let cluster = *cluster.borrow();
        if cluster.version > 0 {
            for setting in SETTINGS {
                values[table::position(setting.name).expect("in both tables")] = cluster.text(setting);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quoris_engine::settings::Kind as Engine;

    use super::*;
    use crate::config::{file, kind::Kind, table::Scope};

    #[test]
    fn the_engine_knows_the_replicated_settings_and_no_other() {
        let replicated: Vec<_> = table::all().filter(|key| key.scope == Scope::Replicated).collect();
        assert_eq!(replicated.len(), SETTINGS.len());
        for setting in SETTINGS {
            let key = replicated.iter().find(|key| key.name == setting.name);
            let key = key.unwrap_or_else(|| panic!("{} must be replicated: apply sees it", setting.name));
            let kind = match key.kind {
                Kind::Number { min, max } | Kind::Bytes { min, max } => Engine::Number { min, max },
                Kind::Choice(words) => Engine::Choice(words),
                Kind::Events => Engine::Events,
                other => panic!("{}: {other:?}", setting.name),
            };
            assert_eq!((kind, key.default), (setting.kind, setting.default), "{}", setting.name);
        }
        assert_eq!(Config::default().settings(), Settings::default());
    }

    #[test]
    fn a_file_that_says_something_else_than_the_cluster_is_noticed() {
        let text = "hash-max-ziplist-entries 7\nlist-compress-depth 0\nnotify-keyspace-events Kg\nmaxclients 5\n";
        let mut config = Config::default();
        config.take(&file::parse(text, false).expect("lines"), true).expect("valid");
        let founded = Settings { version: 1, ..config.settings() };
        assert!(config.differing(&founded).is_empty());
        let (known, cluster) = watch::channel(Settings::default());
        config.show_cluster(&cluster);
        assert_eq!(config.text("hash-max-listpack-entries"), "7", "nothing is known of the cluster yet");
        known.send_replace(Settings { version: 9, ..Settings::default() });
        config.show_cluster(&cluster);
        assert_eq!(config.text("hash-max-listpack-entries"), "512");
        let differing = config.differing(&cluster.borrow());
        let want = [("hash-max-listpack-entries", "7", "512"), ("notify-keyspace-events", "gK", "")];
        assert_eq!(differing, want.map(|(name, given, holds)| (name, given.to_string(), holds.to_string())));
    }
}
