//! The two file formats: our TOML and Redis's lines.

use std::path::Path;

use super::{kind::Kind, table::Key};

/// One setting as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Its name, as written.
    pub name: String,
    /// Its value's words.
    pub words: Vec<String>,
}

impl Directive {
    /// The value as one text.
    pub(crate) fn text(&self, kind: Kind) -> String {
        // TOML says true and false, Redis yes and no.
        match (kind, self.words.as_slice()) {
            (Kind::Flag | Kind::Choice(_), [word]) if word == "true" => "yes".into(),
            (Kind::Flag | Kind::Choice(_), [word]) if word == "false" => "no".into(),
            (_, words) => words.join(" "),
        }
    }
}

/// Whether a file is TOML, by its name; everything else is read as Redis's format.
pub fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"))
}

/// Reads a file's settings in order.
///
/// # Errors
/// With the line and what is wrong with it.
pub fn parse(text: &str, is_toml: bool) -> Result<Vec<Directive>, String> {
    if is_toml { parse_toml(text) } else { parse_lines(text) }
}

fn parse_toml(text: &str) -> Result<Vec<Directive>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
    table.into_iter().map(|(name, value)| Ok(Directive { words: toml_words(&name, value)?, name })).collect()
}

fn toml_words(name: &str, value: toml::Value) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(text) => Ok(vec![text]),
        toml::Value::Integer(n) => Ok(vec![n.to_string()]),
        toml::Value::Float(n) => Ok(vec![n.to_string()]),
        toml::Value::Boolean(b) => Ok(vec![b.to_string()]),
        toml::Value::Array(items) => {
            let words = items.into_iter().map(|item| toml_words(name, item)).collect::<Result<Vec<_>, _>>()?;
            Ok(words.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => {
            Err(format!("{name}: a text, a number, true or false is expected"))
        }
    }
}

fn parse_lines(text: &str) -> Result<Vec<Directive>, String> {
    let mut directives = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words =
            quoris_resp::split_quoted(line.as_bytes()).ok_or_else(|| format!("line {number}: unbalanced quotes"))?;
        let words = words
            .into_iter()
            .map(String::from_utf8)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| format!("line {number}: not UTF-8"))?;
        let Some((name, rest)) = words.split_first() else { continue };
        directives.push(Directive { name: name.to_ascii_lowercase(), words: rest.to_vec() });
    }
    Ok(directives)
}

/// Reads `--name value … --name value …` as redis-server takes it.
///
/// # Errors
/// When something stands in front of the first name.
pub fn parse_arguments(arguments: &[String]) -> Result<Vec<Directive>, String> {
    let mut directives: Vec<Directive> = Vec::new();
    for argument in arguments {
        match (argument.strip_prefix("--"), directives.last_mut()) {
            (Some(name), _) if !name.is_empty() => match name.split_once('=') {
                Some((name, value)) => directives.push(Directive { name: name.into(), words: vec![value.into()] }),
                None => directives.push(Directive { name: name.into(), words: Vec::new() }),
            },
            (_, Some(last)) => last.words.push(argument.clone()),
            (_, None) => return Err(format!("unexpected argument '{argument}'")),
        }
    }
    Ok(directives)
}

/// A value as our files show it.
pub(crate) fn toml_value(key: &Key, value: &str) -> String {
    match key.kind {
        Kind::Flag => (value == "yes").to_string(),
        Kind::Number { .. } | Kind::Bytes { .. } => value.into(),
        Kind::Words => {
            let words: Vec<String> = value.split_whitespace().map(quote).collect();
            format!("[{}]", words.join(", "))
        }
        Kind::Choice(_) | Kind::Text | Kind::OutputLimits | Kind::Events | Kind::SavePoints => quote(value),
    }
}

/// A TOML string.
pub fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A value as Redis's files show it.
pub(crate) fn line_value(key: &Key, value: &str) -> String {
    let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#".contains(&b));
    match key.kind {
        Kind::Words | Kind::OutputLimits | Kind::SavePoints if !value.is_empty() => value.into(),
        _ if plain => value.into(),
        _ => format!("\"{}\"", value.escape_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_names_and_words() {
        let arguments = ["--port", "7000", "--save", "60", "1", "--bind=::1", "--save", ""].map(String::from);
        let got = parse_arguments(&arguments).expect("valid");
        let words = |name: &str, words: &[&str]| Directive {
            name: name.into(),
            words: words.iter().map(|w| w.to_string()).collect(),
        };
        assert_eq!(
            got,
            [words("port", &["7000"]), words("save", &["60", "1"]), words("bind", &["::1"]), words("save", &[""])]
        );
        assert!(parse_arguments(&["x".to_string()]).is_err());
    }

    #[test]
    fn unbalanced_quotes_name_the_line() {
        assert_eq!(parse("port 1\nrequirepass \"x", false), Err("line 2: unbalanced quotes".into()));
    }
}
