//! Nodes over real disks and real connections, in one process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quoris_engine::command;
use quoris_log::{Fsync, RocksDisk};
use quoris_raft::seam::{Seams, SystemClock, TcpNet, blocking_threads};
use quoris_raft::{GroupId, Node, NodeConfig, Operation, Session, Timing};
use quoris_resp::{Argv, Reply};

fn config(peers: &[String], own: usize) -> NodeConfig {
    NodeConfig {
        guest: false,
        cluster_name: "test".into(),
        secret: String::new(),
        client_addr: format!("127.0.0.1:{}", own + 1),
        peer_addr: peers.get(own).cloned().unwrap_or_default(),
        peer_bind: None,
        peers: peers.to_vec(),
        join: None,
        zone: String::new(),
        groups: 2,
        replication_factor: 3,
        databases: 16,
        settings: Default::default(),
        timing: Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(600),
            read_lease: true,
            snapshot_log_bytes: 1 << 20,
            clock_step_max: Duration::MAX,
        },
        entry_bytes_max: 64 << 20,
        request_timeout: Duration::from_secs(10),
    }
}

async fn start(dir: &Path, config: NodeConfig) -> Node {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let disk = loop {
        // The node before may still be letting go of the folder.
        match RocksDisk::open(dir, Fsync::Always, |e| panic!("{e}")) {
            Ok(disk) => break disk,
            Err(e) if std::time::Instant::now() > deadline => panic!("{e}"),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let seams = Seams {
        disk: Arc::new(disk),
        net: Arc::new(TcpNet),
        clock: Arc::new(SystemClock::default()),
        blocking: blocking_threads,
    };
    Node::start(config, seams).await.expect("the node starts")
}

async fn run(session: &Session, node: &Node, parts: &[&str]) -> Reply {
    let argv = Argv::from_parts(parts);
    let command = command::lookup(&argv).expect("a known command").command;
    let write = matches!(command.handler, command::Handler::Write(_));
    let group = node.group_of(quoris_engine::slot(parts[1].as_bytes())).expect("an owned slot");
    let operation = Operation { command, argv, database: 0, user: 0, transaction: false, own: None, write };
    let executed = session.execute(group, vec![operation], true).await.expect("a leader");
    executed.replies.into_iter().next().expect("one reply")
}

fn free_addresses(n: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("bound").to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_keeps_its_keys_over_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for round in 0..3 {
        let node = start(dir.path(), config(&[], 0)).await;
        let session = node.session();
        assert_eq!(run(&session, &node, &["INCR", "n"]).await, Reply::Int(round + 1));
        assert_eq!(run(&session, &node, &["GET", "n"]).await, Reply::bulk((round + 1).to_string()));
        if round == 1 {
            let files = node.save().await.expect("snapshots");
            assert_eq!(files.len(), 2, "one file for each data group");
        }
        node.shutdown().await;
        drop(session);
        drop(node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_answer_from_any_of_them() {
    let peers = free_addresses(3);
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
    let starts = (0..3).map(|i| start(dirs[i].path(), config(&peers, i)));
    let nodes = futures_util::future::join_all(starts).await;
    let sessions: Vec<Session> = nodes.iter().map(Node::session).collect();
    for i in 0..30 {
        let on = i % 3;
        let key = format!("key:{}", i % 7);
        let Reply::Int(n) = run(&sessions[on], &nodes[on], &["INCR", &key]).await else {
            panic!("INCR answers a number")
        };
        let elsewhere = (on + 1) % 3;
        assert_eq!(run(&sessions[elsewhere], &nodes[elsewhere], &["GET", &key]).await, Reply::bulk(n.to_string()));
    }
    assert_eq!(nodes[0].groups(), [GroupId(1), GroupId(2)]);
    for node in &nodes {
        println!("{:#?}", node.status());
    }
}
