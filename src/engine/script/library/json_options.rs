//! The options of `cjson`. They hold for one run of a script and begin anew with the next, on every replica.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::{Outcome, add, number_at};

/// Deepest nesting that may be asked for, as in lua-cjson.
const DEPTH_END: usize = 16_000;

/// What encoding does with numbers that JSON cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    Refused,
    Written,
    Null,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Tables in tables at most.
    pub(super) encode_depth: usize,
    /// The same for text.
    pub(super) decode_depth: usize,
    pub(super) invalid: Invalid,
    /// Whether texts may hold nan, inf and hexadecimal numbers; they are read as Rust reads them.
    pub(super) decode_invalid: bool,
    /// Significant digits.
    pub(super) precision: usize,
    /// Arrays that are mostly holes become objects instead of an error.
    pub(super) converts: bool,
    /// An array may have this many times more places than values; 0 allows any.
    pub(super) ratio: usize,
    /// If it has more places than this.
    pub(super) safe: usize,
    keeps_buffer: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            encode_depth: 1000,
            decode_depth: 1000,
            invalid: Invalid::Refused,
            decode_invalid: false,
            precision: 14,
            converts: false,
            ratio: 2,
            safe: 10,
            keeps_buffer: true,
        }
    }
}

/// The options of this run.
pub(super) fn of(lua: &Lua) -> Options {
    lua.app_data_ref::<Options>().map(|options| *options).unwrap_or_default()
}

/// A new run begins.
pub(in crate::script) fn reset(lua: &Lua) {
    lua.set_app_data(Options::default());
}

/// A whole number among the arguments; nothing where there is none.
fn whole(args: &MultiValue, at: usize, least: usize, most: usize) -> std::result::Result<Option<usize>, String> {
    match args.get(at) {
        None | Some(Value::Nil) => Ok(None),
        Some(_) => {
            let number = number_at(args, at).filter(|n| n.fract() == 0.0 && *n >= least as f64 && *n <= most as f64);
            let text = || format!("bad argument #{} to '?' (expected integer between {least} and {most})", at + 1);
            number.map(|n| Some(n as usize)).ok_or_else(text)
        }
    }
}

fn number(lua: &Lua, args: &MultiValue, field: fn(&mut Options) -> &mut usize, range: (usize, usize)) -> Outcome {
    let mut options = of(lua);
    if let Some(wanted) = whole(args, 0, range.0, range.1)? {
        *field(&mut options) = wanted;
        lua.set_app_data(options);
    }
    Ok(MultiValue::from_iter([Value::Number(*field(&mut options) as f64)]))
}

fn flag(args: &MultiValue) -> std::result::Result<Option<bool>, String> {
    match args.front() {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Boolean(yes)) => Ok(Some(*yes)),
        Some(_) => Err("bad argument #1 to '?' (boolean expected)".into()),
    }
}

fn encode_invalid(lua: &Lua, args: &MultiValue) -> Outcome {
    let mut options = of(lua);
    let is_null = matches!(args.front(), Some(Value::String(text)) if *text.as_bytes() == b"null"[..]);
    if is_null {
        options.invalid = Invalid::Null;
    } else if let Some(yes) = flag(args)? {
        options.invalid = if yes { Invalid::Written } else { Invalid::Refused };
    }
    lua.set_app_data(options);
    let told = match options.invalid {
        Invalid::Null => Value::String(lua.create_string("null").map_err(|e| e.to_string())?),
        other => Value::Boolean(other == Invalid::Written),
    };
    Ok(MultiValue::from_iter([told]))
}

fn yes_or_no(lua: &Lua, args: &MultiValue, field: fn(&mut Options) -> &mut bool) -> Outcome {
    let mut options = of(lua);
    if let Some(yes) = flag(args)? {
        *field(&mut options) = yes;
        lua.set_app_data(options);
    }
    Ok(MultiValue::from_iter([Value::Boolean(*field(&mut options))]))
}

fn sparse(lua: &Lua, args: &MultiValue) -> Outcome {
    let mut options = of(lua);
    if let Some(yes) = flag(args)? {
        options.converts = yes;
    }
    if let Some(ratio) = whole(args, 1, 0, i32::MAX as usize)? {
        options.ratio = ratio;
    }
    if let Some(safe) = whole(args, 2, 0, i32::MAX as usize)? {
        options.safe = safe;
    }
    lua.set_app_data(options);
    let numbers = [options.ratio, options.safe].map(|n| Value::Number(n as f64));
    Ok([Value::Boolean(options.converts)].into_iter().chain(numbers).collect())
}

/// The functions that read and change them.
pub(super) fn functions(lua: &Lua, cjson: &Table) -> Result<()> {
    reset(lua);
    add(lua, cjson, "encode_max_depth", |lua, a| Ok(number(lua, &a, |o| &mut o.encode_depth, (1, DEPTH_END))))?;
    add(lua, cjson, "decode_max_depth", |lua, a| Ok(number(lua, &a, |o| &mut o.decode_depth, (1, DEPTH_END))))?;
    add(lua, cjson, "encode_number_precision", |lua, a| Ok(number(lua, &a, |o| &mut o.precision, (1, 14))))?;
    add(lua, cjson, "encode_keep_buffer", |lua, a| Ok(yes_or_no(lua, &a, |o| &mut o.keeps_buffer)))?;
    add(lua, cjson, "decode_invalid_numbers", |lua, a| Ok(yes_or_no(lua, &a, |o| &mut o.decode_invalid)))?;
    add(lua, cjson, "encode_invalid_numbers", |lua, a| Ok(encode_invalid(lua, &a)))?;
    add(lua, cjson, "encode_sparse_array", |lua, a| Ok(sparse(lua, &a)))
}
