//! CLIENT SESSION over the wire: what is sent again has no second effect.

mod support;

use quoris_resp::Reply;
use support::{Connection, Node, bulk};

/// The text of every refusal of what may have been executed.
const NOT_KEPT: &str = "UNKNOWN the command may have been executed; its reply is not kept any more";

fn open(node: &Node) -> String {
    node.connect().text(&["CLIENT", "SESSION", "OPEN"])
}

/// Sends USE and the commands as one, and gives the replies behind the ticket.
fn sent(c: &mut Connection, ticket: &str, number: u64, options: &str, commands: &[&str]) -> Vec<Reply> {
    let use_it = format!("CLIENT SESSION USE {ticket} {number} {options}");
    for command in [&[use_it.as_str()], commands].concat() {
        c.send(&command.split_whitespace().collect::<Vec<_>>());
    }
    assert!(matches!(c.reply(), Reply::Bulk(next) if next.len() > 33), "a ticket");
    commands.iter().map(|_| c.reply()).collect()
}

#[test]
fn the_same_bytes_have_the_same_replies_on_any_connection() {
    let mut node = Node::start(&[]);
    let ticket = open(&node);
    let commands = ["INCR n", "NOSUCH", "GET n", "INCR", "SET text x", "INCR text", "INCR n"];
    let mut c = node.connect();
    let first = sent(&mut c, &ticket, 1, "COUNT 7", &commands);
    assert_eq!((&first[0], &first[2], &first[6]), (&Reply::Int(1), &bulk("1"), &Reply::Int(2)));
    assert!(first[1].is_error() && first[3].is_error() && first[5].is_error());
    // Behind them the connection is as before.
    assert_eq!(c.call(&["INCR", "n"]), Reply::Int(3));
    node.crash_and_restart();
    let mut c = node.connect();
    let mut again = sent(&mut c, &ticket, 1, "COUNT 7", &commands);
    assert_eq!(std::mem::replace(&mut again[2], bulk("1")), bulk("3"), "a read is no part of it");
    assert_eq!(again, first);
    assert_eq!(c.call(&["INCR", "n"]), Reply::Int(4));
    // Each alone, in any order.
    assert_eq!(sent(&mut c, &ticket, 7, "ACKED 1", &["INCR n"]), [Reply::Int(2)]);
    assert_eq!(sent(&mut c, &ticket, 1, "", &["INCR n"]), [Reply::Int(1)]);
    assert_eq!(sent(&mut c, &ticket, 8, "", &["INCR n"]), [Reply::Int(5)]);
    assert_eq!(sent(&mut c, &ticket, 7, "", &["INCR n"]), [Reply::error(NOT_KEPT)], "acknowledged");
    assert_eq!(sent(&mut c, &open(&node), 7, "", &["INCR n"]), [Reply::Int(6)], "another session");
}

#[test]
fn a_transaction_is_known_by_its_exec() {
    let node = Node::start(&[]);
    let (ticket, mut c) = (open(&node), node.connect());
    let commands = ["MULTI", "INCR n", "CLIENT ID", "PING", "EXEC", "INCR n", "MULTI", "INCR n", "DISCARD", "INCR n"];
    let first = sent(&mut c, &ticket, 1, "COUNT 10", &commands);
    assert!(matches!(&first[4], Reply::Array(replies) if replies[0] == Reply::Int(1)));
    assert_eq!((&first[5], &first[9]), (&Reply::Int(2), &Reply::Int(3)));
    let again = sent(&mut c, &ticket, 1, "COUNT 10", &commands);
    assert_eq!(again, first);
    assert_eq!(c.call(&["INCR", "n"]), Reply::Int(4));
    let plain = ["MULTI", "INCR n", "APPEND s x", "EXEC"];
    let first = sent(&mut c, &ticket, 11, "COUNT 4", &plain);
    assert_eq!(sent(&mut node.connect(), &ticket, 11, "COUNT 4", &plain), first);
    assert_eq!(c.call(&["GET", "s"]), bulk("x"));
}

#[test]
fn nothing_runs_behind_a_wrong_use() {
    let node = Node::start(&[]);
    let ticket = open(&node);
    for wrong in ["", "x 1", "TICKET", "TICKET 0", "TICKET 1 COUNT", "TICKET 1 COUNT 0", "TICKET 1 ACKED 2"] {
        let mut c = node.connect();
        let words = format!("CLIENT SESSION USE {wrong}").replace("TICKET", &ticket);
        c.send(&words.split_whitespace().collect::<Vec<_>>());
        c.raw(b"INCR n\r\n");
        assert!(c.reply().is_error(), "{words}");
        assert!(c.ends(), "{words}");
    }
    let mut c = node.connect();
    assert_eq!(c.call(&["GET", "n"]), Reply::Null);
    c.ok(&["MULTI"]);
    assert!(c.call(&["CLIENT", "SESSION", "USE", &ticket, "1"]).is_error());
    assert!(c.error(&["EXEC"]).starts_with("EXECABORT"));
    // RESET ends it.
    assert!(sent(&mut c, &ticket, 1, "COUNT 9", &["INCR n"]) == [Reply::Int(1)]);
    c.call(&["RESET"]);
    assert_eq!(c.call(&["INCR", "n"]), Reply::Int(2));
    assert_eq!(sent(&mut c, &ticket, 2, "", &["INCR n"]), [Reply::Int(3)], "the number was not used");
}

#[test]
fn a_long_pipeline_forgets_its_oldest_replies_only() {
    let node = Node::start(&[]);
    let (ticket, mut c) = (open(&node), node.connect());
    let value = "v".repeat(60_000);
    for number in 1..=20 {
        let set = format!("SET k {value} GET");
        let reply = sent(&mut c, &ticket, number, "ACKED 1", &[&set]);
        assert_eq!(reply, [if number == 1 { Reply::Null } else { bulk(&value) }]);
    }
    c.ok(&["SET", "k", "mine"]);
    let set = format!("SET k {value} GET");
    assert_eq!(sent(&mut c, &ticket, 1, "", &[&set]), [Reply::error(NOT_KEPT)]);
    assert_eq!(sent(&mut c, &ticket, 20, "ACKED 1", &[&set]), [bulk(&value)]);
    assert_eq!(c.call(&["GET", "k"]), bulk("mine"), "no second execution");
}

#[test]
fn a_ticket_is_not_shown_to_others() {
    let node = Node::start(&["--slowlog-log-slower-than", "0"]);
    let (ticket, mut c, mut monitor) = (open(&node), node.connect(), node.connect());
    monitor.ok(&["MONITOR"]);
    sent(&mut c, &ticket, 1, "", &["INCR shown"]);
    let Some(Reply::Status(line)) = monitor.next() else { panic!("a line") };
    assert!(String::from_utf8_lossy(&line).contains("shown"), "the first line is of INCR");
    assert!(!format!("{:?}", c.call(&["SLOWLOG", "GET", "100"])).contains(&ticket));
}
