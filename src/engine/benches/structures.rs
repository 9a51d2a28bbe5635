//! Every structure at ten, a thousand and a million elements: `cargo bench -p quoris-engine`.
//!
//! Nanoseconds for each command with the lookup of its row, on random elements. Names that are given are the only
//! ones that run: `cargo bench -p quoris-engine -- zset list`. Plain time, because what matters here are factors
//! of two: a structure that is linear where it should be logarithmic is a thousand times slower at a million.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use quoris_engine::command::{Handler, lookup};
use quoris_engine::{ApplyContext, Keyspace, ReadContext, Rng};
use quoris_resp::Argv;

const SIZES: [u64; 3] = [10, 1000, 1_000_000];
/// A measurement takes about so long, and at most so many commands.
const TIME: Duration = Duration::from_millis(200);
const COMMANDS_MAX: u64 = 200_000;
/// Commands between two looks at the clock.
const BATCH: u64 = 100;

/// One structure: what fills it, and what is measured on it.
struct Structure {
    name: &'static str,
    /// The command that adds an element; `@` stands for its number, in seven digits.
    fill: &'static str,
    /// `@` stands for a random number of an element, `#` for a new one.
    commands: &'static [&'static str],
}

const STRUCTURES: &[Structure] = &[
    Structure {
        name: "keys",
        fill: "SET key:@ value:@",
        commands: &["GET key:@", "SET key:@ value:x", "SET new:# value", "EXISTS key:@", "RANDOMKEY", "SCAN 0"],
    },
    Structure {
        name: "hash",
        fill: "HSET h field:@ value:@",
        commands: &[
            "HGET h field:@",
            "HSET h field:@ value:x",
            "HSET h new:# v",
            "HRANDFIELD h",
            "HSCAN h 0",
            "HLEN h",
        ],
    },
    Structure {
        name: "set",
        fill: "SADD s member:@",
        commands: &["SISMEMBER s member:@", "SADD s new:#", "SRANDMEMBER s", "SSCAN s 0", "SCARD s"],
    },
    Structure { name: "intset", fill: "SADD i @", commands: &["SISMEMBER i @", "SADD i 9#", "SRANDMEMBER i"] },
    Structure {
        name: "zset",
        fill: "ZADD z @ member:@",
        commands: &[
            "ZSCORE z member:@",
            "ZADD z @ member:@",
            "ZADD z # new:#",
            "ZRANK z member:@",
            "ZCOUNT z @ +inf",
            "ZRANGE z @ +inf BYSCORE LIMIT 0 10",
            "ZRANGE z 5 14",
            "ZRANDMEMBER z",
        ],
    },
    Structure {
        name: "list",
        fill: "RPUSH l element:@",
        commands: &[
            "LINDEX l @",
            "RPUSH l new:#",
            "LPUSH l new:#",
            "LSET l -@ value",
            "LRANGE l 0 9",
            "LPOP l",
            "RPOP l",
        ],
    },
    Structure {
        name: "stream",
        fill: "XADD x 1-@ field value:@",
        commands: &[
            "XRANGE x 1-@ + COUNT 10",
            "XADD x 2-# field value",
            "XREVRANGE x + - COUNT 10",
            "XLEN x",
            "XDEL x 1-@",
        ],
    },
    Structure { name: "bitmap", fill: "SETBIT b @ 1", commands: &["GETBIT b @", "SETBIT b @ 1"] },
    Structure {
        name: "geo",
        fill: "GEOADD g 13.@ 38.@ place:@",
        commands: &[
            "GEOPOS g place:@",
            "GEODIST g place:@ place:0000001",
            "GEOSEARCH g FROMMEMBER place:@ BYRADIUS 1 km COUNT 10",
        ],
    },
    Structure { name: "hyperloglog", fill: "PFADD p element:@", commands: &["PFADD p element:@", "PFCOUNT p"] },
];

struct World {
    keyspace: Keyspace,
    context: ApplyContext,
    read: ReadContext,
}

impl World {
    fn run(&mut self, argv: &Argv) {
        let reply = match lookup(argv).expect("a command").command.handler {
            Handler::Write(write) => write(&mut self.keyspace, &mut self.context, argv),
            Handler::Read(read) => read(&self.keyspace, &self.read, argv),
            Handler::Server | Handler::Container => panic!("not the engine's"),
        };
        black_box(reply.expect("it works"));
    }
}

fn words(text: &str, element: u64, new: u64) -> Argv {
    let text = text.replace('@', &format!("{element:07}")).replace('#', &new.to_string());
    Argv::from_parts(&text.split(' ').map(unpadded).collect::<Vec<_>>())
}

/// A number must not begin with zeros where it is one: an index, a member of an intset, an id.
fn unpadded(word: &str) -> String {
    let number = |text: &str| text.parse::<i64>().map_or_else(|_| text.to_string(), |n| n.to_string());
    match word.split_once('-') {
        Some((ms, rest)) if !ms.is_empty() => format!("{ms}-{}", number(rest)),
        _ => number(word),
    }
}

fn filled(structure: &Structure, size: u64) -> World {
    let context = ApplyContext { database: 0, index: 1, now_ms: 1, rng: Rng::new(1), waits: false, short: false };
    let read = ReadContext { database: 0, now_ms: 1, rng: RefCell::new(Rng::new(2)) };
    let mut world = World { keyspace: Keyspace::new([1, 2], 1), context, read };
    (1..=size).for_each(|element| world.run(&words(structure.fill, element, 0)));
    world
}

/// Nanoseconds for each command.
fn measure(world: &mut World, command: &str, size: u64, new: &mut u64) -> f64 {
    let mut rng = Rng::new(7);
    let (mut took, mut count) = (Duration::ZERO, 0);
    while took < TIME && count < COMMANDS_MAX {
        let mut argv = || {
            *new += 1;
            words(command, 1 + rng.below(size), 1_000_000 + *new)
        };
        let argvs: Vec<Argv> = (0..BATCH).map(|_| argv()).collect();
        let begin = Instant::now();
        argvs.iter().for_each(|argv| world.run(argv));
        took += begin.elapsed();
        count += BATCH;
    }
    took.as_nanos() as f64 / count as f64
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!("{:<12} {:<52} {:>10} {:>10} {:>10}", "", "nanoseconds with so many elements", 10, 1000, 1_000_000);
    for structure in STRUCTURES.iter().filter(|s| names.is_empty() || names.iter().any(|name| name == s.name)) {
        let mut columns = vec![Vec::new(); structure.commands.len()];
        for size in SIZES {
            let (mut world, mut new) = (filled(structure, size), 0);
            for (command, column) in structure.commands.iter().zip(&mut columns) {
                column.push(measure(&mut world, command, size, &mut new));
                // What one command leaves must not be what the next one measures; of a million it is little.
                if size < 1_000_000 {
                    world = filled(structure, size);
                }
            }
        }
        for (command, column) in structure.commands.iter().zip(&columns) {
            let [ten, thousand, million] = column[..] else { unreachable!("three sizes") };
            println!("{:<12} {command:<52} {ten:>10.0} {thousand:>10.0} {million:>10.0}", structure.name);
        }
    }
}
