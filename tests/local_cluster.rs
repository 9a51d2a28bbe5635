//! Three nodes as `quoris cluster start` runs them: every node answers for every key.

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use quoris_resp::Reply;
use support::{Connection, bulk, free_port, program, signal, until};

/// A local cluster; stopped when it is dropped.
struct Cluster {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start(options: &[&str]) -> Cluster {
        let dir = tempfile::tempdir().expect("a folder");
        // Three ports side by side.
        let port = (0..1000).map(|_| free_port()).find(|port| {
            let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
            (1..3).all(|step| free(port + step) && free(port + step + 10_000))
        });
        let port = port.expect("three free ports");
        let mut command = program();
        command.args(["cluster", "start", "--nodes", "3", "--port", &port.to_string(), "--dir"]).arg(dir.path());
        let mut process = command.args(options).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let text: String = lines.by_ref().map_while(|line| line.ok().filter(|l| !l.starts_with("Press"))).collect();
        assert!(text.contains("node  clients"), "{text}");
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.count());
        Cluster { process, port, dir }
    }

    fn connect(&self, node: u16) -> Connection {
        Connection::open(self.port + node - 1)
    }

    /// The node that leads group 1, from 1 on.
    fn leader(&self) -> u16 {
        let mut leader = 0;
        until("group 1 has a leader that says so", || {
            let says = |node: u16| {
                let mut c = Connection::try_open(self.port + node - 1)?;
                let text = c.text(&["INFO", "raft"]);
                let line = text.lines().find_map(|line| line.strip_prefix("group1:"))?.to_string();
                line.contains("role=leader,").then_some(node)
            };
            leader = (1..=3).find_map(says).unwrap_or(0);
            leader != 0
        });
        leader
    }

    fn stop(mut self) {
        signal(&self.process, "INT");
        until("the cluster stops", || self.process.try_wait().expect("our own child").is_some());
        let stopped = |node: u16| Connection::try_open(self.port + node - 1).is_none();
        assert!((1..=3).all(stopped), "no node is left behind");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGTERM, so that it takes its nodes with it.
        if matches!(self.process.try_wait(), Ok(None)) {
            signal(&self.process, "TERM");
            let _ = self.process.wait();
        }
    }
}

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
    assert_eq!(c.error(&["SET", "foo", "x"]), moved);
    assert_eq!(c.error(&["SELECT", "1"]), "ERR SELECT is not allowed in cluster mode");
    assert_eq!((c.info("cluster_enabled"), c.info("redis_mode")), ("1".to_string(), "cluster".to_string()));
    assert_eq!(at_leader.call(&["GET", "foo"]), bulk("bar"));
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
