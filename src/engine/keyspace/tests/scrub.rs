//! A scrub finds every bit that flips behind the back of the writes, and nothing else.

use super::*;

/// Whether a pass finds nothing, in steps of so many bytes.
pub(super) fn is_sound(keys: &Keyspace, bytes: u64) -> bool {
    let mut at = Scrub::default();
    loop {
        match keys.scrub(&mut at, bytes) {
            Ok(false) => {}
            Ok(true) => return true,
            Err(_) => return false,
        }
    }
}

/// Keys in one slot and in many, some of them long, with and without deadlines, some with large values.
fn filled(rng: &mut Rng) -> (Keyspace, Vec<Vec<u8>>) {
    let mut keys = Keyspace::new([7, 8], 1);
    let tag = if rng.below(2) == 0 { "" } else { "{t}" };
    let count = [3, 300, 9000][rng.below(3) as usize];
    let mut names = Vec::new();
    for i in 0..count {
        let name = format!("{tag}{}{i}", if i % 3 == 0 { "quite-a-long-name-of-a-key:" } else { "" }).into_bytes();
        let len = if rng.below(50) == 0 { 4000 + rng.below(200) } else { 1 + rng.below(60) };
        keys.set(0, &name, text(len as usize), (rng.below(4) == 0).then_some(1000 + i));
        names.push(name);
    }
    (keys, names)
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is_and_whatever_happens_to_it_then() {
    for_seeds(60, |rng| {
        let (mut keys, names) = filled(rng);
        keys.settle();
        assert!(is_sound(&keys, 1 + rng.below(10_000)));
        let name = &names[rng.below(names.len() as u64) as usize];
        assert!(keys.flip_bit(0, name, false));
        let small = payload::size(keys.value(0, name).expect("still there")) <= 4096;
        let found = match rng.below(7) {
            0 => {
                keys.set(0, name, text(9), None);
                false
            }
            1 => keys.delete(0, name) && small,
            2 => keys.edit(0, name).is_some() && small,
            3 => keys.set_expire(0, name, Some(50)) && small,
            // Splits leaves, or joins them.
            4 => {
                (0..9000).for_each(|i| keys.set(0, format!("{{t}}more{i}").as_bytes(), text(1), None));
                true
            }
            5 => {
                names.iter().filter(|other| *other != name).for_each(|other| drop(keys.remove(0, other)));
                true
            }
            _ => true,
        };
        assert_eq!(!is_sound(&keys, 1 + rng.below(10_000)), found);
    });
}

#[test]
fn a_flip_that_is_counted_changes_the_digest_and_is_no_flaw() {
    for_seeds(10, |rng| {
        let (mut keys, names) = filled(rng);
        let before = keys.digest();
        assert!(keys.flip_bit(0, &names[0], true) && !keys.flip_bit(0, b"absent", true));
        assert_ne!(keys.digest(), before);
        assert_eq!(keys.digest(), keys.digest_from_scratch());
        assert!(is_sound(&keys, 100));
    });
}

#[test]
fn a_pass_takes_steps_of_a_bounded_size_and_begins_again() {
    let mut keys = Keyspace::new([7, 8], 3);
    (0..20_000).for_each(|i| keys.set(2, format!("k{i}").as_bytes(), text(30), None));
    let (mut at, mut steps) = (Scrub::default(), 0);
    for _ in 0..2 {
        while !keys.scrub(&mut at, keys.memory_bytes() / 100).expect("sound") {
            steps += 1;
        }
    }
    assert!((150..=200).contains(&steps), "{steps} steps in two passes");
}
