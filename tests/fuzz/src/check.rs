//! The check API: the filter reads the authority's reply, and the authority the filter's request.

use arbitrary::Arbitrary;
use serde_json::Value;
use std::net::SocketAddr;
use vncgate_api::CheckRequest;
use vncgate_filter_core::check::{Reply, read_reply, write_request};
use vncgate_filter_core::refusal::Refusal;

/// A reply of the authority. Its body is read as a request too.
#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    status: u16,
    body: &'a [u8],
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    check_reply(input.status, input.body);
    check_request(input.body);
}

fn check_reply(status: u16, body: &[u8]) {
    match read_reply(Reply::Answer { status, body }) {
        Ok(grant) => {
            assert_eq!(status, 200, "only 200 grants");
            std::str::from_utf8(body).expect("JSON is UTF-8");
            // RFC 8259 8.2: half a surrogate pair, in a field that is not read, is JSON that no `Value` holds.
            let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
            assert_eq!(json["session"], grant.session);
            let address = json["target"]["address"].as_str().expect("an address as text");
            address.parse::<SocketAddr>().expect("an IP address and a port");
        }
        Err(Refusal::Authority(refusal)) => assert_eq!(refusal.code.status(), status),
        Err(refusal) => assert_eq!(refusal, Refusal::AuthorityUnavailable),
    }
}

fn check_request(body: &[u8]) {
    let Ok(request) = serde_json::from_slice::<CheckRequest<'_>>(body) else { return };
    let written = write_request(&request).expect("a request that was read can be written");
    let again = serde_json::from_slice::<CheckRequest<'_>>(&written).expect("and read again");
    assert!(again == request, "a request changes on its way");
}
