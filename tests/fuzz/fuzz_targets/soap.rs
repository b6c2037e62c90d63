#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::soap::Input| vncgate_fuzz::soap::run(input));
