//! What a setting's value may be, and the one spelling in which it is kept.

use quoris_engine::settings;

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Flag,
    /// An integer within bounds, ends included.
    Number {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Bytes, with the units of Redis: `1k` is 1000, `1kb` is 1024, and so on up to `gb`.
    Bytes {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Bytes, or a share of `maxmemory` in percent.
    BytesOrPercent,
    /// One of several words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Words, with one blank between them.
    Words,
    /// `normal 0 0 0 slave … pubsub …`: hard, soft and seconds per class. Classes may be set one by one.
    OutputLimits,
    /// Classes of keyspace notifications, as letters.
    Events,
    /// Pairs of seconds and changes.
    SavePoints,
}

impl Kind {
    /// The canonical spelling of `text`. `current` is what the setting holds now.
    ///
    /// # Errors
    /// With Redis's text for this kind of mistake.
    pub fn normalise(self, text: &str, current: &str) -> Result<String, String> {
        match self {
            Kind::Flag => match text.to_ascii_lowercase().as_str() {
                yes_or_no @ ("yes" | "no") => Ok(yes_or_no.into()),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Kind::Number { min, max } => {
                let n = text.parse::<i64>().map_err(|_| "argument couldn't be parsed into an integer")?;
                within(n, min, max)
            }
            Kind::Bytes { min, max } => within(bytes(text).ok_or("argument must be a memory value")?, min, max),
            Kind::BytesOrPercent => match text.strip_suffix('%') {
                None => within(bytes(text).ok_or("argument must be a memory or percent value")?, 0, i64::MAX),
                Some(percent) => match percent.parse::<u32>() {
                    Ok(percent @ 0..=100) => Ok(format!("{percent}%")),
                    Ok(_) => Err("percentage argument must be less or equal to 100".into()),
                    Err(_) => Err("argument must be a memory or percent value".into()),
                },
            },
            Kind::Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                Some(word) => Ok((*word).into()),
                None => Err(format!("argument(s) must be one of the following: {}", words.join(", "))),
            },
            Kind::Text => Ok(text.into()),
            Kind::Words => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            Kind::OutputLimits => output_limits(text, current),
            Kind::Events => events(text),
            Kind::SavePoints => save_points(text),
        }
    }
}

fn within(n: i64, min: i64, max: i64) -> Result<String, String> {
    if (min..=max).contains(&n) {
        Ok(n.to_string())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// A memory value as Redis reads it.
pub fn bytes(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: i64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// The three classes in the order in which they are kept.
pub const OUTPUT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// Reads `class hard soft seconds …` into the limits of the three classes.
pub fn parse_output_limits(text: &str) -> Option<[[i64; 3]; 3]> {
    let mut limits = [[0; 3]; 3];
    let words: Vec<&str> = text.split_whitespace().collect();
    for four in words.chunks(4) {
        let [class, hard, soft, seconds] = four else { return None };
        limits[output_class(class)?] = [bytes(hard)?, bytes(soft)?, seconds.parse().ok()?];
    }
    Some(limits)
}

fn output_class(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let name = if name == "replica" { "slave" } else { name.as_str() };
    OUTPUT_CLASSES.iter().position(|class| *class == name)
}

fn output_limits(text: &str, current: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits = parse_output_limits(current).unwrap_or_default();
    for four in words.chunks(4) {
        let class = output_class(four[0]).ok_or("Invalid client class specified in buffer limit configuration.")?;
        let read = (bytes(four[1]), bytes(four[2]), four[3].parse::<i64>().ok());
        let (Some(hard @ 0..), Some(soft @ 0..), Some(seconds @ 0..)) = read else {
            return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
        };
        limits[class] = [hard, soft, seconds];
    }
    let shown = OUTPUT_CLASSES
        .iter()
        .zip(limits)
        .map(|(class, [hard, soft, seconds])| format!("{class} {hard} {soft} {seconds}"));
    Ok(shown.collect::<Vec<_>>().join(" "))
}

fn events(text: &str) -> Result<String, String> {
    let classes = settings::events(text).ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
    Ok(settings::event_letters(classes))
}

fn save_points(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let numbers = words.iter().map(|w| w.parse::<i64>().ok()).collect::<Option<Vec<_>>>();
    match numbers {
        Some(numbers) if numbers.len() % 2 == 0 && numbers.chunks(2).all(|p| p[0] >= 1 && p[1] >= 0) => {
            Ok(words.join(" "))
        }
        _ => Err("Invalid save parameters".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_values_have_the_units_of_redis() {
        for (text, n) in [
            ("0", Some(0)),
            ("1k", Some(1000)),
            ("1kb", Some(1024)),
            ("2MB", Some(2 << 20)),
            ("1Gb", Some(1 << 30)),
            ("10b", Some(10)),
            ("1tb", None),
            ("x", None),
            ("", None),
            ("9999999999gb", None),
        ] {
            assert_eq!(bytes(text), n, "{text}");
        }
    }

    #[test]
    fn output_limits_change_one_class_at_a_time() {
        let kind = Kind::OutputLimits;
        let all = kind.normalise("replica 1mb 2 3", "normal 0 0 0 slave 9 9 9 pubsub 4 5 6").expect("valid");
        assert_eq!(all, "normal 0 0 0 slave 1048576 2 3 pubsub 4 5 6");
        for wrong in ["", "normal 0 0", "nosuch 0 0 0", "normal x 0 0", "normal 0 0 -1"] {
            assert!(kind.normalise(wrong, "").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn event_classes_print_in_one_order() {
        for (text, want) in [("KEA", "AKE"), ("EKxg", "gxKE"), ("g$lshzxetdK", "AK"), ("", "")] {
            assert_eq!(Kind::Events.normalise(text, "").as_deref(), Ok(want), "{text}");
        }
        assert!(Kind::Events.normalise("Q", "").is_err());
    }

    #[test]
    fn choices_flags_and_bounds() {
        assert_eq!(Kind::Flag.normalise("YES", ""), Ok("yes".into()));
        assert!(Kind::Flag.normalise("1", "").is_err());
        assert_eq!(Kind::Choice(&["always", "no"]).normalise("ALWAYS", ""), Ok("always".into()));
        let error = Kind::Choice(&["a", "b"]).normalise("c", "").unwrap_err();
        assert_eq!(error, "argument(s) must be one of the following: a, b");
        assert_eq!(
            Kind::Number { min: 1, max: 5 }.normalise("6", ""),
            Err("argument must be between 1 and 5 inclusive".into())
        );
    }
}
