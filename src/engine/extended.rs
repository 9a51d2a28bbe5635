//! 80-bit floating point, what x86-64 calls `long double` and Redis computes INCRBYFLOAT in.
//!
//! In software, so that every replica gets the same digits on every machine.

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

/// An 80-bit number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Extended(X87DoubleExtended);

/// Longest text that is read as a number, in bytes; Redis's buffer is that long.
const TEXT_MAX: usize = 5 * 1024 - 1;
/// Digits behind the decimal point in [`Extended::human`], as Redis prints them.
const DECIMALS: u32 = 17;
/// Bias and precision of the format: its least significant bit weighs 2^(exponent - BIAS - 63).
const BIAS: i32 = 16383;
const BASE: u64 = 1_000_000_000;

impl Extended {
    /// Zero.
    pub const ZERO: Extended = Extended(X87DoubleExtended::ZERO);

    /// Reads what C's `strtold` reads, without blanks around it: decimal, hexadecimal, infinity.
    /// NaN and numbers beyond the format are none.
    pub fn parse(text: &[u8]) -> Option<Extended> {
        let text = std::str::from_utf8(text).ok().filter(|t| (1..=TEXT_MAX).contains(&t.len()))?;
        let (negative, digits) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let lower = digits.to_ascii_lowercase();
        if lower == "inf" || lower == "infinity" {
            let infinity = X87DoubleExtended::INFINITY;
            return Some(Extended(if negative { -infinity } else { infinity }));
        }
        let (normal, zero) = normal_form(&lower)?;
        let number = X87DoubleExtended::from_str_r(&normal, Round::NearestTiesToEven).ok()?.value;
        if number.is_infinite() || (number.is_zero() && !zero) {
            return None;
        }
        Some(Extended(if negative { -number } else { number }))
    }

    /// The sum, rounded to nearest, ties to even.
    pub fn plus(self, other: Extended) -> Extended {
        Extended((self.0 + other.0).value)
    }

    /// Below zero, or the zero below.
    pub fn is_negative(self) -> bool {
        self.0.is_negative()
    }

    /// The largest finite number.
    pub fn largest() -> Extended {
        Extended(X87DoubleExtended::largest())
    }

    /// The number with the other sign.
    pub fn negated(self) -> Extended {
        Extended(-self.0)
    }

    /// Neither infinite nor NaN.
    pub fn is_finite(self) -> bool {
        self.0.is_finite()
    }

    /// The number times 1000, rounded up to an integer: seconds as milliseconds. Nothing when there is no room.
    pub fn thousandfold(self) -> Option<i64> {
        let thousand = X87DoubleExtended::from_u128(1000).value;
        let millis = (self.0 * thousand).value.to_i128_r(64, Round::TowardPositive, &mut false);
        if millis.status.contains(Status::INVALID_OP) { None } else { i64::try_from(millis.value).ok() }
    }

    /// Up to 17 decimals and never an exponent, trailing zeros cut off, `-0` as `0`: Redis's text for
    /// people. The number must be finite.
    pub fn human(self) -> String {
        let bits = self.0.to_bits();
        let (mantissa, biased) = (bits as u64, (bits >> 64) as i32 & 0x7fff);
        // Subnormals have the exponent of the smallest normal number.
        let exponent = biased.max(1) - BIAS - 63;
        let mut digits = scaled_digits(mantissa, exponent);
        while digits.len() <= DECIMALS as usize {
            digits.insert(0, b'0');
        }
        let decimals = digits.split_off(digits.len() - DECIMALS as usize);
        let mut text = String::from_utf8(digits).expect("ASCII digits");
        let decimals = String::from_utf8(decimals).expect("ASCII digits");
        let decimals = decimals.trim_end_matches('0');
        if !decimals.is_empty() {
            text.push('.');
            text.push_str(decimals);
        }
        if self.0.is_negative() && text != "0" { format!("-{text}") } else { text }
    }
}

/// Checks a lower-case number without sign as `strtold` would and gives it the form that the parser of
/// the float crate takes; also whether its digits are all zero.
pub(crate) fn normal_form(text: &str) -> Option<(String, bool)> {
    let (hex, body) = match text.strip_prefix("0x") {
        Some(body) => (true, body),
        None => (false, text),
    };
    let marker = if hex { 'p' } else { 'e' };
    let (mantissa, exponent) = match body.split_once(marker) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (body, None),
    };
    let digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
    let digits = mantissa.chars().filter(|c| digit(*c)).count();
    let points = mantissa.chars().filter(|c| *c == '.').count();
    if digits == 0 || points > 1 || digits + points != mantissa.len() {
        return None;
    }
    let exponent = match exponent {
        None => 0,
        Some(exponent) => {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // Beyond this the number is zero or infinite whatever its mantissa of at most 5119 digits is.
            let far = unsigned.trim_start_matches('0').len() > 6;
            let size: i32 = if far { 999_999 } else { unsigned.parse().ok()? };
            if exponent.starts_with('-') { -size } else { size }
        }
    };
    let zero = mantissa.bytes().all(|b| b == b'0' || b == b'.');
    let prefix = if hex { "0x" } else { "" };
    let text = if zero { "0".to_string() } else { format!("{prefix}{mantissa}{marker}{exponent}") };
    Some((text, zero))
}

/// The decimal digits of mantissa × 2^exponent × 10^17, rounded half to even.
fn scaled_digits(mantissa: u64, exponent: i32) -> Vec<u8> {
    // 10^17 is below 2^57, so the product has at most 121 bits.
    let scaled = u128::from(mantissa) * 10u128.pow(DECIMALS);
    if exponent < 0 {
        let shift = exponent.unsigned_abs();
        let rounded = if shift >= 127 {
            0
        } else {
            let (whole, rest, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1u128 << (shift - 1));
            let up = rest > half || (rest == half && whole & 1 == 1);
            whole + u128::from(up)
        };
        return rounded.to_string().into_bytes();
    }
    // Base 10^9 limbs, least significant first; doubled by at most 29 bits at a time.
    let mut limbs = Vec::new();
    let mut rest = scaled;
    while rest > 0 {
        limbs.push((rest % u128::from(BASE)) as u64);
        rest /= u128::from(BASE);
    }
    let mut left = exponent as u32;
    while left > 0 {
        let step = left.min(29);
        let mut carry = 0;
        for limb in &mut limbs {
            let n = (*limb << step) + carry;
            *limb = n % BASE;
            carry = n / BASE;
        }
        if carry > 0 {
            limbs.push(carry);
        }
        left -= step;
    }
    let mut text = limbs.pop().unwrap_or(0).to_string();
    for limb in limbs.iter().rev() {
        text.push_str(&format!("{limb:09}"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |t: &str| Extended::parse(t.as_bytes()).expect("a number");
        parse(a).plus(parse(b)).human()
    }

    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        for (a, b, want) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "200", "5200"),
            ("3", "-3", "0"),
            ("-0.0", "-0.0", "0"),
            ("1", "1e-17", "1.00000000000000001"),
            ("0x10", "0x.8", "16.5"),
            ("1e30", "1", "1000000000000000000024696061952"),
        ] {
            let got = sum(a, b);
            assert_eq!(got, want, "{a} + {b}");
        }
    }

    #[test]
    fn what_strtold_refuses_is_no_number() {
        for text in [
            "",
            " 1",
            "1 ",
            "1x",
            "nan",
            "0x",
            "1e",
            "1e+",
            ".",
            "1.2.3",
            "--1",
            "1e99999",
            "1e-99999",
            "0x1p99999",
            "é",
        ] {
            assert!(Extended::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        for text in ["1.", ".5", "+1", "-1", "1e5", "1E+5", "0X1P-3", "inf", "-Infinity", "0e99999"] {
            assert!(Extended::parse(text.as_bytes()).is_some(), "{text:?}");
        }
    }
}
