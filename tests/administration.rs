//! CLIENT, CONFIG, INFO, MONITOR, SHUTDOWN and their kin on one node.

mod support;

use quoris_resp::Reply;
use support::{Connection, Node, bulk, bulks, program, until};

fn id(c: &mut Connection) -> String {
    match c.call(&["CLIENT", "ID"]) {
        Reply::Int(id) => id.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn client_kill_hits_what_every_filter_says() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    let mut by_id = node.connect();
    let victim = id(&mut by_id);
    assert_eq!(c.call(&["CLIENT", "KILL", "ID", &victim]), Reply::Int(1));
    assert!(by_id.ends());
    let mut by_address = node.connect();
    let address = by_address.stream.local_addr().expect("an address").to_string();
    assert_eq!(by_address.call(&["PING"]), Reply::status("PONG"));
    assert_eq!(c.call(&["CLIENT", "KILL", "ADDR", &address, "TYPE", "pubsub"]), Reply::Int(0));
    c.ok(&["CLIENT", "KILL", &address]);
    assert!(by_address.ends());
    assert_eq!(c.error(&["CLIENT", "KILL", &address]), "ERR No such client");
    let mut others = [node.connect(), node.connect()];
    others.iter_mut().for_each(|other| assert_eq!(other.call(&["PING"]), Reply::status("PONG")));
    assert_eq!(c.call(&["CLIENT", "KILL", "TYPE", "normal", "USER", "default"]), Reply::Int(2));
    assert!(others.iter_mut().all(Connection::ends));
    assert_eq!(c.call(&["CLIENT", "KILL", "MAXAGE", "1000"]), Reply::Int(0));
    let own = id(&mut c);
    assert_eq!(c.call(&["CLIENT", "KILL", "ID", &own, "SKIPME", "no"]), Reply::Int(1));
    assert!(c.ends());
}

#[test]
fn client_reply_silences_commands() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.send(&["CLIENT", "REPLY", "SKIP"]);
    c.send(&["SET", "k", "1"]);
    assert_eq!(c.call(&["GET", "k"]), bulk("1"));
    c.send(&["CLIENT", "REPLY", "OFF"]);
    c.send(&["INCR", "k"]);
    c.send(&["NOSUCH"]);
    c.send(&["PING"]);
    c.ok(&["CLIENT", "REPLY", "ON"]);
    assert_eq!(c.call(&["GET", "k"]), bulk("2"));
}

#[test]
fn client_pause_holds_writes_until_it_ends() {
    let node = Node::start(&[]);
    let (mut c, mut writer) = (node.connect(), node.connect());
    c.ok(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    writer.send(&["SET", "k", "1"]);
    until("the writer waits", || c.info("blocked_clients") == "1");
    assert_eq!(c.call(&["GET", "k"]), Reply::Null);
    c.ok(&["CLIENT", "UNPAUSE"]);
    assert_eq!(writer.reply(), Reply::Ok);
    c.ok(&["CLIENT", "PAUSE", "50"]);
    assert_eq!(writer.call(&["PING"]), Reply::status("PONG"), "a pause ends by itself");
}

#[test]
fn config_set_is_all_or_nothing_and_reads_back() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["CONFIG", "SET", "maxmemory", "100mb", "timeout", "7", "MaxMemory-Policy", "allkeys-lru"]);
    assert_eq!(c.call(&["CONFIG", "GET", "maxmemory*"]).size(), c.call(&["CONFIG", "GET", "maxmemory*"]).size());
    assert_eq!(c.call(&["CONFIG", "GET", "maxmemory"]), bulks(&["maxmemory", "104857600"]));
    let error = c.error(&["CONFIG", "SET", "timeout", "9", "maxmemory", "much"]);
    assert_eq!(
        error,
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value"
    );
    assert_eq!(c.call(&["CONFIG", "GET", "timeout"]), bulks(&["timeout", "7"]));
    assert!(c.error(&["CONFIG", "SET", "timeout", "1", "timeout", "2"]).ends_with("duplicate parameter"));
    assert!(c.error(&["CONFIG", "SET", "port", "1"]).ends_with("can't set immutable config"));
    // Old and new names are one setting.
    c.ok(&["CONFIG", "SET", "hash-max-ziplist-entries", "33"]);
    assert_eq!(c.call(&["CONFIG", "GET", "hash-max-listpack-entries"]), bulks(&["hash-max-listpack-entries", "33"]));
    // Settings without a meaning here are kept.
    c.ok(&["CONFIG", "SET", "save", "900 1", "lfu-log-factor", "5", "slave-priority", "7"]);
    assert_eq!(c.call(&["CONFIG", "GET", "save"]), bulks(&["save", "900 1"]));
    assert_eq!(c.call(&["CONFIG", "GET", "replica-priority"]), bulks(&["replica-priority", "7"]));
    let Reply::Array(all) = c.call(&["CONFIG", "GET", "*"]) else { panic!("a list") };
    assert!(all.len() > 300);
}

#[test]
fn config_rewrite_goes_into_the_loaded_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, port) = (dir.path().join("redis.conf"), support::free_port());
    let text =
        format!("# mine\nport {port}\ndir {}\nmaxmemory 5mb\nrename-command X Y\n", dir.path().join("data").display());
    std::fs::write(&path, text).expect("a file");
    let node = Node::from_file(port, &path, &[]);
    let mut c = node.connect();
    c.ok(&["CONFIG", "SET", "maxmemory", "6mb", "slowlog-max-len", "5"]);
    c.ok(&["CONFIG", "REWRITE"]);
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(
        text.starts_with("# mine\n")
            && text.contains("\nmaxmemory 6291456\n")
            && text.contains("\nslowlog-max-len 5\n"),
        "{text}"
    );
    assert!(text.contains("rename-command X Y"));
    let error = Node::start(&[]).connect().error(&["CONFIG", "REWRITE"]);
    assert_eq!(error, "ERR The server is running without a config file");
}

#[test]
fn info_has_the_fields_that_tools_read() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "v"]);
    c.ok(&["SET", "t", "v", "EX", "1000"]);
    assert!(c.call(&["INCR", "k"]).is_error());
    assert!(c.call(&["SET", "k"]).is_error());
    let info = c.text(&["INFO", "everything"]);
    for part in [
        "# Server\r\n",
        "redis_version:8.",
        "server_name:quoris\r\n",
        "\r\n# Clients\r\nconnected_clients:1\r\n",
        "blocked_clients:0\r\n",
        "used_memory:",
        "loading:0\r\n",
        "rdb_bgsave_in_progress:0\r\n",
        "total_commands_processed:",
        "expired_keys:0\r\n",
        "role:master\r\n",
        "used_cpu_user:",
        "cmdstat_set:calls=2,",
        "errorstat_ERR:count=2\r\n",
        "cluster_enabled:0\r\n",
        "db0:keys=2,expires=1,avg_ttl=0\r\n",
        "# Raft\r\n",
        "fsync:always\r\n",
        "role=leader",
    ] {
        assert!(info.contains(part), "{part:?} in {info}");
    }
    assert!(info.contains("rejected_calls=1,failed_calls=0") && info.contains("cmdstat_incr:calls=1,"));
    assert_eq!(c.text(&["INFO", "keyspace"]), "# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n");
    assert!(!c.text(&["INFO"]).contains("cmdstat_"));
    c.ok(&["CONFIG", "RESETSTAT"]);
    assert!(!c.text(&["INFO", "commandstats"]).contains("cmdstat_set"));
}

#[test]
fn monitor_shows_what_others_do() {
    let node = Node::start(&[]);
    let (mut c, mut monitor) = (node.connect(), node.connect());
    monitor.ok(&["MONITOR"]);
    c.ok(&["SET", "k", "a \"b\"\n"]);
    c.ok(&["SELECT", "2"]);
    assert_eq!(c.call(&["GET", "k"]), Reply::Null);
    let mut line = || match monitor.reply() {
        Reply::Status(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("{other:?}"),
    };
    assert!(line().ends_with("] \"SET\" \"k\" \"a \\\"b\\\"\\n\""));
    assert!(line().ends_with("] \"SELECT\" \"2\""));
    let last = line();
    assert!(last.contains(" [2 127.0.0.1:") && last.ends_with("] \"GET\" \"k\""), "{last}");
}

#[test]
fn the_slow_log_keeps_slow_commands() {
    let node = Node::start(&["--enable-debug-command", "yes", "--slowlog-log-slower-than", "10000000"]);
    let mut c = node.connect();
    c.ok(&["SLOWLOG", "RESET"]);
    c.ok(&["CONFIG", "SET", "slowlog-log-slower-than", "50000"]);
    c.ok(&["DEBUG", "SLEEP", "0.06"]);
    assert_eq!(c.call(&["PING"]), Reply::status("PONG"));
    let Reply::Array(entries) = c.call(&["SLOWLOG", "GET"]) else { panic!("a list") };
    let [Reply::Array(entry)] = entries.as_slice() else { panic!("one entry: {entries:?}") };
    assert_eq!((entry.len(), &entry[3]), (6, &bulks(&["DEBUG", "SLEEP", "0.06"])));
}

#[test]
fn wait_counts_replicas_and_knows_its_time() {
    let node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "1"]);
    assert_eq!(c.call(&["WAIT", "0", "0"]), Reply::Int(0));
    assert_eq!(c.call(&["WAIT", "1", "30"]), Reply::Int(0));
    assert_eq!(c.call(&["WAITAOF", "1", "0", "0"]), Reply::Array(vec![Reply::Int(1), Reply::Int(0)]));
    let mut other = node.connect();
    c.send(&["WAIT", "1", "0"]);
    until("WAIT blocks", || other.info("blocked_clients") == "1");
    let all = other.text(&["CLIENT", "LIST"]);
    let blocked = all.lines().find(|line| line.contains("flags=b")).expect("a blocked client");
    let id = blocked.trim_start_matches("id=").split(' ').next().expect("an id");
    assert_eq!(other.call(&["CLIENT", "UNBLOCK", id, "ERROR"]), Reply::Int(1));
    assert_eq!(c.reply(), Reply::error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
}

#[test]
fn shutdown_and_signals_end_the_process_in_order() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    c.ok(&["SET", "k", "v"]);
    c.send(&["SHUTDOWN"]);
    assert!(c.ends());
    assert_eq!(node.exit_code(), Some(0));
    assert_eq!(Node::start(&[]).terminate(), Some(0));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut node = Node::start(&[]);
    let mut c = node.connect();
    for n in 0..50 {
        c.ok(&["SET", &format!("k{n}"), &n.to_string()]);
    }
    node.crash_and_restart();
    let mut c = node.connect();
    for n in 0..50 {
        assert_eq!(c.call(&["GET", &format!("k{n}")]), bulk(&n.to_string()));
    }
}

#[test]
fn the_admin_port_tells_health_and_metrics() {
    let port = support::free_port();
    let node = Node::start(&["--admin-port", &port.to_string()]);
    let get = |path: &str| {
        let mut c = Connection::open(port);
        c.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut c.stream, &mut text).expect("an answer");
        text
    };
    node.connect().ok(&["SET", "k", "v"]);
    assert!(get("/health").starts_with("HTTP/1.1 200"));
    support::until("the node is ready", || get("/ready").starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics");
    assert!(
        metrics.contains("\nquoris_command_calls_total{command=\"set\"} 1\n") && metrics.contains("\nquoris_keys 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nquoris_group_snapshots_installed_total{group=\"1\"} 0\n"), "{metrics}");
}

#[test]
fn debug_is_for_those_who_may() {
    let node = Node::start(&[]);
    assert!(node.connect().error(&["DEBUG", "SLEEP", "0"]).starts_with("ERR DEBUG command not allowed."));
    let node = Node::start(&["--enable-debug-command", "local"]);
    node.connect().ok(&["DEBUG", "SLEEP", "0"]);
}

#[test]
fn slots_go_where_an_operator_wants_them_and_stay_there_after_a_crash() {
    let mut node = Node::start(&["--groups", "3"]);
    let port = node.port.to_string();
    let mut c = node.connect();
    let keys: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
    keys.iter().for_each(|key| c.ok(&["SET", key, key, "PX", "3600000"]));
    c.call(&["RPUSH", "list", "a", "b"]);
    c.call(&["HSET", "hash", "f", "1"]);
    let slots = |c: &mut Connection, group: &str| {
        let text = c.text(&["INFO", "raft"]);
        let line = text.lines().find(|line| line.starts_with(&format!("group{group}:"))).expect("a group").to_string();
        line.split("slots=").nth(1).expect("slots").split(',').next().unwrap_or_default().to_string()
    };
    let check = |c: &mut Connection| {
        keys.iter().for_each(|key| assert_eq!(c.call(&["GET", key]), bulk(key)));
        assert!(matches!(c.call(&["PTTL", &keys[0]]), Reply::Int(1..=3_600_000)));
        assert_eq!(c.call(&["LRANGE", "list", "0", "-1"]), bulks(&["a", "b"]));
        assert_eq!(c.call(&["HINCRBY", "hash", "f", "0"]), Reply::Int(1));
        assert_eq!(c.call(&["DBSIZE"]), Reply::Int(502));
    };
    for (words, first, third) in [
        (&["merge", "3", "1"][..], "0-5460+10922-16383", ""),
        (&["split", "1", "3"], "0-5460+10922-10922", "10923-16383"),
        (&["move", "0-99", "2", "--rate", "100000000"], "100-5460+10922-10922", "10923-16383"),
        (&["rebalance"], "", ""),
    ] {
        let output = program().args(["admin", "slots"]).args(words).args(["--port", &port]).output();
        let output = output.expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        if words != ["rebalance"] {
            assert_eq!([slots(&mut c, "1"), slots(&mut c, "3")], [first, third], "{words:?}");
        }
        check(&mut c);
    }
    let owned = ["1", "2", "3"].map(|group| slots(&mut c, group));
    drop(c);
    node.crash_and_restart();
    let mut c = node.connect();
    check(&mut c);
    assert_eq!(["1", "2", "3"].map(|group| slots(&mut c, group)), owned);
    assert_eq!(c.call(&["CLUSTER", "MOVES"]), Reply::Null);
    assert_eq!(c.call(&["CLUSTER", "CANCEL-MOVE"]), Reply::Int(0));
    assert!(c.error(&["CLUSTER", "MOVE-SLOTS", "0-99", "9"]).starts_with("ERR there is no group 9"));
}
