//! What HOTKEYS START is asked for.

use std::time::Duration;

use quoris_resp::Argv;

use super::SLOTS;
use crate::commands::word;

/// Keys that are shown, at most and when COUNT does not say.
const COUNT_MAX: i64 = 64;
const COUNT_DEFAULT: usize = 10;

/// What HOTKEYS START was asked for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub cpu: bool,
    pub net: bool,
    pub count: usize,
    pub duration: Option<Duration>,
    pub sample: u64,
    pub slots: Option<Vec<u16>>,
}

/// Reads HOTKEYS START; slots may be chosen where a client sees slots.
///
/// # Errors
/// As Redis words them.
pub(super) fn parse(argv: &Argv, in_slots: bool) -> Result<Wanted, String> {
    let mut wanted = Wanted { count: COUNT_DEFAULT, sample: 1, ..Wanted::default() };
    if word(argv, 2) != "metrics" {
        return Err("ERR METRICS parameter is required".into());
    }
    let mut at = metrics(argv, &mut wanted)?;
    while let Some(option) = argv.get(at).map(|_| word(argv, at)) {
        let value = argv.get(at + 1).ok_or("ERR syntax error")?;
        let number = quoris_engine::number::integer(value);
        let out_of_range = || quoris_engine::Error::NotAnInteger.to_string();
        match option.as_str() {
            "count" => match number {
                Some(count @ 1..=COUNT_MAX) => wanted.count = count as usize,
                _ => return Err(format!("ERR COUNT must be between 1 and {COUNT_MAX}")),
            },
            "duration" => {
                let seconds = number.and_then(|n| u64::try_from(n).ok()).ok_or_else(out_of_range)?;
                wanted.duration = (seconds > 0).then(|| Duration::from_secs(seconds.min(u32::MAX.into())));
            }
            "sample" => match number.ok_or_else(out_of_range)? {
                ratio @ 1.. => wanted.sample = ratio.cast_unsigned(),
                _ => return Err("ERR SAMPLE ratio must be positive".into()),
            },
            "slots" if !in_slots => {
                return Err("ERR SLOTS parameter cannot be used in non-cluster mode".into());
            }
            "slots" if wanted.slots.is_some() => return Err("ERR SLOTS parameter already specified".into()),
            "slots" => at += slots(argv, at + 1, &mut wanted)?,
            _ => return Err("ERR syntax error".into()),
        }
        at += 2;
    }
    Ok(wanted)
}

/// Reads what is to be measured and gives the place behind it. What is not known is passed over.
fn metrics(argv: &Argv, wanted: &mut Wanted) -> Result<usize, String> {
    let count = argv.get(3).and_then(quoris_engine::number::integer).and_then(|n| usize::try_from(n).ok());
    let count = count.filter(|count| *count > 0).ok_or("ERR METRICS count must be positive")?;
    if count > argv.len() - 4 {
        return Err("ERR METRICS count does not match number of metric types provided".into());
    }
    for at in 4..4 + count {
        let metric = word(argv, at);
        let place = match metric.as_str() {
            "cpu" => &mut wanted.cpu,
            "net" => &mut wanted.net,
            _ => continue,
        };
        if std::mem::replace(place, true) {
            return Err(format!("ERR METRICS {} is given twice", metric.to_uppercase()));
        }
    }
    if !wanted.cpu && !wanted.net {
        return Err("ERR METRICS no valid metrics passed, supported: CPU, NET".into());
    }
    Ok(4 + count)
}

/// Reads a number of slots and the slots; gives how many there are.
fn slots(argv: &Argv, at: usize, wanted: &mut Wanted) -> Result<usize, String> {
    let count = argv.get(at).and_then(quoris_engine::number::integer).and_then(|n| usize::try_from(n).ok());
    let count = count.filter(|count| *count > 0).ok_or("ERR SLOTS count must be positive")?;
    if count > argv.len() - at - 1 {
        return Err("ERR not enough slot numbers provided".into());
    }
    let number = |text: &[u8]| quoris_engine::number::integer(text).and_then(|n| u16::try_from(n).ok());
    let slots = argv.iter().skip(at + 1).take(count).map(|text| number(text).filter(|slot| *slot < SLOTS));
    let mut slots = slots.collect::<Option<Vec<u16>>>().ok_or("ERR Invalid or out of range slot")?;
    slots.sort_unstable();
    if slots.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("ERR duplicate slot number".into());
    }
    wanted.slots = Some(slots);
    Ok(count)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn parsed(words: &str, in_slots: bool) -> Result<Wanted, String> {
        let argv = format!("HOTKEYS START {words}");
        parse(&Argv::from_parts(&argv.split(' ').collect::<Vec<_>>()), in_slots)
    }

    #[test]
    fn options_are_read_or_refused() {
        let wanted = parsed("METRICS 2 GPU CPU COUNT 3 SAMPLE 7 DURATION 2 SLOTS 3 9 1 2", true).expect("valid");
        assert!(wanted.cpu && !wanted.net && wanted.count == 3 && wanted.sample == 7);
        assert_eq!(wanted.duration, Some(Duration::from_secs(2)));
        assert_eq!(wanted.slots, Some(vec![1, 2, 9]));
        for wrong in [
            "COUNT 3",
            "METRICS 0",
            "METRICS 2 CPU",
            "METRICS 1 CPU NET",
            "METRICS 1 GPU",
            "METRICS 2 CPU CPU",
            "METRICS 1 CPU COUNT 65",
            "METRICS 1 CPU SAMPLE 0",
            "METRICS 1 CPU SLOTS 2 1",
            "METRICS 1 CPU SLOTS 2 1 1",
            "METRICS 1 CPU SLOTS 1 16384",
        ] {
            assert!(parsed(wrong, true).is_err(), "{wrong}");
        }
        assert!(parsed("METRICS 1 CPU SLOTS 1 1", false).is_err());
    }
}
