//! What RDB has no place for, as a snapshot keeps it beside a stream.
//!
//! First the time at which each consumer was active last, 0 for never. Where there is more, for each group what was
//! released: whether there is a consumer without a name, which RDB says they belong to, the place of the next one,
//! and the ids. Then what producers have said. All of it is numbers.
//!
//! Invariant: nothing stands there when each consumer was active when it was seen, and there is no more.

use super::group::{Consumer, Group, NUMBER_MAX};
use super::id::Id;
use super::produced::Produced;
use super::value::Stream;
use crate::snapshot::numbers;

fn put_id(id: Id, out: &mut Vec<u8>) {
    numbers::put(id.ms(), out);
    numbers::put(id.seq(), out);
}

fn take_id(text: &mut &[u8]) -> Option<Id> {
    Some(Id::new(numbers::take(text)?, numbers::take(text)?))
}

fn put_name(name: &[u8], out: &mut Vec<u8>) {
    numbers::put(name.len() as u64, out);
    name.iter().for_each(|byte| numbers::put(u64::from(*byte), out));
}

fn take_name(text: &mut &[u8]) -> Option<Vec<u8>> {
    let len = numbers::take(text).filter(|len| *len <= text.len() as u64)?;
    (0..len).map(|_| numbers::take(text).and_then(|byte| u8::try_from(byte).ok())).collect()
}

/// The consumers that RDB names.
fn named(group: &Group) -> impl Iterator<Item = Option<&Consumer>> {
    let made_up = group.released().is_some() && group.number(b"").is_none();
    made_up.then_some(None).into_iter().chain(group.consumers().map(Some))
}

/// See the module.
pub(super) fn write(stream: &Stream) -> Option<Vec<u8>> {
    let consumers = || stream.groups().flat_map(|(_, group)| group.consumers());
    let has_more = stream.produced().is_some() || stream.groups().any(|(_, group)| group.released().is_some());
    if !has_more && consumers().all(|consumer| consumer.active == Some(consumer.seen)) {
        return None;
    }
    let mut out = Vec::new();
    for consumer in stream.groups().flat_map(|(_, group)| named(group)) {
        let active = consumer.and_then(|consumer| consumer.active);
        numbers::put(active.map_or(0, |at| at.saturating_add(1)), &mut out);
    }
    if has_more {
        stream.groups().for_each(|(_, group)| write_released(group, &mut out));
        write_produced(stream.produced(), &mut out);
    }
    Some(out)
}

fn write_released(group: &Group, out: &mut Vec<u8>) {
    let count = group.released().map_or(0, Consumer::len);
    [u64::from(group.number(b"").is_some()), group.next_place(), count].iter().for_each(|n| numbers::put(*n, out));
    group.released().into_iter().flat_map(|released| released.pending_at(0)).for_each(|(id, _)| put_id(id, out));
}

fn write_produced(produced: Option<&Produced>, out: &mut Vec<u8>) {
    let Some(produced) = produced else { return };
    let numbers = [produced.duration_s, produced.max, produced.added, produced.duplicates, produced.all().len() as u64];
    numbers.iter().for_each(|n| numbers::put(*n, out));
    for (producer, message, id) in produced.all() {
        put_name(producer, out);
        put_name(message, out);
        put_id(id, out);
    }
}

/// Takes over what [`write`] gave; false when it does not fit.
pub(super) fn restore(stream: &mut Stream, mut text: &[u8]) -> bool {
    let names: Vec<Vec<u8>> = stream.groups().map(|(name, _)| name.to_vec()).collect();
    let mut all = |text: &mut &[u8], restore: fn(&mut Group, &mut &[u8]) -> Option<()>| {
        names.iter().all(|name| stream.change_group(name, |_, group| restore(group, text)).flatten().is_some())
    };
    if !all(&mut text, restore_active) {
        return false;
    }
    let has_more = !text.is_empty();
    (!has_more || all(&mut text, restore_released))
        && (text.is_empty() || restore_produced(stream, &mut text).is_some())
        && text.is_empty()
}

fn restore_active(group: &mut Group, text: &mut &[u8]) -> Option<()> {
    let consumers: Vec<Box<[u8]>> = group.consumers().map(|consumer| consumer.name.clone()).collect();
    for name in consumers {
        let number = group.number(&name)?;
        group.consumer_mut(number).active = numbers::take(text)?.checked_sub(1);
    }
    Some(())
}

fn restore_released(group: &mut Group, text: &mut &[u8]) -> Option<()> {
    let (is_real, next, count) = (numbers::take(text)?, numbers::take(text)?, numbers::take(text)?);
    for _ in 0..count {
        let id = take_id(text)?;
        let pending = group.take(id).filter(|pending| pending.time < next && next <= NUMBER_MAX)?;
        group.restore_released(id, pending, next);
    }
    if is_real == 0 {
        group.remove_consumer(b"");
    }
    Some(())
}

fn restore_produced(stream: &mut Stream, text: &mut &[u8]) -> Option<()> {
    let [duration_s, max, added, duplicates, count] =
        [(); 5].map(|()| numbers::take(text)).into_iter().collect::<Option<Vec<u64>>>()?.try_into().ok()?;
    if !Produced::allows(duration_s, max) {
        return None;
    }
    stream.change_produced(|produced| {
        produced.configure(duration_s, max);
        (produced.added, produced.duplicates) = (added, duplicates);
        for _ in 0..count {
            let (producer, message, id) = (take_name(text)?, take_name(text)?, take_id(text)?);
            produced.record(&producer, &message, id);
        }
        Some(())
    })
}
