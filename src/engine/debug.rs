//! DEBUG PROTOCOL: a reply of every kind, for tests of clients and of scripts.

use quoris_resp::Reply;

/// What DEBUG PROTOCOL answers to the name of a kind; nothing when there is none. A reply with attributes is only
/// what they belong to.
pub fn reply_of_kind(kind: &str) -> Option<Reply> {
    let ints = || (0..3).map(Reply::Int).collect::<Vec<_>>();
    Some(match kind {
        "string" => Reply::bulk("Hello World"),
        "integer" => Reply::Int(12345),
        "double" => Reply::Decimal("3.141".into()),
        "null" => Reply::Null,
        "array" => Reply::Array(ints()),
        "set" => Reply::Set(ints()),
        "map" => Reply::Map((0..3).map(|n| (Reply::Int(n), Reply::Bool(n == 1))).collect()),
        "bignum" => Reply::BigNumber("1234567999999999999999999999999999999".into()),
        "attrib" => Reply::bulk("Some real reply following the attribute"),
        "push" => Reply::Push(vec![Reply::bulk("server-cpu-usage"), Reply::Int(42)]),
        "true" => Reply::Bool(true),
        "false" => Reply::Bool(false),
        "verbatim" => Reply::Verbatim(*b"txt", "This is a verbatim\nstring".into()),
        _ => return None,
    })
}
