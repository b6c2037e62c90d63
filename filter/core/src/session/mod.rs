//! The state machine of a session: the shell tells it what happened, and it answers what to do.
//!
//! ```text
//! Passing                              no console's request: Envoy treats it as it would without the filter
//! Checking ─▶ Connecting ─▶ Open       VNC: frames are unwrapped
//!     └─────▶ Relaying ─▶ Relayed      WebMKS: a WebSocket already, whose frames pass
//! ```
//!
//! A session that is not yet open or relayed may become Refused. Every state becomes Ended with its stream.

use crate::check::{self, Reply};
use crate::client_messages::{ClientMessages, Permissions};
use crate::config::Config;
use crate::end::EndCause;
use crate::headers::Headers;
use crate::outputs::Outputs;
use crate::refusal::Refusal;
use crate::relay::{Relay, Relayed};
use crate::trace_context::trace_context;
use crate::traffic::Activity;
use crate::tunnel::Tunnel;
use crate::upgrade::{self, Browser, Handshake, HttpVersion, Upgrade};
use std::net::SocketAddr;
use vncgate_api::{BrowserProof, CheckRequest, Grant, Target};

/// Envoy's `response.code_details` when no route to consoles was found: the refusals of the router and of the filter
/// `vncgate_guard`, and the answer of a route that leads to no cluster.
const NO_CONSOLE_ROUTE: [&str; 3] = [
    "route_not_found",
    "rbac_access_denied_matched_policy[vncgate_no_console_route]",
    "direct_response",
];

/// One stream of Envoy: a console session, or a request that is not for a console.
#[derive(Default)]
pub struct Session {
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Passing,
    Checking(Handshake),
    Connecting(Handshake, SocketAddr, Tunnel),
    Open(Tunnel),
    Relaying(Handshake, SocketAddr, Relay),
    Relayed(Relay),
    Refused,
    Ended,
}

/// A browser's request, as the shell reads it from Envoy.
pub struct Request<'a> {
    /// All headers.
    pub headers: &'a Headers,
    /// How the browser reached Envoy.
    pub http_version: HttpVersion,
    /// The browser's IP address.
    pub client_address: &'a str,
}

/// What to do with a request.
#[derive(Default)]
pub enum OnRequest {
    /// Let it pass: it does not open a console.
    #[default]
    Pass,
    /// Answer it with this refusal.
    Refuse(Refusal),
    /// Have the authority check its token, and let it wait.
    Check {
        /// Body of the check call.
        body: Vec<u8>,
        /// `:path` without the token, for the access log.
        path: String,
        /// The token, which the session is counted by. A password.
        token: String,
        /// Headers of the check call: the trace that the request belongs to.
        trace: Vec<(&'static str, String)>,
    },
}

/// What to do with the target's response.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum OnResponse {
    /// Let it pass.
    #[default]
    Pass,
    /// The console is connected: answer `101` with this handshake.
    Switch(Handshake),
    /// The console is connected and has answered `101` itself. Remove from its response what this handshake
    /// does not have.
    Relay(Handshake),
    /// The console is not connected: answer with this refusal.
    Refuse(Refusal),
}

/// What the console of an ended session did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it did; see [`Session::take_activity`].
    pub activity: Activity,
    /// Why it ended, if the session had a part in that.
    pub cause: Option<EndCause>,
}

impl Session {
    /// Step 3: handles the headers of a request.
    pub fn handle_request(&mut self, request: &Request<'_>, config: &Config) -> OnRequest {
        if !upgrade::is_console_upgrade(request.headers, config) {
            return OnRequest::Pass;
        }
        let checked =
            upgrade::read(request.headers, request.http_version, config).and_then(|upgrade| {
                let body = check::write_request(&CheckRequest {
                    token: upgrade.token.as_str().into(),
                    client_address: request.client_address.into(),
                    request_id: request.headers.first("x-request-id").unwrap_or_default().into(),
                    enforces_access: true,
                    browser: upgrade.browser.as_ref().map(|browser| match browser {
                        Browser::Digest(digest) => BrowserProof::Digest(digest.into()),
                        Browser::Secret(secret) => BrowserProof::Secret(secret.into()),
                    }),
                })?;
                Ok((upgrade, body))
            });
        match checked {
            Ok((Upgrade { token, handshake, path, .. }, body)) => {
                self.state = State::Checking(handshake);
                let trace = trace_context(request.headers);
                OnRequest::Check { body, path, token, trace }
            }
            Err(refusal) => {
                self.state = State::Refused;
                OnRequest::Refuse(refusal)
            }
        }
    }

    /// Step 4: handles the authority's reply, or its absence. The shell makes a grant filter state before it
    /// resumes the request.
    ///
    /// # Errors
    ///
    /// The refusal to answer the browser with.
    pub fn handle_check_reply(&mut self, reply: Reply<'_>) -> Result<Grant, Refusal> {
        let State::Checking(handshake) = std::mem::replace(&mut self.state, State::Refused) else {
            return Err(Refusal::Internal);
        };
        let grant = check::read_reply(reply)?;
        let permissions = Permissions { access: grant.access, clipboard: grant.clipboard };
        let reads = grant.reports_input || !permissions.are_full();
        self.state = match grant.target {
            Target::Vnc { address, ref password } => {
                let messages = reads.then(|| ClientMessages::after_handshake(permissions));
                State::Connecting(handshake, address, Tunnel::new(password.clone(), messages))
            }
            Target::Webmks { address, .. } => {
                let messages = reads.then(|| ClientMessages::from_version(permissions));
                State::Relaying(handshake, address, Relay::new(messages))
            }
        };
        Ok(grant)
    }

    /// Step 6: handles the response of `upstream`, the address that Envoy connected to, which has to be the granted
    /// one. A VNC target is connected at `200`, which Envoy makes up for a TCP upstream. A WebMKS target answers `101`
    /// itself.
    pub fn handle_response(&mut self, status: u16, upstream: Option<SocketAddr>) -> OnResponse {
        match std::mem::replace(&mut self.state, State::Refused) {
            State::Connecting(_, target, _) | State::Relaying(_, target, _)
                if upstream != Some(target) =>
            {
                OnResponse::Refuse(Refusal::ConsoleRoute)
            }
            State::Connecting(handshake, _, tunnel) if status == 200 => {
                self.state = State::Open(tunnel);
                OnResponse::Switch(handshake)
            }
            State::Relaying(handshake, _, relay) if status == 101 => {
                self.state = State::Relayed(relay);
                OnResponse::Relay(handshake)
            }
            State::Connecting(..) => OnResponse::Refuse(Refusal::ConsoleUnreachable),
            State::Relaying(..) => OnResponse::Refuse(Refusal::ConsoleRefused),
            other => {
                self.state = other;
                OnResponse::Pass
            }
        }
    }

    /// Step 6: handles a response that Envoy made in the target's place, because it could not connect. `details` is
    /// its `response.code_details`.
    pub fn handle_local_reply(&mut self, details: &str) -> OnResponse {
        match self.state {
            State::Connecting(..) | State::Relaying(..) => {
                self.state = State::Refused;
                OnResponse::Refuse(if NO_CONSOLE_ROUTE.contains(&details) {
                    Refusal::ConsoleRoute
                } else {
                    Refusal::ConsoleUnreachable
                })
            }
            _ => OnResponse::Pass,
        }
    }

    /// Whether the target is a WebSocket itself, so that its frames and the browser's pass.
    pub fn relays(&self) -> bool {
        matches!(self.state, State::Relaying(..) | State::Relayed(_))
    }

    /// Handles bytes from the browser while [`Session::relays`]; see [`Relay::handle_browser_bytes`].
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn relay_browser_bytes<E>(
        &mut self,
        len: usize,
        read: impl FnMut(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Box<Relayed>>, E> {
        match &mut self.state {
            State::Relaying(_, _, relay) | State::Relayed(relay) => {
                relay.handle_browser_bytes(len, read)
            }
            _ => Ok(None),
        }
    }

    /// Handles bytes from the server while [`Session::relays`]; see [`Relay::handle_server_bytes`].
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub fn relay_server_bytes<E>(
        &mut self,
        held_len: usize,
        end: bool,
        read: impl FnMut(usize, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Outputs, E> {
        match &mut self.state {
            State::Relayed(relay) => relay.handle_server_bytes(held_len, end, read),
            _ => Ok(Outputs::default()),
        }
    }

    /// Handles bytes from the browser. Replaces them with the bytes for the target.
    pub fn handle_browser_bytes(&mut self, chunk: &mut Vec<u8>) -> Outputs {
        match &mut self.state {
            // A client may send frames before it has received the 101.
            State::Connecting(_, _, tunnel) | State::Open(tunnel) => {
                tunnel.handle_browser_bytes(chunk)
            }
            State::Passing | State::Relaying(..) | State::Relayed(_) => Outputs::default(),
            State::Checking(_) | State::Refused | State::Ended => {
                chunk.clear();
                Outputs::default()
            }
        }
    }

    /// Whether the filter takes part in the console's handshake, so that it has to read the server's bytes.
    pub fn reads_server_bytes(&self) -> bool {
        matches!(&self.state, State::Open(tunnel) if tunnel.reads_server_bytes())
    }

    /// Handles bytes from the server: Envoy holds `held_len` of them that are not framed yet. `end`: the server
    /// has closed its connection.
    pub fn handle_server_bytes(&mut self, held_len: usize, end: bool) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.handle_server_bytes(held_len, end),
            _ => Outputs::default(),
        }
    }

    /// Handles bytes from the server while [`Session::reads_server_bytes`]. `held` is everything that Envoy holds.
    pub fn handle_login_bytes(&mut self, held: &[u8], end: bool) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.handle_login_bytes(held, end),
            _ => Outputs::default(),
        }
    }

    /// Handles the wake-up that [`Outputs::wake_up`] asked for.
    pub fn handle_wake_up(&mut self) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.handle_wake_up(),
            State::Relayed(relay) => relay.handle_wake_up(),
            _ => Outputs::default(),
        }
    }

    /// Handles a keepalive tick, of which each ping interval has two.
    pub fn handle_keepalive_tick(&mut self) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.handle_keepalive_tick(),
            State::Relayed(relay) => relay.handle_keepalive_tick(),
            _ => Outputs::default(),
        }
    }

    /// Handles the end of the time that a console has to begin. Returns `None` if it has begun.
    pub fn handle_begin_timeout(&mut self) -> Option<Outputs> {
        match &mut self.state {
            State::Open(tunnel) => tunnel.handle_begin_timeout(),
            State::Relayed(relay) => relay.handle_begin_timeout(),
            _ => None,
        }
    }

    /// Whether the request is not for a console.
    pub fn is_passing(&self) -> bool {
        matches!(self.state, State::Passing)
    }

    /// Whether [`Session::end`] was called.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Handles the authority's order to end the session, with a Close frame of this code and reason.
    pub fn end_by_order(&mut self, code: u16, reason: &str) -> Outputs {
        match &mut self.state {
            State::Open(tunnel) => tunnel.end_by_order(code, reason),
            State::Relayed(relay) => relay.end_by_order(code, reason),
            _ => Outputs::default(),
        }
    }

    /// What an open console has done, and whether there was input since the last call. `None` if none is open.
    pub fn take_activity(&mut self) -> Option<Activity> {
        let (bytes, has_new_input) = match &mut self.state {
            State::Open(tunnel) => (tunnel.bytes(), tunnel.take_new_input()),
            State::Relayed(relay) => (relay.bytes(), relay.take_new_input()),
            _ => return None,
        };
        Some(Activity { bytes, has_new_input })
    }

    /// Why an open console ends: `Some(None)` while that is not known, `None` if no console is open.
    pub fn cause(&self) -> Option<Option<EndCause>> {
        match &self.state {
            State::Open(tunnel) => Some(tunnel.cause()),
            State::Relayed(relay) => Some(relay.cause()),
            _ => None,
        }
    }

    /// Ends the session with its stream. Returns what the console did that was open on it, if one was.
    pub fn end(&mut self) -> Option<Ended> {
        let cause = self.cause().flatten();
        let ended = self.take_activity().map(|activity| Ended { activity, cause });
        self.state = State::Ended;
        ended
    }
}

#[cfg(test)]
mod tests;
