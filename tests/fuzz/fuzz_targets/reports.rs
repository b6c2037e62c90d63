#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::reports::Input| vncgate_fuzz::reports::run(
    input
));
