//! CONFIG REWRITE: the present values go into the file that was loaded.
//!
//! Comments and order stay. A line whose setting changed is replaced, further lines of the same setting
//! go, and settings that differ from their defaults and had no line are added at the end. The new file
//! replaces the old one in one step.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

use super::{file, key, table};

const MARK: &str = "# Added by CONFIG REWRITE";

pub(super) fn rewrite(path: &Path, values: &[String]) -> io::Result<()> {
    let old = std::fs::read_to_string(path)?;
    let new = rewritten(&old, file::is_toml(path), values);
    let temporary = path.with_extension("rewrite");
    let mut out = std::fs::File::create(&temporary)?;
    out.write_all(new.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&temporary, path)
}

fn rewritten(old: &str, is_toml: bool, values: &[String]) -> String {
    let shown = |at: usize| {
        let key = key(at);
        let value = &values[at];
        if is_toml {
            format!("{} = {}\n", key.name, file::toml_value(key, value))
        } else {
            format!("{} {}\n", key.name, file::line_value(key, value))
        }
    };
    let (mut new, mut written) = (String::new(), BTreeSet::new());
    let mut lines = old.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(at) = name(line, is_toml).and_then(table::position) else {
            new += line;
            new.push('\n');
            continue;
        };
        // A value of several lines: an array, or a long text.
        let mut statement = format!("{line}\n");
        while is_toml && statement.parse::<toml::Table>().is_err() {
            let Some(more) = lines.next() else { break };
            statement += more;
            statement.push('\n');
        }
        if written.insert(at) {
            new += &shown(at);
        }
    }
    let missing: Vec<usize> = table::all()
        .enumerate()
        .filter(|(at, key)| values[*at] != key.default && !written.contains(at))
        .map(|(at, _)| at)
        .collect();
    if !missing.is_empty() && !old.contains(MARK) {
        new += &format!("{MARK}\n");
    }
    missing.iter().for_each(|at| new += &shown(*at));
    new
}

/// The setting that a line is about.
fn name(line: &str, is_toml: bool) -> Option<&str> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    if is_toml { Some(line.split_once('=')?.0.trim().trim_matches('"')) } else { line.split_whitespace().next() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn changed(pairs: &[(&str, &str)]) -> Vec<String> {
        let config = Config::default();
        for (name, value) in pairs {
            config.store(table::position(name).expect("known"), (*value).into());
        }
        config.values.read().clone()
    }

    #[test]
    fn comments_and_order_stay() {
        let values = changed(&[("port", "7000"), ("save", "60 1"), ("requirepass", "a b")]);
        let old = "# head\n\nPort 1\nsave 1 1\nsave 2 2\n# tail\nunknown thing\n";
        let want =
            "# head\n\nport 7000\nsave 60 1\n# tail\nunknown thing\n# Added by CONFIG REWRITE\nrequirepass \"a b\"\n";
        let new = rewritten(old, false, &values);
        assert_eq!(new, want);
        assert_eq!(rewritten(&new, false, &values), want, "a second time changes nothing");
    }

    #[test]
    fn toml_values_of_several_lines_are_replaced_whole() {
        let values = changed(&[("peers", "a:1 b:2"), ("port", "7000")]);
        let old = "# head\npeers = [\n  \"x:1\",\n]\nport = 1 # why\n";
        assert_eq!(rewritten(old, true, &values), "# head\npeers = [\"a:1\", \"b:2\"]\nport = 7000\n");
    }
}
