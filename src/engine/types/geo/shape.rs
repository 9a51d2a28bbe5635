//! Distances on the globe, and the shapes that a search covers.
//!
//! Sines and their kin come from `libm`, in software: whether a place is inside, and the distance that
//! GEOSEARCHSTORE keeps, must be the same on every replica, whatever its machine is.

use super::hash::{Cell, Ends, Place, STEPS};

/// The radius of the globe in metres.
const RADIUS: f64 = 6_372_797.560856;
/// Half of the map's width in metres.
const MAP: f64 = 20_037_726.37;
const RADIAN: f64 = std::f64::consts::PI / 180.0;

/// What a search covers, lengths in metres.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Circle {
        radius: f64,
    },
    Box {
        width: f64,
        height: f64,
    },
    /// Corners.
    Polygon(Vec<Place>),
}

/// A shape around its centre.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) centre: Place,
    pub(super) shape: Shape,
}

fn distance_of_latitudes(one: f64, other: f64) -> f64 {
    RADIUS * (other * RADIAN - one * RADIAN).abs()
}

/// Metres between two places, by the haversine formula.
pub(super) fn distance(one: Place, other: Place) -> f64 {
    let v = libm::sin((other[0] * RADIAN - one[0] * RADIAN) / 2.0);
    if v == 0.0 {
        return distance_of_latitudes(one[1], other[1]);
    }
    let (from, to) = (one[1] * RADIAN, other[1] * RADIAN);
    let u = libm::sin((to - from) / 2.0);
    let a = u * u + libm::cos(from) * libm::cos(to) * v * v;
    // Places opposite to each other come out a little above 1, which has no arc sine.
    2.0 * RADIUS * libm::asin(a.min(1.0).sqrt())
}

impl Area {
    /// A polygon; its centre is the mean of its corners as points in space.
    pub(super) fn polygon(corners: Vec<Place>) -> Area {
        let mut sum = [0.0; 3];
        for [longitude, latitude] in &corners {
            let (longitude, latitude) = (longitude * RADIAN, latitude * RADIAN);
            sum[0] += libm::cos(latitude) * libm::cos(longitude);
            sum[1] += libm::cos(latitude) * libm::sin(longitude);
            sum[2] += libm::sin(latitude);
        }
        let [x, y, z] = sum;
        let centre = [libm::atan2(y, x) / RADIAN, libm::atan2(z, (x * x + y * y).sqrt()) / RADIAN];
        Area { centre, shape: Shape::Polygon(corners) }
    }

    /// The distance of a place from the centre, when it is inside.
    pub(super) fn distance_inside(&self, place: Place) -> Option<f64> {
        let [longitude, latitude] = place;
        match &self.shape {
            Shape::Circle { radius } => Some(distance(self.centre, place)).filter(|distance| distance <= radius),
            Shape::Box { width, height } => {
                let inside = distance_of_latitudes(latitude, self.centre[1]) <= height / 2.0
                    && distance(place, [self.centre[0], latitude]) <= width / 2.0;
                inside.then(|| distance(self.centre, place))
            }
            Shape::Polygon(corners) => {
                // Odd crossings of a ray to the east.
                let before = corners.iter().cycle().skip(corners.len() - 1);
                let crossed = corners.iter().zip(before).filter(|([x, y], [other_x, other_y])| {
                    (*y > latitude) != (*other_y > latitude)
                        && longitude < (other_x - x) * (latitude - y) / (other_y - y) + x
                });
                (crossed.count() % 2 == 1).then(|| distance(self.centre, place))
            }
        }
    }

    /// The ends of the shape in degrees, as far as they are known without much thought.
    fn ends(&self) -> Ends {
        let [longitude, latitude] = self.centre;
        let (width, height) = match &self.shape {
            Shape::Circle { radius } => (*radius, *radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
            Shape::Polygon(corners) => {
                let all = |at: usize| corners.iter().map(move |corner| corner[at]);
                let (low, high) = (|at| all(at).fold(f64::MAX, f64::min), |at| all(at).fold(f64::MIN, f64::max));
                return Ends { west: low(0), south: low(1), east: high(0), north: high(1) };
            }
        };
        let to_north = height / RADIUS / RADIAN;
        // Degrees of longitude are shorter towards the pole.
        let shorter = if latitude < 0.0 { latitude - to_north } else { latitude + to_north };
        let to_east = width / RADIUS / libm::cos(shorter * RADIAN) / RADIAN;
        Ends {
            west: longitude - to_east,
            south: latitude - to_north,
            east: longitude + to_east,
            north: latitude + to_north,
        }
    }

    /// The distance from the centre to what is farthest from it.
    fn reach(&self, ends: Ends) -> f64 {
        match &self.shape {
            Shape::Circle { radius } => *radius,
            Shape::Box { width, height } => ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt(),
            Shape::Polygon(_) => [ends.west, ends.east]
                .into_iter()
                .flat_map(|longitude| [ends.south, ends.north].map(|latitude| [longitude, latitude]))
                .fold(0.0, |reach, corner| distance(self.centre, corner).max(reach)),
        }
    }

    /// The cells that are searched, the one of the centre first, then those around it: north, south, east, west,
    /// and the corners. Size and order are Redis's, because the order of an unsorted search shows them.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let ends = self.ends();
        let mut steps = steps(self.reach(ends), self.centre[1]);
        let mut middle = Cell::of(self.centre, steps);
        let covers = middle.beside(0, 1).ends().north >= ends.north
            && middle.beside(0, -1).ends().south <= ends.south
            && middle.beside(1, 0).ends().east >= ends.east
            && middle.beside(-1, 0).ends().west <= ends.west;
        if steps > 1 && !covers {
            steps -= 1;
            middle = Cell::of(self.centre, steps);
        }
        let inside = middle.ends();
        let needed = |east: i32, north: i32| {
            steps < 2
                || !(north < 0 && inside.south < ends.south
                    || north > 0 && inside.north > ends.north
                    || east < 0 && inside.west < ends.west
                    || east > 0 && inside.east > ends.east)
        };
        let around = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let around = around.into_iter().filter(|(east, north)| needed(*east, *north));
        // Of a map of four cells all around is the same.
        let mut others: Vec<Cell> = around.map(|(east, north)| middle.beside(east, north)).collect();
        others.dedup();
        std::iter::once(middle).chain(others).collect()
    }
}

/// How often the map is halved so that cells of about the reach come out.
fn steps(reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS;
    }
    let (mut steps, mut reach) = (-1, reach);
    while reach < MAP {
        reach *= 2.0;
        steps += 1;
    }
    // Cells are narrower towards the poles.
    steps -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    steps.clamp(1, STEPS.cast_signed()).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_seeds;

    #[test]
    fn distances_are_those_of_redis() {
        // GEODIST of redis-server 7.0.15 for the places that it keeps.
        let (palermo, catania) = ([13.361389338970184, 38.1155563954963], [15.087267458438873, 37.50266842333162]);
        assert!((distance(palermo, catania) - 166_274.151_6).abs() < 0.00005);
        assert_eq!(distance(palermo, palermo), 0.0);
        assert_eq!(distance([10.0, 0.0], [10.0, 1.0]), RADIUS * RADIAN);
        for opposite in [[180.0, 0.0], [-180.0, 0.0]] {
            assert!((distance([0.0, 0.0], opposite) - std::f64::consts::PI * RADIUS).abs() < 1.0);
        }
    }

    #[test]
    fn the_cells_cover_the_shape() {
        for_seeds(50, |rng| {
            let mut number = |min: f64, max: f64| min + (max - min) * (rng.below(1 << 40) as f64 / (1u64 << 40) as f64);
            let centre = [number(-170.0, 170.0), number(-70.0, 70.0)];
            let scale = number(0.0, 6.0);
            let reach = libm::pow(10.0, scale);
            for shape in [Shape::Circle { radius: reach }, Shape::Box { width: reach, height: reach / 2.0 }] {
                let area = Area { centre, shape };
                let cells = area.cells();
                for _ in 0..50 {
                    let degrees = reach / 100_000.0;
                    let place = [
                        (centre[0] + number(-degrees, degrees)).clamp(-180.0, 180.0),
                        (centre[1] + number(-degrees, degrees)).clamp(-85.0, 85.0),
                    ];
                    let score = super::super::hash::encode(place) as u64;
                    let found = cells.iter().any(|cell| (cell.scores().0..cell.scores().1).contains(&score));
                    assert!(found || area.distance_inside(place).is_none(), "{area:?} {place:?}");
                }
            }
        });
    }

    #[test]
    fn a_polygon_has_an_inside_and_a_centre() {
        let area = Area::polygon(vec![[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [2.0, 1.0], [0.0, 4.0]]);
        assert!((area.centre[0] - 2.0).abs() < 0.01 && (area.centre[1] - 1.8).abs() < 0.01, "{:?}", area.centre);
        for (place, inside) in [([1.0, 1.0], true), ([2.0, 0.5], true), ([2.0, 2.0], false), ([5.0, 1.0], false)] {
            assert_eq!(area.distance_inside(place).is_some(), inside, "{place:?}");
        }
    }
}
