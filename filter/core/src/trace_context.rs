//! The trace that a request belongs to (W3C Trace Context), for the check request that is a part of it.

use crate::headers::Headers;

/// Most bytes of `tracestate` that are passed on: those that have to be (section 3.3.1.5).
const STATE_LEN_MAX: usize = 512;

/// The headers `traceparent` and `tracestate` of the request, if they follow the specification. What a client sent
/// otherwise stays behind.
pub fn trace_context(headers: &Headers) -> Vec<(&'static str, String)> {
    let mut parents = headers.all("traceparent");
    let (Some(parent), None) = (parents.next(), parents.next()) else { return Vec::new() };
    if !is_parent(parent) {
        return Vec::new();
    }
    let mut context = vec![("traceparent", parent.to_owned())];
    let states: Vec<&str> = headers.all("tracestate").collect();
    let state = states.join(",");
    let printable = state.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !state.is_empty() && state.len() <= STATE_LEN_MAX && printable {
        context.push(("tracestate", state));
    }
    context
}

/// Version 00, a trace and a span that are not all zeros, and flags (section 3.2).
fn is_parent(text: &str) -> bool {
    let fields: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = fields.as_slice() else { return false };
    let is_id = |id: &str, len| is_hex(id, len) && id.bytes().any(|digit| digit != b'0');
    *version == "00" && is_id(trace, 32) && is_id(span, 16) && is_hex(flags, 2)
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(headers: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let own = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        trace_context(&Headers(own.collect()))
    }

    #[test]
    fn a_trace_is_passed_on_with_its_state() {
        assert_eq!(context(&[("traceparent", PARENT)]), [("traceparent", PARENT.to_owned())]);
        let state = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        assert_eq!(context(&state)[1], ("tracestate", "a=1,b=2".to_owned()));
    }

    #[test]
    fn what_is_no_trace_stays_behind() {
        for wrong in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
        ] {
            assert_eq!(context(&[("traceparent", wrong), ("tracestate", "a=1")]), [], "{wrong}");
        }
        let twice = [("traceparent", PARENT), ("traceparent", PARENT)];
        assert_eq!(context(&twice), []);
        assert_eq!(context(&[("tracestate", "a=1")]), []);
        for state in ["x".repeat(513), "a=\u{e9}".to_owned(), "a=\t".to_owned()] {
            let kept = context(&[("traceparent", PARENT), ("tracestate", &state)]);
            assert_eq!(kept.len(), 1, "{state}");
        }
    }
}
