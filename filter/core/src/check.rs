//! Step 4: the check request to the authority, and what its reply means.

use crate::refusal::Refusal;
use serde::de::DeserializeOwned;
use vncgate_api::{CheckRequest, Grant};

/// Longest reply that is read, in bytes. A grant takes about 300.
pub const REPLY_LEN_MAX: usize = 16 * 1024;

/// Writes the body of `POST /v1/check`.
///
/// # Errors
///
/// [`Refusal::Internal`] if the request cannot be written as JSON. Its types rule that out.
pub fn write_request(request: &CheckRequest<'_>) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(request).map_err(|_| Refusal::Internal)
}

/// How the call ended, as Envoy reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The authority answered with this status and body.
    Answer {
        /// HTTP status code.
        status: u16,
        /// Body, at most [`REPLY_LEN_MAX`] bytes of it.
        body: &'a [u8],
    },
    /// The authority was not reachable, or the call timed out or was reset.
    Failed,
}

/// Reads the authority's reply. Only a reply that follows the check API in every respect opens a console. A
/// refusal must have the status that belongs to its code.
///
/// # Errors
///
/// The authority's own refusal, or [`Refusal::AuthorityUnavailable`] for a reply that is not one of the check
/// API.
pub fn read_reply(reply: Reply<'_>) -> Result<Grant, Refusal> {
    match reply {
        Reply::Answer { status: 200, body } => parse(body).ok_or(Refusal::AuthorityUnavailable),
        Reply::Answer { status, body } => match parse::<vncgate_api::Refusal>(body) {
            Some(refusal) if refusal.code.status() == status => Err(Refusal::Authority(refusal)),
            _ => Err(Refusal::AuthorityUnavailable),
        },
        Reply::Failed => Err(Refusal::AuthorityUnavailable),
    }
}

/// Parses JSON, which is UTF-8 (RFC 8259 8.1). serde_json alone accepts any bytes in fields that it skips.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vncgate_api::RefusalCode;

    const GRANT: &[u8] = br#"{"session":"s","instance":"i","expires_at":"t",
        "target":{"protocol":"vnc","address":"[::1]:5901"}}"#;

    #[test]
    fn a_grant_opens_the_console() {
        let grant = read_reply(Reply::Answer { status: 200, body: GRANT }).unwrap();
        assert_eq!(grant.session, "s");
    }

    #[test]
    fn each_refusal_is_passed_on() {
        for code in RefusalCode::ALL {
            let refusal = vncgate_api::Refusal {
                code,
                message: "why".to_owned(),
                retry_after: None,
                instance: None,
            };
            let body = serde_json::to_vec(&refusal).unwrap();
            let reply = Reply::Answer { status: code.status(), body: &body };
            assert_eq!(read_reply(reply), Err(Refusal::Authority(refusal)));
        }
    }

    #[test]
    fn nothing_else_opens_a_console() {
        let refusal = br#"{"code":"token_invalid","message":"no"}"#;
        for reply in [
            Reply::Failed,
            Reply::Answer { status: 200, body: b"" },
            Reply::Answer { status: 200, body: b"<html>" },
            Reply::Answer { status: 200, body: refusal },
            Reply::Answer { status: 201, body: GRANT },
            Reply::Answer { status: 403, body: GRANT },
            Reply::Answer { status: 503, body: refusal },
            Reply::Answer { status: 403, body: br#"{"code":"other","message":"no"}"# },
            Reply::Answer {
                status: 200,
                body: br#"{"session":"s","instance":"i","expires_at":"t",
                    "target":{"protocol":"vnc","address":"esx.example.com:5901"}}"#,
            },
            Reply::Answer {
                status: 200,
                body: b"{\"session\":\"s\",\"instance\":\"i\",\"expires_at\":\"t\",\"other\":\"\xdb\",\
                    \"target\":{\"protocol\":\"vnc\",\"address\":\"192.0.2.1:5901\"}}",
            },
        ] {
            assert_eq!(read_reply(reply), Err(Refusal::AuthorityUnavailable), "{reply:?}");
        }
    }
}
