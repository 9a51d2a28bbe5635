//! Compares what clients were told with what the cluster holds afterwards.
//!
//! An unknown write may have happened or not, but only once and never behind a later write of the same
//! client: the node that it was sent to was dead long before the client could send another.

use std::collections::HashSet;

use super::client::{Client, REPLY_TIME_MAX};
use super::load::{Counter, Record, Write};

/// Everything that does not fit, empty if all is well. The cluster must be at rest.
pub fn check(record: &Record, client: &mut Client) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut read =
        |key: &str| client.text(&["GET", key], REPLY_TIME_MAX).unwrap_or_else(|why| panic!("GET {key}: {why}"));
    for (key, counter) in &record.counters {
        wrong.extend(check_counter(counter, read(key).as_deref()).map(|why| format!("{key}: {why}")));
    }
    for (key, writes) in &record.registers {
        wrong.extend(check_register(writes, read(key).as_deref()).map(|why| format!("{key}: {why}")));
    }
    for (key, writes) in &record.strings {
        wrong.extend(check_string(writes, read(key).as_deref()).map(|why| format!("{key}: {why}")));
    }
    wrong
}

/// Acknowledged increments count, unknown ones may, and no two see the same number.
fn check_counter(counter: &Counter, value: Option<&str>) -> Option<String> {
    let value: usize = value.unwrap_or("0").parse().expect("a counter is a number");
    let (low, high) = (counter.replies.len(), counter.replies.len() + counter.unknown as usize);
    let distinct: HashSet<i64> = counter.replies.iter().copied().collect();
    if !(low..=high).contains(&value) {
        return Some(format!("is {value}, with {low} acknowledged and {} unknown increments", counter.unknown));
    }
    if distinct.len() != low || distinct.iter().any(|n| *n < 1 || *n > value as i64) {
        return Some(format!("{low} increments were answered with {} numbers, up to {value}", distinct.len()));
    }
    None
}

/// The last acknowledged value or a later unknown one.
fn check_register(writes: &[Write], value: Option<&str>) -> Option<String> {
    let from = writes.iter().rposition(|write| write.acknowledged);
    let allowed = &writes[from.unwrap_or(0)..];
    match value {
        None if from.is_none() => None,
        Some(value) if allowed.iter().any(|write| write.value == value) => None,
        _ => Some(format!("is {value:?} and should be one of {allowed:?}")),
    }
}

/// Every acknowledged token once, unknown ones at most once, in order, and nothing else.
fn check_string(writes: &[Write], value: Option<&str>) -> Option<String> {
    let mut found = value.unwrap_or("").split_terminator(';').peekable();
    for write in writes {
        if found.next_if_eq(&write.value.as_str()).is_none() && write.acknowledged {
            return Some(format!("{} is missing or late, found {:?} there; of {writes:?}", write.value, found.peek()));
        }
    }
    found.next().map(|token| format!("{token} is there twice, late or was refused; of {writes:?}"))
}

/// The checker itself must be able to fail.
#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: &str, acknowledged: bool) -> Write {
        Write { value: value.to_string(), acknowledged }
    }

    #[test]
    fn counters_are_bounded_on_both_sides() {
        let counter = |replies: &[i64], unknown| Counter { replies: replies.to_vec(), unknown };
        assert_eq!(check_counter(&counter(&[1, 2, 4], 1), Some("4")), None);
        assert_eq!(check_counter(&counter(&[1, 2, 3], 1), Some("3")), None);
        for (replies, unknown, value) in
            [(&[1, 2, 3], 1, "2"), (&[1, 2, 3], 1, "5"), (&[1, 2, 2], 0, "3"), (&[1, 2, 4], 0, "3")]
        {
            assert!(check_counter(&counter(replies, unknown), Some(value)).is_some(), "{replies:?} {unknown} {value}");
        }
    }

    #[test]
    fn registers_hold_the_last_or_a_later_value() {
        let writes = [write("a", true), write("b", false), write("c", true), write("d", false)];
        for (value, good) in
            [(Some("c"), true), (Some("d"), true), (Some("a"), false), (Some("b"), false), (None, false)]
        {
            assert_eq!(check_register(&writes, value).is_none(), good, "{value:?}");
        }
    }

    #[test]
    fn tokens_are_there_once_and_in_order() {
        let writes = [write("a", true), write("b", false), write("c", true)];
        for (value, good) in [
            ("a;b;c;", true),
            ("a;c;", true),
            ("a;b;", false),
            ("b;c;", false),
            ("a;c;b;", false),
            ("a;b;b;c;", false),
            ("a;b;c;c;", false),
            ("a;x;c;", false),
        ] {
            assert_eq!(check_string(&writes, Some(value)).is_none(), good, "{value}");
        }
    }
}
