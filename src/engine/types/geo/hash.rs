//! Places as numbers: the geohash of 52 bits that is the score of a place, and cells of the map.
//!
//! The map is halved again and again, in both directions; after 26 steps a place is 26 bits of latitude and 26
//! of longitude, the bits of both in turn. The map ends where Web Mercator does, so the text that GEOHASH gives
//! is made anew with the usual ends.

/// A longitude and a latitude in degrees.
pub(super) type Place = [f64; 2];

pub(super) const LONGITUDE_MAX: f64 = 180.0;
pub(super) const LATITUDE_MAX: f64 = 85.05112878;
/// Latitudes of the geohash that others use.
const LATITUDE_MAX_USUAL: f64 = 90.0;
/// The most steps.
pub(super) const STEPS: u32 = 26;
/// Bits of a score.
const BITS: u32 = 2 * STEPS;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A part of the map: how often it was halved, and which of the parts it is, from the south west.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    steps: u32,
    longitude: u32,
    latitude: u32,
}

/// The ends of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ends {
    pub(super) west: f64,
    pub(super) south: f64,
    pub(super) east: f64,
    pub(super) north: f64,
}

/// Bits with a gap behind each: `0b11` becomes `0b101`.
fn spread(n: u32) -> u64 {
    (0..5).rev().fold(u64::from(n), |bits, round| (bits | bits << (1 << round)) & mask(round))
}

/// Every second bit: `0b101` becomes `0b11`.
fn gather(bits: u64) -> u32 {
    (0..5).fold(bits & mask(0), |bits, round| (bits | bits >> (1 << round)) & mask(round + 1)) as u32
}

/// Ones and zeros in turn, 2^`round` of each.
fn mask(round: u32) -> u64 {
    u64::MAX / ((1 << (1 << round)) + 1)
}

/// Which of 2^`steps` parts between `-end` and `end` a number lies in; one more than there are for the end itself.
fn part(degrees: f64, end: f64, steps: u32) -> u32 {
    ((degrees + end) / (end + end) * f64::from(1 << steps)) as u32
}

/// Where a part begins.
fn degrees(part: u32, end: f64, steps: u32) -> f64 {
    -end + f64::from(part) / f64::from(1 << steps) * (end + end)
}

impl Cell {
    /// The cell that a place lies in.
    pub(super) fn of([longitude, latitude]: Place, steps: u32) -> Cell {
        let (longitude, latitude) = (part(longitude, LONGITUDE_MAX, steps), part(latitude, LATITUDE_MAX, steps));
        Cell { steps, longitude, latitude }
    }

    fn bits(self) -> u64 {
        spread(self.latitude) | spread(self.longitude) << 1
    }

    /// The scores of the places inside: from the first on, below the second.
    pub(super) fn scores(self) -> (u64, u64) {
        let shift = BITS - 2 * self.steps;
        (self.bits() << shift, (self.bits() + 1) << shift)
    }

    /// The cell so many cells to the east and to the north; behind the end of the map comes its beginning.
    pub(super) fn beside(self, east: i32, north: i32) -> Cell {
        let step =
            |part: u32, by: i32| if by == 0 { part } else { part.wrapping_add_signed(by) & ((1 << self.steps) - 1) };
        Cell { longitude: step(self.longitude, east), latitude: step(self.latitude, north), ..self }
    }

    pub(super) fn ends(self) -> Ends {
        let Cell { steps, longitude, latitude } = self;
        Ends {
            west: degrees(longitude, LONGITUDE_MAX, steps),
            south: degrees(latitude, LATITUDE_MAX, steps),
            east: degrees(longitude.wrapping_add(1), LONGITUDE_MAX, steps),
            north: degrees(latitude.wrapping_add(1), LATITUDE_MAX, steps),
        }
    }
}

/// The score of a place.
pub(super) fn encode(place: Place) -> f64 {
    Cell::of(place, STEPS).bits() as f64
}

/// The place in the middle of what a score stands for. Any number stands for one, as it happens to in Redis.
pub(super) fn decode(score: f64) -> Place {
    let bits = match score {
        low if low < 9_223_372_036_854_775_808.0 => (low as i64).cast_unsigned(),
        high if high < 18_446_744_073_709_551_616.0 => high as u64,
        _ => 0,
    };
    let ends = Cell { steps: STEPS, longitude: gather(bits >> 1), latitude: gather(bits) }.ends();
    let middle = |one: f64, other: f64, end: f64| f64::midpoint(one, other).clamp(-end, end);
    [middle(ends.west, ends.east, LONGITUDE_MAX), middle(ends.south, ends.north, LATITUDE_MAX)]
}

/// The geohash of a score as others write it: eleven letters, of which the last says nothing.
pub(super) fn text(score: f64) -> String {
    let [longitude, latitude] = decode(score);
    let bits = spread(part(latitude, LATITUDE_MAX_USUAL, STEPS)) | spread(part(longitude, LONGITUDE_MAX, STEPS)) << 1;
    let letter = |at: u32| ALPHABET[(bits >> (BITS - 5 * at)) as usize & 31] as char;
    (1..=10).map(letter).chain(['0']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_spread_and_gather() {
        assert_eq!((spread(0b11), spread(u32::MAX), gather(0b101)), (0b101, 0x5555_5555_5555_5555, 0b11));
        for n in [0, 1, 0x1234_5678, 0x8000_0001, u32::MAX] {
            assert_eq!((gather(spread(n)), gather(spread(n) << 1)), (n, 0));
        }
    }

    #[test]
    fn places_are_the_numbers_that_redis_makes_of_them() {
        // From redis-server 7.0.15: ZSCORE, GEOPOS, GEOHASH.
        for (place, score, back, hash) in [
            ([13.361389, 38.115556], 3479099956230698.0, [13.361389338970184, 38.1155563954963], "sqc8b49rny0"),
            ([15.087269, 37.502669], 3479447370796909.0, [15.087267458438873, 37.50266842333162], "sqdtr74hyu0"),
            ([-122.419416, 37.774929], 1367859919124605.0, [-122.41941779851913, 37.77492789249853], "9q8yyk8yuu0"),
        ] {
            assert_eq!((encode(place), decode(score), &text(score)[..]), (score, back, hash), "{place:?}");
        }
    }

    #[test]
    fn cells_are_beside_each_other_around_the_map() {
        let cell = Cell::of([179.9, 0.1], 3);
        assert_eq!(cell.beside(1, 0), Cell::of([-179.9, 0.1], 3));
        assert_eq!(cell.beside(0, 1).ends().south, cell.ends().north);
        assert_eq!(cell.beside(-1, -1).beside(1, 1), cell);
        let (begin, end) = cell.scores();
        assert_eq!(end - begin, 1 << (52 - 6));
        assert!((begin..end).contains(&(encode([179.9, 0.1]) as u64)));
    }
}
