//! Bodies read back as they were built; damage is an error.

use super::*;

#[test]
fn a_body_reads_back_as_it_was_built() {
    let stamp = SessionStamp {
        session: SessionId { origin: 7, connection: 9 },
        sequence: 3,
        acknowledged_below: 2,
        first_sent_ms: 5,
    };
    let transaction = Transaction {
        watches: vec![Watch { database: 1, key: b"w".to_vec(), version: 4 }],
        commands: vec![Argv::from_parts(&["SET", "a", "b"]), Argv::from_parts(&["GET", "a"])],
    };
    let commands = [
        LoggedCommand {
            meta: CommandMeta { database: 3, session: Some(stamp), ..CommandMeta::default() },
            argv: Argv::from_parts(&["INCR", "n"]),
        },
        LoggedCommand {
            meta: CommandMeta { session: Some(stamp.next()), ..CommandMeta::default() },
            argv: Argv::from_parts(&["INCR", "n"]),
        },
        LoggedCommand {
            meta: CommandMeta { session: Some(stamp), ..CommandMeta::default() },
            argv: Argv::from_parts(&["INCR", "n"]),
        },
        LoggedCommand {
            meta: CommandMeta { transaction: true, ..CommandMeta::default() },
            argv: transaction.to_argv(),
        },
        LoggedCommand {
            meta: CommandMeta { attempt: Some(Attempt::First), ..CommandMeta::default() },
            argv: Argv::from_parts(&["BLPOP", "l", "0"]),
        },
        LoggedCommand {
            meta: CommandMeta { attempt: Some(Attempt::Again), session: Some(stamp), ..CommandMeta::default() },
            argv: Argv::from_parts(&["BLPOP", "l", "0"]),
        },
    ];
    let mut builder = EntryBuilder::default();
    commands.iter().for_each(|c| builder.push(&c.meta, &c.argv));
    let body = builder.finish(1000, 42);
    let mut reader = EntryReader::new(&body).expect("own format");
    assert_eq!((reader.header().clock_ms, reader.header().seed), (1000, 42));
    for command in &commands {
        assert_eq!(reader.next_command().expect("valid").as_ref(), Some(command));
    }
    assert_eq!(reader.next_command().expect("valid"), None);
    assert_eq!(Transaction::from_argv(&commands[3].argv).expect("valid"), transaction);
}

#[test]
fn damaged_bodies_are_errors_not_panics() {
    let mut builder = EntryBuilder::default();
    builder.push(&CommandMeta::default(), &Argv::from_parts(&["SET", "k", "v"]));
    let body = builder.finish(1, 2);
    for cut in 0..body.len() {
        let result = EntryReader::new(&body.slice(..cut)).and_then(|mut r| r.next_command());
        assert!(result.is_err(), "cut at {cut}");
    }
    let mut newer = body.to_vec();
    newer[0] = 9;
    assert!(matches!(EntryReader::new(&newer.into()), Err(EntryError::Unknown { format: 9, .. })));
    let mut flagged = body.to_vec();
    flagged[HEADER_BYTES] |= 0x80;
    assert!(EntryReader::new(&flagged.into()).and_then(|mut r| r.next_command()).is_err());
}

#[test]
fn an_entry_has_the_level_that_its_commands_need() {
    let of = |words: &[&str]| {
        let mut builder = EntryBuilder::default();
        builder.push(&CommandMeta::default(), &Argv::from_parts(&["SET", "k", "v"]));
        builder.push(&CommandMeta::default(), &Argv::from_parts(words));
        builder.finish(1, 2)
    };
    let level = |body: &Bytes| EntryReader::new(body).expect("own format").header().feature_level;
    let load = of(&["QUORIS.MOVE", "LOAD", "1", "0", "parcel"]);
    assert_eq!((level(&of(&["INCR", "n"])), level(&load)), (1, 2));
    let mut older = load.to_vec();
    older[1] = 1;
    let mut engine = crate::Engine::new(crate::testing::SEED);
    let refused = engine.apply_entry(1, &older.into(), &mut |_, _, _| panic!("nothing takes effect"));
    assert!(matches!(refused, Err(EntryError::Outdated)), "{refused:?}");
    assert!(engine.apply_entry(1, &load, &mut |_, _, _| {}).is_ok());
}
