//! Work that would keep the other tasks of a runtime's thread waiting: for the disk, or for memory.
//!
//! A heartbeat that waits for half a second costs an election. On a busy machine the file system took 0.7 s to free a
//! large file, and copying 60 MiB into memory that the kernel had to find first took as long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// What is larger is copied aside, in bytes.
const LARGE_BYTES: usize = 1 << 20;

/// Runs `work` here, while the other tasks of this thread go on on another one.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The same if `work` is with so many bytes that the others would notice.
pub fn aside_if_large<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES { aside(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::aside;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_of_the_thread_go_on() {
        let (tell, told) = mpsc::channel();
        let waits = tokio::spawn(async move {
            let other = tokio::spawn(async move { tell.send(()) });
            let heard = aside(|| told.recv_timeout(Duration::from_secs(20)));
            (heard, other.await.expect("it ends"))
        });
        assert_eq!(waits.await.expect("it ends"), (Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_it_there() {
        assert_eq!(tokio::task::spawn(async { aside(|| 7) }).await.expect("it ends"), 7);
    }

    #[test]
    fn no_runtime_is_needed() {
        assert_eq!(aside(|| 7), 7);
    }
}
