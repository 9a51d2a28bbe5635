//! Lua's patterns, matched within a budget.
//!
//! The patterns are those of Lua 5.1. Each look at a character or an item of the pattern is a step, and matching
//! ends when the steps that it was given are used up: a pattern with several `.-` needs as many as the length of the
//! text to the power of their number. Nesting is bounded as well, where Lua 5.1 would overflow the stack.

/// Parts in parentheses, at most.
const CAPTURES_MAX: usize = 32;
/// Items of a pattern that wait for what follows them, at most.
const DEPTH_MAX: usize = 400;
/// What makes a text a pattern.
const SPECIAL: &[u8] = b"^$*+?.([%-";

/// Why matching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The pattern is wrong.
    Problem(&'static str),
    /// The steps are used up.
    Spent,
}

type Step<T> = Result<T, Stop>;

/// A part in parentheses.
#[derive(Clone, Copy, Debug)]
enum Capture {
    /// It begins here and has no end yet.
    Open(usize),
    /// It is a position.
    Position(usize),
    /// From here to there.
    Closed(usize, usize),
}

/// What a part in parentheses matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Captured<'a> {
    /// Some text.
    Text(&'a [u8]),
    /// A position, from 1 on.
    Position(usize),
}

/// See the module.
pub(super) struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    captures: Vec<Capture>,
    depth: usize,
    /// Steps that are left.
    pub(super) left: u64,
}

/// A pattern as C sees it: it ends at the first zero.
fn cut(pattern: &[u8]) -> &[u8] {
    pattern.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Whether a text is only itself as a pattern.
pub(super) fn is_plain(pattern: &[u8]) -> bool {
    !cut(pattern).iter().any(|byte| SPECIAL.contains(byte))
}

impl<'a> Matcher<'a> {
    /// A matcher that may take so many steps.
    pub(super) fn new(text: &'a [u8], pattern: &'a [u8], steps: u64) -> Matcher<'a> {
        Matcher { text, pattern: cut(pattern), captures: Vec::new(), depth: 0, left: steps }
    }

    fn steps(&mut self, count: usize) -> Step<()> {
        self.left = self.left.checked_sub(count as u64).ok_or(Stop::Spent)?;
        Ok(())
    }

    /// Where `wanted` first stands in the text, from a place on.
    pub(super) fn plain(&mut self, wanted: &[u8], from: usize) -> Step<Option<usize>> {
        if wanted.is_empty() {
            return Ok(Some(from));
        }
        for at in from..=self.text.len().saturating_sub(wanted.len()) {
            let rest = self.text[at..].iter();
            let same = rest.zip(wanted).take_while(|(one, other)| one == other).count();
            self.steps(1 + same)?;
            if same == wanted.len() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The first match from a place on: its begin and its end. With `anchors` a `^` in front means this place only.
    pub(super) fn search(&mut self, from: usize, anchors: bool) -> Step<Option<(usize, usize)>> {
        let anchored = anchors && self.pattern.first() == Some(&b'^');
        for at in from..=self.text.len() {
            self.captures.clear();
            if let Some(end) = self.nested(at, usize::from(anchored))? {
                return Ok(Some((at, end)));
            }
            if anchored {
                break;
            }
        }
        Ok(None)
    }

    /// The parts of the last match; the whole of it when there are none and `whole` gives it.
    pub(super) fn captured(&self, whole: Option<(usize, usize)>) -> Step<Vec<Captured<'a>>> {
        match whole {
            Some(whole) if self.captures.is_empty() => Ok(vec![self.whole(whole)]),
            _ => (0..self.captures.len()).map(|place| self.capture(place, (0, 0))).collect(),
        }
    }

    /// A match as a text.
    pub(super) fn whole(&self, (begin, end): (usize, usize)) -> Captured<'a> {
        Captured::Text(&self.text[begin..end])
    }

    /// One part of the last match.
    pub(super) fn capture(&self, place: usize, whole: (usize, usize)) -> Step<Captured<'a>> {
        match self.captures.get(place) {
            None if place == 0 => Ok(self.whole(whole)),
            None => Err(Stop::Problem("invalid capture index")),
            Some(Capture::Open(_)) => Err(Stop::Problem("unfinished capture")),
            Some(Capture::Position(at)) => Ok(Captured::Position(at + 1)),
            Some(Capture::Closed(begin, end)) => Ok(Captured::Text(&self.text[*begin..*end])),
        }
    }

    /// [`Matcher::here`], one level deeper.
    fn nested(&mut self, at: usize, item: usize) -> Step<Option<usize>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Stop::Problem("pattern too complex"));
        }
        let end = self.here(at, item);
        self.depth -= 1;
        end
    }

    /// Where the match of the pattern from `item` on ends that begins at `at`.
    fn here(&mut self, mut at: usize, mut item: usize) -> Step<Option<usize>> {
        loop {
            self.steps(1)?;
            let next = self.pattern.get(item + 1).copied();
            match (self.pattern.get(item), next) {
                (None, _) => return Ok(Some(at)),
                (Some(b'('), Some(b')')) => return self.open(Capture::Position(at), at, item + 2),
                (Some(b'('), _) => return self.open(Capture::Open(at), at, item + 1),
                (Some(b')'), _) => return self.close(at, item + 1),
                (Some(b'$'), None) => return Ok((at == self.text.len()).then_some(at)),
                (Some(b'%'), Some(b'b')) => match self.balanced(at, item + 2)? {
                    Some(end) => (at, item) = (end, item + 4),
                    None => return Ok(None),
                },
                (Some(b'%'), Some(b'f')) => match self.frontier(at, item + 2)? {
                    Some(behind) => item = behind,
                    None => return Ok(None),
                },
                (Some(b'%'), Some(digit)) if digit.is_ascii_digit() => match self.repeated(at, digit)? {
                    Some(end) => (at, item) = (end, item + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.item_end(item)?;
                    let fits = self.fits(at, item, end)?;
                    match self.pattern.get(end) {
                        Some(b'*') => return self.longest(at, item, end),
                        Some(b'+') => return if fits { self.longest(at + 1, item, end) } else { Ok(None) },
                        Some(b'-') => return self.shortest(at, item, end),
                        Some(b'?') => {
                            if fits && let Some(found) = self.nested(at + 1, end + 1)? {
                                return Ok(Some(found));
                            }
                            item = end + 1;
                        }
                        _ if !fits => return Ok(None),
                        _ => (at, item) = (at + 1, end),
                    }
                }
            }
        }
    }

    fn open(&mut self, capture: Capture, at: usize, item: usize) -> Step<Option<usize>> {
        if self.captures.len() >= CAPTURES_MAX {
            return Err(Stop::Problem("too many captures"));
        }
        self.captures.push(capture);
        let known = self.captures.len() - 1;
        let end = self.nested(at, item)?;
        if end.is_none() {
            self.captures.truncate(known);
        }
        Ok(end)
    }

    fn close(&mut self, at: usize, item: usize) -> Step<Option<usize>> {
        let place = self.captures.iter().rposition(|capture| matches!(capture, Capture::Open(_)));
        let place = place.ok_or(Stop::Problem("invalid pattern capture"))?;
        let before = self.captures[place];
        if let Capture::Open(begin) = before {
            self.captures[place] = Capture::Closed(begin, at);
        }
        let end = self.nested(at, item)?;
        if end.is_none() {
            self.captures[place] = before;
        }
        Ok(end)
    }

    /// `%bxy`: from an x to the y that ends it.
    fn balanced(&mut self, at: usize, item: usize) -> Step<Option<usize>> {
        let [open, close] = *self.pattern.get(item..item + 2).unwrap_or_default() else {
            return Err(Stop::Problem("unbalanced pattern"));
        };
        if self.text.get(at) != Some(&open) {
            return Ok(None);
        }
        let mut deep = 1;
        for place in at + 1..self.text.len() {
            self.steps(1)?;
            match self.text[place] {
                byte if byte == close => deep -= 1,
                byte if byte == open => deep += 1,
                _ => {}
            }
            if deep == 0 {
                return Ok(Some(place + 1));
            }
        }
        Ok(None)
    }

    /// `%f[set]`: between a character outside of the set and one in it. Gives where the pattern goes on.
    fn frontier(&mut self, at: usize, item: usize) -> Step<Option<usize>> {
        if self.pattern.get(item) != Some(&b'[') {
            return Err(Stop::Problem("missing '[' after '%f' in pattern"));
        }
        let end = self.item_end(item)?;
        let before = if at == 0 { 0 } else { self.text[at - 1] };
        let byte = self.text.get(at).copied().unwrap_or(0);
        self.steps(end - item)?;
        let set = &self.pattern[item..end];
        Ok((!in_set(before, set) && in_set(byte, set)).then_some(end))
    }

    /// `%1`: what that part matched, again.
    fn repeated(&mut self, at: usize, digit: u8) -> Step<Option<usize>> {
        let capture = usize::from(digit).checked_sub(usize::from(b'1')).and_then(|place| self.captures.get(place));
        let part = match capture {
            Some(Capture::Closed(begin, end)) => &self.text[*begin..*end],
            // As in Lua, a position is no text that could stand again.
            Some(Capture::Position(_)) => return Ok(None),
            Some(Capture::Open(_)) | None => return Err(Stop::Problem("invalid capture index")),
        };
        self.steps(part.len())?;
        Ok(self.text[at..].starts_with(part).then_some(at + part.len()))
    }

    /// Where the item behind `item` begins.
    fn item_end(&mut self, item: usize) -> Step<usize> {
        match self.pattern[item] {
            b'%' if item + 1 == self.pattern.len() => Err(Stop::Problem("malformed pattern (ends with '%')")),
            b'%' => Ok(item + 2),
            b'[' => {
                let mut at = item + 1 + usize::from(self.pattern.get(item + 1) == Some(&b'^'));
                loop {
                    self.steps(1)?;
                    let byte = self.pattern.get(at).ok_or(Stop::Problem("malformed pattern (missing ']')"))?;
                    at += 1 + usize::from(*byte == b'%' && at + 1 < self.pattern.len());
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(item + 1),
        }
    }

    /// Whether the character at `at` is one that the item stands for.
    fn fits(&mut self, at: usize, item: usize, end: usize) -> Step<bool> {
        self.steps(end - item)?;
        let Some(byte) = self.text.get(at).copied() else { return Ok(false) };
        Ok(match self.pattern[item] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[item + 1]),
            b'[' => in_set(byte, &self.pattern[item..end]),
            literal => literal == byte,
        })
    }

    /// As many as there are, then fewer.
    fn longest(&mut self, at: usize, item: usize, end: usize) -> Step<Option<usize>> {
        let mut last = at;
        while self.fits(last, item, end)? {
            last += 1;
        }
        loop {
            if let Some(found) = self.nested(last, end + 1)? {
                return Ok(Some(found));
            }
            if last == at {
                return Ok(None);
            }
            last -= 1;
        }
    }

    /// As few as will do.
    fn shortest(&mut self, mut at: usize, item: usize, end: usize) -> Step<Option<usize>> {
        loop {
            if let Some(found) = self.nested(at, end + 1)? {
                return Ok(Some(found));
            }
            if !self.fits(at, item, end)? {
                return Ok(None);
            }
            at += 1;
        }
    }
}

/// `%a` and its kin; a capital letter is the opposite, any other character is itself.
fn in_class(byte: u8, class: u8) -> bool {
    let is = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => matches!(byte, 9..=13 | b' '),
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is != class.is_ascii_uppercase()
}

/// `[set]`, brackets included.
fn in_set(byte: u8, set: &[u8]) -> bool {
    let inner = &set[1..set.len() - 1];
    let (wanted, inner) = match inner.strip_prefix(b"^") {
        Some(inner) => (false, inner),
        None => (true, inner),
    };
    let mut rest = inner;
    loop {
        rest = match rest {
            [] => return !wanted,
            [b'%', class, ..] if in_class(byte, *class) => return wanted,
            [b'%', _, behind @ ..] => behind,
            [low, b'-', high, ..] if (*low..=*high).contains(&byte) => return wanted,
            [_, b'-', _, behind @ ..] => behind,
            [one, ..] if *one == byte => return wanted,
            [_, behind @ ..] => behind,
        }
    }
}
