//! Commands that wait for an element: BLPOP and its kin, outside of MULTI.
//!
//! The Raft layer waits; here is until when: the timeout, CLIENT UNBLOCK, the end of the connection, which drops
//! all of it. Commands behind it in the pipeline run when it has its reply.

use std::{future::pending, pin::pin, slice, sync::atomic::Ordering::Relaxed, time::Duration};

use quoris_engine::command::{DENYOOM, Found};
use quoris_raft::Operation;
use quoris_resp::{Argv, Reply};
use tokio::time::{Instant, sleep_until};

use crate::{client::Client, commands::Served, outcome, split::Route};

impl Client {
    /// Runs a command that waits for so many milliseconds at most, 0 for ever.
    pub(crate) async fn wait_for_element(&mut self, found: &Found, argv: &Argv, patience_ms: u64) -> Served {
        let server = self.server.clone();
        if found.command.flags.has(DENYOOM) && server.is_out_of_memory() {
            return Served::error(quoris_engine::outcome::OUT_OF_MEMORY);
        }
        let (group, slot) = match server.route(found, argv, self.database) {
            Route::One(group, slot) => (group, slot),
            Route::NoOwner(slot) => return outcome::no_owner(slot).into(),
            Route::Split(_) | Route::Cross => return outcome::cross_slot().into(),
        };
        // It may wait long: it must not pin a read buffer.
        let operation = Operation { own: self.own_stamp, ..server.operation(found, argv.detached(), self.database) };
        let forward = self.forwards_for(|asked| asked == slot).cover(slice::from_ref(&operation));
        let deadline = Instant::now().checked_add(Duration::from_millis(patience_ms)).filter(|_| patience_ms > 0);
        let timeout = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        // What an earlier hold left does not count.
        self.info.unblock_how.store(0, Relaxed);
        let (mut held, mut with_error) = (None, false);
        let end = async {
            tokio::select! {
                () = timeout => {}
                error = self.info.unblocked() => with_error = error,
            }
        };
        let hold = || {
            held.get_or_insert_with(|| server.clients.hold(self.info.clone()));
        };
        let result = self.session.wait(group, operation, forward, pin!(end), hold).await;
        drop(held);
        match result {
            Ok(Some(executed)) => {
                if let Some(position) = executed.position {
                    self.remember(position);
                }
                executed.replies.into_iter().next().unwrap_or(Reply::NullArray).into()
            }
            Ok(None) if with_error => Served::error(outcome::UNBLOCKED),
            Ok(None) => Reply::NullArray.into(),
            Err(error) => outcome::reply(&error, slot, || server.node.status()).into(),
        }
    }
}
