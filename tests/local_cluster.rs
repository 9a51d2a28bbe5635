//! Three nodes as `quoris cluster start` runs them: every node answers for every key.

mod support;

use quoris_resp::Reply;
use support::{Connection, bulk, cluster::Cluster, program, until};

#[test]
fn every_node_answers_for_every_key() {
    let cluster = Cluster::start(&["--groups", "2"]);
    let mut nodes = [1, 2, 3].map(|node| cluster.connect(node));
    for n in 0..30 {
        let key = format!("key:{n}");
        nodes[n % 3].ok(&["SET", &key, &n.to_string()]);
        assert_eq!(nodes[(n + 1) % 3].call(&["INCR", &key]), Reply::Int(n as i64 + 1));
        assert_eq!(nodes[(n + 2) % 3].call(&["GET", &key]), bulk(&(n + 1).to_string()));
    }
    assert_eq!(nodes.each_mut().map(|c| c.call(&["DBSIZE"])), [const { Reply::Int(30) }; 3]);
    let status = program()
        .args(["admin", "status", "--port", &(cluster.port + 1).to_string()])
        .output()
        .expect("the program runs");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("ready") && status.contains("0 (meta)") && !status.contains("no answer"), "{status}");
    cluster.stop();
}

#[test]
fn libraries_of_functions_are_in_every_group_and_at_every_node() {
    let cluster = Cluster::start(&["--groups", "2"]);
    let mut nodes = [1, 2, 3].map(|node| cluster.connect(node));
    let code = "#!lua name=lib\nredis.register_function('put', function(keys, args) \
        return redis.call('set', keys[1], args[1]) end)\nredis.register_function{function_name='take', \
        callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}";
    assert_eq!(nodes[0].call(&["FUNCTION", "LOAD", code]), bulk("lib"));
    for n in 0..20 {
        let key = format!("key:{n}");
        nodes[n % 3].ok(&["FCALL", "put", "1", &key, &n.to_string()]);
        assert_eq!(nodes[(n + 1) % 3].call(&["FCALL_RO", "take", "1", &key]), bulk(&n.to_string()));
    }
    assert_eq!(nodes[1].info("number_of_functions"), "2");
    let Reply::Bulk(payload) = nodes[2].call(&["FUNCTION", "DUMP"]) else { panic!("a payload") };
    nodes[1].ok(&["FUNCTION", "DELETE", "lib"]);
    for (n, node) in nodes.iter_mut().enumerate() {
        assert_eq!(node.error(&["FCALL", "put", "1", &format!("key:{n}"), "x"]), "ERR Function not found");
    }
    nodes[2].ok(&[&b"FUNCTION"[..], b"RESTORE", &payload]);
    for n in 0..20 {
        assert_eq!(nodes[n % 3].call(&["FCALL_RO", "take", "1", &format!("key:{n}")]), bulk(&n.to_string()));
    }
    nodes[0].ok(&["CONFIG", "SET", "cluster-redirects", "yes"]);
    let replies = (0..20).map(|n| nodes[0].call(&["FCALL", "put", "1", &format!("key:{n}"), "x"]));
    let moved = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with(b"MOVED "));
    let replies: Vec<Reply> = replies.collect();
    assert!(replies.iter().all(|reply| *reply == Reply::Ok || moved(reply)), "{replies:?}");
    cluster.stop();
}

#[test]
fn transactions_and_watches_work_through_any_node() {
    let cluster = Cluster::start(&[]);
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    let (mut c, mut other) = (cluster.connect(follower), cluster.connect(leader));
    c.ok(&["SET", "k", "1"]);
    for (interferes, want) in [(true, Reply::NullArray), (false, Reply::Array(vec![Reply::Ok, bulk("mine")]))] {
        c.ok(&["WATCH", "k", "absent"]);
        if interferes {
            other.ok(&["SET", "k", "theirs"]);
        }
        c.ok(&["MULTI"]);
        assert_eq!(c.call(&["SET", "k", "mine"]), Reply::status("QUEUED"));
        assert_eq!(c.call(&["GET", "k"]), Reply::status("QUEUED"));
        assert_eq!(c.call(&["EXEC"]), want);
    }
    // The connection's last write is on the other two disks, or soon will be.
    assert_eq!(c.call(&["WAIT", "2", "10000"]), Reply::Int(2));
}

#[test]
fn with_redirects_a_client_is_sent_to_the_leader() {
    let cluster = Cluster::start(&[]);
    let leader = cluster.leader();
    let (mut c, mut at_leader) = (cluster.connect(leader % 3 + 1), cluster.connect(leader));
    at_leader.ok(&["SET", "foo", "bar"]);
    assert_eq!(c.call(&["GET", "foo"]), bulk("bar"));
    c.ok(&["CONFIG", "SET", "cluster-redirects", "yes"]);
    let moved = format!("MOVED 12182 127.0.0.1:{}", cluster.port + leader - 1);
    assert_eq!(c.error(&["GET", "foo"]), moved);
    assert_eq!(c.call(&["GET", "foo"]), bulk("bar"), "nobody is sent in a circle");
    assert_eq!(cluster.connect(leader % 3 + 1).error(&["SET", "foo", "x"]), moved);
    until("a client that comes back later is sent again", || matches!(c.call(&["GET", "foo"]), Reply::Error(_)));
    assert_eq!(c.error(&["SELECT", "1"]), "ERR SELECT is not allowed in cluster mode");
    assert_eq!((c.info("cluster_enabled"), c.info("redis_mode")), ("1".to_string(), "cluster".to_string()));
    assert_eq!(at_leader.call(&["GET", "foo"]), bulk("bar"));
}

#[test]
fn whatever_the_command_nobody_is_sent_in_a_circle() {
    let cluster = Cluster::start(&[]);
    let leader = cluster.leader();
    let mut at_leader = cluster.connect(leader);
    at_leader.ok(&["SET", "foo", "bar"]);
    at_leader.call(&["RPUSH", "list", "a"]);
    cluster.connect(leader % 3 + 1).ok(&["CONFIG", "SET", "cluster-redirects", "yes"]);
    let queued = |c: &mut Connection, command: &[&str]| assert_eq!(c.call(command), Reply::status("QUEUED"));
    let exec = |c: &mut Connection, mixed: bool| {
        c.ok(&["MULTI"]);
        queued(c, &["APPEND", "foo", "!"]);
        if mixed {
            queued(c, &["PING"]);
        }
        c.call(&["EXEC"])
    };
    let pair = |one: &str, other: &str| Reply::Array(vec![bulk(one), bulk(other)]);
    type Command<'a> = &'a dyn Fn(&mut Connection) -> Reply;
    let commands: [(Command, Reply); 4] = [
        (&|c| c.call(&["WATCH", "foo"]), Reply::Ok),
        (&|c| c.call(&["BLPOP", "list", "5"]), pair("list", "a")),
        (&|c| exec(c, false), Reply::Array(vec![Reply::Int(4)])),
        (&|c| exec(c, true), Reply::Array(vec![Reply::Int(5), Reply::status("PONG")])),
    ];
    for (command, reply) in commands {
        let mut c = cluster.connect(leader % 3 + 1);
        let sent = command(&mut c);
        assert!(matches!(&sent, Reply::Error(text) if text.starts_with(b"MOVED ")), "{sent:?}");
        assert_eq!(command(&mut c), reply);
    }
}

#[test]
fn a_dump_goes_out_and_comes_back() {
    let cluster = Cluster::start(&["--groups", "2"]);
    let mut c = cluster.connect(1);
    for n in 0..100 {
        c.ok(&["SET", &format!("k{n}"), &"v".repeat(n)]);
    }
    c.ok(&["SET", "soon", "v", "PXAT", "99999999999999"]);
    c.ok(&["SELECT", "3"]);
    c.ok(&["SET", "three", "3"]);
    let (file, port) = (cluster.dir.path().join("out.rdb"), (cluster.port + 2).to_string());
    let run = |verb: &str| {
        program().args(["admin", verb]).arg(&file).args(["--port", &port]).output().expect("the program runs")
    };
    let output = run("export");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("102 keys"), "{output:?}");
    assert!(!run("import").status.success(), "keys that exist are not overwritten unless that is asked for");
    c.ok(&["FLUSHALL"]);
    assert!(run("import").status.success());
    assert_eq!(c.call(&["GET", "three"]), bulk("3"));
    c.ok(&["SELECT", "0"]);
    assert_eq!(c.call(&["DBSIZE"]), Reply::Int(101));
    assert_eq!(c.call(&["PEXPIRETIME", "soon"]), Reply::Int(99_999_999_999_999));
}

#[test]
fn with_redirects_each_master_speaks_for_its_own_keys() {
    let cluster = Cluster::start(&["--groups", "3"]);
    let mut nodes = [1, 2, 3].map(|node| cluster.connect(node));
    for n in 0..60 {
        nodes[n % 3].ok(&["SET", &format!("key:{n}"), "v"]);
    }
    nodes.iter_mut().for_each(|c| c.ok(&["CONFIG", "SET", "cluster-redirects", "yes"]));
    let masters = nodes[0].text(&["CLUSTER", "NODES"]).lines().filter(|line| line.contains("master")).count();
    assert_eq!(masters, 3, "leaders are spread over the nodes");
    // To cluster clients a node is a master or a replica: no master is another's replica as well.
    assert_eq!(nodes.each_mut().map(nodes_per_range), [const { [1, 1, 1] }; 3].map(Vec::from));
    let sizes = nodes.each_mut().map(|c| match c.call(&["DBSIZE"]) {
        Reply::Int(n) => n,
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.iter().sum::<i64>(), 60);
    assert!(sizes.iter().all(|n| *n < 60), "{sizes:?}");
}

/// How many nodes CLUSTER SLOTS and CLUSTER SHARDS name for each range.
fn nodes_per_range(c: &mut Connection) -> Vec<usize> {
    let Reply::Array(ranges) = c.call(&["CLUSTER", "SLOTS"]) else { panic!("a list of ranges") };
    let lengths = ranges.iter().map(|range| match range {
        Reply::Array(fields) => fields.len() - 2,
        other => panic!("{other:?}"),
    });
    let lengths: Vec<usize> = lengths.collect();
    let shards = format!("{:?}", c.call(&["CLUSTER", "SHARDS"]));
    assert_eq!(shards.matches("endpoint").count(), lengths.iter().sum(), "{shards}");
    lengths
}

#[test]
fn with_redirects_replicas_answer_reads_only() {
    let cluster = Cluster::start(&[]);
    let leader = cluster.leader();
    let (mut c, mut at_leader) = (cluster.connect(leader % 3 + 1), cluster.connect(leader));
    at_leader.ok(&["SET", "foo", "bar"]);
    c.ok(&["CONFIG", "SET", "cluster-redirects", "yes"]);
    assert_eq!(nodes_per_range(&mut c), [3]);
    let moved = |c: &mut Connection, command: &[&str]| c.error(command).starts_with("MOVED 12182 ");
    assert!(moved(&mut c, &["GET", "foo"]));
    c.ok(&["READONLY"]);
    assert_eq!(c.call(&["GET", "foo"]), bulk("bar"));
    let mut other = cluster.connect(leader % 3 + 1);
    other.ok(&["READONLY"]);
    assert!(moved(&mut other, &["SET", "foo", "x"]));
    let mut other = cluster.connect(leader % 3 + 1);
    other.ok(&["READONLY"]);
    other.ok(&["READWRITE"]);
    assert!(moved(&mut other, &["GET", "foo"]));
    // No key belongs to these, so there is nowhere to send the client.
    assert_eq!((c.call(&["DBSIZE"]), c.call(&["RANDOMKEY"])), (Reply::Int(1), bulk("foo")));
    assert_eq!(c.call(&["KEYS", "*"]), Reply::Array(vec![bulk("foo")]));
    assert_eq!(c.call(&["SCAN", "0"]), Reply::Array(vec![bulk("0"), Reply::Array(vec![bulk("foo")])]));
}
