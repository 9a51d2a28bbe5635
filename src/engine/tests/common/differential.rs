//! Random commands on the engine and on a redis-server: the loop. Replies are compared, and what is told of keys.

use quoris_engine::Rng;
use quoris_resp::{Argv, Reply};

use super::InProcess;
use super::events::Watched;
use super::script::remote::{Connection, RedisServer};
use super::script::{Case, Target, show};

/// A command as words, for a redis-server of version 7.0.
pub type Generator = fn(&mut Rng) -> String;

/// Commands of each family, unless `QUORIS_DIFFER_COUNT` says how many.
const COMMANDS: usize = 12_000;
/// Differences that are shown before a family fails: one may be the cause of others.
const DIFFERENCES: usize = 12;
/// From time to time everything is forgotten.
const COMMANDS_PER_DATASET: usize = 1500;

/// SORT of redis-server 7.0 minds a range error that an earlier command has met: it fails though all scores are numbers.
fn is_stale(argv: &Argv, theirs: &Reply) -> bool {
    let is_sort = [&b"sort"[..], b"sort_ro"].iter().any(|name| argv[0].eq_ignore_ascii_case(name));
    is_sort && *theirs == Reply::error("ERR One or more scores can't be converted into double")
}

fn reset(ours: &mut InProcess, theirs: &mut Connection) {
    theirs.reset(&Case::default());
    ours.reset(&Case::default());
}

/// One of some words.
pub fn one_of<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.below(words.len() as u64) as usize]
}

/// Runs commands of each family and compares replies that `settled` has put into one form.
///
/// # Panics
/// When a reply is not Redis's, or when most commands fail on both sides.
pub fn compare(families: &[(&str, Generator)], settled: impl Fn(&Argv, Reply) -> Reply) {
    let Some(server) = RedisServer::start() else {
        return eprintln!("there is no redis-server here: nothing is compared");
    };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let seed = number("QUORIS_TEST_SEED", 1);
    let commands = number("QUORIS_DIFFER_COUNT", COMMANDS as u64) as usize;
    let mut theirs = Connection::open(&server.address, Some(server.version)).expect("it listens");
    let mut watched = Watched::open(&server);
    for (family, generate) in families {
        let mut ours = InProcess::telling();
        let mut rng = Rng::new(seed);
        let (mut errors, mut different) = (0, Vec::new());
        for at in 0..commands {
            if at % COMMANDS_PER_DATASET == 0 {
                reset(&mut ours, &mut theirs);
            }
            let words = generate(&mut rng);
            let argv = Argv::from_parts(&words.split(' ').collect::<Vec<_>>());
            let reply = theirs.call(&argv);
            if is_stale(&argv, &reply) {
                // What it would have stored is missing there.
                reset(&mut ours, &mut theirs);
                watched.iter_mut().for_each(|watched| drop(watched.differ(&mut ours, &mut theirs, &String::new)));
                continue;
            }
            let (reply, own) = (settled(&argv, reply), settled(&argv, ours.call(&argv)));
            errors += usize::from(own.is_error());
            let what = || format!("{family} command {at} of QUORIS_TEST_SEED={seed}: {words}");
            if own != reply {
                different.push(format!("{}\n  ours {}, Redis's {}", what(), show(&own), show(&reply)));
            }
            if let Some(watched) = &mut watched {
                different.extend(watched.differ(&mut ours, &mut theirs, &what));
            }
            if different.len() >= DIFFERENCES {
                break;
            }
        }
        assert!(different.is_empty(), "{}", different.join("\n"));
        assert!(errors < commands * 3 / 4, "{errors} commands of {family} failed: this compares little");
    }
}
