//! Which cables a fault cuts, between the sites that it hits and others: the shapes of partitions.
//!
//! Invariant: the fault and the order of its sites say all, so that the same cables are mended that were cut.

use crate::faults::Fault;

/// Whether one site hears another one while the fault hits these.
pub(super) fn hears(fault: Fault, hit: &[usize], to: usize, from: usize) -> bool {
    let place = |site: usize| hit.iter().position(|other| *other == site);
    match (fault, place(to), place(from)) {
        (Fault::OneWay, to, from) => to.is_some() || from.is_none(),
        (Fault::Ring, Some(to), Some(from)) => {
            let is_next = |a: usize, b: usize| a == (b + 1) % hit.len();
            // Of three each is the neighbour of all: there it hears one of them.
            to == from || is_next(from, to) || (hit.len() > 3 && is_next(to, from))
        }
        (Fault::Bridge, Some(to), Some(from)) => {
            let middle = hit.len() / 2;
            to.min(from) >= middle || to.max(from) <= middle
        }
        (Fault::Partition | Fault::Minority, to, from) => to.is_some() == from.is_some(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom each of the sites from 0 on hears besides itself.
    fn heard(fault: Fault, hit: &[usize], sites: usize) -> Vec<Vec<usize>> {
        let of = |to| (0..sites).filter(|from| *from != to && hears(fault, hit, to, *from)).collect();
        (0..sites).map(of).collect()
    }

    #[test]
    fn each_shape_cuts_what_its_name_says() {
        assert_eq!(heard(Fault::Partition, &[1], 3), [vec![2], vec![], vec![0]]);
        assert_eq!(heard(Fault::Minority, &[0, 4], 5), [vec![4], vec![2, 3], vec![1, 3], vec![1, 2], vec![0]]);
        assert_eq!(heard(Fault::OneWay, &[1], 3), [vec![2], vec![0, 2], vec![0]]);
        assert_eq!(heard(Fault::Ring, &[2, 0, 1], 3), [vec![1], vec![2], vec![0]]);
        let circle = [vec![1, 4], vec![0, 2], vec![1, 3], vec![2, 4], vec![0, 3]];
        assert_eq!(heard(Fault::Ring, &[0, 1, 2, 3, 4], 5), circle);
        assert_eq!(heard(Fault::Bridge, &[1, 2, 0], 3), [vec![2], vec![2], vec![0, 1]]);
        let halves = [vec![1, 2], vec![0, 2], vec![0, 1, 3, 4], vec![2, 4], vec![2, 3]];
        assert_eq!(heard(Fault::Bridge, &[0, 1, 2, 3, 4], 5), halves);
        // Who has no part in it hears all.
        assert_eq!(heard(Fault::Bridge, &[0, 1, 2], 4)[3], [0, 1, 2]);
    }
}
