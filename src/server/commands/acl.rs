//! ACL, as far as there are users.

use quoris_engine::command::{self, CATEGORY_NAMES, Categories};
use quoris_resp::{Argv, Reply};

use super::{Served, word};
use crate::{chance, client::Client};

pub(super) fn run(client: &Client, sub: &str, argv: &Argv) -> Served {
    let users = &client.server.users;
    match sub {
        "whoami" => Reply::bulk("default").into(),
        "users" => Reply::Array(vec![Reply::bulk("default")]).into(),
        "list" => Reply::Array(vec![Reply::bulk(users.line())]).into(),
        "cat" => cat(argv),
        "genpass" => genpass(argv),
        "getuser" if &argv[2] == b"default" => getuser(client).into(),
        "getuser" => Reply::Null.into(),
        "setuser" if &argv[2] == b"default" => match users.set_rules(argv.iter().skip(3)) {
            Ok(()) => Reply::Ok.into(),
            Err(text) => Served::error(text),
        },
        "setuser" => Served::error("ERR this version has no user but 'default'"),
        "deluser" if argv.iter().skip(2).any(|name| name == b"default") => {
            Served::error("ERR The 'default' user cannot be removed")
        }
        "deluser" => Reply::Int(0).into(),
        "dryrun" => dryrun(argv),
        "log" => log(argv),
        // As redis-server without an ACL file.
        "load" | "save" => Served::error(
            "ERR This Redis instance is not configured to use an ACL file. ACL SETUSER changes the user of this node \
             until it restarts, requirepass for good.",
        ),
        _ => Served::unknown(argv),
    }
}

fn cat(argv: &Argv) -> Served {
    match argv.len() {
        2 => Reply::Array(CATEGORY_NAMES.iter().map(|(_, name)| Reply::bulk(name)).collect()).into(),
        3 => match Categories::by_name(&argv[2]) {
            Some(category) => {
                let of_category = command::walk().filter(|found| found.command.all_categories().has(category));
                Reply::Array(of_category.map(|found| Reply::bulk(found.full_name())).collect()).into()
            }
            None => Served::error(format!("ERR Unknown category '{}'", String::from_utf8_lossy(&argv[2]))),
        },
        _ => Served::error("ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP."),
    }
}

fn genpass(argv: &Argv) -> Served {
    let bits = match argv.get(2) {
        None => 256,
        Some(text) => match quoris_engine::number::integer(text) {
            None => return Served::Reply(quoris_engine::Error::NotAnInteger.into()),
            Some(bits @ 1..=4096) => bits as usize,
            _ => {
                return Served::error(
                    "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
                );
            }
        },
    };
    let digits = bits.div_ceil(4);
    Reply::bulk((0..digits).map(|_| format!("{:x}", chance::bits() & 15)).collect::<String>()).into()
}

fn getuser(client: &Client) -> Reply {
    let (flags, passwords) = client.server.users.show();
    Reply::Map(vec![
        (Reply::bulk("flags"), Reply::Set(flags.iter().map(Reply::bulk).collect())),
        (Reply::bulk("passwords"), Reply::Array(passwords.iter().map(Reply::bulk).collect())),
        (Reply::bulk("commands"), Reply::bulk("+@all")),
        (Reply::bulk("keys"), Reply::bulk("~*")),
        (Reply::bulk("channels"), Reply::bulk("&*")),
        (Reply::bulk("selectors"), Reply::Array(Vec::new())),
    ])
}

/// The default user may do everything, so nothing was ever denied but a wrong password, which INFO counts.
fn log(argv: &Argv) -> Served {
    match (argv.len(), word(argv, 2).as_str()) {
        (2, _) => Reply::Array(Vec::new()).into(),
        (3, "reset") => Reply::Ok.into(),
        (3, _) => match super::integer(argv, 2) {
            Ok(_) => Reply::Array(Vec::new()).into(),
            Err(reply) => reply.into(),
        },
        _ => Served::error("ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP."),
    }
}

fn dryrun(argv: &Argv) -> Served {
    if &argv[2] != b"default" {
        return Served::error(format!("ERR User '{}' not found", String::from_utf8_lossy(&argv[2])));
    }
    match command::by_name(&argv[3]) {
        Some(_) => Reply::Ok.into(),
        None => Served::error(format!("ERR Command '{}' not found", word(argv, 3))),
    }
}
