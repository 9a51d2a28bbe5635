//! The scripts of tests/scripts against a node: the same expectations as for the engine in process.

#[path = "scripts/script.rs"]
mod script;
mod support;

use quoris_resp::{Argv, Reply};
use script::remote::{Connection, RedisServer};
use script::{Case, Step, Target};
use support::Node;

const DEBUG: &[&str] = &["--enable-debug-command", "yes"];

fn run(port: u16, families: &[&str]) {
    let mut target = Connection::open(&format!("127.0.0.1:{port}"), None).expect("somebody listens");
    script::run(&mut target, &script::cases(families));
}

#[test]
fn scripts_hold_over_tcp() {
    let families = [script::ENGINE_FAMILIES, script::SERVER_FAMILIES].concat();
    run(Node::start(DEBUG).port, &families);
}

/// All but the server's own, which are about a node's data.
fn shared_families() -> Vec<&'static str> {
    let all = [script::ENGINE_FAMILIES, script::SERVER_FAMILIES].concat();
    all.into_iter().filter(|family| *family != "server").collect()
}

#[test]
fn scripts_hold_through_a_proxy() {
    let nodes = Node::cluster(1, DEBUG);
    run(Node::proxy(&nodes, DEBUG).port, &shared_families());
}

/// A connection to one of three nodes, while each of the others leads and is killed in turn.
struct Survivor {
    home: Connection,
    others: [Node; 2],
    dead: Option<usize>,
    calls: usize,
    deaths: usize,
}

/// Commands between two deaths.
const CALLS_PER_DEATH: usize = 300;

impl Survivor {
    fn kill_the_leader(&mut self) {
        if let Some(dead) = self.dead.take() {
            self.others[dead].restart();
        }
        let next = self.deaths % 2;
        let mut asked = self.others[next].connect();
        support::until("it leads", || match asked.call(&["CLUSTER", "FAILOVER"]) {
            Reply::Error(text) => text.ends_with(b"send CLUSTER FAILOVER to a replica"),
            reply => reply == Reply::Ok,
        });
        self.others[next].kill();
        self.dead = Some(next);
        self.deaths += 1;
    }
}

impl Target for Survivor {
    fn reset(&mut self, case: &Case) {
        self.home.reset(case);
    }

    fn call(&mut self, argv: &Argv) -> Reply {
        self.calls += 1;
        if self.calls.is_multiple_of(CALLS_PER_DEATH) {
            self.kill_the_leader();
        }
        self.home.call(argv)
    }

    fn wait(&mut self, ms: u64) {
        self.home.wait(ms);
    }

    /// A death takes time, which cases about time do not expect.
    fn takes(&self, case: &Case) -> bool {
        self.home.takes(case) && !case.steps.iter().any(|step| matches!(step, Step::Wait(_)))
    }
}

#[test]
fn scripts_hold_while_leaders_die() {
    let [home, others @ ..] = <[Node; 3]>::try_from(Node::cluster(3, DEBUG)).ok().expect("three nodes");
    let connection = Connection::open(&format!("127.0.0.1:{}", home.port), None).expect("it listens");
    let mut target = Survivor { home: connection, others, dead: None, calls: 0, deaths: 0 };
    script::run(&mut target, &script::cases(&shared_families()));
    println!("{} commands, {} deaths", target.calls, target.deaths);
    assert!(target.deaths >= 8);
}

#[test]
fn a_redis_server_answers_as_the_scripts_of_the_server_say() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut target = Connection::open(&server.address, Some(server.version)).expect("it listens");
    script::run(&mut target, &script::cases(script::SERVER_FAMILIES));
}
