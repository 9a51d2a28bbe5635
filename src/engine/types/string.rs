//! Strings.

/// A string value. Redis's three encodings, because OBJECT ENCODING shows them.
#[derive(Clone, Debug, PartialEq)]
pub enum StringValue {
    /// A number that prints back as the same bytes.
    Int(i64),
    /// Short and never changed in place (`embstr`, at most 44 bytes).
    Embedded(Box<[u8]>),
    /// Long, or changed in place.
    Raw(Vec<u8>),
}
