//! What the commands on the map take: places, units, and the words of a search.

use quoris_resp::Argv;

use super::hash::{LATITUDE_MAX, LONGITUDE_MAX, Place, decode};
use super::shape::{Area, Shape};
use crate::types::zset::SortedSet;
use crate::{Error, double, number};

/// A place from two arguments.
///
/// # Errors
/// When it is none, or not on the map.
pub(super) fn place(longitude: &[u8], latitude: &[u8]) -> Result<Place, Error> {
    let number = |text| double::parse(text).ok_or(Error::NotAFloat);
    let (longitude, latitude) = (number(longitude)?, number(latitude)?);
    if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
        return Err(Error::text(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok([longitude, latitude])
}

/// The metres of a unit.
///
/// # Errors
/// When it is none.
pub(super) fn unit(name: &[u8]) -> Result<f64, Error> {
    match &name.to_ascii_lowercase()[..] {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Error::text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

fn length(text: &[u8], what: &str) -> Result<f64, Error> {
    double::parse(text).ok_or_else(|| Error::text(format!("ERR need numeric {what}")))
}

/// Which of the commands it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Family {
    /// GEORADIUS
    AroundPlace,
    /// GEORADIUSBYMEMBER
    AroundMember,
    /// GEOSEARCH
    Search,
    /// GEOSEARCHSTORE
    SearchStore,
}

/// The order of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sort {
    None,
    Ascending,
    Descending,
}

/// A search behind its arguments.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    /// The shape and its centre; nothing when there is no key, or the centre is a member of it.
    pub(super) area: Option<Area>,
    /// The metres of the unit of distances.
    pub(super) unit: f64,
    pub(super) sort: Sort,
    /// Places to give at most; 0 for all.
    pub(super) count: u64,
    /// Any so many, not the nearest ones.
    pub(super) any: bool,
    pub(super) with_distance: bool,
    pub(super) with_hash: bool,
    pub(super) with_place: bool,
    /// Where the result goes instead of the reply.
    pub(super) store: Option<&'a [u8]>,
    /// Distances are stored as scores.
    pub(super) store_distance: bool,
    centre: Option<Place>,
    /// FROMMEMBER or FROMLONLAT stood there.
    from: Option<From>,
    shape: Option<Shape>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum From {
    Member,
    Place,
}

impl<'a> Query<'a> {
    /// Reads all arguments; `stores` says whether STORE and STOREDIST may stand there.
    ///
    /// # Errors
    /// Redis's, in Redis's order.
    pub(super) fn parse(
        argv: &'a Argv,
        family: Family,
        stores: bool,
        set: Option<&SortedSet>,
    ) -> Result<Query<'a>, Error> {
        let mut query = Query {
            area: None,
            unit: 1.0,
            sort: Sort::None,
            count: 0,
            any: false,
            with_distance: false,
            with_hash: false,
            with_place: false,
            store: None,
            store_distance: false,
            centre: None,
            from: None,
            shape: None,
        };
        let at = match family {
            Family::AroundPlace => {
                query.centre = Some(place(&argv[2], &argv[3])?);
                query.radius(&argv[4], &argv[5])?;
                6
            }
            Family::AroundMember => {
                if set.is_some() {
                    query.around_member(set, &argv[2])?;
                    query.radius(&argv[3], &argv[4])?;
                }
                5
            }
            Family::Search => 2,
            Family::SearchStore => {
                query.store = Some(&argv[1]);
                3
            }
        };
        query.words(argv, at, family, stores, set)?;
        query.check(argv, family)?;
        query.area = match (query.shape.take(), query.centre) {
            (Some(Shape::Polygon(corners)), _) => Some(Area::polygon(corners)),
            (Some(shape), Some(centre)) => Some(Area { centre, shape }),
            _ => None,
        };
        Ok(query)
    }

    fn around_member(&mut self, set: Option<&SortedSet>, member: &[u8]) -> Result<(), Error> {
        self.from = Some(From::Member);
        let Some(set) = set else { return Ok(()) };
        let score = set.score(member);
        let score = score.ok_or_else(|| Error::text("ERR could not decode requested zset member"))?;
        self.centre = Some(decode(score));
        Ok(())
    }

    fn radius(&mut self, radius: &[u8], name: &[u8]) -> Result<(), Error> {
        let radius = length(radius, "radius")?;
        if radius < 0.0 {
            return Err(Error::text("ERR radius cannot be negative"));
        }
        self.unit = unit(name)?;
        self.shape = Some(Shape::Circle { radius: radius * self.unit });
        Ok(())
    }

    fn rectangle(&mut self, width: &[u8], height: &[u8], name: &[u8]) -> Result<(), Error> {
        let (width, height) = (length(width, "width")?, length(height, "height")?);
        if width < 0.0 || height < 0.0 {
            return Err(Error::text("ERR height or width cannot be negative"));
        }
        self.unit = unit(name)?;
        self.shape = Some(Shape::Box { width: width * self.unit, height: height * self.unit });
        Ok(())
    }

    /// A number of corners and the corners; gives how many arguments that were.
    fn polygon(&mut self, argv: &Argv, at: usize) -> Result<usize, Error> {
        let corners = number::integer(&argv[at]).and_then(|n| i32::try_from(n).ok());
        let corners = corners.ok_or_else(|| Error::text("ERR invalid number of vertices"))?;
        let first = at + 1;
        let corners = usize::try_from(corners).ok().filter(|n| *n >= 3 && *n <= (argv.len() - first) / 2);
        let too_few = || Error::text("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices");
        let corners = corners.ok_or_else(too_few)?;
        let places = (0..corners).map(|n| place(&argv[first + 2 * n], &argv[first + 2 * n + 1]));
        self.shape = Some(Shape::Polygon(places.collect::<Result<_, _>>()?));
        self.unit = 1.0;
        Ok(1 + 2 * corners)
    }

    fn words(
        &mut self,
        argv: &'a Argv,
        mut at: usize,
        family: Family,
        stores: bool,
        set: Option<&SortedSet>,
    ) -> Result<(), Error> {
        let searches = matches!(family, Family::Search | Family::SearchStore);
        while let Some(word) = argv.get(at) {
            let left = argv.len() - at - 1;
            let is_polygon = matches!(self.shape, Some(Shape::Polygon(_)));
            at += 1;
            match &word.to_ascii_lowercase()[..] {
                b"withdist" => self.with_distance = true,
                b"withhash" => self.with_hash = true,
                b"withcoord" => self.with_place = true,
                b"any" => self.any = true,
                b"asc" => self.sort = Sort::Ascending,
                b"desc" => self.sort = Sort::Descending,
                b"count" if left >= 1 => {
                    let count = number::integer(&argv[at]).ok_or(Error::NotAnInteger)?;
                    let count = u64::try_from(count).ok().filter(|n| *n > 0);
                    self.count = count.ok_or_else(|| Error::text("ERR COUNT must be > 0"))?;
                    at += 1;
                }
                word @ (b"store" | b"storedist") if left >= 1 && stores && !searches => {
                    (self.store, self.store_distance) = (Some(&argv[at]), word == b"storedist");
                    at += 1;
                }
                b"storedist" if family == Family::SearchStore => self.store_distance = true,
                b"frommember" if left >= 1 && searches && self.from != Some(From::Place) && !is_polygon => {
                    self.around_member(set, &argv[at])?;
                    at += 1;
                }
                b"fromlonlat" if left >= 2 && searches && self.from != Some(From::Member) && !is_polygon => {
                    self.centre = Some(place(&argv[at], &argv[at + 1])?);
                    self.from = Some(From::Place);
                    at += 2;
                }
                b"byradius" if left >= 2 && searches && matches!(self.shape, None | Some(Shape::Circle { .. })) => {
                    self.radius(&argv[at], &argv[at + 1])?;
                    at += 2;
                }
                b"bybox" if left >= 3 && searches && matches!(self.shape, None | Some(Shape::Box { .. })) => {
                    self.rectangle(&argv[at], &argv[at + 1], &argv[at + 2])?;
                    at += 3;
                }
                b"bypolygon"
                    if left >= 2 && searches && self.from.is_none() && (self.shape.is_none() || is_polygon) =>
                {
                    at += self.polygon(argv, at)?;
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(())
    }

    /// What cannot stand together.
    fn check(&self, argv: &Argv, family: Family) -> Result<(), Error> {
        let searches = matches!(family, Family::Search | Family::SearchStore);
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_place) {
            let name = if searches { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(Error::text(format!(
                "ERR {name} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if searches && self.from.is_none() && !matches!(self.shape, Some(Shape::Polygon(_))) {
            let begin = b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for ";
            return Err(Error::quoting(&[begin, &argv[0]]));
        }
        if searches && self.shape.is_none() {
            let begin = b"ERR exactly one of BYRADIUS and BYBOX can be specified for ";
            return Err(Error::quoting(&[begin, &argv[0]]));
        }
        if self.any && self.count == 0 {
            return Err(Error::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }
}
