//! The value of a string key.

use bytes::Bytes;

use crate::number;

/// Longest text that needs no allocation of its own, in bytes.
pub(super) const INLINE_MAX: usize = 22;
/// Longest text that OBJECT ENCODING calls `embstr`, in bytes; it is Redis's number.
const EMBEDDED_MAX: usize = 44;

/// A string value, 24 bytes. It tells Redis's three encodings apart, because OBJECT ENCODING shows them.
#[derive(Clone, Debug)]
pub enum StringValue {
    /// A number that prints back as the same bytes.
    Int(i64),
    /// At most 22 bytes, kept in place.
    Inline(Inline),
    /// Longer, and not changed since it was stored.
    Fixed(Box<[u8]>),
    /// Changed in place (APPEND, SETRANGE): has spare room to grow. `raw` whatever its length.
    #[allow(clippy::box_collection, reason = "a Vec in place would make every value 32 bytes")]
    Grown(Box<Vec<u8>>),
}

/// How a string value was made. A snapshot has to keep it where it is not [`Origin::Natural`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By storing its text: a number if it reads as one.
    Natural = 0,
    /// As text although it reads as a number (INCRBYFLOAT).
    Text = 1,
    /// By a change in place (APPEND, SETRANGE, SETBIT).
    Grown = 2,
}

/// A short text in place.
#[derive(Clone, Copy, Debug)]
pub struct Inline {
    len: u8,
    bytes: [u8; INLINE_MAX],
}

impl PartialEq for StringValue {
    /// Equal when nothing can tell them apart: origin and text.
    fn eq(&self, other: &StringValue) -> bool {
        let (mut one, mut two) = (itoa::Buffer::new(), itoa::Buffer::new());
        self.origin() == other.origin() && self.bytes(&mut one) == other.bytes(&mut two)
    }
}

impl Inline {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl StringValue {
    /// The value for `text`, as a number where Redis would keep it as one.
    pub fn new(text: &[u8]) -> StringValue {
        match number::integer(text) {
            Some(n) => StringValue::Int(n),
            None => StringValue::text(text),
        }
    }

    /// The value for `text`, never as a number: Redis does that for INCRBYFLOAT.
    pub fn text(text: &[u8]) -> StringValue {
        if text.len() > INLINE_MAX {
            return StringValue::Fixed(text.into());
        }
        let mut bytes = [0; INLINE_MAX];
        bytes[..text.len()].copy_from_slice(text);
        StringValue::Inline(Inline { len: text.len() as u8, bytes })
    }

    /// A value that counts as changed in place, `raw` for OBJECT ENCODING.
    pub fn grown(text: Vec<u8>) -> StringValue {
        StringValue::Grown(Box::new(text))
    }

    /// Its bytes; a number is printed into `digits`.
    pub fn bytes<'a>(&'a self, digits: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            StringValue::Int(n) => digits.format(*n).as_bytes(),
            StringValue::Inline(text) => text.as_bytes(),
            StringValue::Fixed(text) => text,
            StringValue::Grown(text) => text,
        }
    }

    /// A copy of its bytes.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.bytes(&mut itoa::Buffer::new()))
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    /// Whether it is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number that it reads as, if it does.
    pub fn integer(&self) -> Option<i64> {
        match self {
            StringValue::Int(n) => Some(*n),
            other => number::integer(other.bytes(&mut itoa::Buffer::new())),
        }
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match self {
            StringValue::Int(_) => "int",
            StringValue::Inline(_) => "embstr",
            StringValue::Fixed(text) if text.len() <= EMBEDDED_MAX => "embstr",
            StringValue::Fixed(_) | StringValue::Grown(_) => "raw",
        }
    }

    /// How it was made, as far as anything can still tell: a long text is `raw` in any case.
    pub fn origin(&self) -> Origin {
        match self {
            StringValue::Int(_) => Origin::Natural,
            StringValue::Grown(text) if text.len() <= EMBEDDED_MAX => Origin::Grown,
            StringValue::Grown(_) => Origin::Natural,
            StringValue::Inline(text) if number::integer(text.as_bytes()).is_some() => Origin::Text,
            StringValue::Inline(_) | StringValue::Fixed(_) => Origin::Natural,
        }
    }

    /// The value of an origin and a text: the inverse of [`StringValue::origin`] and its bytes.
    pub fn of(origin: Origin, text: &[u8]) -> StringValue {
        match origin {
            Origin::Natural => StringValue::new(text),
            Origin::Text => StringValue::text(text),
            Origin::Grown => StringValue::grown(text.to_vec()),
        }
    }

    /// Bytes that it holds beside its own 24: a function of origin and text, so that replicas agree
    /// whether or not one of them was restored from a snapshot.
    pub fn heap_bytes(&self) -> usize {
        match self {
            StringValue::Int(_) | StringValue::Inline(_) => 0,
            StringValue::Fixed(text) => text.len(),
            StringValue::Grown(text) if text.len() <= EMBEDDED_MAX => size_of::<Vec<u8>>() + text.len(),
            StringValue::Grown(text) => text.len(),
        }
    }

    /// Opens it for changes in place; from then on its encoding is `raw`.
    pub fn grow(&mut self) -> &mut Vec<u8> {
        if !matches!(self, StringValue::Grown(_)) {
            *self = match std::mem::replace(self, StringValue::Int(0)) {
                StringValue::Fixed(text) => StringValue::grown(text.into_vec()),
                other => StringValue::grown(other.bytes(&mut itoa::Buffer::new()).to_vec()),
            };
        }
        match self {
            StringValue::Grown(text) => text,
            StringValue::Int(_) | StringValue::Inline(_) | StringValue::Fixed(_) => {
                unreachable!("it was made Grown above")
            }
        }
    }

    /// Replaces it by `StringValue::new(text)`, in the allocation that is there if it has the right size.
    pub fn overwrite(&mut self, text: &[u8]) {
        match self {
            StringValue::Fixed(old) if old.len() == text.len() => old.copy_from_slice(text),
            other => *other = StringValue::new(text),
        }
    }

    /// Flips the lowest bit of its first byte, as broken memory would; false for the empty string.
    pub(crate) fn flip_bit(&mut self) -> bool {
        let text = match self {
            StringValue::Int(n) => {
                *n ^= 1;
                return true;
            }
            StringValue::Inline(text) => &mut text.bytes[..text.len as usize],
            StringValue::Fixed(text) => text,
            StringValue::Grown(text) => text,
        };
        let first = text.first_mut();
        first.map(|byte| *byte ^= 1).is_some()
    }

    /// Whether [`StringValue::overwrite`] with a text of `len` bytes needs no allocation that is not there.
    pub fn fits(&self, len: usize) -> bool {
        matches!(self, StringValue::Fixed(old) if old.len() == len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_24_bytes() {
        assert_eq!(size_of::<StringValue>(), 24);
        assert_eq!(size_of::<Option<crate::Value>>(), 24);
    }

    #[test]
    fn encodings_are_those_of_redis() {
        let long = [b'x'; 45];
        let cases: &[(&[u8], &str)] = &[
            (b"", "embstr"),
            (b"12", "int"),
            (b"012", "embstr"),
            (&long[..22], "embstr"),
            (&long[..44], "embstr"),
            (&long, "raw"),
        ];
        for (text, encoding) in cases {
            let mut value = StringValue::new(text);
            assert_eq!((value.encoding(), &value.to_bytes()[..]), (*encoding, *text));
            value.grow().push(b'!');
            assert_eq!(
                (value.encoding(), value.len(), value.origin()),
                ("raw", text.len() + 1, if text.len() < 44 { Origin::Grown } else { Origin::Natural })
            );
            value.overwrite(text);
            assert_eq!(value, StringValue::new(text));
        }
    }

    #[test]
    fn origin_and_text_are_the_whole_value() {
        for value in [
            StringValue::new(b"7"),
            StringValue::text(b"7"),
            StringValue::grown(b"7".to_vec()),
            StringValue::text(b"x"),
            StringValue::new(&[b'y'; 30]),
            StringValue::grown(vec![b'z'; 45]),
        ] {
            let again = StringValue::of(value.origin(), &value.to_bytes());
            assert_eq!((&again, again.encoding(), again.heap_bytes()), (&value, value.encoding(), value.heap_bytes()));
        }
    }

    #[test]
    fn overwriting_with_the_same_length_keeps_the_allocation() {
        let mut value = StringValue::new(&[b'a'; 100]);
        let StringValue::Fixed(text) = &value else { panic!("a long text is Fixed") };
        let before = text.as_ptr();
        value.overwrite(&[b'b'; 100]);
        let StringValue::Fixed(text) = &value else { panic!("still Fixed") };
        assert_eq!((text.as_ptr(), text[0]), (before, b'b'));
    }
}
