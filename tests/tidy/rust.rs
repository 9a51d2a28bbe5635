//! A Rust file as tokens: enough to ask about functions, calls and paths without comments and strings
//! getting in the way.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A parsed file.
#[derive(Debug)]
pub struct RustFile {
    tokens: Vec<TokenTree>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where `fn` stands.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
    /// Whether the body is nothing but a `match`: a table, exempt from the length rule.
    pub is_table: bool,
}

impl RustFile {
    /// Parses `text`.
    ///
    /// # Panics
    /// When it is not Rust.
    pub fn parse(path: &str, text: &str) -> RustFile {
        let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        RustFile { tokens: tokens.into_iter().collect() }
    }

    /// The line on which the unit tests begin, if there are any.
    pub fn tests_line(&self) -> Option<usize> {
        (0..self.tokens.len()).find(|&i| is_test_module(&self.tokens, i)).map(|i| self.tokens[i].span().start().line)
    }

    /// All functions, also nested ones and those of tests.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        each_level(&self.tokens, true, &mut |tokens| {
            found.extend((0..tokens.len()).filter_map(|i| function(tokens, i)))
        });
        found
    }

    /// Lines outside of unit tests on which the method `name` is called without arguments.
    pub fn calls(&self, name: &str) -> Vec<usize> {
        let mut found = Vec::new();
        each_level(&self.tokens, false, &mut |tokens| {
            found.extend(tokens.windows(3).filter_map(|w| {
                let empty_call = matches!(&w[2], TokenTree::Group(g) if g.stream().is_empty() && g.delimiter() == Delimiter::Parenthesis);
                (is_punct(&w[0], '.') && is_ident(&w[1], name) && empty_call).then(|| w[1].span().start().line)
            }));
        });
        found
    }

    /// Lines on which the macro `name` is used, tests included.
    pub fn macros(&self, name: &str) -> Vec<usize> {
        let mut found = Vec::new();
        each_level(&self.tokens, true, &mut |tokens| {
            let uses = tokens.windows(2).filter(|w| is_ident(&w[0], name) && is_punct(&w[1], '!'));
            found.extend(uses.map(|w| w[0].span().start().line));
        });
        found
    }

    /// Every path outside of unit tests that begins with `first`, groups expanded, with its line:
    /// `use std::{fs, io::Read}` gives `std::fs` and `std::io::Read`.
    pub fn paths(&self, first: &str) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        each_level(&self.tokens, false, &mut |tokens| {
            for i in (0..tokens.len()).filter(|&i| is_ident(&tokens[i], first)) {
                // `other::std::x` is somebody else's module.
                let inside = i >= 3
                    && is_punct(&tokens[i - 1], ':')
                    && is_punct(&tokens[i - 2], ':')
                    && matches!(tokens[i - 3], TokenTree::Ident(_));
                if !inside {
                    expand(first.to_owned(), &tokens[i + 1..], &mut found, tokens[i].span().start().line);
                }
            }
        });
        found
    }

    /// Lines outside of unit tests on which the word `name` stands.
    pub fn words(&self, name: &str) -> Vec<usize> {
        let mut found = Vec::new();
        each_level(&self.tokens, false, &mut |tokens| {
            found.extend(tokens.iter().filter(|t| is_ident(t, name)).map(|t| t.span().start().line));
        });
        found
    }
}

fn is_ident(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(i) if i == name)
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == c)
}

fn brace(token: &TokenTree) -> Option<&Group> {
    match token {
        TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => Some(g),
        _ => None,
    }
}

/// Whether `#[cfg(test)] mod …` begins at `i`.
fn is_test_module(tokens: &[TokenTree], i: usize) -> bool {
    let [hash, TokenTree::Group(attribute), word, ..] = &tokens[i..] else { return false };
    let text = attribute.stream().to_string().replace(' ', "");
    is_punct(hash, '#') && text == "cfg(test)" && is_ident(word, "mod")
}

/// Visits the tokens of every nesting level, with or without the unit tests.
fn each_level(tokens: &[TokenTree], with_tests: bool, visit: &mut dyn FnMut(&[TokenTree])) {
    let mut level = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !with_tests && is_test_module(tokens, i) {
            i += 2;
            while i < tokens.len() && brace(&tokens[i]).is_none() && !is_punct(&tokens[i], ';') {
                i += 1;
            }
        } else {
            level.push(tokens[i].clone());
        }
        i += 1;
    }
    visit(&level);
    for token in &level {
        if let TokenTree::Group(group) = token {
            let inner: Vec<_> = group.stream().into_iter().collect();
            each_level(&inner, with_tests, visit);
        }
    }
}

/// The function whose `fn` stands at `i`, if it has a body.
fn function(tokens: &[TokenTree], i: usize) -> Option<Function> {
    let (word, TokenTree::Ident(name)) = (tokens.get(i)?, tokens.get(i + 1)?) else { return None };
    if !is_ident(word, "fn") {
        return None;
    }
    let end = tokens[i..].iter().find(|t| is_punct(t, ';') || brace(t).is_some())?;
    let body: Vec<_> = brace(end)?.stream().into_iter().collect();
    let is_table = body.first().is_some_and(|t| is_ident(t, "match"))
        && body.iter().position(|t| brace(t).is_some()) == Some(body.len() - 1);
    let line = word.span().start().line;
    let lines = end.span().end().line + 1 - line;
    Some(Function { name: name.to_string(), line, lines, is_table })
}

/// Follows `::a::{b, c::d}` behind `prefix`.
fn expand(prefix: String, rest: &[TokenTree], found: &mut Vec<(String, usize)>, line: usize) {
    let [a, b, next, tail @ ..] = rest else {
        found.push((prefix, line));
        return;
    };
    if !(is_punct(a, ':') && is_punct(b, ':')) {
        found.push((prefix, line));
        return;
    }
    match next {
        TokenTree::Ident(name) => expand(format!("{prefix}::{name}"), tail, found, line),
        TokenTree::Group(group) => {
            let inner: Vec<_> = group.stream().into_iter().collect();
            for part in inner.split(|t| is_punct(t, ',')).filter(|part| !part.is_empty()) {
                let name = part[0].to_string();
                expand(format!("{prefix}::{name}"), &part[1..], found, part[0].span().start().line);
            }
        }
        _ => found.push((prefix, line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
use std::{fs, io::{self, Read as _}};
fn a() { x.unwrap(); "y.unwrap()"; /* z.unwrap() */ }
fn t(x: u8) -> u8 {
    match x {
        _ => 0,
    }
}
trait T { fn none(); }
#[cfg(test)]
mod tests {
    fn b() { x.unwrap(); todo!(); std::env::args(); }
}
"#;

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let file = RustFile::parse("text", TEXT);
        assert_eq!(file.calls("unwrap"), [3]);
        assert_eq!(file.macros("todo"), [12]);
        assert_eq!(file.tests_line(), Some(10));
    }

    #[test]
    fn paths_are_expanded() {
        let found = RustFile::parse("text", TEXT).paths("std");
        let names: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["std::fs", "std::io::self", "std::io::Read"]);
    }

    #[test]
    fn functions_are_measured() {
        let found = RustFile::parse("text", TEXT).functions();
        let table = Function { name: "t".into(), line: 4, lines: 5, is_table: true };
        assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["a", "t", "b"]);
        assert!(found.contains(&table), "{found:?}");
    }
}
