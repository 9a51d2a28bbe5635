//! The checkers, checked: against brute force on small histories, with planted faults on larger ones, and for speed.

mod brute;
mod figures;
mod planted;
mod small;
mod world;
