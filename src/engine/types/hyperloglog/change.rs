//! PFADD and PFMERGE.

use quoris_resp::{Argv, Reply};

use super::RW_ACCESS_INSERT;
use super::header;
use super::place::Place;
use super::value::{self, Union};
use crate::command::{KeyUse, KeyUses, RO_ACCESS};
use crate::events::Class;
use crate::types::string;
use crate::{ApplyContext, CommandResult, Error, Keyspace};

/// PFADD: 1 when that can have changed the estimate, or made the key.
pub(super) fn pfadd(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let sparse_bytes_max = keyspace.settings().hll_sparse_max_bytes;
    let places = argv.iter().skip(2).map(Place::of);
    let mut known = 0;
    if let Some(text) = string::text(keyspace, context.database, &argv[1])? {
        value::check(&text)?;
        for place in places.clone() {
            if value::get(&text, place.index)? < place.rank {
                break;
            }
            known += 1;
        }
        if known + 2 == argv.len() {
            return Ok(Reply::Int(0));
        }
    }
    string::change(keyspace, context.database, &argv[1], value::empty, |text| {
        header::outdate(text);
        places.skip(known).try_for_each(|place| value::raise(text, place, sparse_bytes_max).map(drop))
    })??;
    keyspace.notify(Class::String, "pfadd", context.database, &argv[1]);
    Ok(Reply::Int(1))
}

/// The keys of PFMERGE. There need be no source, which a key spec cannot say.
pub(super) fn merge_keys(argv: &Argv) -> Result<KeyUses, Error> {
    let flags = |position| if position == 1 { RW_ACCESS_INSERT } else { RO_ACCESS };
    Ok((1..argv.len()).map(|position| KeyUse { position, flags: flags(position) }).collect())
}

/// PFMERGE: what the destination holds stays.
pub(super) fn pfmerge(keyspace: &mut Keyspace, context: &mut ApplyContext, argv: &Argv) -> CommandResult {
    let sparse_bytes_max = keyspace.settings().hll_sparse_max_bytes;
    let union = union(keyspace, context.database, argv)?;
    string::change(keyspace, context.database, &argv[1], value::empty, |text| {
        header::outdate(text);
        if union.any_dense {
            value::make_dense(text)?;
        }
        let raised = union.registers.iter().enumerate().filter(|(_, rank)| **rank > 0);
        let mut places = raised.map(|(index, rank)| Place { index, rank: *rank });
        places.try_for_each(|place| value::raise(text, place, sparse_bytes_max).map(drop))
    })??;
    keyspace.notify(Class::String, "pfadd", context.database, &argv[1]);
    Ok(Reply::Ok)
}

/// All HyperLogLogs whose keys stand behind the command's name; absent ones are empty.
///
/// # Errors
/// When one of them is none or damaged.
pub(super) fn union(keyspace: &Keyspace, database: u32, argv: &Argv) -> Result<Union, Error> {
    let mut union = Union::new();
    for key in argv.iter().skip(1) {
        if let Some(text) = string::text(keyspace, database, key)? {
            union.add(&text)?;
        }
    }
    Ok(union)
}
