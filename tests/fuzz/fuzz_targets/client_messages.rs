#![no_main]

libfuzzer_sys::fuzz_target!(|input: vncgate_fuzz::client_messages::Input| {
    vncgate_fuzz::client_messages::run(input)
});
