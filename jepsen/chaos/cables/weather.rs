//! What makes everything late that passes a relay.

use crate::work::Dice;

/// A slow cable takes so many milliseconds more, at the least and at the most.
const SLOW_MS: (i64, i64) = (20, 100);
/// One piece in so many has to be sent again there, which takes so many milliseconds.
const LOST: (i64, i64) = (20, 300);
/// With much loss it is one piece in so many, again after so many milliseconds at first and at the most.
const LOSS: i64 = 4;
const AGAIN_MS: i64 = 200;
const AGAIN_MS_MAX: i64 = 1000;
/// What passes in a second where it is narrow.
const NARROW_BYTES: u64 = 200_000;

/// The kinds of it.
#[derive(Clone, Copy)]
pub enum Weather {
    /// A long way.
    Slow,
    /// Pieces that get lost are sent again, each time after twice the time, as TCP does it.
    Loss,
    /// So many bytes a second, and no more.
    Narrow,
}

/// How many milliseconds more a piece of this length takes, where there is weather of these kinds.
pub(super) fn late_ms([slow, loss, narrow]: [bool; 3], len: usize, dice: &mut Dice) -> u64 {
    let mut late = 0;
    if slow {
        let again = if dice.below(LOST.0) == 0 { LOST.1 } else { 0 };
        late += SLOW_MS.0 + dice.below(SLOW_MS.1 - SLOW_MS.0) + again;
    }
    let mut pause = AGAIN_MS;
    while loss && pause < AGAIN_MS_MAX && dice.below(LOSS) == 0 {
        late += pause;
        pause *= 2;
    }
    late.unsigned_abs() + if narrow { len as u64 * 1000 / NARROW_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_makes_pieces_late_in_its_own_way() {
        let mut dice = Dice::new(1);
        let mut of = |kinds, len| -> Vec<u64> { (0..1000).map(|_| late_ms(kinds, len, &mut dice)).collect() };
        assert!(of([false; 3], 5000).iter().all(|late| *late == 0));
        assert!(of([true, false, false], 5000).iter().all(|late| (20..=400).contains(late)));
        let lost = of([false, true, false], 5000);
        assert!(lost.iter().filter(|late| **late == 0).count() > 600, "most pass");
        assert!([200, 600, 1400].iter().all(|late| lost.contains(late)), "and some are lost again: {lost:?}");
        assert!(of([false, false, true], 50_000).iter().all(|late| *late == 250));
    }
}
