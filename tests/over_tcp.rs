//! The scripts of tests/scripts against a node: the same expectations as for the engine in process.

#[path = "scripts/script.rs"]
mod script;
mod support;

use script::remote::{Connection, RedisServer};

const DEBUG: &[&str] = &["--enable-debug-command", "yes"];

fn run(port: u16, families: &[&str]) {
    let mut target = Connection::open(&format!("127.0.0.1:{port}"), None).expect("somebody listens");
    script::run(&mut target, &script::cases(families));
}

#[test]
fn scripts_hold_over_tcp() {
    let families = [script::ENGINE_FAMILIES, script::SERVER_FAMILIES].concat();
    run(support::Node::start(DEBUG).port, &families);
}

/// All but the server's own, which are about a node's data.
#[test]
fn scripts_hold_through_a_proxy() {
    let nodes = support::Node::cluster(1, DEBUG);
    let all = [script::ENGINE_FAMILIES, script::SERVER_FAMILIES].concat();
    let families: Vec<&str> = all.into_iter().filter(|family| *family != "server").collect();
    run(support::Node::proxy(&nodes, DEBUG).port, &families);
}

#[test]
fn a_redis_server_answers_as_the_scripts_of_the_server_say() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut target = Connection::open(&server.address, Some(server.version)).expect("it listens");
    script::run(&mut target, &script::cases(script::SERVER_FAMILIES));
}
