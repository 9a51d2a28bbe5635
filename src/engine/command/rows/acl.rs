//! Rows of ACL.

use super::*;

const ACL_OWN: Command = Command { arity: 2, flags: OWN, since: "6.0.0", group: Group::Server, ..ROW };
const ACL_OPERATOR: Command = Command { flags: OPERATOR, ..ACL_OWN };

/// ACL.
#[rustfmt::skip]
pub const ACL: &[Command] =
    &[
    Command { name: "acl", since: "6.0.0", summary: "Manages users and what they may do.", subcommands: SUBCOMMANDS,
        ..CONTAINER },
];

#[rustfmt::skip]
const SUBCOMMANDS: &[Command] = &[
    Command { name: "cat", arity: -2, summary: "Lists the categories, or the commands of one.", syntax: "[category]",
        ..ACL_OWN },
    Command { name: "deluser", arity: -3, complexity: "O(N) for N users",
        summary: "Removes users and closes their connections.", syntax: "username ...",
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"], ..ACL_OPERATOR },
    Command { name: "dryrun", arity: -4, since: "7.0.0", summary: "Tells whether a user could run a command.",
        syntax: "username command [arg ...]", ..ACL_OPERATOR },
    Command { name: "genpass", arity: -2, summary: "Makes a password.", syntax: "[bits]", ..ACL_OWN },
    Command { name: "getuser", arity: 3, complexity: "O(N) for N rules of the user",
        summary: "Shows the rules of a user.", syntax: "username", ..ACL_OPERATOR },
    Command { since: "6.0.0", ..HELP },
    Command { name: "list", complexity: "O(N) for N users", summary: "Lists the users with their rules.",
        ..ACL_OPERATOR },
    Command { name: "load", complexity: "O(N) for N users", summary: "Refused: there is no file of users.",
        ..ACL_OPERATOR },
    Command { name: "log", arity: -2, complexity: "O(N) for N entries", summary: "Shows what was denied: nothing yet.",
        syntax: "[count | RESET]", ..ACL_OPERATOR },
    Command { name: "save", complexity: "O(N) for N users", summary: "Refused: there is no file of users.",
        ..ACL_OPERATOR },
    Command { name: "setuser", arity: -3, complexity: "O(N) for N rules", summary: "Makes a user or changes its rules.",
        syntax: "username [rule ...]", tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..ACL_OPERATOR },
    Command { name: "users", complexity: "O(N) for N users", summary: "Lists the names of the users.", ..ACL_OPERATOR },
    Command { name: "whoami", summary: "Names the user of this connection.", ..ACL_OWN },
];
