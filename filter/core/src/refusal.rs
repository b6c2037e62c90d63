//! Every reason to refuse a request, and what the browser, the access log and the metrics show for it. Each is a
//! total function, so a new reason cannot lack one of them.

use std::borrow::Cow;
use vncgate_api::RefusalCode;

/// Seconds until a retry makes sense after an outage (`Retry-After`).
const RETRY_AFTER_SECONDS: &str = "5";

/// Which limit a session would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionLimit {
    /// `sessions_per_client` of the configuration.
    Client,
    /// `sessions_per_token`.
    Token,
    /// `sessions_per_machine`.
    Machine,
}

/// Why a WebSocket upgrade, or a broken link to the page, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The method is not `GET` (RFC 6455 4.1).
    MethodNotGet,
    /// The request's path is longer than [`crate::upgrade::PATH_LEN_MAX`].
    PathTooLong,
    /// The WebSocket version is not 13 (RFC 6455 4.4).
    WebSocketVersion,
    /// The key is missing or is not 16 bytes in base64 (RFC 6455 4.1). HTTP/1.1 only.
    WebSocketKey,
    /// Subprotocols were offered and `binary` is not one of them.
    Subprotocol,
    /// The request is for a host name that consoles are not opened at.
    Host,
    /// The page that opened the WebSocket may not open consoles (RFC 6455 10.2).
    Origin,
    /// Neither subprotocol, query nor cookie has a token.
    TokenMissing,
    /// The token has a form that is never issued.
    TokenMalformed,
    /// What tells the browser from others is there twice, or has a form that no page makes.
    BrowserMalformed,
    /// The page's link carries its token in an encoded fragment, so that no page is at this path.
    LinkEncoded,
    /// The client, token or machine already has as many sessions on this worker as it may have.
    SessionLimit(SessionLimit),
    /// The authority refused the token.
    Authority(vncgate_api::Refusal),
    /// The authority did not reply in time, or its reply is not one of the check API.
    AuthorityUnavailable,
    /// Envoy's routes lead to no console at this host name, or led to something else than the target.
    ConsoleRoute,
    /// Envoy could not connect to the target.
    ConsoleUnreachable,
    /// The target did not answer a WebSocket upgrade with `101`.
    ConsoleRefused,
    /// A call to Envoy failed. The log says which.
    Internal,
}

impl Refusal {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::MethodNotGet => 405,
            Self::PathTooLong => 414,
            Self::WebSocketVersion => 426,
            Self::WebSocketKey | Self::Subprotocol | Self::BrowserMalformed => 400,
            Self::Host | Self::Origin | Self::TokenMissing | Self::TokenMalformed => 403,
            Self::LinkEncoded => 404,
            Self::SessionLimit(_) => 429,
            Self::Authority(refusal) => refusal.code.status(),
            Self::ConsoleRefused => 502,
            Self::AuthorityUnavailable | Self::ConsoleUnreachable => 503,
            Self::ConsoleRoute | Self::Internal => 500,
        }
    }

    /// The code in the JSON answer, the access log and the metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MethodNotGet => "method_not_get",
            Self::PathTooLong => "path_too_long",
            Self::WebSocketVersion => "websocket_version",
            Self::WebSocketKey => "websocket_key",
            Self::Subprotocol => "subprotocol",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => RefusalCode::TokenInvalid.as_str(),
            Self::BrowserMalformed => "browser_malformed",
            Self::LinkEncoded => "link_encoded",
            Self::SessionLimit(_) => "session_limit",
            Self::Authority(refusal) => refusal.code.as_str(),
            Self::AuthorityUnavailable => RefusalCode::AuthorityUnavailable.as_str(),
            Self::ConsoleRoute => "console_route",
            Self::ConsoleUnreachable => "console_unreachable",
            Self::ConsoleRefused => "console_refused",
            Self::Internal => "internal",
        }
    }

    /// The sentence for the user at the browser.
    pub fn message(&self) -> &str {
        match self {
            Self::MethodNotGet => "A WebSocket is opened with GET.",
            Self::PathTooLong => "The path of this request is too long.",
            Self::WebSocketVersion => "Only WebSocket version 13 is supported.",
            Self::WebSocketKey => "Sec-WebSocket-Key is missing or is not 16 bytes in base64.",
            Self::Subprotocol => "Offer the WebSocket subprotocol \"binary\", or none.",
            Self::Host => "Consoles are not opened at this host name.",
            Self::Origin => "This page may not open consoles here.",
            Self::TokenMissing => "There is no console token in this request.",
            Self::TokenMalformed => "This console token is not valid.",
            Self::BrowserMalformed => "What tells this browser from others cannot be read.",
            Self::LinkEncoded => {
                "This link is broken: its \"#\" was encoded as \"%23\". Open it with \"#\" in that place, or ask for a new one."
            }
            Self::SessionLimit(SessionLimit::Client) => {
                "Too many consoles are open from your network. Close one and try again."
            }
            Self::SessionLimit(SessionLimit::Token) => {
                "This link has too many consoles open. Close one and try again."
            }
            Self::SessionLimit(SessionLimit::Machine) => {
                "This machine has too many consoles open. Close one and try again."
            }
            Self::Authority(refusal) => &refusal.message,
            Self::AuthorityUnavailable => "Console tokens cannot be checked at the moment.",
            Self::ConsoleRoute => "This gateway has no way to consoles at this host name.",
            Self::ConsoleUnreachable => "The console's host did not accept the connection.",
            Self::ConsoleRefused => "The console's host did not open the console.",
            Self::Internal => "The gateway could not open this console.",
        }
    }

    /// Instance UUID of the machine, if the authority has told it.
    pub fn instance(&self) -> Option<&str> {
        match self {
            Self::Authority(refusal) => refusal.instance.as_deref(),
            _ => None,
        }
    }

    /// The header that belongs to the status.
    pub fn header(&self) -> Option<(&'static str, Cow<'static, str>)> {
        match (self, self.status()) {
            (_, 405) => Some(("allow", "GET".into())),
            // RFC 6455 4.4: names the supported version.
            (_, 426) => Some(("sec-websocket-version", "13".into())),
            (Self::Authority(vncgate_api::Refusal { retry_after: Some(seconds), .. }), _) => {
                Some(("retry-after", seconds.to_string().into()))
            }
            (_, 503) => Some(("retry-after", RETRY_AFTER_SECONDS.into())),
            _ => None,
        }
    }

    /// The JSON body: `{"code", "message"}`.
    pub fn body(&self) -> String {
        serde_json::json!({ "code": self.code(), "message": self.message() }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: RefusalCode, retry_after: Option<u32>) -> vncgate_api::Refusal {
        vncgate_api::Refusal { code, message: "No.".to_owned(), retry_after, instance: None }
    }

    fn every_refusal() -> Vec<Refusal> {
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
            Refusal::SessionLimit(SessionLimit::Token),
            Refusal::SessionLimit(SessionLimit::Machine),
            Refusal::AuthorityUnavailable,
            Refusal::ConsoleRoute,
            Refusal::ConsoleUnreachable,
            Refusal::ConsoleRefused,
            Refusal::Internal,
        ];
        all.extend(RefusalCode::ALL.map(|code| Refusal::Authority(refused(code, None))));
        all
    }

    #[test]
    fn each_is_an_error_status_with_a_code_and_a_message() {
        for refusal in every_refusal() {
            assert!((400..600).contains(&refusal.status()), "{refusal:?}");
            let body: serde_json::Value = serde_json::from_str(&refusal.body()).unwrap();
            assert_eq!(body["code"], refusal.code());
            assert_eq!(body["message"], refusal.message());
            assert!(!refusal.message().is_empty());
        }
    }

    #[test]
    fn an_outage_says_when_to_retry() {
        for refusal in every_refusal() {
            let says_when = refusal.header().is_some_and(|(name, _)| name == "retry-after");
            assert_eq!(says_when, refusal.status() == 503, "{refusal:?}");
        }
        let told = Refusal::Authority(refused(RefusalCode::TooManyAttempts, Some(42)));
        assert_eq!(told.header(), Some(("retry-after", "42".into())));
    }
}
