#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::check::Input| vncgate_fuzz::check::run(input));
