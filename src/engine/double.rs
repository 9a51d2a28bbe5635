//! Doubles in arguments, read exactly as Redis reads them with C's `strtod`.

use rustc_apfloat::ieee::Double;
use rustc_apfloat::{Float, Round};

use crate::extended::normal_form;

/// A number as most commands take it: decimal, hexadecimal or infinite, with nothing around it. NaN is none,
/// and neither is what a double cannot express: too large, or zero although its digits are not.
pub(crate) fn parse(text: &[u8]) -> Option<f64> {
    strtod(text).filter(|(_, fits)| *fits).map(|(number, _)| number)
}

/// A number as the bounds of ranges of scores are read: up to the first zero byte, blanks in front, nothing at
/// all is 0, what is too large is infinite.
pub(crate) fn bound(text: &[u8]) -> Option<f64> {
    loose(text).map(|(number, _)| number)
}

/// A number as SORT reads it: as a bound, but what a double cannot express is none.
pub(crate) fn weight(text: &[u8]) -> Option<f64> {
    loose(text).filter(|(_, fits)| *fits).map(|(number, _)| number)
}

fn loose(text: &[u8]) -> Option<(f64, bool)> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some((0.0, true));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let begin = text.iter().position(|byte| !blank(byte))?;
    strtod(&text[begin..])
}

/// The number that is the whole text, and whether its digits fit into a double.
fn strtod(text: &[u8]) -> Option<(f64, bool)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse::<f64>() {
        let mantissa = text.bytes().take_while(|byte| !byte.eq_ignore_ascii_case(&b'e'));
        let mut digits = mantissa.filter(u8::is_ascii_digit);
        let fits = match number {
            n if n.is_nan() => return None,
            n if n.is_infinite() => digits.next().is_none(),
            0.0 => digits.all(|digit| digit == b'0'),
            _ => true,
        };
        return Some((number, fits));
    }
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (normal, zero) = normal_form(&lower).filter(|_| lower.starts_with("0x"))?;
    let number = Double::from_str_r(&normal, Round::NearestTiesToEven).ok()?.value;
    let number = f64::from_bits(number.to_bits() as u64);
    let fits = number.is_finite() && (zero || number != 0.0);
    Some((if negative { -number } else { number }, fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strtod_reads_is_a_number() {
        for (text, number) in [
            ("0", 0.0),
            ("-1.5", -1.5),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("007", 7.0),
            ("0x10", 16.0),
            ("-0X.8p1", -1.0),
            ("0x1p-1074", 5e-324),
            ("4e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0e999999", 0.0),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
            assert_eq!(bound(text.as_bytes()), Some(number), "{text}");
        }
        assert!(parse(b"-0").is_some_and(|zero| zero.is_sign_negative()));
    }

    #[test]
    fn what_it_does_not_read_is_none() {
        for text in ["", " 1", "1 ", "1x", "nan", "-nan", "1e", "1e+", ".", "--1", "0x", "0x1p", "1_0", "in", "1\0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["1e400", "-1e400", "1e-400", "0x1p5000", "0x1p-5000"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn bounds_are_read_less_strictly() {
        for (text, number) in
            [("", 0.0), (" 1", 1.0), ("\t\n-1", -1.0), ("1\0x", 1.0), ("1e400", f64::INFINITY), ("1e-400", 0.0)]
        {
            assert_eq!(bound(text.as_bytes()), Some(number), "{text:?}");
        }
        for text in [" ", "1 ", "nan", "x", "1x\0"] {
            assert_eq!(bound(text.as_bytes()), None, "{text:?}");
        }
    }
}
