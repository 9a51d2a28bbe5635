//! The libraries and tools that people use, against the real program: redis-py, ioredis, node-redis, each
//! with RESP2 and RESP3, and redis-cli and redis-benchmark.
//!
//! Every library has a script beside this file, which prints a line per check and ends at the first that
//! fails. `./dev deps` installs the versions that requirements.txt and package.json name; where they are
//! missing these tests fail, they are not skipped.

#[path = "../support/mod.rs"]
mod support;

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use quoris_resp::Reply;
use support::{
    Node, bulk,
    cluster::Cluster,
    until,
    workload::{Workload, libraries},
};

/// No client takes longer, in seconds; then it is killed.
const SECONDS_MAX: &str = "100";

/// Runs a client with some input, prints what it says, and gives it when the client ends well.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("timeout");
    command.arg(SECONDS_MAX).arg(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).env("QUORIS_CLIENTS", libraries());
    let mut child = command.spawn().expect("timeout runs everywhere");
    let mut stdin = child.stdin.take().expect("piped");
    // A client that ends early closes its end; its own words say more than that.
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("our own child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        println!("{program} {}\n{said}{complaints}", arguments.join(" "));
        assert!(output.status.success(), "{program} ended with {}; 127: run ./dev deps", output.status);
        said
    })
}

/// Runs one of the scripts.
fn script(name: &str, ports: &[u16]) {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    script_with(name, &ports.iter().map(String::as_str).collect::<Vec<_>>());
}

fn script_with(name: &str, arguments: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let path = path.to_string_lossy();
    let arguments = arguments.iter().copied();
    if name.ends_with(".py") {
        let python = libraries().join("python/bin/python");
        // -B: nothing is written beside the script.
        run(&python.to_string_lossy(), &["-B", &path].into_iter().chain(arguments).collect::<Vec<_>>(), b"");
    } else {
        run("node", &[&*path].into_iter().chain(arguments).collect::<Vec<_>>(), b"");
    }
}

fn on_one_node(name: &str) {
    let node = Node::start(&["--enable-debug-command", "yes"]);
    script(name, &[node.port]);
}

#[test]
fn the_examples_of_the_documents_are_what_runs_here() {
    let (page, example) = (include_str!("../../src/docs/sessions.md"), include_str!("exactly_once.py"));
    assert!(page.contains(&format!("```python\n{example}```\n")), "src/docs/sessions.md shows another exactly_once.py");
    let (page, example) = (include_str!("../../src/docs/events.md"), include_str!("events.py"));
    assert!(page.contains(&format!("```python\n{example}```\n")), "src/docs/events.md shows another events.py");
    let example = include_str!("events.mjs");
    assert!(page.contains(&format!("```js\n{example}```\n")), "src/docs/events.md shows another events.mjs");
}

#[test]
fn redis_py_works_on_one_node() {
    on_one_node("redis_py.py");
}

#[test]
fn ioredis_works_on_one_node() {
    on_one_node("ioredis.mjs");
}

#[test]
fn node_redis_works_on_one_node() {
    on_one_node("node_redis.mjs");
}

/// One group, so that all is atomic that is atomic in Redis.
#[test]
fn the_libraries_work_through_a_proxy() {
    let nodes = Node::cluster(3, &["--enable-debug-command", "yes"]);
    let proxy = Node::proxy(&nodes, &["--enable-debug-command", "yes"]);
    for name in ["redis_py.py", "ioredis.mjs", "node_redis.mjs"] {
        script_with(name, &[&proxy.port.to_string(), "proxy"]);
    }
}

/// A node that leads a group, and may be killed.
fn leader(nodes: &[Node], group: usize) -> usize {
    let leads = |node: &Node| {
        let line = node.connect().info(&format!("group{group}"));
        line.contains("role=leader,").then_some(())
    };
    let mut found = None;
    until("the group has a leader", || {
        found = nodes.iter().position(|node| leads(node).is_some());
        found.is_some()
    });
    found.expect("somebody leads by now")
}

/// The first of a group's slots at the beginning, of three groups.
const FIRST_SLOTS: [u16; 3] = [0, 5461, 10923];
/// Slots of a move, and how fast they go, so that it takes long enough to die in it.
const SLOTS: u16 = 1000;
const RATE: &str = "150000";

fn begin_move(node: &Node, group: usize, to: usize, rate: &str) {
    let first = FIRST_SLOTS[group - 1];
    let range = format!("{first}-{}", first + SLOTS - 1);
    node.connect().ok(&["CLUSTER", "MOVE-SLOTS", &range, &to.to_string(), "RATE", rate]);
}

fn wait_until_moved(nodes: &[Node]) {
    let rests = |node: &Node| node.connect().call(&["CLUSTER", "MOVES"]) == Reply::Null;
    until("the slots have moved", || nodes.iter().all(rests));
}

/// Runs a workload of a cluster client while slots go to and fro and three leaders die in it: of the source, of the
/// target and of the cluster itself.
fn while_leaders_die_and_slots_move(name: &'static str) {
    let mut nodes = Node::cluster(3, &["--groups", "3", "--cluster-redirects", "yes"]);
    fill(&nodes);
    let mut workload = Workload::start(name, &nodes.iter().map(|node| node.port).collect::<Vec<_>>(), &[]);
    workload.wait_for_progress();
    for source in 1..=3 {
        let target = source % 3 + 1;
        begin_move(&nodes[source - 1], source, target, RATE);
        workload.wait_for_progress();
        println!("{source} to {target}: {:?}", nodes[0].connect().call(&["CLUSTER", "MOVES"]));
        let leader = leader(&nodes, [source, target, 0][source - 1]);
        nodes[leader].kill();
        workload.wait_for_progress();
        nodes[leader].restart();
        until("the node is ready", || nodes[leader].connect().info("ready") == "1");
        workload.wait_for_progress();
        wait_until_moved(&nodes);
        begin_move(&nodes[target - 1], source, source, "0");
        wait_until_moved(&nodes);
        workload.wait_for_progress();
    }
    workload.end(3);
}

/// So much that a move takes a while.
fn fill(nodes: &[Node]) {
    let proxy = Node::proxy(nodes, &[]);
    let (mut connection, value) = (proxy.connect(), "v".repeat(1000));
    for first in (0..10_000).step_by(500) {
        (first..first + 500).for_each(|n| connection.send(&["SET", &format!("filler:{n}"), &value]));
        (0..500).for_each(|_| assert_eq!(connection.reply(), Reply::Ok));
    }
}

#[test]
fn redis_pys_cluster_client_sees_no_error_while_leaders_die_and_slots_move() {
    while_leaders_die_and_slots_move("redis_py_workload.py");
}

#[test]
fn ioredis_cluster_client_sees_no_error_while_leaders_die_and_slots_move() {
    while_leaders_die_and_slots_move("ioredis_workload.mjs");
}

fn libraries_on_three_nodes(groups: &str) {
    let cluster = Cluster::start(&["--groups", groups]);
    let ports = [0, 1, 2].map(|step| cluster.port + step);
    script("redis_py_cluster.py", &ports);
    script("node_cluster.mjs", &ports);
    cluster.stop();
}

#[test]
fn the_libraries_work_on_a_cluster_of_one_group() {
    libraries_on_three_nodes("1");
}

#[test]
fn the_libraries_work_on_a_cluster_of_three_groups() {
    libraries_on_three_nodes("3");
}

/// What redis-cli prints, without the last newline.
fn cli(port: u16, arguments: &[&str], input: &[u8]) -> String {
    let port = port.to_string();
    let arguments: Vec<&str> = ["-p", &port].iter().chain(arguments).copied().collect();
    run("redis-cli", &arguments, input).trim_end().to_string()
}

#[test]
fn redis_cli_asks_and_prints() {
    let node = Node::start(&[]);
    let ask = |arguments: &[&str]| cli(node.port, arguments, b"");
    assert_eq!(ask(&["set", "k", "v"]), "OK");
    assert_eq!([ask(&["get", "k"]), ask(&["--no-raw", "get", "k"]), ask(&["get", "no"])], ["v", "\"v\"", ""]);
    assert_eq!([ask(&["--csv", "mget", "k", "no"]), ask(&["-2", "ping"])], ["\"v\",NULL", "PONG"]);
    assert_eq!(ask(&["--json", "config", "get", "appendfs*"]), r#"{"appendfsync":"always"}"#);
    assert!(ask(&["-3", "hello"]).contains("proto 3\n") && ask(&["-3", "client", "info"]).contains(" resp=3 "));
    assert!(ask(&["info"]).contains("\nserver_name:quoris") && ask(&["info", "raft"]).starts_with("# Raft"));
    assert_eq!([ask(&["-n", "3", "set", "three", "3"]), ask(&["-n", "3", "dbsize"])], ["OK", "1"]);
    assert_eq!(ask(&["-r", "3", "incr", "n"]), "1\n2\n3");
    assert!(ask(&["-e", "ping"]) == "PONG" && ask(&["command", "docs", "get"]).contains("summary"));
    assert_eq!(cli(node.port, &["-x", "set", "in"], b"from\0stdin"), "OK");
    assert_eq!(node.connect().call(&["GET", "in"]), bulk("from\0stdin"));
    let lines = b"SET a 1\nINCR a\nMULTI\nGET a\nEXEC\nNOSUCH x\nSELECT 3\nDBSIZE\n";
    let wanted = "OK\n2\nOK\nQUEUED\n2\nERR unknown command 'NOSUCH', with args beginning with: 'x' \n\nOK\n1";
    assert_eq!(cli(node.port, &[], lines), wanted);
}

#[test]
fn redis_cli_pipes_scans_and_measures() {
    let node = Node::start(&[]);
    let ask = |arguments: &[&str]| cli(node.port, arguments, b"");
    let set = |n: usize| format!("*3\r\n$3\r\nSET\r\n$6\r\nk:{n:04}\r\n$3\r\nxyz\r\n");
    let many: String = (0..5000).map(set).collect();
    assert!(cli(node.port, &["--pipe"], many.as_bytes()).ends_with("errors: 0, replies: 5000"));
    assert_eq!(ask(&["--scan", "--pattern", "k:00*"]).lines().count(), 100);
    assert_eq!(ask(&["set", "largest", &"x".repeat(1000)]), "OK");
    let summary = ask(&["--bigkeys"]);
    assert!(summary.contains("Sampled 5001 keys"), "{summary}");
    assert!(summary.contains(r#"Biggest string found '"largest"' has 1000 bytes"#), "{summary}");
    assert!(ask(&["--memkeys"]).contains(r#"Biggest string found '"largest"'"#));
    // What would go on for ever is cut; stdbuf and timeout are there wherever redis-cli is.
    let forever = |arguments: &str| {
        let line = format!("stdbuf -oL timeout 0.5 redis-cli -p {} {arguments} || [ $? = 124 ]", node.port);
        run("sh", &["-c", &line], b"")
    };
    let table = forever("--stat -i 0.1");
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("keys")), "{table}");
    assert!(table.lines().nth(2).is_some_and(|line| line.starts_with("5001 ")), "{table}");
    // On a terminal it asks for COMMAND DOCS, for help and hints.
    let talk = format!("TERM=dumb script -qec 'redis-cli -p {}' /dev/null", node.port);
    let said = run("sh", &["-c", &talk], b"help getrange\nselect 3\nset here 1\nget here\nquit\n");
    assert!(said.contains("key start end") && said.contains("[3]> OK") && said.contains(r#"[3]> "1""#), "{said}");
}

#[test]
fn redis_cli_understands_a_cluster() {
    for groups in ["1", "3"] {
        let cluster = Cluster::start(&["--groups", groups]);
        let ports = [0, 1, 2].map(|step| cluster.port + step);
        for (n, port) in ports.iter().enumerate() {
            assert_eq!(cli(*port, &["set", &format!("k:{n}"), "v"], b""), "OK");
            assert_eq!(cli(ports[(n + 1) % 3], &["get", &format!("k:{n}")], b""), "v");
        }
        for port in ports {
            assert_eq!(cli(port, &["config", "set", "cluster-redirects", "yes"], b""), "OK");
        }
        let said = cli(ports[0], &["-c"], b"set a 1\nset b 2\nset c 3\nget a\nget b\nget c\n");
        let answers = said.lines().filter(|line| !line.starts_with("-> Redirected")).collect::<Vec<_>>();
        assert_eq!(answers, ["OK", "OK", "OK", "1", "2", "3"]);
        let address = format!("127.0.0.1:{}", ports[1]);
        let report = cli(ports[1], &["--cluster", "check", &address], b"");
        assert!(report.contains(&format!("6 keys in {groups} masters")), "{report}");
        assert!(report.contains("All nodes agree") && report.contains("All 16384 slots covered"), "{report}");
        let table = cli(ports[0], &["--cluster", "info", &address], b"");
        assert!(table.contains(&format!("6 keys in {groups} masters")), "{table}");
        let sizes = cli(ports[2], &["--cluster", "call", &address, "dbsize"], b"");
        assert!(sizes.lines().skip(1).all(|line| line.starts_with("127.0.0.1:") && !line.contains("MOVED")), "{sizes}");
    }
}

/// Runs redis-benchmark, which must name each of these tests with a result and complain about nothing.
fn benchmark(port: u16, tests: &str, names: &[&str], more: &[&str]) {
    let port = port.to_string();
    let options = ["-p", &port, "-q", "-t", tests, "-n", "20000", "-P", "16"];
    let said = run("redis-benchmark", &[&options[..], more].concat(), b"");
    for test in names {
        let line = said.split(['\r', '\n']).any(|line| line.starts_with(test) && line.contains("requests per second"));
        assert!(line, "{test} in {said}");
    }
    assert!(!said.contains("WARNING") && !said.contains("rror"), "{said}");
}

#[test]
fn redis_benchmark_runs() {
    let node = Node::start(&[]);
    let names = ["PING_INLINE:", "PING_MBULK:", "SET:", "GET:", "INCR:", "MSET (10 keys):"];
    for more in [&[][..], &["-3", "-r", "1000", "-d", "64"], &["--threads", "2"]] {
        benchmark(node.port, "ping,set,get,incr,mset", &names, more);
    }
    assert_eq!(node.connect().call(&["GET", "counter:__rand_int__"]), bulk("40000"));
}

#[test]
fn redis_benchmark_runs_on_a_cluster_and_through_a_proxy() {
    let nodes = Node::cluster(3, &["--groups", "3"]);
    let proxy = Node::proxy(&nodes, &[]);
    let (tests, names) = ("set,get,incr,lpush,hset", ["SET:", "GET:", "INCR:", "LPUSH:", "HSET:"]);
    benchmark(proxy.port, tests, &names, &["-r", "1000"]);
    nodes.iter().for_each(|node| node.connect().ok(&["CONFIG", "SET", "cluster-redirects", "yes"]));
    benchmark(nodes[1].port, tests, &names, &["--cluster"]);
}
