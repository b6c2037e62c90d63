//! Why a session ended.

/// Why a session ended, as a word for the authority's register and the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// The browser sent a Close frame.
    BrowserClosed,
    /// The browser's connection ended without a Close frame.
    BrowserGone,
    /// The browser did not answer a Ping.
    BrowserSilent,
    /// The browser broke the WebSocket protocol, or RFB during a login.
    BrowserProtocolError,
    /// The console closed its connection.
    ConsoleClosed,
    /// The console's connection was reset.
    ConsoleGone,
    /// The console took too long to begin.
    ConsoleTimeout,
    /// The console refused the filter's login.
    ConsoleRefused,
    /// The target does not speak RFB.
    NotAConsole,
    /// The authority ordered the end, and knows why.
    Ordered,
    /// Envoy ended the stream itself: a limit of memory or buffers, or a timeout of the listener or route.
    GatewayEnded,
}

/// Bits of Envoy's attribute `response.flags` (`CoreResponseFlag` in `envoy/stream_info/stream_info.h`).
const CONSOLE_FLAGS: u64 = 1 << 4 // UpstreamRemoteReset
    | 1 << 5 // UpstreamConnectionFailure
    | 1 << 6 // UpstreamConnectionTermination
    | 1 << 23; // UpstreamProtocolError
const GATEWAY_FLAGS: u64 = 1 << 2 // UpstreamRequestTimeout
    | 1 << 16 // StreamIdleTimeout
    | 1 << 19 // UpstreamMaxStreamDurationReached
    | 1 << 22 // DurationTimeout
    | 1 << 25; // OverloadManager

/// Envoy's `response.code_details` of a stream whose buffers are full, which has no flag.
const BUFFER_FULL: &str = "response_payload_too_large";

impl EndCause {
    /// Every cause, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::BrowserClosed,
        Self::BrowserGone,
        Self::BrowserSilent,
        Self::BrowserProtocolError,
        Self::ConsoleClosed,
        Self::ConsoleGone,
        Self::ConsoleTimeout,
        Self::ConsoleRefused,
        Self::NotAConsole,
        Self::Ordered,
        Self::GatewayEnded,
    ];

    /// The cause of an end that the session had no part in, by Envoy's attributes `response.flags` and
    /// `response.code_details`.
    pub fn of_stream(flags: u64, details: &str) -> Self {
        if flags & GATEWAY_FLAGS != 0 || details.starts_with(BUFFER_FULL) {
            Self::GatewayEnded
        } else if flags & CONSOLE_FLAGS != 0 {
            Self::ConsoleGone
        } else {
            Self::BrowserGone
        }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrowserClosed => "browser_closed",
            Self::BrowserGone => "browser_gone",
            Self::BrowserSilent => "browser_silent",
            Self::BrowserProtocolError => "browser_protocol_error",
            Self::ConsoleClosed => "console_closed",
            Self::ConsoleGone => "console_gone",
            Self::ConsoleTimeout => "console_timeout",
            Self::ConsoleRefused => "console_refused",
            Self::NotAConsole => "not_a_console",
            Self::Ordered => "ordered",
            Self::GatewayEnded => "gateway_ended",
        }
    }
}

/// The code at the front of an order's reason (`CODE: words`), for the access log. [`EndCause::Ordered`] if there is none.
pub fn order_code(reason: &str) -> &str {
    let code = reason.split_once(':').map_or(reason, |(code, _)| code);
    let is_code = !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_code { code } else { EndCause::Ordered.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_that_ended_a_stream_is_read_from_envoy_s_flags() {
        for (flags, details, cause) in [
            (1 << 14, "downstream_remote_disconnect", EndCause::BrowserGone),
            (0, "", EndCause::BrowserGone),
            (1 << 6, "upstream_reset_after_response_started", EndCause::ConsoleGone),
            (1 << 4, "", EndCause::ConsoleGone),
            (1 << 25, "overload", EndCause::GatewayEnded),
            (0, "response_payload_too_large", EndCause::GatewayEnded),
        ] {
            assert_eq!(EndCause::of_stream(flags, details), cause, "{flags} {details}");
        }
    }

    #[test]
    fn an_order_s_code_is_that_of_its_reason_or_none() {
        for (reason, code) in [
            ("token_revoked: the link is no longer valid", "token_revoked"),
            ("session_idle", "session_idle"),
            ("Go away: now", "ordered"),
            ("a\"b: c", "ordered"),
            ("", "ordered"),
        ] {
            assert_eq!(order_code(reason), code);
        }
    }
}
