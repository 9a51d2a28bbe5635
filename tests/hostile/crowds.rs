//! Ten thousand clients that do nothing.

use std::{net::TcpStream, time::Duration};

use crate::{
    support::{Connection, Node, until},
    watch::{Bystander, grew_at_most, resident},
};

const WANTED: u64 = 10_000;
/// What an idle client may cost, in bytes: its buffer for reading, and what the system and the tables take.
const EACH: u64 = 32 << 10;

#[test]
fn ten_thousand_idle_clients_are_carried() {
    let spare = 600;
    let files = rlimit::increase_nofile_limit(WANTED + spare).expect("the limit on open files");
    let count = WANTED.min(files - spare);
    println!("{count} idle clients");
    let node = Node::start(&["--maxclients", &(count + 100).to_string()]);
    let mut c = node.connect();
    let before = resident(&mut c);
    let bystander = Bystander::start(node.port);
    let idle: Vec<TcpStream> = (0..count)
        .map(|n| {
            let mut c = Connection::open(node.port);
            if n % 10 == 0 {
                c.call(&["PING"]);
            }
            c.stream
        })
        .collect();
    until("all are there", || c.info("connected_clients").parse::<u64>().expect("a number") >= count);
    grew_at_most("idle clients", &mut c, before, count * EACH);
    drop(idle);
    until("all are gone", || c.info("connected_clients") == "2");
    bystander.end("idle clients", Duration::from_millis(1500));
}
