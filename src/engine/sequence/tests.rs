//! Packs and trees against a plain vector, over random histories.

use super::{Pack, Tree};
use crate::Rng;

fn item(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => rng.below(3000),
        1 => 0,
        2..6 => 127 + rng.below(3),
        _ => rng.below(30),
    };
    (0..len).map(|_| rng.below(4) as u8).collect()
}

#[test]
fn a_pack_does_what_a_vector_does() {
    let mut rng = Rng::new(1);
    for round in 0..50 {
        let (mut pack, mut model) = (Pack::default(), Vec::<Vec<u8>>::new());
        // Some begin where the number of items grows and loses a byte.
        (0..if round % 2 == 0 { 120 } else { 0 }).for_each(|n| {
            pack.push(&[n]);
            model.push(vec![n]);
        });
        for _ in 0..200 {
            let at = rng.below(model.len() as u64 + 1) as usize;
            match rng.below(8) {
                0..4 => {
                    let new = item(&mut rng);
                    pack.insert(at, &new);
                    model.insert(at, new);
                }
                4 if at < model.len() => {
                    let new = item(&mut rng);
                    pack.replace(at, &new);
                    model[at] = new;
                }
                5 if at < model.len() => {
                    let count = 1 + rng.below((model.len() - at) as u64) as usize;
                    pack.remove_range(at, count);
                    model.drain(at..at + count);
                }
                6 => {
                    let tail = pack.split_off(at);
                    assert_eq!((pack.len(), tail.len()), (at, model.len() - at));
                    pack.append(&tail);
                }
                _ => {
                    let new = item(&mut rng);
                    pack.push(&new);
                    model.push(new);
                }
            }
            assert!(pack.iter().eq(model.iter().map(Vec::as_slice)));
            assert_eq!((pack.len(), pack.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(pack.get(at), model.get(at).map(Vec::as_slice));
            assert_eq!(pack, Pack::of(model.iter().map(Vec::as_slice)), "equal items make equal buffers");
        }
    }
}

fn check(tree: &Tree, model: &[Vec<u8>], rng: &mut Rng) {
    assert_eq!((tree.len(), tree.is_empty()), (model.len() as u64, model.is_empty()));
    let mut fresh = Tree::default();
    model.iter().for_each(|item| fresh.push(item));
    assert_eq!((fresh.bytes(), fresh.print(false)), (tree.bytes(), tree.print(false)));
    assert_eq!(tree.print(false), tree.print(true), "what the nodes remember is right");
    for _ in 0..5 {
        let at = rng.below(model.len() as u64 + 2);
        let rest = model.get(at as usize..).unwrap_or_default();
        assert_eq!(tree.get(at), rest.first().map(Vec::as_slice));
        assert!(tree.iter_from(at).eq(rest.iter().map(Vec::as_slice)));
        let front = &model[..(at as usize).min(model.len())];
        assert!(tree.iter_back_from(at).eq(front.iter().rev().map(Vec::as_slice)));
    }
}

#[test]
fn a_tree_does_what_a_vector_does_and_a_copy_stays_as_it_was() {
    let mut rng = Rng::new(2);
    for round in 0..12 {
        let (mut tree, mut model) = (Tree::default(), Vec::<Vec<u8>>::new());
        let mut copy = (tree.clone(), model.clone());
        for step in 0..6000u64 {
            let grows = step < 3500 || round % 2 == 0;
            let at = match round % 3 {
                0 => rng.below(model.len() as u64 + 1),
                1 => model.len() as u64,
                _ => 0,
            };
            match rng.below(10) {
                0..6 if grows => {
                    let new = item(&mut rng);
                    tree.insert(at, &new);
                    model.insert(at as usize, new);
                }
                6..7 if (at as usize) < model.len() => {
                    let new = item(&mut rng);
                    tree.replace(at, &new);
                    model[at as usize] = new;
                }
                _ if !model.is_empty() => {
                    let at = at.min(model.len() as u64 - 1);
                    tree.remove(at);
                    model.remove(at as usize);
                }
                _ => {}
            }
            if step % 500 == 0 {
                check(&tree, &model, &mut rng);
                check(&copy.0, &copy.1, &mut rng);
                copy = (tree.clone(), model.clone());
            }
        }
    }
}

#[test]
fn items_in_order_are_found_by_their_beginning() {
    let mut rng = Rng::new(3);
    let (mut tree, mut model) = (Tree::default(), Vec::<Vec<u8>>::new());
    for _ in 0..20_000 {
        let len = 1 + rng.below(12);
        let new: Vec<u8> = (0..len).map(|_| if rng.below(3) == 0 { rng.next_u64() as u8 } else { 7 }).collect();
        let index = tree.lower_bound(&new);
        assert_eq!(index as usize, model.partition_point(|item| *item < new));
        if model.get(index as usize) == Some(&new) {
            tree.remove(index);
            model.remove(index as usize);
        } else {
            tree.insert(index, &new);
            model.insert(index as usize, new);
        }
    }
    assert!(tree.iter().eq(model.iter().map(Vec::as_slice)));
    let some = &model[model.len() / 2];
    assert_eq!(tree.find(some), Some((model.len() as u64 / 2, &some[..])));
}

#[test]
fn a_flipped_bit_shows_only_in_a_print_taken_anew() {
    let mut tree = Tree::default();
    (0..1000u32).for_each(|n| tree.push(&n.to_be_bytes()));
    let print = tree.print(false);
    assert!(tree.flip_bit());
    assert_eq!(tree.print(false), print);
    assert_ne!(tree.print(true), print);
    assert!(!Tree::default().flip_bit());
}

#[test]
fn items_that_come_in_order_fill_their_leaves() {
    let mut tree = Tree::default();
    (0..100_000u64).for_each(|n| tree.push(&n.to_be_bytes()));
    let leaves = tree.leaves();
    assert!(leaves < 100_000 * 9 / 900, "{leaves} leaves");
}
