#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::tunnel::Input| vncgate_fuzz::tunnel::run(input));
