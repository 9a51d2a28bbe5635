//! A small blocking RESP client for everything around the load: readiness, INFO, the leader.
//!
//! Every call opens a connection of its own and has a timeout, so a hung server costs a bounded
//! wait and nothing is shared with the load's connections.

use crate::resp::encode;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
/// INFO and ROLE are far below this; a reply beyond it is no reply to what is asked here.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
const DEPTH_MAX: usize = 8;

/// A reply as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    /// A bulk string; `None` is the null reply.
    Bulk(Option<String>),
    Array(Vec<Reply>),
}

/// Sends one command and waits for its reply.
pub fn call(endpoint: SocketAddr, argv: &[&[u8]]) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&endpoint, TIMEOUT).context(endpoint)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    encode(&mut request, argv);
    stream.write_all(&request).context(endpoint)?;
    let (mut input, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some((reply, bytes)) = parse(&input, 0)? {
            ensure!(bytes == input.len(), "{endpoint} sent more than one reply");
            return Ok(reply);
        }
        ensure!(input.len() < REPLY_BYTES_MAX, "{endpoint} sent a reply without end");
        match stream.read(&mut chunk).context(endpoint)? {
            0 => bail!("{endpoint} closed the connection"),
            read => input.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Reads the first reply of `input`: the value and its length, or `None` when it is incomplete.
fn parse(input: &[u8], depth: usize) -> Result<Option<(Reply, usize)>> {
    ensure!(depth < DEPTH_MAX, "a reply nested too deeply");
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let (line, mut at) = (String::from_utf8_lossy(&input[..end]), end + 2);
    let Some(kind) = line.chars().next() else { bail!("an empty line instead of a reply") };
    let rest = &line[kind.len_utf8()..];
    let number = || rest.parse::<i64>().with_context(|| format!("the reply `{line}`"));
    let reply = match kind {
        '+' => Reply::Simple(rest.to_owned()),
        '-' => Reply::Error(rest.to_owned()),
        ':' => Reply::Integer(number()?),
        '$' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(Some((Reply::Bulk(None), at)));
            };
            ensure!(length <= REPLY_BYTES_MAX, "a bulk string of {length} bytes");
            let Some(bytes) = input.get(at..at + length + 2) else {
                return Ok(None);
            };
            at += length + 2;
            Reply::Bulk(Some(String::from_utf8_lossy(&bytes[..length]).into_owned()))
        }
        '*' => {
            let mut items = Vec::new();
            for _ in 0..number()?.clamp(0, REPLY_BYTES_MAX as i64) {
                let Some((item, bytes)) = parse(&input[at..], depth + 1)? else {
                    return Ok(None);
                };
                items.push(item);
                at += bytes;
            }
            Reply::Array(items)
        }
        _ => bail!("the reply `{line}`"),
    };
    Ok(Some((reply, at)))
}

/// The text of an INFO section, or an error if the server does not have it.
pub fn info(endpoint: SocketAddr, section: &str) -> Result<String> {
    match call(endpoint, &[b"INFO", section.as_bytes()])? {
        Reply::Bulk(Some(text)) => Ok(text),
        other => bail!("{endpoint} answered INFO {section} with {other:?}"),
    }
}

/// Whether the server takes writes: PING and a SET of a key that no load uses.
pub fn takes_writes(endpoint: SocketAddr) -> Result<bool> {
    let pong = call(endpoint, &[b"PING"])? == Reply::Simple("PONG".to_owned());
    Ok(pong && call(endpoint, &[b"SET", b"bench:ready", b"1"])? == Reply::Simple("OK".to_owned()))
}

/// The number of elections that a node has seen: `raft_elections_total:` where it is reported,
/// else the sum of the terms in lines like `group0:id=0,role=leader,term=3`. `None` when the text
/// has neither: the server is not a Raft node, or does not tell.
pub fn elections(info: &str) -> Option<u64> {
    let lines = || info.lines().map(str::trim);
    if let Some(total) = lines().find_map(|line| line.strip_prefix("raft_elections_total:")) {
        return total.trim().parse().ok();
    }
    let terms: Vec<u64> = lines().filter_map(|line| group_field(line, "term")?.parse().ok()).collect();
    (!terms.is_empty()).then(|| terms.iter().sum())
}

/// The value of `name=` in a line `groupN:name=value,…`.
fn group_field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (head, fields) = line.split_once(':')?;
    let number = head.strip_prefix("group")?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    fields
        .split(',')
        .find_map(|field| field.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value.trim())
}

/// The elections that all nodes together have seen, or `None` if none of them tells. A node that
/// does not answer at all is an error: leaving it out would look like a change of the sum.
pub fn elections_of(endpoints: &[SocketAddr]) -> Result<Option<u64>> {
    let mut sum = None;
    for &endpoint in endpoints {
        if let Reply::Bulk(Some(text)) = call(endpoint, &[b"INFO", b"raft"])?
            && let Some(count) = elections(&text)
        {
            sum = Some(sum.unwrap_or(0) + count);
        }
    }
    Ok(sum)
}

/// The endpoint that leads: by INFO raft, else by ROLE. With several groups, one that leads any.
pub fn leader(endpoints: &[SocketAddr]) -> Option<SocketAddr> {
    let by_info = |endpoint: &&SocketAddr| info(**endpoint, "raft").is_ok_and(|text| leads(&text));
    let by_role = |endpoint: &&SocketAddr| match call(**endpoint, &[b"ROLE"]) {
        Ok(Reply::Array(items)) => items.first() == Some(&Reply::Bulk(Some("master".to_owned()))),
        Ok(_) | Err(_) => false,
    };
    endpoints.iter().find(by_info).or_else(|| endpoints.iter().find(by_role)).copied()
}

fn leads(info: &str) -> bool {
    info.lines().any(|line| group_field(line.trim(), "role") == Some("leader"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Raft\r\nraft_groups:2\r\ngroup0:id=0,role=leader,term=3,leader=1\r\n\
                        group1:id=1,role=follower,term=4,leader=2\r\n";

    #[test]
    fn elections_are_the_counter_or_the_sum_of_terms() {
        assert_eq!(elections(INFO), Some(7));
        assert_eq!(elections(&format!("{INFO}raft_elections_total:12\r\n")), Some(12));
        assert_eq!(elections("# Server\r\nredis_version:7.0.15\r\n"), None);
        assert_eq!(elections("groups:term=3\r\ngroup:term=3\r\ngroup0:long_term=3\r\n"), None);
        assert_eq!(elections(""), None);
    }

    #[test]
    fn a_leader_is_found_in_any_group() {
        assert!(leads(INFO));
        assert!(!leads(&INFO.replace("leader,", "follower,")));
    }

    #[test]
    fn replies_parse_whole_and_wait_when_cut() {
        let input = b"*3\r\n$6\r\nmaster\r\n:42\r\n*1\r\n$-1\r\n";
        let expected = Reply::Array(vec![
            Reply::Bulk(Some("master".to_owned())),
            Reply::Integer(42),
            Reply::Array(vec![Reply::Bulk(None)]),
        ]);
        assert_eq!(parse(input, 0).expect("valid"), Some((expected, input.len())));
        for cut in 0..input.len() {
            assert_eq!(parse(&input[..cut], 0).expect("a prefix"), None, "cut at {cut}");
        }
        assert!(parse(b"!1\r\n", 0).is_err());
        assert!(parse(&b"*1\r\n".repeat(100), 0).is_err());
    }
}
