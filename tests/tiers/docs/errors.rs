//! docs/errors.md: a row for each refusal with its status, and none that no code has.

use crate::pages::{below, code_spans, files_below, rows, text};
use std::collections::{BTreeMap, BTreeSet};
use vncgate_api::RefusalCode;
use vncgate_authority::sessions::{EndCode, NOT_RESUMED, WORKER_GONE};
use vncgate_filter_core::end::EndCause;
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
    let ordered = EndCode::ALL.map(EndCode::close_code);
    let all: BTreeSet<u16> = known.map(|code| code.0).into_iter().chain(ordered).collect();
    assert_eq!(documented, Vec::from_iter(all));
    let sources = files_below("filter/core/src", "rs");
    let constants = |source| text(source).matches(": Self = Self(1").count();
    let constants: usize = sources.iter().map(constants).sum();
    assert_eq!(constants, known.len(), "a close code that is not in this test");
}

#[test]
fn each_end_of_a_session_has_a_row() {
    let page = text("docs/errors.md");
    let rows = rows(below(&page, "## Why a session ended"));
    let documented: BTreeMap<&str, &str> =
        rows.iter().map(|row| (code_spans(row[0]).next().expect("a code"), row[1])).collect();
    assert_eq!(documented.len(), rows.len(), "a code has two rows");
    let mut known: BTreeSet<&str> = EndCause::ALL.map(EndCause::as_str).into();
    known.extend([WORKER_GONE, NOT_RESUMED]);
    for code in EndCode::ALL {
        known.insert(code.as_str());
        assert_eq!(documented[code.as_str()], code.close_code().to_string(), "{}", code.as_str());
    }
    assert_eq!(documented.into_keys().collect::<BTreeSet<_>>(), known);
}
