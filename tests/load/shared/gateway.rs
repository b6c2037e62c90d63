//! What the load needs to be otherwise than in the shipped Envoy configuration.

/// Thousands of sessions are opened with few tokens, for few machines.
const UNLIMITED: (&str, &str) = (
    r#""allowed_origins": []"#,
    r#""allowed_origins": [], "sessions_per_token": 0, "sessions_per_machine": 0"#,
);

/// 9,900 WebMKS consoles have room too: each is two sessions of TLS.
const HEAP: (&str, &str) = ("max_heap_size_bytes: 1073741824", "max_heap_size_bytes: 4294967296");

/// The change that lifts the limits of sessions.
pub fn unlimited() -> (&'static str, String) {
    (UNLIMITED.0, UNLIMITED.1.to_owned())
}

/// The change that gives Envoy room for as many sessions as the load may have descriptors.
pub fn roomy() -> (&'static str, String) {
    (HEAP.0, HEAP.1.to_owned())
}
