//! A row's argument line as a tree, as COMMAND DOCS prints it and redis-cli turns it into hints.
//!
//! The line is what stands in manuals: `key [NX | XX] [EX seconds] {field value} ...`. Words in upper
//! case are typed as they are; one that stands before a name belongs to it as its token. Lines are
//! constants of the table and a test parses them all, so a malformed one is a bug and parses as far as
//! it makes sense.

use quoris_resp::Reply;

/// One argument.
#[derive(Debug, PartialEq)]
pub(super) struct Argument {
    name: String,
    kind: Kind,
    token: Option<&'static str>,
    optional: bool,
    multiple: bool,
    parts: Vec<Argument>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }

    /// The table uses one name for one kind of thing, so the name tells the kind.
    fn of(name: &str) -> Kind {
        match name {
            "key" | "key1" | "key2" | "newkey" | "source" | "destination" => Kind::Key,
            "pattern" => Kind::Pattern,
            "number" => Kind::Double,
            "unix-time-seconds" | "unix-time-milliseconds" => Kind::UnixTime,
            "seconds" | "milliseconds" | "increment" | "decrement" | "offset" | "start" | "end" | "count"
            | "cursor" | "numkeys" | "min-match-len" | "destination-db" | "db" | "index" | "index1" | "index2"
            | "ttl" | "frequency" | "protover" | "client-id" | "slot" | "timeout" | "numreplicas" | "numlocal"
            | "port" | "bits" | "version" | "maxage" => Kind::Integer,
            _ => Kind::Text,
        }
    }
}

/// The arguments of a row's line.
pub(super) fn parse(line: &'static str) -> Vec<Argument> {
    let mut parser = Parser { rest: line };
    let mut choices = parser.choices("");
    if choices.len() == 1 { choices.remove(0) } else { vec![one_of(choices)] }
}

struct Parser {
    rest: &'static str,
}

impl Parser {
    /// The next token: a bracket, a bar, three dots, or a word. Empty at the end.
    fn next(&mut self) -> &'static str {
        let rest = self.rest.trim_start();
        let single = rest.starts_with(['[', ']', '{', '}', '|']);
        let len = if single { 1 } else { rest.find([' ', '[', ']', '{', '}', '|']).unwrap_or(rest.len()) };
        let (token, rest) = rest.split_at(len);
        self.rest = rest;
        token
    }

    /// Sequences between bars, up to `close` or the end of the line.
    fn choices(&mut self, close: &str) -> Vec<Vec<Argument>> {
        let mut choices = vec![Vec::new()];
        let mut token = None;
        loop {
            let next = self.next();
            let sequence = choices.last_mut().expect("never empty");
            let is_word = !next.is_empty() && !"[]{}|...".contains(next);
            if let (Some(word), false) = (token, is_word) {
                sequence.push(word_alone(word));
                token = None;
            }
            match next {
                "..." => sequence.iter_mut().next_back().into_iter().for_each(|last| last.multiple = true),
                "|" => choices.push(Vec::new()),
                "[" => sequence.push(Argument { optional: true, ..bracket(self.choices("]")) }),
                "{" => sequence.push(bracket(self.choices("}"))),
                end if end.is_empty() || end == close => return choices,
                word if word.chars().any(|c| c.is_ascii_uppercase()) => {
                    if let Some(before) = token.replace(word) {
                        sequence.push(word_alone(before));
                    }
                }
                name => sequence.push(leaf(name, token.take())),
            }
        }
    }
}

fn leaf(name: &str, token: Option<&'static str>) -> Argument {
    Argument {
        name: name.to_string(),
        kind: Kind::of(name),
        token,
        optional: false,
        multiple: false,
        parts: Vec::new(),
    }
}

fn word_alone(word: &'static str) -> Argument {
    Argument { kind: Kind::PureToken, ..leaf(&word.to_ascii_lowercase(), Some(word)) }
}

fn group(kind: Kind, parts: Vec<Argument>) -> Argument {
    let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("-");
    Argument { name, kind, token: None, optional: false, multiple: false, parts }
}

fn block(mut sequence: Vec<Argument>) -> Argument {
    if sequence.len() == 1 { sequence.remove(0) } else { group(Kind::Block, sequence) }
}

fn one_of(choices: Vec<Vec<Argument>>) -> Argument {
    group(Kind::OneOf, choices.into_iter().map(block).collect())
}

fn bracket(mut choices: Vec<Vec<Argument>>) -> Argument {
    if choices.len() == 1 { block(choices.remove(0)) } else { one_of(choices) }
}

/// The arguments as COMMAND DOCS prints them; `specs` is the number of the row's key specs, which keys
/// are assigned to in order.
pub(super) fn reply(arguments: &[Argument], specs: usize) -> Reply {
    Reply::Array(arguments.iter().map(|argument| one(argument, specs, &mut 0)).collect())
}

fn one(argument: &Argument, specs: usize, next_spec: &mut usize) -> Reply {
    let text = |key: &'static str, value: &str| (Reply::bulk(key), Reply::bulk(value));
    let mut fields = vec![text("name", &argument.name), text("type", argument.kind.name())];
    if argument.parts.is_empty() && argument.kind != Kind::PureToken {
        fields.push(text("display_text", &argument.name));
    }
    if argument.kind == Kind::Key && specs > 0 {
        fields.push((Reply::bulk("key_spec_index"), Reply::Int((*next_spec).min(specs - 1) as i64)));
        *next_spec += 1;
    }
    if let Some(token) = argument.token {
        fields.push(text("token", token));
    }
    let flags = [(argument.optional, "optional"), (argument.multiple, "multiple")];
    let flags: Vec<Reply> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| Reply::status(name)).collect();
    if !flags.is_empty() {
        fields.push((Reply::bulk("flags"), Reply::Set(flags)));
    }
    if !argument.parts.is_empty() {
        let parts = argument.parts.iter().map(|part| one(part, specs, next_spec));
        fields.push((Reply::bulk("arguments"), Reply::Array(parts.collect())));
    }
    Reply::Map(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as a line again, fully bracketed, with kinds.
    fn show(arguments: &[Argument], glue: &str) -> String {
        let shown = arguments.iter().map(|a| {
            let inner = match a.kind {
                Kind::OneOf => format!("({})", show(&a.parts, " | ")),
                Kind::Block => format!("<{}>", show(&a.parts, " ")),
                Kind::PureToken => a.token.expect("pure tokens have one").to_string(),
                kind => a.token.map(|t| format!("{t} ")).unwrap_or_default() + &format!("{}:{}", a.name, kind.name()),
            };
            format!("{inner}{}{}", if a.multiple { "+" } else { "" }, if a.optional { "?" } else { "" })
        });
        shown.collect::<Vec<_>>().join(glue)
    }

    #[test]
    fn lines_become_trees() {
        let cases = [
            ("", ""),
            ("key ...", "key:key+"),
            (
                "key value [NX | XX] [GET] [EX seconds | KEEPTTL]",
                "key:key value:string (NX | XX)? GET? (EX seconds:integer | KEEPTTL)?",
            ),
            ("{key value} ...", "<key:key value:string>+"),
            ("[TYPE client-type] [ID client-id ...]", "TYPE client-type:string? ID client-id:integer+?"),
            ("{host port | NO ONE}", "(<host:string port:integer> | <NO ONE>)"),
            ("[TO host port [FORCE]] [ABORT]", "<TO host:string port:integer FORCE?>? ABORT?"),
            ("{ON | OFF} [PREFIX prefix ...]", "(ON | OFF) PREFIX prefix:string+?"),
        ];
        for (line, tree) in cases {
            assert_eq!(show(&parse(line), " "), tree, "{line}");
        }
    }

    #[test]
    fn every_line_of_the_table_is_balanced() {
        for found in crate::command::walk() {
            let mut depth = Vec::new();
            for c in found.command.syntax.chars() {
                match c {
                    '[' => depth.push(']'),
                    '{' => depth.push('}'),
                    ']' | '}' => assert_eq!(depth.pop(), Some(c), "{}", found.full_name()),
                    _ => {}
                }
            }
            assert!(depth.is_empty(), "{}", found.full_name());
            parse(found.command.syntax);
        }
    }
}
