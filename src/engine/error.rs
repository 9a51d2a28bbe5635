//! Errors that a command answers with. The text is what a client sees, prefix included.

use quoris_resp::Reply;

/// What a handler returns.
pub type CommandResult = Result<Reply, Error>;

/// A command's error. Replicas never disagree about one: it is a function of state and entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The options do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// A number was expected.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// A floating point number was expected.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The key is needed but absent.
    #[error("ERR no such key")]
    NoSuchKey,
    /// The count of arguments does not fit the command's arity; carries the command's full name.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// Anything else: the whole text, prefix included.
    #[error("{0}")]
    Text(String),
    /// The same, where it quotes what a client sent, byte for byte.
    #[error("{}", String::from_utf8_lossy(.0))]
    Quoting(Vec<u8>),
}

impl Error {
    /// An error from its whole text, prefix included.
    pub fn text(text: impl Into<String>) -> Error {
        Error::Text(text.into())
    }

    /// An error from the parts of its text, some of which a client sent.
    pub(crate) fn quoting(parts: &[&[u8]]) -> Error {
        Error::Quoting(parts.concat())
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Reply {
        match error {
            Error::Quoting(text) => Reply::Error(text.into()),
            error => Reply::error(error.to_string()),
        }
    }
}
