#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::upgrade::Input| vncgate_fuzz::upgrade::run(
    input
));
