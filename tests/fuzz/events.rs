//! Batches of events: damaged ones are errors, others have one form only.

use bytes::Bytes;
use quoris_engine::events::{decode, encode};

/// The bytes are a batch of events, from the store or from another node.
pub(crate) fn run(data: &[u8]) {
    if let Ok(events) = decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(encode(&events), data, "what was read is written as it was");
    }
}
