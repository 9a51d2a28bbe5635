//! Places on the map: sorted sets whose scores are geohashes.
//!
//! `hash` turns places into scores and back, `shape` knows distances and areas, `arguments` the words of a search.

mod arguments;
mod hash;
mod places;
mod search;
mod shape;

use quoris_resp::Reply;

use crate::command::*;

/// A distance as Redis prints it: four decimals.
fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even() as u64;
    format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
}

/// Degrees as Redis prints them: at most 17 decimals.
fn degrees(degrees: f64) -> Reply {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Reply::Decimal(if text == "-0" { "0".into() } else { text.to_string().into() })
}

/// A place as a reply.
fn place_reply([longitude, latitude]: hash::Place) -> Reply {
    Reply::Array(vec![degrees(longitude), degrees(latitude)])
}

const GEO: Command = Command { group: Group::Geo, ..ROW };
const GROW: Flags = WRITE.with(DENYOOM);
const STORED: Find = Find::Range { last: 0, step: 1, limit: 0 };

/// The key behind STORE or STOREDIST.
const fn stored(word: &'static str, start: i32) -> KeySpec {
    KeySpec { flags: OW_UPDATE, begin: Begin::Keyword { word, start }, find: STORED }
}

const SEARCH: Command = Command { flags: READONLY, keys: KEY_READ, complexity: NEAR, ..GEO };
const RADIUS: Command = Command { flags: GROW, key_finder: Some(search::radius_keys), since: "3.2.0", ..SEARCH };
const NEAR: &str = "O(N + log M) for N places near the area of M";
const EACH: &str = "O(N log M) for N members of M";

/// The rows of the commands on the map.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "geoadd", arity: -5, flags: GROW, keys: KEY_UPDATE, since: "3.2.0", complexity: EACH,
        summary: "Gives members places on the map.",
        syntax: "key [NX | XX] [CH] {longitude latitude member} ...", handler: Handler::Write(places::geoadd), ..GEO },
    Command { name: "geodist", arity: -4, flags: READONLY, keys: KEY_READ, since: "3.2.0",
        complexity: "O(log N) for N members", summary: "Gives the distance between two members.",
        syntax: "key member1 member2 [M | KM | FT | MI]", handler: Handler::Read(places::geodist), ..GEO },
    Command { name: "geohash", arity: -2, flags: READONLY, keys: KEY_READ, since: "3.2.0", complexity: EACH,
        summary: "Gives the geohashes of members.", syntax: "key [member ...]",
        handler: Handler::Read(places::geohash), ..GEO },
    Command { name: "geopos", arity: -2, flags: READONLY, keys: KEY_READ, since: "3.2.0", complexity: EACH,
        summary: "Gives the places of members.", syntax: "key [member ...]", handler: Handler::Read(places::geopos),
        ..GEO },
    Command { name: "georadius", arity: -6, keys: &[one(RO_ACCESS, 1), stored("STORE", 6), stored("STOREDIST", 6)],
        summary: "Gives or stores the members around a place.",
        deprecated: Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")),
        syntax: "key longitude latitude radius {M | KM | FT | MI} [WITHCOORD] [WITHDIST] [WITHHASH] \
            [COUNT count [ANY]] [ASC | DESC] [STORE destination | STOREDIST destination]",
        handler: Handler::Write(search::georadius), ..RADIUS },
    Command { name: "georadiusbymember", arity: -5,
        keys: &[one(RO_ACCESS, 1), stored("STORE", 5), stored("STOREDIST", 5)],
        summary: "Gives or stores the members around a member.",
        deprecated:
            Some(("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        syntax: "key member radius {M | KM | FT | MI} [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
            [ASC | DESC] [STORE destination | STOREDIST destination]",
        handler: Handler::Write(search::georadiusbymember), ..RADIUS },
    Command { name: "georadius_ro", arity: -6, since: "3.2.10", summary: "Gives the members around a place.",
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")),
        syntax: "key longitude latitude radius {M | KM | FT | MI} [WITHCOORD] [WITHDIST] [WITHHASH] \
            [COUNT count [ANY]] [ASC | DESC]", handler: Handler::Read(search::georadius_ro), ..SEARCH },
    Command { name: "georadiusbymember_ro", arity: -5, since: "3.2.10", summary: "Gives the members around a member.",
        deprecated: Some(("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")),
        syntax: "key member radius {M | KM | FT | MI} [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] \
            [ASC | DESC]", handler: Handler::Read(search::georadiusbymember_ro), ..SEARCH },
    Command { name: "geosearch", arity: -7, since: "6.2.0",
        summary: "Gives the members inside a circle, a box or a polygon.",
        syntax: "key [FROMMEMBER member | FROMLONLAT longitude latitude] \
            {BYRADIUS radius {M | KM | FT | MI} | BYBOX width height {M | KM | FT | MI} | \
            BYPOLYGON num-vertices {longitude latitude} ...} \
            [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
        handler: Handler::Read(search::geosearch), ..SEARCH },
    Command { name: "geosearchstore", arity: -8, flags: GROW, keys: &[one(OW_UPDATE, 1), one(RO_ACCESS, 2)],
        since: "6.2.0", summary: "Stores the members inside a circle, a box or a polygon as a sorted set.",
        syntax: "destination source [FROMMEMBER member | FROMLONLAT longitude latitude] \
            {BYRADIUS radius {M | KM | FT | MI} | BYBOX width height {M | KM | FT | MI} | \
            BYPOLYGON num-vertices {longitude latitude} ...} [ASC | DESC] [COUNT count [ANY]] [STOREDIST]",
        handler: Handler::Write(search::geosearchstore), ..SEARCH },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_degrees_have_fixed_decimals() {
        for (distance, text) in
            [(0.0, "0.0000"), (166_274.151_56, "166274.1516"), (0.000_049, "0.0000"), (2.5, "2.5000")]
        {
            assert_eq!(distance_text(distance), text);
        }
        for (number, text) in
            [(13.361389338970184, "13.36138933897018433"), (-122.5, "-122.5"), (10.0, "10"), (-1e-30, "0")]
        {
            assert_eq!(degrees(number), Reply::Decimal(text.into()));
        }
    }
}
