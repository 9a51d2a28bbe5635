//! The shape of the source: no leftovers, no giants, every file says what it is.
//!
//! Sizes are a ratchet: what is larger than the rule stands in `ratchet.toml` with its size and may only
//! shrink; `./dev fix` writes the smaller number.

use std::collections::BTreeMap;
use std::fs;

use quoris_tidy::{RustFile, TextFile, files, root, toml_file};

/// Lines of a Rust file above its unit tests. What is longer becomes a folder.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function; a body that is one `match` is a table and exempt.
const FUNCTION_LINES_MAX: usize = 70;

const RATCHET: &str = "tests/tidy/ratchet.toml";
const TEXT: &[&str] = &["rs", "toml", "md", "sh", "py", "js", "mjs", "conf", "service"];

/// Where `word` stands in the files, as `path:line`.
fn places(files: &[TextFile], word: &str) -> Vec<String> {
    let hits = files.iter().flat_map(|file| {
        let lines = file.text.lines().enumerate().filter(|(_, line)| line.contains(word));
        lines.map(|(number, line)| format!("{}:{}: {}", file.path, number + 1, line.trim()))
    });
    hits.collect()
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_over() {
    let files = files(TEXT);
    let mut found = Vec::new();
    // Spelled apart, or this file would find itself.
    for word in [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["PLACE", "HOLDER"]] {
        found.extend(places(&files, &word.concat()));
    }
    for file in files.iter().filter(|f| f.is("rs")) {
        let rust = RustFile::parse(&file.path, &file.text);
        for name in ["dbg", "todo", "unimplemented"] {
            found.extend(rust.macros(name).iter().map(|line| format!("{}:{line}: {name}!", file.path)));
        }
    }
    assert_none("unfinished", &found);
}

#[test]
fn no_unwrap_outside_of_tests() {
    let mut found = Vec::new();
    for file in files(&["rs"]).iter().filter(|f| !f.is_test_code()) {
        let lines = RustFile::parse(&file.path, &file.text).calls("unwrap");
        found.extend(lines.iter().map(|line| format!("{}:{line}", file.path)));
    }
    assert_none("say with expect() why it cannot fail", &found);
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = files(&["rs"]).into_iter().filter(|f| !f.text.starts_with("//! ")).map(|f| f.path).collect();
    assert_none("the first line must be a //! comment", &silent);
}

#[test]
fn white_space_is_clean() {
    let mut found = Vec::new();
    for file in files(TEXT) {
        for (number, line) in file.text.lines().enumerate() {
            if line.trim_end() != line || line.contains('\t') {
                found.push(format!("{}:{}", file.path, number + 1));
            }
        }
        if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
            found.push(format!("{}: must end in one newline", file.path));
        }
    }
    assert_none("tabs or blanks at a line's end", &found);
}

#[test]
fn no_path_of_one_machine() {
    let files = files(TEXT);
    for place in [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["/wo", "rk/"]] {
        assert_none("a path that only one machine has", &places(&files, &place.concat()));
    }
}

#[test]
fn files_and_functions_stay_small() {
    let (mut file_lines, mut function_lines) = (BTreeMap::new(), BTreeMap::new());
    for file in files(&["rs"]) {
        let rust = RustFile::parse(&file.path, &file.text);
        let lines = rust.tests_line().map_or(file.text.lines().count(), |line| line - 1);
        if lines > FILE_LINES_MAX {
            file_lines.insert(file.path.clone(), lines);
        }
        for function in rust.functions().iter().filter(|f| f.lines > FUNCTION_LINES_MAX && !f.is_table) {
            let longest = function_lines.entry(format!("{} {}", file.path, function.name)).or_insert(0);
            *longest = function.lines.max(*longest);
        }
    }
    let mut wrong = Vec::new();
    let mut lowered = String::from(
        "# What is larger than the rules of tidy.rs, with its size in lines. Entries may only shrink and go away.\n",
    );
    for (table, limit, found) in
        [("file", FILE_LINES_MAX, &file_lines), ("function", FUNCTION_LINES_MAX, &function_lines)]
    {
        lowered.push_str(&ratchet(table, limit, found, &mut wrong));
    }
    if std::env::var("QUORIS_TIDY").is_ok_and(|v| v == "fix") {
        fs::write(root().join(RATCHET), lowered).expect("the ratchet can be written");
    } else {
        assert_none("sizes", &wrong);
    }
}

/// Compares what was found with what is allowed; gives the table as it should stand.
fn ratchet(table: &str, limit: usize, found: &BTreeMap<String, usize>, wrong: &mut Vec<String>) -> String {
    let allowed: BTreeMap<String, usize> = toml_file(RATCHET)
        .get(table)
        .and_then(|t| t.as_table())
        .into_iter()
        .flatten()
        .map(|(name, lines)| (name.clone(), lines.as_integer().and_then(|n| n.try_into().ok()).unwrap_or(0)))
        .collect();
    let mut text = format!("\n[{table}]\n");
    for (name, &lines) in found {
        match allowed.get(name) {
            None => wrong.push(format!("{table} {name} has {lines} lines, the rule is {limit}: split it")),
            Some(&max) if lines > max => wrong.push(format!("{table} {name} grew from {max} to {lines} lines")),
            Some(_) => text.push_str(&format!("\"{name}\" = {lines}\n")),
        }
    }
    for name in allowed.keys().filter(|name| !found.contains_key(*name)) {
        wrong.push(format!("{table} {name} is small now: remove it from {RATCHET} (./dev fix does)"));
    }
    text
}
