//! docs/errors.md: a row for each refusal with its status, and none that no code has.

use crate::pages::{below, code_spans, files_below, rows, text};
use std::collections::BTreeMap;
use vncgate_api::RefusalCode;
use vncgate_filter_core::refusal::{Refusal, SessionLimit};
use vncgate_filter_core::websocket::CloseCode;

/// Every refusal of the filter, with each of the authority's codes.
fn refusals() -> Vec<Refusal> {
    let mut all = vec![
        Refusal::MethodNotGet,
        Refusal::PathTooLong,
        Refusal::WebSocketVersion,
        Refusal::WebSocketKey,
        Refusal::Subprotocol,
        Refusal::Host,
        Refusal::Origin,
        Refusal::TokenMissing,
        Refusal::TokenMalformed,
        Refusal::BrowserMalformed,
        Refusal::LinkEncoded,
        Refusal::SessionLimit(SessionLimit::Client),
        Refusal::AuthorityUnavailable,
        Refusal::ConsoleRoute,
        Refusal::ConsoleUnreachable,
        Refusal::ConsoleRefused,
        Refusal::Internal,
    ];
    all.extend(RefusalCode::ALL.map(|code| {
        Refusal::Authority(vncgate_api::Refusal {
            code,
            message: String::new(),
            retry_after: None,
            instance: None,
        })
    }));
    // A new refusal does not compile until it is here, and then it belongs into the list above.
    match all[0] {
        Refusal::MethodNotGet
        | Refusal::PathTooLong
        | Refusal::WebSocketVersion
        | Refusal::WebSocketKey
        | Refusal::Subprotocol
        | Refusal::Host
        | Refusal::Origin
        | Refusal::TokenMissing
        | Refusal::TokenMalformed
        | Refusal::BrowserMalformed
        | Refusal::LinkEncoded
        | Refusal::SessionLimit(_)
        | Refusal::Authority(_)
        | Refusal::AuthorityUnavailable
        | Refusal::ConsoleRoute
        | Refusal::ConsoleUnreachable
        | Refusal::ConsoleRefused
        | Refusal::Internal => {}
    }
    all
}

#[test]
fn each_refusal_has_a_row_with_its_status() {
    let page = text("docs/errors.md");
    let documented = rows(below(&page, "## Refusals"));
    let count = documented.len();
    let documented: BTreeMap<&str, &str> = documented
        .iter()
        .map(|row| {
            let [status, code, meaning, advice] = row[..] else { panic!("four cells: {row:?}") };
            assert!(!meaning.is_empty() && !advice.is_empty(), "{row:?}");
            (code_spans(code).next().expect("a code"), status)
        })
        .collect();
    assert_eq!(documented.len(), count, "a code has two rows");
    let refusals = refusals();
    let statuses: Vec<_> =
        refusals.iter().map(|refusal| (refusal.code(), refusal.status().to_string())).collect();
    let known: BTreeMap<&str, &str> =
        statuses.iter().map(|(code, status)| (*code, status.as_str())).collect();
    assert_eq!(documented, known);
}

#[test]
fn each_close_code_has_a_row() {
    let page = text("docs/errors.md");
    let documented: Vec<u16> = rows(below(&page, "## Close codes"))
        .iter()
        .map(|row| row[0].parse().expect("a close code"))
        .collect();
    let known = [
        CloseCode::NORMAL,
        CloseCode::PROTOCOL_ERROR,
        CloseCode::UNSUPPORTED_DATA,
        CloseCode::INVALID_PAYLOAD,
        CloseCode::POLICY_VIOLATION,
        CloseCode::INTERNAL_ERROR,
    ];
    assert_eq!(documented, known.map(|code| code.0));
    let sources = files_below("filter/core/src", "rs");
    let constants = |source| text(source).matches(": Self = Self(1").count();
    let constants: usize = sources.iter().map(constants).sum();
    assert_eq!(constants, known.len(), "a close code that is not in this test");
}
