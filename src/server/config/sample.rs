//! The sample configuration file, made from the table.

use super::{
    file::toml_value,
    table::{Effect, KEYS, Scope},
};

/// The sample configuration file: every setting of [`KEYS`] with its meaning and default.
pub fn sample() -> String {
    let mut text = String::from(
        "# Every setting of a Quoris node, with its default. Lines may be left out.\n\
         # The same names work on the command line (--port 7000) and, for live settings, with CONFIG SET.\n\
         # Memory values take the units k, kb, m, mb, g and gb.\n",
    );
    for key in KEYS {
        let effect = match key.effect {
            Effect::Live => "changes at once",
            Effect::Start => "read at start",
            Effect::None => "kept only",
        };
        let scope = match key.scope {
            Scope::Node => "of this node",
            Scope::Replicated => "of the whole cluster, this file only seeds it",
        };
        let unit = if key.unit.is_empty() { String::new() } else { format!("in {}; ", key.unit) };
        text += &format!("\n# {}\n# {unit}{effect}; {scope}; since {}.\n", key.meaning, key.since);
        text += &format!("{} = {}\n", key.name, toml_value(key, key.default));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_file_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/quoris.toml");
        if std::env::var_os("QUORIS_WRITE_SAMPLE").is_some() {
            std::fs::write(path, sample()).expect("the sample can be written");
        }
        let file = std::fs::read_to_string(path).expect("the sample exists");
        assert!(
            file == sample(),
            "config/quoris.toml differs from the table: run this test with QUORIS_WRITE_SAMPLE=1"
        );
    }
}
