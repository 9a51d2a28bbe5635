//! A script while it runs: redis.call, and the tape that lets it run again from its beginning.
//!
//! A script that meets the memory limit of the state that many scripts share is run again in a state of its own. It
//! is deterministic, so it makes the same calls: those that were already executed get their replies from the tape,
//! and are not executed twice.

use std::cell::{Cell, RefCell};

use mlua::{Lua, MultiValue, Result, Value};
use quoris_resp::Reply;

use super::call::{Permits, World};
use super::convert;
use super::meter::charge;
use super::sandbox::{Raised, State};

/// Parts of replies on the tape, at most: a script with more goes on in a state of its own.
const TAPE_MAX: usize = 100_000;
/// Instructions that a call stands for at least.
const CALL_STEPS: u64 = 20;

/// See the module.
pub(super) struct Running<'a> {
    /// The keys.
    pub(super) world: RefCell<World<'a>>,
    /// What the script may do.
    pub(super) permits: Permits,
    /// What math.random begins with.
    pub(super) random: u64,
    tape: RefCell<Vec<Reply>>,
    /// Parts of the replies on the tape.
    length: Cell<usize>,
    /// Calls of the second run so far; nothing in the first.
    again: Cell<Option<usize>>,
}

impl<'a> Running<'a> {
    /// A script that has not begun.
    pub(super) fn new(mut world: World<'a>, permits: Permits) -> Running<'a> {
        let random = world.random();
        Running {
            world: RefCell::new(world),
            permits,
            random,
            tape: RefCell::default(),
            length: Cell::default(),
            again: Cell::default(),
        }
    }

    /// Begins again.
    pub(super) fn rewind(&self) {
        self.again.set(Some(0));
    }

    /// Runs a command.
    fn run(&self, lua: &Lua, args: &MultiValue) -> Result<Reply> {
        if args.is_empty() {
            return Ok(Reply::error("ERR Please specify at least one argument for this redis lib call"));
        }
        let argv = match convert::argv(args) {
            Ok(argv) => argv,
            Err(problem) => return Ok(Reply::error(problem)),
        };
        let reply = self.reply(lua, &argv)?;
        charge(lua, CALL_STEPS + parts(&reply) as u64)?;
        Ok(reply)
    }

    fn reply(&self, lua: &Lua, argv: &quoris_resp::Argv) -> Result<Reply> {
        if let Some(at) = self.again.get() {
            self.again.set(Some(at + 1));
            let known = self.tape.borrow().get(at).cloned();
            return Ok(known.unwrap_or_else(|| self.execute(argv)));
        }
        let reply = self.execute(argv);
        self.tape.borrow_mut().push(reply.clone());
        self.length.set(self.length.get() + parts(&reply));
        if self.length.get() > TAPE_MAX {
            let meter = lua.app_data_ref::<std::rc::Rc<super::meter::Meter>>().map(|meter| meter.clone());
            meter.map_or(Ok(()), |meter| meter.starve(lua))?;
        }
        Ok(reply)
    }

    fn execute(&self, argv: &quoris_resp::Argv) -> Reply {
        self.world.borrow_mut().call(argv, &self.permits).unwrap_or_else(Reply::from)
    }

    /// Runs `body` with redis.call and redis.pcall in place.
    pub(super) fn within<R>(&self, state: &State, body: impl FnOnce() -> Result<R>) -> Result<R> {
        let lua = &state.lua;
        state.chance.set(self.random);
        state.resp3.set(false);
        lua.scope(|scope| {
            let call = scope.create_function(|lua, args: MultiValue| match self.run(lua, &args)? {
                Reply::Error(text) => Err(Raised::Reply(text.to_vec()).into()),
                reply => convert::to_lua(lua, &reply, state.resp3.get()),
            })?;
            let pcall = scope.create_function(|lua, args: MultiValue| -> Result<Value> {
                convert::to_lua(lua, &self.run(lua, &args)?, state.resp3.get())
            })?;
            state.redis.raw_set("call", call)?;
            state.redis.raw_set("pcall", pcall)?;
            body()
        })
    }
}

/// The parts of a reply, itself included.
fn parts(reply: &Reply) -> usize {
    let pairs = |pairs: &[(Reply, Reply)]| pairs.iter().map(|(one, other)| parts(one) + parts(other)).sum::<usize>();
    1 + match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.iter().map(parts).sum(),
        Reply::Map(items) | Reply::Pairs(items) | Reply::Keyed(items) => pairs(items),
        _ => 0,
    }
}
