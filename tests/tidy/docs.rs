//! The documents agree with the tree: links resolve, and no dependency or decision goes unexplained.

use std::collections::BTreeSet;

use quoris_tidy::{TextFile, files, root, toml_file};

const DECISIONS: &str = "src/docs/adr/";

fn documents() -> Vec<TextFile> {
    files(&["md"])
}

/// The text without fenced code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The targets of all `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let tails = prose.split("](").skip(1);
    tails.filter_map(|tail| tail.split_once(')')).map(|(target, _)| target.trim().to_owned()).collect()
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).lines().filter(|l| l.starts_with('#')).map(|l| anchor(l.trim_start_matches('#'))).collect()
}

#[test]
fn links_resolve() {
    let mut broken = Vec::new();
    let documents = documents();
    assert!(documents.iter().any(|d| d.path == "README.md"), "there is no README.md");
    for document in &documents {
        for link in links(&document.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let here = root().join(&document.path);
            let target = if path.is_empty() { here.clone() } else { here.with_file_name("").join(path) };
            if !target.exists() {
                broken.push(format!("{}: {link}: no such file", document.path));
            } else if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                if !anchors(&text).contains(heading) {
                    broken.push(format!("{}: {link}: no such heading", document.path));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_dependency_has_its_reason() {
    let decisions: String =
        documents().iter().filter(|d| d.path.starts_with(DECISIONS)).map(|d| d.text.as_str()).collect();
    let top = toml_file("Cargo.toml");
    let table = top["workspace"]["dependencies"].as_table().expect("the one table of dependencies");
    let foreign = table.iter().filter(|(_, value)| value.get("path").is_none()).map(|(name, _)| name);
    let unexplained: Vec<_> = foreign.filter(|name| !decisions.contains(&format!("`{name}`"))).collect();
    assert!(unexplained.is_empty(), "no decision in {DECISIONS} names {unexplained:?}: what for, why this one?");
}

#[test]
fn decisions_are_numbered_and_have_one_form() {
    let decisions: Vec<_> = documents().into_iter().filter(|d| d.path.starts_with(DECISIONS)).collect();
    for (i, decision) in decisions.iter().enumerate() {
        let number = format!("{DECISIONS}{:04}-", i + 1);
        assert!(decision.path.starts_with(&number), "{}: expected {number}…", decision.path);
        let headings = anchors(&decision.text);
        for part in ["context", "decision", "consequences", "rejected"] {
            assert!(headings.contains(part), "{}: no heading `{part}`", decision.path);
        }
    }
    assert!(!decisions.is_empty(), "no decision below {DECISIONS}");
}

#[test]
fn the_index_lists_every_document() {
    let documents = documents();
    let index = documents.iter().find(|d| d.path == "src/docs/README.md").expect("src/docs has an index");
    let listed: BTreeSet<String> = links(&index.text).into_iter().map(|l| format!("src/docs/{l}")).collect();
    let missing: Vec<_> = documents
        .iter()
        .map(|d| &d.path)
        .filter(|p| p.starts_with("src/docs/") && *p != &index.path && !listed.contains(*p))
        .collect();
    assert!(missing.is_empty(), "src/docs/README.md does not link {missing:?}");
}
