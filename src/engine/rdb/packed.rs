//! placeholder
pub(crate) fn ziplist(_: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    Err("x")
}
pub(crate) fn listpack(_: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    Err("x")
}
