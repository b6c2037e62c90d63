//! What a browser tells its console: [`ClientMessages`] against a second reader, and against itself in another split.

#[path = "../../../filter/core/src/client_messages/reference.rs"]
mod reference;

use arbitrary::Arbitrary;
use vncgate_api::Access;
use vncgate_filter_core::client_messages::{ClientMessages, Permissions};

/// What a browser sends, how it is cut into chunks, and what it may send.
#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    view: bool,
    clipboard: bool,
    chunk_lens: [u8; 4],
    stream: &'a [u8],
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    let access = if input.view { Access::View } else { Access::Control };
    let permissions = Permissions { access, clipboard: input.clipboard };
    let whole = filter(&[input.stream], permissions);
    assert_eq!(filter(&chunks(&input), permissions), whole, "it depends on the split");
    if permissions.are_full() {
        assert!(input.stream.starts_with(&whole.0) && !whole.1, "without restriction");
        assert!(input.stream.len() - whole.0.len() < 12, "more is kept than a first few bytes");
    } else {
        assert_eq!(whole, reference::restricted(input.stream, permissions));
    }
}

/// What passes, and whether the session has to end.
fn filter(chunks: &[&[u8]], permissions: Permissions) -> (Vec<u8>, bool) {
    let mut messages = ClientMessages::after_handshake(permissions);
    let mut passed = Vec::new();
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        let ends = messages.filter(&mut chunk, 0).is_err();
        passed.extend(chunk);
        if ends {
            let mut more = vec![3; 20];
            assert!(messages.filter(&mut more, 0).is_ok() && more.is_empty(), "more after the end");
            return (passed, true);
        }
    }
    (passed, false)
}

fn chunks<'a>(input: &Input<'a>) -> Vec<&'a [u8]> {
    let mut rest = input.stream;
    let mut chunks = Vec::new();
    for len in input.chunk_lens.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(usize::from(len).clamp(1, rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}
