//! The libraries and tools that people use, against the real program: redis-py, ioredis, node-redis, each
//! with RESP2 and RESP3, and redis-cli and redis-benchmark.
//!
//! Every library has a script beside this file, which prints a line per check and ends at the first that
//! fails. `./dev deps` installs the versions that requirements.txt and package.json name; where they are
//! missing these tests fail, they are not skipped.

#[path = "../support/mod.rs"]
mod support;

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use support::{Node, bulk, cluster::Cluster, until};

/// No client takes longer, in seconds; then it is killed.
const SECONDS_MAX: &str = "100";

/// The folder of the libraries: in the cache, named after their versions, as in .dev/deps.sh.
fn libraries() -> PathBuf {
    let pins = concat!(include_str!("requirements.txt"), include_str!("package.json"));
    let words = pins.split(|c: char| !c.is_ascii_digit() && c != '.');
    let versions: Vec<&str> = words.filter(|word| word.contains('.') && word.len() > 1).collect();
    let cache = match (std::env::var_os("QUORIS_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => Path::new(&home.expect("a home")).join(".cache/quoris"),
    };
    let folder = cache.join(format!("clients-{}", versions.join("-")));
    assert!(folder.join("ready").exists(), "no client libraries in {}: run ./dev deps", folder.display());
    folder
}

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

/// Runs a workload of a cluster client while three leaders die. It says how much it has done, works until its input
/// ends, and ends itself at the first error that surfaces.
fn while_leaders_die(interpreter: &Path, name: &'static str) {
    let mut nodes = Node::cluster(3, &["--groups", "3", "--cluster-redirects", "yes"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let mut command = Command::new("timeout");
    command.arg(SECONDS_MAX).arg(interpreter).arg(path).args(nodes.iter().map(|node| node.port.to_string()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("QUORIS_CLIENTS", libraries());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command.spawn().expect("timeout runs everywhere");
    let (done, counter) = (Arc::<AtomicU64>::default(), BufReader::new(child.stdout.take().expect("piped")));
    let counted = done.clone();
    let reader = std::thread::spawn(move || {
        for line in counter.lines().map_while(Result::ok) {
            println!("{name}: {line}");
            counted.store(line.trim_start_matches("done ").parse().unwrap_or(0), Ordering::SeqCst);
        }
    });
    let progress = |child: &mut Child| {
        let goal = done.load(Ordering::SeqCst) + COMMANDS_BETWEEN;
        until("the workload gets on", || {
            assert!(child.try_wait().expect("our own child").is_none(), "{name} ended early");
            done.load(Ordering::SeqCst) >= goal
        });
    };
    progress(&mut child);
    for group in 1..=3 {
        let leader = leader(&nodes, group);
        nodes[leader].kill();
        progress(&mut child);
        nodes[leader].restart();
        until("the node is ready", || nodes[leader].connect().info("ready") == "1");
        progress(&mut child);
    }
    drop(child.stdin.take());
    let status = child.wait().expect("our own child");
    reader.join().expect("it reads to the end");
    assert!(status.success(), "{name} ended with {status}; 127: run ./dev deps");
}

/// Commands of a workload between two steps.
const COMMANDS_BETWEEN: u64 = 1000;

#[test]
fn redis_pys_cluster_client_sees_no_error_while_leaders_die() {
    while_leaders_die(&libraries().join("python/bin/python"), "redis_py_failover.py");
}

#[test]
fn ioredis_cluster_client_sees_no_error_while_leaders_die() {
    while_leaders_die(Path::new("node"), "ioredis_failover.mjs");
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

#[test]
fn redis_benchmark_runs() {
    let node = Node::start(&[]);
    let port = node.port.to_string();
    let options = ["-p", &port, "-q", "-t", "ping,set,get,incr,mset", "-n", "20000", "-P", "16"];
    for more in [&[][..], &["-3", "-r", "1000", "-d", "64"], &["--threads", "2"]] {
        let said = run("redis-benchmark", &[&options[..], more].concat(), b"");
        for test in ["PING_INLINE:", "PING_MBULK:", "SET:", "GET:", "INCR:", "MSET (10 keys):"] {
            let line =
                said.split(['\r', '\n']).any(|line| line.starts_with(test) && line.contains("requests per second"));
            assert!(line, "{test} in {said}");
        }
        assert!(!said.contains("WARNING") && !said.contains("rror"), "{said}");
    }
    assert_eq!(node.connect().call(&["GET", "counter:__rand_int__"]), bulk("40000"));
}
