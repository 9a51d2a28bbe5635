//! The scripts of tests/scripts against a node: the same expectations as for the engine in process.

#[path = "scripts/script.rs"]
mod script;
mod support;

use script::remote::{Connection, RedisServer};

fn run(settings: &[&str]) {
    let node = support::Node::start(settings);
    let mut target = Connection::open(&format!("127.0.0.1:{}", node.port), None).expect("the node listens");
    script::run(&mut target, &script::cases(&[script::ENGINE_FAMILIES, script::SERVER_FAMILIES].concat()));
}

#[test]
fn scripts_hold_over_tcp() {
    run(&["--enable-debug-command", "yes"]);
}

#[test]
fn a_redis_server_answers_as_the_scripts_of_the_server_say() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut target = Connection::open(&server.address, Some(server.version)).expect("it listens");
    script::run(&mut target, &script::cases(script::SERVER_FAMILIES));
}
