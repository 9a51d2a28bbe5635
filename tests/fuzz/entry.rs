//! Bodies of log entries: damaged ones are errors that change nothing, others read back as they were built.

use bytes::Bytes;
use quoris_engine::entry::{EntryBuilder, EntryError, EntryReader, Header, LoggedCommand, Transaction};
use quoris_engine::{Engine, EngineSeed};

/// The bytes are a body.
pub(crate) fn run(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok((header, commands)) = read(&body) {
        let mut builder = EntryBuilder::default();
        commands.iter().for_each(|c| builder.push(&c.meta, &c.argv));
        let again = builder.finish(header.clock_ms, header.seed);
        assert_eq!(read(&again).expect("a body of our own").1, commands);
        for command in commands.iter().filter(|c| c.meta.transaction) {
            if let Ok(transaction) = Transaction::from_argv(&command.argv) {
                let again = Transaction::from_argv(&transaction.to_argv()).expect("an argv of our own");
                assert_eq!(again, transaction);
            }
        }
    }
    let mut engine = Engine::new(EngineSeed { hash_seed: [1, 2], databases: 2 });
    let before = (engine.digest(), engine.stats(), engine.applied_index());
    let mut replies = 0;
    let result = engine.apply_entry(1, &body, &mut |place, _, _| {
        assert_eq!(place, replies);
        replies += 1;
    });
    if result.is_err() {
        assert_eq!((engine.digest(), engine.stats(), engine.applied_index()), before, "nothing has taken effect");
        assert_eq!(replies, 0);
    }
}

fn read(body: &Bytes) -> Result<(Header, Vec<LoggedCommand>), EntryError> {
    let mut reader = EntryReader::new(body)?;
    let mut commands = Vec::new();
    while let Some(command) = reader.next_command()? {
        commands.push(command);
    }
    Ok((*reader.header(), commands))
}
