//! The library `struct`: numbers and texts as bytes of a fixed layout.

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::{Outcome, add, number_at, one};

/// Largest alignment, and largest width of an integer.
const WIDTH_MAX: usize = 32;
/// Longest result, in bytes.
const BYTES_MAX: usize = 512 << 20;

pub(super) fn functions(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    add(lua, &library, "pack", pack)?;
    add(lua, &library, "unpack", unpack)?;
    add(lua, &library, "size", size)?;
    Ok(library)
}

type Step<T> = std::result::Result<T, String>;

/// One item of a format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    /// Signed or not, bytes.
    Integer(bool, usize),
    Float,
    Double,
    /// A text up to a zero byte.
    Terminated,
    /// Bytes of a number that the format names; for 0 one that the number before it tells.
    Chars(usize),
    Padding,
}

impl Item {
    /// Bytes, where they are known from the format.
    fn size(self) -> usize {
        match self {
            Item::Integer(_, size) => size,
            Item::Float => 4,
            Item::Double => 8,
            Item::Chars(count) => count,
            Item::Padding => 1,
            Item::Terminated => 0,
        }
    }

    fn aligns(self) -> bool {
        matches!(self, Item::Integer(..) | Item::Float | Item::Double)
    }
}

/// Reads a format item by item.
struct Format<'a> {
    rest: &'a [u8],
    little: bool,
    align: usize,
}

impl Format<'_> {
    fn count(&mut self) -> Step<Option<usize>> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if number.is_empty() {
            return Ok(None);
        }
        let count = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).filter(|n| *n <= BYTES_MAX);
        count.map(Some).ok_or_else(|| "integral size overflow".to_string())
    }

    fn width(&mut self, default: usize) -> Step<usize> {
        let width = self.count()?.unwrap_or(default);
        if (1..=WIDTH_MAX).contains(&width) {
            Ok(width)
        } else {
            Err(format!("integral size {width} is larger than limit of {WIDTH_MAX}"))
        }
    }

    /// The next item, the options in front of it taken.
    fn next(&mut self) -> Step<Option<Item>> {
        while let Some((letter, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(Some(match letter {
                b'b' => Item::Integer(true, 1),
                b'B' => Item::Integer(false, 1),
                b'h' => Item::Integer(true, 2),
                b'H' => Item::Integer(false, 2),
                b'i' => Item::Integer(true, self.width(4)?),
                b'I' => Item::Integer(false, self.width(4)?),
                b'l' => Item::Integer(true, 8),
                b'L' | b'T' => Item::Integer(false, 8),
                b'f' => Item::Float,
                b'd' | b'n' => Item::Double,
                b's' => Item::Terminated,
                b'c' => Item::Chars(self.count()?.unwrap_or(1)),
                b'x' => Item::Padding,
                b' ' => continue,
                b'<' => {
                    self.little = true;
                    continue;
                }
                b'>' => {
                    self.little = false;
                    continue;
                }
                b'!' => {
                    let align = self.width(8)?;
                    if !align.is_power_of_two() {
                        return Err("alignment is not a power of 2".into());
                    }
                    self.align = align;
                    continue;
                }
                other => return Err(format!("invalid format option '{}'", char::from(*other))),
            }));
        }
        Ok(None)
    }

    /// Bytes between a place and an item of a size.
    fn gap(&self, at: usize, item: Item) -> usize {
        let align = item.size().min(self.align);
        if !item.aligns() || align <= 1 || !align.is_power_of_two() { 0 } else { at.wrapping_neg() & (align - 1) }
    }
}

fn format(bytes: &[u8]) -> Format<'_> {
    Format { rest: bytes, little: cfg!(target_endian = "little"), align: 1 }
}

fn first_text(args: &MultiValue) -> Step<Vec<u8>> {
    match args.front() {
        Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
        _ => Err("bad argument #1 (string expected)".into()),
    }
}

fn put_integer(n: i64, size: usize, little: bool, out: &mut Vec<u8>) {
    let fill = if n < 0 { 0xff } else { 0 };
    let byte = |at: usize| if at < 8 { (n >> (8 * at)) as u8 } else { fill };
    if little { out.extend((0..size).map(byte)) } else { out.extend((0..size).rev().map(byte)) }
}

fn pack_all(lua: &Lua, args: &MultiValue) -> Step<Vec<u8>> {
    let text = first_text(args)?;
    let (mut format, mut out, mut next) = (format(&text), Vec::new(), 1);
    while let Some(item) = format.next()? {
        out.resize(out.len() + format.gap(out.len(), item), 0);
        if item == Item::Padding {
            out.push(0);
            continue;
        }
        let value = args.get(next).cloned().unwrap_or(Value::Nil);
        next += 1;
        let wrong = |what: &str| format!("bad argument #{next} to 'pack' ({what} expected)");
        let number = || lua.coerce_number(value.clone()).ok().flatten().ok_or_else(|| wrong("number"));
        let little = format.little;
        match item {
            Item::Integer(_, size) => put_integer(number()? as i64, size, little, &mut out),
            Item::Float => {
                let bytes = (number()? as f32).to_bits();
                out.extend_from_slice(&if little { bytes.to_le_bytes() } else { bytes.to_be_bytes() });
            }
            Item::Double => {
                let bytes = number()?.to_bits();
                out.extend_from_slice(&if little { bytes.to_le_bytes() } else { bytes.to_be_bytes() });
            }
            Item::Terminated | Item::Chars(_) => {
                let given = lua.coerce_string(value.clone()).ok().flatten().ok_or_else(|| wrong("string"))?;
                let given = given.as_bytes();
                let count = if let Item::Chars(count @ 1..) = item { count } else { given.len() };
                out.extend_from_slice(given.get(..count).ok_or_else(|| wrong("longer string"))?);
                if item == Item::Terminated {
                    out.push(0);
                }
            }
            Item::Padding => {}
        }
        if out.len() > BYTES_MAX {
            return Err("result too large".into());
        }
    }
    Ok(out)
}

fn pack(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    Ok(match pack_all(lua, &args) {
        Ok(out) => one(Value::String(lua.create_string(out)?)),
        Err(problem) => Err(problem),
    })
}

fn take_integer(bytes: &[u8], signed: bool, little: bool) -> f64 {
    let lowest = |at: usize| if little { bytes[at] } else { bytes[bytes.len() - 1 - at] };
    let used = bytes.len().min(8);
    let n = (0..used).rev().fold(0u64, |n, at| n << 8 | u64::from(lowest(at)));
    let unused = 64 - 8 * used as u32;
    if signed { ((n << unused).cast_signed() >> unused) as f64 } else { n as f64 }
}

fn unpack_all(lua: &Lua, args: &MultiValue) -> Step<MultiValue> {
    let text = first_text(args)?;
    let Some(Value::String(data)) = args.get(1) else {
        return Err("bad argument #2 to 'unpack' (string expected)".into());
    };
    let data = data.as_bytes();
    let start = Some(number_at(args, 2).map_or(1, |n| n as i64));
    let start = start.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).ok_or("offset must be 1 or greater")?;
    let (mut format, mut at, mut values) = (format(&text), start - 1, MultiValue::new());
    while let Some(item) = format.next()? {
        at += format.gap(at, item);
        let rest = data.get(at..).ok_or("data string too short")?;
        let (size, after) = match item {
            Item::Terminated => {
                let end = rest.iter().position(|b| *b == 0).ok_or("unfinished string in data")?;
                (end, 1)
            }
            Item::Chars(0) => {
                let told = values
                    .pop_back()
                    .and_then(|value| number_at(&MultiValue::from_iter([value]), 0))
                    .ok_or("format 'c0' needs a previous size")?;
                (told as usize, 0)
            }
            item => (item.size(), 0),
        };
        let bytes = rest.get(..size).ok_or("data string too short")?;
        at += size + after;
        let value = match item {
            Item::Padding => continue,
            Item::Integer(signed, _) => Value::Number(take_integer(bytes, signed, format.little)),
            Item::Float => {
                let bits = take_integer(bytes, false, format.little) as u32;
                Value::Number(f64::from(f32::from_bits(bits)))
            }
            Item::Double => {
                let array: [u8; 8] = bytes.try_into().map_err(|_| "data string too short")?;
                let bits = if format.little { u64::from_le_bytes(array) } else { u64::from_be_bytes(array) };
                Value::Number(f64::from_bits(bits))
            }
            Item::Terminated | Item::Chars(_) => Value::String(lua.create_string(bytes).map_err(|e| e.to_string())?),
        };
        values.push_back(value);
    }
    values.push_back(Value::Number((at + 1) as f64));
    Ok(values)
}

fn unpack(lua: &Lua, args: MultiValue) -> Result<Outcome> {
    Ok(unpack_all(lua, &args))
}

fn size(_lua: &Lua, args: MultiValue) -> Result<Outcome> {
    let total = |args: &MultiValue| -> Step<usize> {
        let text = first_text(args)?;
        let (mut format, mut total) = (format(&text), 0usize);
        while let Some(item) = format.next()? {
            if matches!(item, Item::Terminated | Item::Chars(0)) {
                return Err("variable-size format for 'struct.size'".into());
            }
            total = total.saturating_add(format.gap(total, item)).saturating_add(item.size());
        }
        Ok(total)
    };
    Ok(total(&args).and_then(|total| one(Value::Number(total as f64))))
}
