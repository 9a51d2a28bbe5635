//! Libraries of functions, moved between the engine and a redis-server by FUNCTION DUMP and RESTORE.

mod common;

use common::InProcess;
use common::script::Target;
use common::script::remote::{Connection, RedisServer};
use quoris_resp::{Argv, Reply};

const LIBRARY: &str = "#!lua name=lib\nredis.register_function{function_name='f', flags={'no-writes'}, \
    callback=function(keys, args) return #keys + #args end}\n";

#[test]
fn libraries_are_exchanged_in_both_directions() {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let mut theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut ours = InProcess::new();
    let call = |target: &mut dyn Target, parts: &[&[u8]]| target.call(&Argv::from_parts(parts));
    let long = format!("{LIBRARY}{}", "-- a comment, many times\n".repeat(900));
    for code in [LIBRARY, &long] {
        assert_eq!(call(&mut ours, &[b"FUNCTION", b"LOAD", b"REPLACE", code.as_bytes()]), Reply::bulk("lib"));
        let Reply::Bulk(dumped) = call(&mut ours, &[b"FUNCTION", b"DUMP"]) else { panic!("a payload") };
        assert_eq!(call(&mut theirs, &[b"FUNCTION", b"RESTORE", &dumped, b"FLUSH"]), Reply::Ok);
        assert_eq!(call(&mut theirs, &[b"FCALL_RO", b"F", b"1", b"a", b"b"]), Reply::Int(2));
        // Redis compresses what it dumps.
        let Reply::Bulk(compressed) = call(&mut theirs, &[b"FUNCTION", b"DUMP"]) else { panic!("a payload") };
        assert!(compressed.len() < dumped.len());
        assert_eq!(call(&mut ours, &[b"FUNCTION", b"FLUSH"]), Reply::Ok);
        assert_eq!(call(&mut ours, &[b"FUNCTION", b"RESTORE", &compressed]), Reply::Ok);
        assert_eq!(call(&mut ours, &[b"FUNCTION", b"DUMP"]), Reply::Bulk(dumped));
    }
}
