//! Patterns as KEYS, SCAN, PSUBSCRIBE, CONFIG GET and ACL rules take them.
//!
//! `?` is one byte, `*` any number, `[ab]` one of these, `[a-z]` a range (either end first), `[^…]`
//! everything else, `\x` the byte x. Works on bytes. A class that is never closed ends with the pattern.
//!
//! Every element but `*` takes exactly one byte, so it is enough to go back to the last star: time is at
//! most pattern × text, for any pattern.

/// Whether `text` as a whole matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_case(pattern, text, false)
}

/// As [`matches()`]; with `fold`, upper and lower case ASCII letters are the same.
pub fn matches_case(pattern: &[u8], text: &[u8], fold: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let step = match (p < pattern.len(), text.get(t)) {
            (false, None) => return true,
            (true, Some(&byte)) => one(&pattern[p..], byte, fold),
            _ => None,
        };
        match (step, star) {
            (Some(taken), _) => (p, t) = (p + taken, t + 1),
            (None, Some((behind, from))) if from < text.len() => {
                star = Some((behind, from + 1));
                (p, t) = (behind, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Matches the first element of `pattern`, which is no star, against a byte; the length of the element.
fn one(pattern: &[u8], byte: u8, fold: bool) -> Option<usize> {
    let lower = |b: u8| if fold { b.to_ascii_lowercase() } else { b };
    let (hit, taken) = match pattern {
        [b'?', ..] => (true, 1),
        [b'[', class @ ..] => {
            let (hit, taken) = in_class(class, lower(byte), lower);
            (hit, taken + 1)
        }
        [b'\\', escaped, ..] => (lower(*escaped) == lower(byte), 2),
        [plain, ..] => (lower(*plain) == lower(byte), 1),
        [] => (false, 0),
    };
    hit.then_some(taken)
}

/// Whether a class, given from behind its `[`, holds the byte; and its length with the `]`.
fn in_class(class: &[u8], byte: u8, lower: impl Fn(u8) -> u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut hit = false;
    loop {
        match &class[at..] {
            [] => break,
            [b'\\', escaped, ..] => {
                hit |= lower(*escaped) == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                let (start, end) = (lower(*start), lower(*end));
                hit |= (start.min(end)..=start.max(end)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                hit |= lower(*plain) == byte;
                at += 1;
            }
        }
    }
    (hit != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        let yes = [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("h?llo", "hello"),
            ("h*o", "ho"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("[a-c]", "b"),
            ("[c-a]", "b"),
            ("\\*", "*"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[abc", "c"),
            ("a*b*c", "aXbXbXc"),
            ("**a**", "a"),
            ("[^a-z]", "A"),
            ("[-]", "-"),
            ("user:*:x", "user:1:y:x"),
        ];
        let no = [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("h[^a]llo", "hallo"),
            ("[a-c]", "d"),
            ("\\a", "\\a"),
            ("a*b", "ac"),
            ("[]", "]"),
            ("[]]", "]]"),
            ("[a-]", "-]"),
            ("[", ""),
            ("abc", "abcd"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in no {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        assert!(matches_case(b"MAX[A-F]*", b"maxbytes", true));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = b"*a".repeat(2000);
        let text = vec![b'b'; 20_000];
        assert!(!matches(&pattern, &text));
    }
}
