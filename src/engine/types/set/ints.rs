//! Numbers in ascending order, each in as few bytes as the greatest and the least of them need.
//!
//! The buffer is: the width of a number in bytes, which is 2, 4 or 8, then the numbers, little-endian. No number,
//! no buffer. A short buffer stands in place.
//!
//! Invariant: the width is a function of the numbers, so equal numbers make equal buffers.

/// The longest buffer that stands in place: a set of ten small numbers is one allocation of 32 bytes.
const SHORT_MAX: usize = 30;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::types) enum Ints {
    /// The length of the buffer and the buffer.
    Short(u8, [u8; SHORT_MAX]),
    /// A longer one.
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Ints>() == 32, "sets of few numbers are small");

impl Default for Ints {
    fn default() -> Ints {
        Ints::Short(0, [0; SHORT_MAX])
    }
}

fn width_of(n: i64) -> usize {
    if i16::try_from(n).is_ok() {
        2
    } else if i32::try_from(n).is_ok() {
        4
    } else {
        8
    }
}

/// Numbers from some place on.
#[derive(Debug)]
pub(in crate::types) struct IntsIter<'a> {
    ints: &'a Ints,
    at: usize,
}

impl Iterator for IntsIter<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let n = self.ints.get(self.at)?;
        self.at += 1;
        Some(n)
    }
}

impl Ints {
    /// From numbers that ascend.
    pub(super) fn new(numbers: &[i64]) -> Ints {
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Ints::default() };
        let width = width_of(*first).max(width_of(*last));
        let mut buffer = Vec::with_capacity(1 + width * numbers.len());
        buffer.push(width as u8);
        numbers.iter().for_each(|n| buffer.extend_from_slice(&n.to_le_bytes()[..width]));
        Ints::of(buffer)
    }

    /// From a buffer.
    fn of(buffer: Vec<u8>) -> Ints {
        if buffer.len() > SHORT_MAX {
            return Ints::Long(buffer.into_boxed_slice());
        }
        let mut short = [0; SHORT_MAX];
        short[..buffer.len()].copy_from_slice(&buffer);
        Ints::Short(buffer.len() as u8, short)
    }

    fn width(&self) -> usize {
        self.as_bytes().first().map_or(0, |width| usize::from(*width))
    }

    /// The buffer: equal for equal numbers.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Ints::Short(len, buffer) => &buffer[..usize::from(*len)],
            Ints::Long(buffer) => buffer,
        }
    }

    /// The bytes of the numbers.
    pub(super) fn bytes(&self) -> &[u8] {
        self.as_bytes().get(1..).unwrap_or_default()
    }

    /// The bytes that do not stand in place.
    pub(super) fn heap_bytes(&self) -> usize {
        if let Ints::Long(buffer) = self { buffer.len() } else { 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.bytes().len().checked_div(self.width()).unwrap_or(0)
    }

    /// The number at a place.
    pub(super) fn get(&self, at: usize) -> Option<i64> {
        let width = self.width();
        let begin = at.checked_mul(width).filter(|begin| *begin < self.bytes().len())?;
        let bytes = &self.bytes()[begin..begin + width];
        let sign = if bytes[width - 1] & 0x80 == 0 { 0 } else { 0xff };
        let mut whole = [sign; 8];
        whole[..width].copy_from_slice(bytes);
        Some(i64::from_le_bytes(whole))
    }

    /// The numbers from a place on.
    pub(super) fn iter_from(&self, at: usize) -> IntsIter<'_> {
        IntsIter { ints: self, at }
    }

    /// Where a number is, or where it would be.
    pub(super) fn search(&self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).unwrap_or(i64::MAX).cmp(&n) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// Puts a number where [`Ints::search`] said.
    pub(super) fn insert(&mut self, at: usize, n: i64) {
        let width = self.width();
        if width_of(n) > width {
            let mut numbers: Vec<i64> = self.iter_from(0).collect();
            numbers.insert(at, n);
            *self = Ints::new(&numbers);
            return;
        }
        let mut buffer = Vec::with_capacity(self.as_bytes().len() + width);
        let (before, behind) = self.as_bytes().split_at(1 + at * width);
        buffer.extend_from_slice(before);
        buffer.extend_from_slice(&n.to_le_bytes()[..width]);
        buffer.extend_from_slice(behind);
        *self = Ints::of(buffer);
    }

    /// Keeps the numbers of which `stays` says so; it is asked in order.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&i64) -> bool) {
        let numbers: Vec<i64> = self.iter_from(0).filter(|n| stays(n)).collect();
        *self = Ints::new(&numbers);
    }

    /// Flips the lowest bit of the first number, as broken memory would; false when there is none.
    pub(super) fn flip_bit(&mut self) -> bool {
        let buffer = match self {
            Ints::Short(len, buffer) => &mut buffer[..usize::from(*len)],
            Ints::Long(buffer) => &mut buffer[..],
        };
        buffer.get_mut(1).map(|byte| *byte ^= 1).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_seeds;

    #[test]
    fn numbers_are_those_of_a_sorted_list() {
        for_seeds(20, |rng| {
            let (mut ints, mut twin) = (Ints::default(), Vec::new());
            for _ in 0..300 {
                let n = (rng.next_u64() as i64) >> [63, 60, 50, 40, 20, 0][rng.below(6) as usize];
                match (ints.search(n), twin.binary_search(&n)) {
                    (Ok(at), Ok(same)) if rng.below(2) == 0 => {
                        assert_eq!(at, same);
                        twin.remove(at);
                        ints.retain(|other| *other != n);
                    }
                    (Err(at), Err(same)) => {
                        assert_eq!(at, same);
                        ints.insert(at, n);
                        twin.insert(at, n);
                    }
                    (found, twins) => assert_eq!(found, twins),
                }
                assert_eq!((ints.len(), ints.iter_from(0).collect::<Vec<_>>()), (twin.len(), twin.clone()));
                assert_eq!(ints.bytes(), Ints::new(&twin).bytes(), "the width is a function of the numbers");
                assert_eq!(ints.get(twin.len()), None);
            }
        });
    }
}
