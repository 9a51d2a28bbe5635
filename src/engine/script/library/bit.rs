//! The library `bit`: operations on 32-bit integers.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::{Outcome, add, number_at, one};

pub(super) fn functions(lua: &Lua) -> Result<Table> {
    let bit = lua.create_table()?;
    add(lua, &bit, "tobit", |_, args| Ok(unary(&args, |n| n)))?;
    add(lua, &bit, "bnot", |_, args| Ok(unary(&args, |n| !n)))?;
    add(lua, &bit, "bswap", |_, args| Ok(unary(&args, u32::swap_bytes)))?;
    add(lua, &bit, "band", |_, args| Ok(fold(&args, |a, b| a & b)))?;
    add(lua, &bit, "bor", |_, args| Ok(fold(&args, |a, b| a | b)))?;
    add(lua, &bit, "bxor", |_, args| Ok(fold(&args, |a, b| a ^ b)))?;
    add(lua, &bit, "lshift", |_, args| Ok(shift(&args, |n, by| n << by)))?;
    add(lua, &bit, "rshift", |_, args| Ok(shift(&args, |n, by| n >> by)))?;
    add(lua, &bit, "arshift", |_, args| Ok(shift(&args, |n, by| (n.cast_signed() >> by).cast_unsigned())))?;
    add(lua, &bit, "rol", |_, args| Ok(shift(&args, u32::rotate_left)))?;
    add(lua, &bit, "ror", |_, args| Ok(shift(&args, u32::rotate_right)))?;
    add(lua, &bit, "tohex", tohex)?;
    Ok(bit)
}

/// An argument modulo 2^32, halves rounded to even.
fn number(args: &MultiValue, at: usize) -> std::result::Result<u32, String> {
    let n = number_at(args, at).ok_or_else(|| format!("bad argument #{} (number expected)", at + 1))?;
    if !n.is_finite() {
        return Ok(0);
    }
    let wrapped = n.round_ties_even().rem_euclid(4_294_967_296.0);
    Ok(wrapped as u64 as u32)
}

fn signed(n: u32) -> Outcome {
    one(Value::Number(f64::from(n.cast_signed())))
}

fn unary(args: &MultiValue, operation: fn(u32) -> u32) -> Outcome {
    signed(operation(number(args, 0)?))
}

fn fold(args: &MultiValue, operation: fn(u32, u32) -> u32) -> Outcome {
    let first = number(args, 0)?;
    let rest = (1..args.len()).try_fold(first, |n, at| Ok::<_, String>(operation(n, number(args, at)?)))?;
    signed(rest)
}

fn shift(args: &MultiValue, operation: fn(u32, u32) -> u32) -> Outcome {
    signed(operation(number(args, 0)?, number(args, 1)? & 31))
}

fn tohex(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let digits = |args: &MultiValue| -> std::result::Result<String, String> {
        let n = number(args, 0)?;
        let wanted = if args.len() > 1 { number(args, 1)?.cast_signed() } else { 8 };
        let count = wanted.unsigned_abs().min(8) as usize;
        let all = if wanted < 0 { format!("{n:08X}") } else { format!("{n:08x}") };
        Ok(all[8 - count..].to_string())
    };
    Ok(match digits(&args) {
        Ok(text) => one(Value::String(lua.create_string(text)?)),
        Err(problem) => Err(problem),
    })
}
