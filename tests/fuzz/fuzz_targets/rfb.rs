#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::rfb::Input| vncgate_fuzz::rfb::run(input));
