//! The scripts of tests/scripts against a node: the same expectations as for the engine in process.

#[path = "scripts/script.rs"]
mod script;
mod support;

use script::remote::Connection;

const FAMILIES: &[&str] = &["command", "generic", "string", "bitmap", "hyperloglog", "list", "zset"];

fn run(settings: &[&str]) {
    let node = support::Node::start(settings);
    let mut target = Connection::open(&format!("127.0.0.1:{}", node.port), None).expect("the node listens");
    script::run(&mut target, &script::cases(FAMILIES));
}

#[test]
fn scripts_hold_over_tcp() {
    run(&["--enable-debug-command", "yes"]);
}
