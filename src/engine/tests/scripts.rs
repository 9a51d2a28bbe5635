//! The scripts of `tests/scripts`, in process and against a redis-server where one is installed.

mod common;

use common::InProcess;
use common::events::{Watched, told};
use common::script::remote::{Connection, RedisServer};
use common::script::{self, Case, ENGINE_FAMILIES, SERVER_FAMILIES, Step, Target, cases, run};
use quoris_engine::command::{lookup, walk};
use quoris_resp::{Argv, Reply};

/// Commands, by the beginning of their names, that other tests call, because a script cannot.
const CALLED_ELSEWHERE: &[(&str, &str)] = &[
    ("cluster|", "their replies are those of a cluster: tests/cluster, tests/handshake.rs"),
    ("readonly", "tests/cluster"),
    ("readwrite", "tests/cluster"),
    ("asking", "tests/cluster"),
    ("subscribe", LISTENING),
    ("unsubscribe", LISTENING),
    ("psubscribe", LISTENING),
    ("punsubscribe", LISTENING),
    ("ssubscribe", LISTENING),
    ("sunsubscribe", LISTENING),
    ("pubsub|", LISTENING),
];
const LISTENING: &str = "what a connection hears is no reply to one command: tests/pubsub.rs";

#[test]
fn the_engine_answers_as_the_scripts_say() {
    run(&mut InProcess::new(), &cases(ENGINE_FAMILIES));
}

#[test]
fn a_redis_server_answers_as_the_scripts_say() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut connection = Connection::open(&server.address, Some(server.version)).expect("it listens");
    run(&mut connection, &cases(ENGINE_FAMILIES));
}

/// Both at once: their replies are compared by the tests above, here what they tell of keys.
struct Both {
    ours: InProcess,
    theirs: Connection,
    watched: Watched,
    wrong: String,
}

/// Whether an event is one of both sides. Not compared is what differs for a reason:
/// * a redis-server tells by itself, while it waits, that keys have expired;
/// * SET with a deadline in the past removes the key at once, as later versions do;
/// * a consumer is made by the attempt to read or to claim, as later versions do it.
fn is_comparable(argv: &Argv, event: &str) -> bool {
    let is = |name: &str| argv[0].eq_ignore_ascii_case(name.as_bytes());
    let has_passed = is("SET") && argv.iter().skip(3).any(|word| word == b"1");
    let attempts = ["XREADGROUP", "XCLAIM", "XAUTOCLAIM"].into_iter().any(is);
    !(event.starts_with("expired") || has_passed || attempts && event.starts_with("xgroup-createconsumer"))
}

impl Target for Both {
    fn reset(&mut self, case: &Case) {
        self.ours.reset(case);
        self.theirs.reset(case);
    }

    fn call(&mut self, argv: &Argv) -> Reply {
        self.ours.call(argv);
        let reply = self.theirs.call(argv);
        let (mut ours, mut theirs) = (told(&mut self.ours), self.watched.theirs(&mut self.theirs));
        ours.retain(|event| is_comparable(argv, event));
        theirs.retain(|event| is_comparable(argv, event));
        if ours != theirs {
            self.wrong += &format!("{argv:?}: {ours:?}, Redis's {theirs:?}\n");
        }
        reply
    }

    fn wait(&mut self, ms: u64) {
        self.ours.wait(ms);
        self.theirs.wait(ms);
    }

    fn takes(&self, case: &Case) -> bool {
        self.ours.takes(case) && self.theirs.takes(case)
    }
}

#[test]
fn the_scripts_tell_of_keys_what_a_redis_server_tells() {
    let server = RedisServer::start();
    let Some((server, watched)) = server.as_ref().and_then(|server| Some((server, Watched::open(server)?))) else {
        return eprintln!("there is no redis-server 7.0 here: nothing is compared");
    };
    let theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut both = Both { ours: InProcess::telling(), theirs, watched, wrong: String::new() };
    run(&mut both, &cases(ENGINE_FAMILIES));
    assert!(both.wrong.is_empty(), "{}", both.wrong);
}

#[test]
fn every_command_has_a_script() {
    let mut called = vec![false; quoris_engine::command::count()];
    let all = cases(&[ENGINE_FAMILIES, SERVER_FAMILIES].concat());
    for step in all.iter().flat_map(|case| &case.steps) {
        if let Step::Call { argv, .. } = step
            && let Ok(found) = lookup(&Argv::from_parts(argv))
        {
            called[found.id as usize] = true;
        }
    }
    let elsewhere = |name: &str| CALLED_ELSEWHERE.iter().any(|(begin, _)| name.starts_with(begin));
    let missing = walk().filter(|found| !found.command.is_container() && !called[found.id as usize]);
    let missing: Vec<String> = missing.map(|found| found.full_name()).filter(|name| !elsewhere(name)).collect();
    assert!(missing.is_empty(), "no script calls {missing:?}");
}

/// Rows that newer versions of Redis changed since 7.0, by what differs there: the table follows the newer.
const CHANGED_SINCE_7_0: &[(&str, &str)] = &[
    ("msetnx", "tips"),
    ("zrank", "arity"),
    ("zrevrank", "arity"),
    ("scan", "flags"),
    ("scan", "tips"),
    ("randomkey", "flags"),
    ("randomkey", "tips"),
    ("command|getkeys", "arity"),
    ("command|getkeysandflags", "arity"),
    ("config|resetstat", "tips"),
    ("config|rewrite", "tips"),
    ("subscribe", "flags"),
    ("psubscribe", "flags"),
    ("ssubscribe", "flags"),
    ("wait", "flags"),
    ("wait", "categories"),
    // They may stand in scripts, where they never wait.
    ("blpop", "flags"),
    ("brpop", "flags"),
    ("blmove", "flags"),
    ("brpoplpush", "flags"),
    ("bzpopmin", "flags"),
    ("bzpopmax", "flags"),
    ("acl|deluser", "tips"),
    ("acl|setuser", "tips"),
    ("cluster|count-failure-reports", "flags"),
    ("cluster|info", "flags"),
    ("cluster|keyslot", "flags"),
    ("cluster|links", "flags"),
    ("cluster|myid", "flags"),
    ("cluster|nodes", "flags"),
    ("cluster|replicas", "flags"),
    ("cluster|shards", "flags"),
    ("cluster|slaves", "flags"),
    ("cluster|slots", "flags"),
];

/// The fields of a COMMAND INFO reply behind the name, as text, subcommands and free-text notes left out.
fn fields(reply: &Reply) -> Vec<(&'static str, String)> {
    let Reply::Array(items) = reply else { return vec![("known", script::show(reply))] };
    let set = |reply: &Reply| match reply {
        Reply::Array(items) | Reply::Set(items) => {
            let mut items: Vec<String> = items.iter().map(script::show).collect();
            items.sort();
            items.join(" ")
        }
        other => script::show(other),
    };
    let spec = |reply: &Reply| match reply {
        Reply::Array(items) if items.first() == Some(&Reply::bulk("notes")) => {
            script::show(&Reply::Array(items[2..].to_vec()))
        }
        other => script::show(other),
    };
    let specs = match &items[8] {
        Reply::Array(specs) => specs.iter().map(spec).collect(),
        other => script::show(other),
    };
    let range = items[3..6].iter().map(script::show).collect::<Vec<_>>().join(" ");
    vec![
        ("arity", script::show(&items[1])),
        ("flags", set(&items[2])),
        ("range", range),
        ("categories", set(&items[6])),
        ("tips", set(&items[7])),
        ("key specs", specs),
    ]
}

#[test]
fn rows_agree_with_a_redis_server() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut ours = InProcess::new();
    let mut wrong = String::new();
    for found in walk() {
        let name = found.full_name();
        let question = Argv::from_parts(&["COMMAND", "INFO", &name]);
        let (Reply::Array(theirs), Reply::Array(ours)) = (theirs.call(&question), ours.call(&question)) else {
            panic!("{name}: no list")
        };
        if theirs[0] == Reply::Null || theirs[0] == Reply::NullArray {
            continue;
        }
        for ((field, theirs), (_, ours)) in fields(&theirs[0]).into_iter().zip(fields(&ours[0])) {
            if server.version == (7, 0) && theirs != ours && !CHANGED_SINCE_7_0.contains(&(name.as_str(), field)) {
                wrong += &format!("{name} {field}\n  Redis {theirs}\n  ours  {ours}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
