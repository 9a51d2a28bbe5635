//! Numbers as printable text of variable length.
//!
//! Version numbers go into AUX fields, which redis-check-rdb prints: six bits per character of an
//! alphabet without control characters, of which one says that more follows. A number below 32 takes
//! one character, one of 20 bits four.

/// Version counters from here on are not believed: counting on must not overflow.
pub(crate) const MAX: u64 = 1 << 47;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Appends a number.
pub(crate) fn put(mut n: u64, out: &mut Vec<u8>) {
    while n >= 32 {
        out.push(ALPHABET[32 + (n % 32) as usize]);
        n /= 32;
    }
    out.push(ALPHABET[n as usize]);
}

/// Takes a number from the front of `text`; nothing when it is damaged or at its end.
pub(crate) fn take(text: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..).step_by(5) {
        let (first, rest) = text.split_first()?;
        *text = rest;
        let digit = ALPHABET.iter().position(|c| c == first)? as u64;
        let part = digit % 32;
        if shift > 60 || (shift == 60 && part > 15) {
            return None;
        }
        n |= part << shift;
        if digit < 32 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        let numbers = [0, 1, 31, 32, 1 << 20, u64::MAX >> 1, u64::MAX];
        let mut out = Vec::new();
        numbers.iter().for_each(|n| put(*n, &mut out));
        assert!(out.iter().all(u8::is_ascii_graphic));
        let mut rest = &out[..];
        for n in numbers {
            assert_eq!(take(&mut rest), Some(n));
        }
        assert_eq!(take(&mut rest), None);
    }

    #[test]
    fn damaged_numbers_are_refused() {
        for text in ["", "g", "gggggggggggggggggg", "A\n", "___________________"] {
            let mut rest = text.as_bytes();
            let first = take(&mut rest);
            assert!(first.is_none() || take(&mut rest).is_none(), "{text:?}");
        }
    }
}
