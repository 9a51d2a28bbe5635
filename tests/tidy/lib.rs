//! Reads the source tree for the tests beside it: files, manifests, Rust tokens.
//!
//! What a review would have to remember is a test here: `layers` (who may depend on whom, and that the
//! engine stays pure), `tidy` (the shape of the source) and `docs` (links, decisions). The crate stands
//! apart from the program, so that `./dev check` compiles it in seconds.
//!
//! Invariants:
//! * Only reads, except that `QUORIS_TIDY=fix` lets the ratchet of `tidy` be lowered.
//! * Sees what a commit could hold: build output and dot-git are skipped.

use std::fs;
use std::path::{Path, PathBuf};

mod rust;

pub use rust::{Function, RustFile};

/// The top of the tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate lies in tests/tidy").to_path_buf()
}

/// A text file of the tree.
#[derive(Debug)]
pub struct TextFile {
    /// Relative to the top, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl TextFile {
    /// Whether the name ends in `.extension`.
    pub fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, e)| e == extension)
    }

    /// Whether all of a Rust file is code of tests or benches, by where it lies. The load client is a program.
    pub fn is_test_code(&self) -> bool {
        self.path.starts_with("tests/") && !self.path.starts_with("tests/bench/")
            || ["/tests/", "/benches/"].iter().any(|folder| self.path.contains(folder))
    }
}

/// Scripts that have no extension; they count as `sh`.
const SCRIPTS: &[&str] = &["dev", ".ci/run"];

/// All files with one of `extensions`, in order of their paths.
pub fn files(extensions: &[&str]) -> Vec<TextFile> {
    let top = root();
    let mut found = Vec::new();
    walk(&top, &mut |path| {
        let is_script = SCRIPTS.iter().any(|script| path == top.join(script));
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or(if is_script { "sh" } else { "" });
        if !extensions.contains(&extension) {
            return;
        }
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let relative = path.strip_prefix(&top).expect("found below the top");
        found.push(TextFile { path: relative.to_string_lossy().replace('\\', "/"), text });
    });
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {extensions:?} file below {}", top.display());
    found
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    // Cargo marks its output with CACHEDIR.TAG, whatever the folder is called.
    if folder.join("CACHEDIR.TAG").exists() {
        return;
    }
    let is_top = folder == root();
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match name.as_str() {
            ".git" | "node_modules" => {}
            "target" | "data" if is_top => {}
            _ if path.is_symlink() => {}
            _ if path.is_dir() => walk(&path, visit),
            _ => visit(&path),
        }
    }
}

/// Reads a TOML file of the tree.
pub fn toml_file(path: &str) -> toml::Table {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.parse().unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A package of the workspace.
#[derive(Debug)]
pub struct Package {
    /// Path of its manifest.
    pub manifest: String,
    /// The manifest.
    pub table: toml::Table,
}

impl Package {
    /// Its name.
    pub fn name(&self) -> &str {
        self.table["package"]["name"].as_str().expect("a package has a name")
    }

    /// Every dependency of the given kinds (`dependencies`, `dev-dependencies`, `build-dependencies`),
    /// those of single targets included: name in the manifest and what stands behind it.
    pub fn dependencies(&self, kinds: &[&str]) -> Vec<(String, toml::Value)> {
        let targets = self.table.get("target").and_then(|t| t.as_table());
        let tables = targets.into_iter().flat_map(|t| t.values()).filter_map(|t| t.as_table());
        let mut found = Vec::new();
        for table in std::iter::once(&self.table).chain(tables) {
            for kind in kinds {
                let entries = table.get(*kind).and_then(|d| d.as_table());
                found.extend(entries.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        found
    }
}

/// The packages of the workspace: the root and its members.
pub fn packages() -> Vec<Package> {
    let top = toml_file("Cargo.toml");
    let members = top["workspace"]["members"].as_array().expect("members is a list");
    let mut manifests = vec!["Cargo.toml".to_owned()];
    manifests.extend(members.iter().map(|m| format!("{}/Cargo.toml", m.as_str().expect("a member is a path"))));
    manifests.into_iter().map(|manifest| Package { table: toml_file(&manifest), manifest }).collect()
}
