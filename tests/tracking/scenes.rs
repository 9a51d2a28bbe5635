//! What a connection that tracks hears while others write: the same scenes for redis-server and for a node.

use quoris_resp::{Argv, Reply};

use super::script;
use super::support::{Connection, Node, bulk, until};

/// A connection that tracks, and what happened to it.
pub struct Tracker {
    pub connection: Connection,
    pub log: Vec<String>,
}

impl Tracker {
    pub fn open(node: &Node, protocol: &str) -> Tracker {
        let mut connection = node.connect();
        connection.call(&["HELLO", protocol]);
        Tracker { connection, log: Vec::new() }
    }

    pub fn id(&mut self) -> String {
        let Reply::Int(id) = self.connection.call(&["CLIENT", "ID"]) else { panic!("a number") };
        id.to_string()
    }

    /// Runs a command, and notes everything that comes up to the answer to a PING behind it.
    pub fn run(&mut self, line: &str) -> &mut Tracker {
        let parts: Vec<&str> = line.split(' ').collect();
        self.connection.send(&parts);
        let heard = self.heard();
        self.log.push(format!("{line} -> {}", heard.join(" ")));
        self
    }

    /// The same with a pipeline.
    pub fn run_all(&mut self, lines: &[&str]) -> &mut Tracker {
        let argv = |line: &&str| Argv::from_parts(&line.split(' ').collect::<Vec<_>>());
        let frames: Vec<u8> = lines.iter().flat_map(|line| argv(line).frame().to_vec()).collect();
        self.connection.raw(&frames);
        self.listen()
    }

    /// The same, and nothing but what comes.
    pub fn listen(&mut self) -> &mut Tracker {
        let heard = self.heard();
        self.log.push(format!("heard {}", heard.join(" ")));
        self
    }

    pub fn heard(&mut self) -> Vec<String> {
        self.connection.send(&["PING", "that was all"]);
        let mut heard = Vec::new();
        loop {
            match self.connection.reply() {
                Reply::Bulk(text) if text == "that was all" => return heard,
                Reply::Array(parts) if parts.last() == Some(&bulk("that was all")) => return heard,
                other => heard.push(script::show(&other)),
            }
        }
    }
}

/// What happens on one node, as it was heard.
pub type Scene = fn(&Node) -> Vec<String>;

/// What changes keys for all the scenes.
fn write(writer: &mut Connection, line: &str) {
    let parts: Vec<&str> = line.split(' ').collect();
    let reply = writer.call(&parts);
    assert!(!reply.is_error(), "{line}: {reply:?}");
}

pub fn by_key(node: &Node) -> Vec<String> {
    let (mut t, mut w) = (Tracker::open(node, "3"), node.connect());
    write(&mut w, "MSET a 1 b 2 c 3 d 4");
    t.run("CLIENT TRACKING ON").run("GET a").run("MGET b c");
    write(&mut w, "SET a 2");
    t.listen();
    write(&mut w, "SET a 3");
    t.listen().run("GET a");
    write(&mut w, "MSET a 4 b 4 c 4");
    t.listen().run("EXISTS a").run("TTL b").run("OBJECT ENCODING c");
    write(&mut w, "DEL c a b");
    t.run("GET a").run("TYPE b");
    write(&mut w, "SELECT 1");
    write(&mut w, "SET a other");
    t.listen().run("SELECT 1").run("GET a").run("SELECT 0");
    write(&mut w, "RENAME a b");
    t.listen();
    write(&mut w, "SELECT 0");
    // The own changes are heard of behind the reply, those in a transaction behind all of it.
    t.run("GET d").run("SET d 5").run("GET d").run_all(&["MULTI", "GET d", "INCR d", "EXEC"]);
    t.run("GET d").run_all(&["MULTI", "GET a", "EXEC"]);
    write(&mut w, "SET a 1");
    write(&mut w, "INCR d");
    t.listen();
    // What a script names it has read, if it has read anything.
    let read = ["EVAL", "redis.call('get', KEYS[1]) return 1", "2", "a", "b"];
    assert_eq!(t.connection.call(&read), Reply::Int(1));
    write(&mut w, "MSET a 5 b 6");
    t.listen();
    let (blind, sees) = ("redis.call('ping') return 1", "redis.call('get', KEYS[2]) return 1");
    for script in [["EVAL", blind], ["EVAL_RO", blind], ["EVAL_RO", sees]] {
        assert_eq!(t.connection.call(&[script[0], script[1], "2", "c", "d"]), Reply::Int(1));
        write(&mut w, "MSET c 7 d 7");
        t.listen();
    }
    // Commands of the server in a transaction change nothing about it.
    t.run_all(&["MULTI", "GET c", "PING", "INCR d", "EXEC"]);
    write(&mut w, "MSET c 8 d 8");
    t.listen().run("GET a").run("GET b");
    write(&mut w, "FLUSHDB");
    t.listen().run("GET a");
    write(&mut w, "FLUSHALL");
    t.listen().run("GET x");
    write(&mut w, "SET x 1 PX 30");
    t.listen().run("GET x");
    let gone = t.connection.reply();
    t.log.push(script::show(&gone));
    t.run("GET x").run("CLIENT TRACKING OFF");
    write(&mut w, "SET x 1");
    t.listen().run("CLIENT TRACKING ON").run("GET x").run("RESET").run("GET x");
    write(&mut w, "SET x 2");
    t.listen();
    t.log
}

pub fn by_choice(node: &Node) -> Vec<String> {
    let (mut t, mut w) = (Tracker::open(node, "3"), node.connect());
    t.run("CLIENT TRACKING ON OPTIN").run("GET a");
    write(&mut w, "SET a 1");
    t.listen().run("CLIENT CACHING YES");
    t.connection.send(&["GET", "a"]);
    t.listen();
    // Already not any more.
    t.run("GET b");
    write(&mut w, "MSET a 2 b 2");
    t.listen();
    t.run_all(&["CLIENT CACHING YES", "GET a", "GET b"]);
    write(&mut w, "MSET a 3 b 3");
    t.listen();
    t.run_all(&["CLIENT CACHING YES", "MULTI", "GET a", "GET b", "EXEC", "GET c"]);
    write(&mut w, "MSET a 4 b 4 c 4");
    t.listen().run("CLIENT TRACKING OFF").run("CLIENT TRACKING ON OPTOUT").run("GET a");
    t.run_all(&["CLIENT CACHING NO", "GET b", "GET c"]);
    write(&mut w, "MSET a 5 b 5 c 5");
    t.listen().run("CLIENT TRACKING OFF").run("CLIENT TRACKING ON NOLOOP").run("GET a");
    t.run("SET a 6").run("GET a");
    write(&mut w, "SET a 7");
    t.listen().run("GET a").run("FLUSHALL");
    t.log
}

pub fn by_beginning(node: &Node) -> Vec<String> {
    let (mut t, mut w) = (Tracker::open(node, "3"), node.connect());
    t.run("CLIENT TRACKING ON BCAST PREFIX user: PREFIX job:");
    for line in ["SET user:1 a", "SET other b", "MSET job:2 c user:1 d none e", "DEL user:1", "DEL user:1", "FLUSHALL"]
    {
        write(&mut w, line);
        t.listen();
    }
    t.connection.ok(&["SET", "user:5", "own"]);
    let own = t.connection.reply();
    t.log.push(script::show(&own));
    t.run("CLIENT TRACKING ON BCAST NOLOOP PREFIX more:").run("SET user:6 own");
    write(&mut w, "MSET user:6 x more:1 y");
    t.listen().run("CLIENT TRACKING OFF").run("CLIENT TRACKING ON BCAST").run("GET k");
    write(&mut w, "SET any 1");
    t.listen();
    t.log
}

pub fn by_redirection(node: &Node) -> Vec<String> {
    let mut w = node.connect();
    let (mut t, mut r) = (Tracker::open(node, "2"), Tracker::open(node, "2"));
    let (id, own) = (r.id(), t.id());
    let redirect = |t: &mut Tracker, id: &str, more: &str| {
        let parts = ["CLIENT", "TRACKING", "ON", "REDIRECT", id];
        let reply = t.connection.call(&[&parts[..], &more.split_terminator(' ').collect::<Vec<_>>()].concat());
        t.log.push(script::show(&reply));
    };
    redirect(&mut t, &id, "");
    t.run("GET a");
    assert_eq!(t.connection.call(&["CLIENT", "GETREDIR"]), Reply::Int(id.parse().expect("a number")));
    // Who does not listen is not told.
    write(&mut w, "SET a 1");
    r.listen().run("SUBSCRIBE __redis__:invalidate");
    t.run("GET a");
    write(&mut w, "SET a 2");
    r.listen();
    t.listen().run("GET a").run("GET b");
    write(&mut w, "MSET a 3 b 3");
    r.listen();
    write(&mut w, "FLUSHALL");
    r.listen();
    let line = |w: &mut Connection, own: &str| {
        let line = w.text(&["CLIENT", "LIST", "ID", own]);
        let field = |name: &str| line.split(' ').find_map(|f| f.strip_prefix(name)).unwrap_or_default().to_string();
        (field("flags="), field("redir="))
    };
    assert_eq!(line(&mut w, &own), ("t".into(), id.clone()));
    // A push, if the other speaks RESP3; nobody, if it is gone.
    let mut three = Tracker::open(node, "3");
    let new = three.id();
    redirect(&mut t, &new, "");
    t.run("GET a");
    write(&mut w, "SET a 5");
    three.listen();
    let log = [three.log, r.log].concat();
    drop(three.connection);
    until("it is gone", || w.text(&["CLIENT", "LIST", "ID", &new]).trim().is_empty());
    t.run("GET a");
    write(&mut w, "SET a 6");
    t.listen().run("CLIENT GETREDIR").log.pop();
    assert_eq!(line(&mut w, &own), ("tR".into(), new.clone()));
    t.connection.call(&["HELLO", "3"]);
    t.run("GET a");
    write(&mut w, "SET a 7");
    let said = t.connection.reply();
    let expected = vec![bulk("tracking-redir-broken"), Reply::Int(new.parse().expect("a number"))];
    assert_eq!(said, Reply::Push(expected));
    let info = script::show(&t.connection.call(&["CLIENT", "TRACKINGINFO"]));
    assert!(info.contains("broken_redirect"), "{info}");
    t.run("CLIENT TRACKING OFF").run("CLIENT TRACKINGINFO");
    assert_eq!(line(&mut w, &own), ("N".into(), "-1".into()));
    t.run("CLIENT TRACKING ON BCAST");
    assert_eq!(line(&mut w, &own), ("tB".into(), "0".into()));
    [t.log, log].concat()
}

/// What INFO says of the table.
pub fn counted(node: &Node) -> Vec<String> {
    let (mut t, mut b, mut w) = (Tracker::open(node, "3"), Tracker::open(node, "3"), node.connect());
    t.run("CLIENT TRACKING ON").run("MGET a b c").run("GET a");
    b.run("CLIENT TRACKING ON").run("GET c");
    let mut log = Vec::new();
    let mut count = |w: &mut Connection| {
        let fields = ["tracking_clients", "tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"];
        log.push(fields.map(|field| w.info(field)).join(" "));
    };
    count(&mut w);
    write(&mut w, "SET c 1");
    count(&mut w);
    b.run("CLIENT TRACKING OFF").run("CLIENT TRACKING ON BCAST PREFIX x PREFIX y");
    count(&mut w);
    write(&mut w, "FLUSHALL");
    count(&mut w);
    log
}
