//! A whole HyperLogLog, whichever way its registers are kept.

use super::dense;
use super::header::{self, Encoding};
use super::place::{Place, REGISTERS};
use super::sparse::{self, Raised};
use crate::Error;

/// One without elements: all registers are one run of zeros.
pub(super) fn empty() -> Vec<u8> {
    let mut text = header::new(Encoding::Sparse);
    text.extend([0x7f, 0xff]);
    text
}

/// Refuses what has no HyperLogLog's header.
///
/// # Errors
/// When it has none.
pub(super) fn check(text: &[u8]) -> Result<(), Error> {
    Encoding::of(text).map(drop)
}

/// One register.
///
/// # Errors
/// When it is no HyperLogLog or a damaged one.
pub(super) fn get(text: &[u8], index: usize) -> Result<u8, Error> {
    let encoding = Encoding::of(text)?;
    let body = &text[header::LEN..];
    match encoding {
        Encoding::Dense => Ok(dense::get(body, index)),
        Encoding::Sparse => sparse::get(body, index),
    }
}

/// Raises the register of a place; false when it is as high already. Sparse registers become dense when
/// the whole value would be longer than `sparse_bytes_max`.
///
/// # Errors
/// As [`get`].
pub(super) fn raise(text: &mut Vec<u8>, place: Place, sparse_bytes_max: i64) -> Result<bool, Error> {
    if Encoding::of(text)? == Encoding::Sparse {
        match sparse::raise(text, header::LEN, place, sparse_bytes_max)? {
            Raised::Already => return Ok(false),
            Raised::Done => return Ok(true),
            Raised::TooLong => make_dense(text)?,
        };
    }
    Ok(dense::raise(&mut text[header::LEN..], place.index, place.rank))
}

/// Makes registers dense; false when they are. The header stays as it is, estimate included.
///
/// # Errors
/// As [`get`]; nothing is changed then.
pub(super) fn make_dense(text: &mut Vec<u8>) -> Result<bool, Error> {
    if Encoding::of(text)? == Encoding::Dense {
        return Ok(false);
    }
    let mut body = vec![0; dense::LEN];
    sparse::each_run(&text[header::LEN..], |first, run| {
        let raised = first..first + if run.rank > 0 { run.len } else { 0 };
        raised.for_each(|index| {
            dense::raise(&mut body, index, run.rank);
        });
    })?;
    text.truncate(header::LEN);
    text.extend(body);
    Encoding::Dense.write(text);
    Ok(true)
}

/// All registers of several HyperLogLogs together.
#[derive(Debug)]
pub(super) struct Union {
    /// The highest of each, in order.
    pub(super) registers: Vec<u8>,
    /// Whether one of them was dense.
    pub(super) any_dense: bool,
}

impl Union {
    /// Of none.
    pub(super) fn new() -> Union {
        Union { registers: vec![0; REGISTERS], any_dense: false }
    }

    /// Takes one more in.
    ///
    /// # Errors
    /// As [`get`].
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), Error> {
        let encoding = Encoding::of(text)?;
        let body = &text[header::LEN..];
        match encoding {
            Encoding::Dense => {
                let both = self.registers.iter_mut().zip(dense::registers(body));
                both.for_each(|(register, rank)| *register = rank.max(*register));
            }
            Encoding::Sparse => sparse::each_run(body, |first, run| {
                let registers = &mut self.registers[first..first + run.len];
                registers.iter_mut().for_each(|register| *register = run.rank.max(*register));
            })?,
        }
        self.any_dense |= encoding == Encoding::Dense;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Histogram;
    use super::*;
    use crate::Rng;

    const NO_LIMIT: i64 = i64::MAX;

    /// A value of random elements, dense above `sparse_bytes_max`, and its registers.
    fn random(rng: &mut Rng, count: u64, sparse_bytes_max: i64) -> (Vec<u8>, Vec<u8>) {
        let (mut text, mut registers) = (empty(), vec![0; REGISTERS]);
        for _ in 0..count {
            let place = Place::of(&rng.next_u64().to_le_bytes());
            let raises = registers[place.index] < place.rank;
            assert_eq!(raise(&mut text, place, sparse_bytes_max), Ok(raises));
            registers[place.index] = place.rank.max(registers[place.index]);
        }
        (text, registers)
    }

    fn registers(text: &[u8]) -> Vec<u8> {
        let mut union = Union::new();
        union.add(text).expect("a sound value");
        union.registers
    }

    #[test]
    fn both_encodings_hold_the_same_registers() {
        let mut rng = Rng::new(3);
        for (count, sparse_bytes_max, is_dense) in
            [(0, 3000, false), (500, NO_LIMIT, false), (500, 600, true), (9000, 3000, true)]
        {
            let (mut text, expected) = random(&mut rng, count, sparse_bytes_max);
            assert_eq!(Encoding::of(&text).expect("sound") == Encoding::Dense, is_dense);
            assert_eq!(registers(&text), expected);
            assert!((0..REGISTERS).step_by(97).all(|index| get(&text, index) == Ok(expected[index])));
            let sparse = Histogram::of(&text).expect("sound");
            assert_eq!(make_dense(&mut text), Ok(!is_dense));
            assert_eq!((registers(&text), Histogram::of(&text).expect("sound")), (expected, sparse));
        }
    }

    #[test]
    fn a_rank_that_no_run_can_have_makes_it_dense() {
        let mut text = empty();
        assert_eq!(raise(&mut text, Place { index: 16383, rank: sparse::RANK_MAX }, NO_LIMIT), Ok(true));
        assert_eq!(Encoding::of(&text), Ok(Encoding::Sparse));
        assert_eq!(raise(&mut text, Place { index: 16383, rank: sparse::RANK_MAX + 1 }, NO_LIMIT), Ok(true));
        assert_eq!((Encoding::of(&text), get(&text, 16383)), (Ok(Encoding::Dense), Ok(33)));
    }

    #[test]
    fn random_bytes_behind_a_header_are_a_value_or_an_error() {
        let mut rng = Rng::new(4);
        for round in 0..4000 {
            let mut text = match round % 3 {
                0 => header::new(Encoding::Sparse),
                1 => random(&mut rng, 60, NO_LIMIT).0,
                _ => random(&mut rng, 60, 0).0,
            };
            match rng.below(4) {
                0 => text.extend((0..rng.below(300)).map(|_| rng.below(256) as u8)),
                1 => text.truncate(header::LEN + rng.below((text.len() - header::LEN + 1) as u64) as usize),
                _ => {
                    for _ in 0..rng.below(6) {
                        let at = rng.below(text.len() as u64) as usize;
                        text[at] = rng.below(256) as u8;
                    }
                }
            }
            let texts: Result<Vec<u8>, Error> = (0..REGISTERS).step_by(501).map(|index| get(&text, index)).collect();
            let union = Union::new().add(&text);
            let estimate = Histogram::of(&text).map(|histogram| histogram.estimate());
            assert_eq!(union.is_ok(), estimate.is_ok());
            assert!(union.is_err() || texts.is_ok(), "each register of a sound value is there");
            for _ in 0..20 {
                let place = Place { index: rng.below(REGISTERS as u64) as usize, rank: rng.below(51) as u8 + 1 };
                let before = get(&text, place.index);
                match (raise(&mut text, place, 200), before) {
                    (Ok(raised), Ok(before)) => assert_eq!(raised, before < place.rank),
                    (Ok(_), Err(before)) => panic!("{before:?} and then none"),
                    (Err(_), _) => {}
                }
            }
            drop(make_dense(&mut text));
        }
    }
}
