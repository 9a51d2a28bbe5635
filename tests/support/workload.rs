//! Workloads of real client libraries that run beside a test: scripts in `tests/clients`, which say how much they have
//! done, work until their input ends, and end themselves at the first error that surfaces.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// No workload takes longer, in seconds; then it is killed.
const SECONDS_MAX: &str = "300";
/// Commands of a workload between two steps, and how long they may take.
const COMMANDS_BETWEEN: u64 = 1000;
const PROGRESS_TIME_MAX: Duration = Duration::from_secs(40);

/// The folder of the libraries: in the cache, named after their versions, as in .dev/deps.sh.
pub fn libraries() -> PathBuf {
    let pins = concat!(include_str!("../clients/requirements.txt"), include_str!("../clients/package.json"));
    let words = pins.split(|c: char| !c.is_ascii_digit() && c != '.');
    let versions: Vec<&str> = words.filter(|word| word.contains('.') && word.len() > 1).collect();
    let cache = match (std::env::var_os("QUORIS_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, home) => Path::new(&home.expect("a home")).join(".cache/quoris"),
    };
    let folder = cache.join(format!("clients-{}", versions.join("-")));
    assert!(folder.join("ready").exists(), "no client libraries in {}: run ./dev deps", folder.display());
    folder
}

/// A script at work.
pub struct Workload {
    name: &'static str,
    child: Child,
    done: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Workload {
    /// Starts a script of `tests/clients`; the ports are those of nodes to begin with. With `QUORIS_PATIENT` among the
    /// variables the library is told to live through several deaths at a time.
    pub fn start(name: &'static str, ports: &[u16], environment: &[(&str, &str)]) -> Workload {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
        let python = libraries().join("python/bin/python");
        let interpreter = if name.ends_with(".py") { python.as_path() } else { Path::new("node") };
        let mut command = Command::new("timeout");
        command.arg(SECONDS_MAX).arg(interpreter).arg(path).args(ports.iter().map(u16::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("QUORIS_CLIENTS", libraries());
        command.env("PYTHONDONTWRITEBYTECODE", "1").envs(environment.iter().copied());
        let mut child = command.spawn().expect("timeout runs everywhere");
        let (done, counter) = (Arc::<AtomicU64>::default(), BufReader::new(child.stdout.take().expect("piped")));
        let counted = done.clone();
        let reader = std::thread::spawn(move || {
            for line in counter.lines().map_while(Result::ok) {
                match line.strip_prefix("done ").and_then(|count| count.parse().ok()) {
                    Some(count) => counted.store(count, Ordering::SeqCst),
                    None => println!("{name}: {line}"),
                }
            }
        });
        Workload { name, child, done, reader }
    }

    /// Waits until it has done some more.
    pub fn wait_for_progress(&mut self) {
        let deadline = Instant::now() + PROGRESS_TIME_MAX;
        let goal = self.done.load(Ordering::SeqCst) + COMMANDS_BETWEEN;
        while self.done.load(Ordering::SeqCst) < goal {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{} ended early with {ended:?}; 127: run ./dev deps", self.name);
            assert!(Instant::now() < deadline, "{} does not get on", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it when so many processes have died under it, for each of which it may have repeated one command of each
    /// of its workers; it then compares what is there with what it was told.
    pub fn end(mut self, deaths: usize) {
        let mut stdin = self.child.stdin.take().expect("piped");
        write!(stdin, "{deaths}").expect("it reads its input to the end");
        drop(stdin);
        let status = self.child.wait().expect("our own child");
        self.reader.join().expect("it reads to the end");
        assert!(status.success(), "{} ended with {status}; 127: run ./dev deps", self.name);
        println!("{}: {} commands", self.name, self.done.load(Ordering::SeqCst));
    }
}
