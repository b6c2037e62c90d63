#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::session::Input| vncgate_fuzz::session::run(
    input
));
