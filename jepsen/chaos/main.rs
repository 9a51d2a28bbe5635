//! `chaos`: runs clients against nodes while faults happen, and judges what they saw.

fn main() {}
