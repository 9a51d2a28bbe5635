//! The Redis serialization protocol, RESP2 and RESP3, without any I/O.
//!
//! Steps 2 and 10 of a command's way: bytes become an [`Argv`], a [`Reply`] becomes bytes. Server,
//! proxy, log, tools and tests share this crate, so there is one parser and one printer.
//!
//! Invariants:
//! * Nothing here allocates for a length that was announced but has not arrived.
//! * An `Argv` always holds the canonical encoding of its arguments; the log stores that frame.
//! * Any split of the input into reads gives the same commands.

mod argv;
mod decode;
mod encode;
mod quote;
mod reply;

pub use argv::{Argv, ArgvError};
pub use decode::{Decoder, Limits, ProtocolError, split_quoted};
pub use encode::{Protocol, encode, encode_message};
pub use quote::quoted;
pub use reply::{Reply, ReplyDecoder, double_text};
