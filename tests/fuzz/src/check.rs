//! The check API: the authority's answer as the filter reads it, the filter's question as the authority does.

use arbitrary::Arbitrary;
use serde_json::Value;
use std::net::SocketAddr;
use vncgate_api::CheckRequest;
use vncgate_filter_core::check::{Reply, read_reply, request_body};
use vncgate_filter_core::refusal::Refusal;

/// An answer of the authority; its body is tried as a question too.
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
    answer(input.status, input.body);
    question(input.body);
}

fn answer(status: u16, body: &[u8]) {
    match read_reply(Reply::Answer { status, body }) {
        Ok(grant) => {
            assert_eq!(status, 200, "only 200 grants");
            std::str::from_utf8(body).expect("JSON is UTF-8");
            // RFC 8259 8.2: half a surrogate pair, in a field that nobody reads, is JSON that no `Value` holds.
            let Ok(json) = serde_json::from_slice::<Value>(body) else { return };
            assert_eq!(json["session"], grant.session);
            let address = json["target"]["address"].as_str().expect("an address as text");
            address.parse::<SocketAddr>().expect("an IP address and a port");
        }
        Err(Refusal::Authority(refusal)) => assert_eq!(refusal.code.status(), status),
        Err(refusal) => assert_eq!(refusal, Refusal::AuthorityUnavailable),
    }
}

fn question(body: &[u8]) {
    let Ok(request) = serde_json::from_slice::<CheckRequest<'_>>(body) else { return };
    let written = request_body(&request).expect("what was read can be written");
    let again = serde_json::from_slice::<CheckRequest<'_>>(&written).expect("and read again");
    assert!(again == request, "a question changes on its way");
}
