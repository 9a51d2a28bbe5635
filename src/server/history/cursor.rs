//! Places in what groups have told, as clients read and write them.
//!
//! `<group>:<index>-<n>` is the n-th event of an entry, counted from 1; without `-<n>` it is the whole entry. Several
//! of them, of different groups, have commas between them.

use std::{collections::BTreeMap, fmt, str};

use quoris_engine::number;
use quoris_raft::GroupId;

/// Up to where a group's events have been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub index: u64,
    /// Of the entry's events, from 1 on.
    pub number: u64,
}

impl Place {
    /// Behind all events of an entry.
    pub fn whole(index: u64) -> Place {
        Place { index, number: u64::MAX }
    }

    /// The index behind which the rest is to be read: the entry itself once more, unless all of it was read.
    pub fn behind(self) -> u64 {
        if self.number == u64::MAX { self.index } else { self.index.saturating_sub(1) }
    }

    /// What stands in front of it.
    pub fn previous(self) -> Place {
        Place { number: if self.number == u64::MAX { u64::MAX } else { self.number.saturating_sub(1) }, ..self }
    }

    /// The last place that is not it: where those end who do not want it.
    pub fn before(self) -> Place {
        Place { number: self.number.saturating_sub(1), ..self }
    }

    fn parse(text: &str) -> Option<Place> {
        let number = |text: &str| u64::try_from(number::integer(text.as_bytes())?).ok();
        match text.split_once('-') {
            None => Some(Place::whole(number(text)?)),
            Some((index, event)) => Some(Place { index: number(index)?, number: number(event)? }),
        }
    }
}

/// Up to where the events of some groups have been read. Those of a channel are told by one group at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor(BTreeMap<GroupId, Place>);

impl Cursor {
    /// Where a group's events have been read up to; those of a group that is not named have not been read.
    pub fn of(&self, group: GroupId) -> Place {
        self.0.get(&group).copied().unwrap_or_default()
    }

    pub fn names(&self, group: GroupId) -> bool {
        self.0.contains_key(&group)
    }

    pub fn set(&mut self, group: GroupId, place: Place) {
        self.0.insert(group, place);
    }

    /// The group that it begins with, and the place there: all of it where it is of one group.
    pub fn first(&self) -> Option<(GroupId, Place)> {
        self.0.first_key_value().map(|(group, place)| (*group, *place))
    }

    /// Each group and the place there.
    pub fn places(&self) -> impl Iterator<Item = (GroupId, Place)> + '_ {
        self.0.iter().map(|(group, place)| (*group, *place))
    }

    /// The same groups with other places.
    pub fn map(&self, change: fn(Place) -> Place) -> Cursor {
        self.places().map(|(group, place)| (group, change(place))).collect()
    }

    /// Reads a cursor. Where all events are of one group, its number may be left out.
    pub fn parse(text: &[u8], sole: Option<GroupId>) -> Option<Cursor> {
        let mut cursor = Cursor::default();
        for part in str::from_utf8(text).ok()?.split(',') {
            let (group, place) = match part.split_once(':') {
                None => (sole?, part),
                Some((group, place)) => (GroupId(u32::try_from(number::integer(group.as_bytes())?).ok()?), place),
            };
            cursor.set(group, Place::parse(place)?);
        }
        Some(cursor)
    }
}

impl FromIterator<(GroupId, Place)> for Cursor {
    fn from_iter<T: IntoIterator<Item = (GroupId, Place)>>(places: T) -> Cursor {
        Cursor(places.into_iter().collect())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (group, place)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", group.0, place.index)?;
            if place.number < u64::MAX {
                write!(f, "-{}", place.number)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, sole: Option<u32>) -> Option<String> {
        Cursor::parse(text.as_bytes(), sole.map(GroupId)).map(|cursor| cursor.to_string())
    }

    #[test]
    fn cursors_read_back_and_nothing_else_does() {
        for text in ["1:5-2", "1:5", "1:0-0,2:77-1,3:9", "4294967295:9223372036854775807-1"] {
            assert_eq!(read(text, None).as_deref(), Some(text));
        }
        assert_eq!(read("5-2", Some(3)).as_deref(), Some("3:5-2"));
        assert_eq!(read("5", Some(3)).as_deref(), Some("3:5"));
        for text in ["", "5-2", "1:", ":5", "1:5-", "1:-5", "1:5-2,", "a:1-1", "1:5-2 ", "+1:5", "1:5-2-3", "\u{e9}:1"]
        {
            assert_eq!(read(text, None), None, "{text}");
        }
    }

    #[test]
    fn an_entry_that_was_read_in_part_is_read_again() {
        let [whole, part, front] =
            ["1:5", "1:5-2", "1:5-0"].map(|text| Cursor::parse(text.as_bytes(), None).expect(text).of(GroupId(1)));
        assert_eq!([whole.behind(), part.behind(), front.behind()], [5, 4, 4]);
        assert_eq!(
            [whole.previous(), part.previous(), front.previous()],
            [whole, Place { index: 5, number: 1 }, front]
        );
        assert!(front < part && part < whole);
        assert_eq!(Cursor::default().of(GroupId(1)).behind(), 0);
    }
}
