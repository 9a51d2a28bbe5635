//! The fuzzer's entrance: `QUORIS_FUZZ` names the target. Run by `./dev fuzz`.

#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<quoris_fuzz::Target> = OnceLock::new();

fn target() -> quoris_fuzz::Target {
    let name = std::env::var("QUORIS_FUZZ").expect("QUORIS_FUZZ names a target");
    quoris_fuzz::target(&name).unwrap_or_else(|| panic!("no target {name}: {:?}", quoris_fuzz::TARGETS))
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.get_or_init(target).run)(data));
