//! Connects that are refused, or that lead nowhere, and the answer that each has to get.

use crate::browser::{Answer, Refusal, Request, WebSocket};
use crate::outage::Outage;
use crate::session::LIMIT;
use crate::site::Site;
use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use vncgate_load::connection::Transport;
use vncgate_test_support::gateway::ESXI_HOSTS;
use vncgate_test_support::vcsim::Vm;

/// A token of the right form that was never issued.
const UNKNOWN_TOKEN: &str = "12345678-90ab-4cde-8f01-234567890abc";

/// Why a connect cannot have a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// No token.
    NoToken,
    /// A token that was never issued.
    UnknownToken,
    /// A token that has opened its console already.
    UsedToken,
    /// The page that asks is another's.
    Origin,
    /// The machine has moved to another host since the token was issued.
    Moved,
    /// The machine was powered off since then.
    PoweredOff,
    /// Nothing listens at the console's port.
    ClosedPort,
    /// The console's host drops packets.
    DroppedPackets,
    /// The console's port accepts connections and says nothing.
    SilentPort,
    /// The console's port resets each connection.
    ResettingPort,
}

impl Obstacle {
    /// All there are.
    pub(crate) const ALL: [Self; 10] = [
        Self::NoToken,
        Self::UnknownToken,
        Self::UsedToken,
        Self::Origin,
        Self::Moved,
        Self::PoweredOff,
        Self::ClosedPort,
        Self::DroppedPackets,
        Self::SilentPort,
        Self::ResettingPort,
    ];

    /// Connects against this obstacle, or in an outage with a request that the outage refuses.
    /// Fails when the answer is another than it has to be.
    pub(crate) async fn meet(self, site: &Site, transport: Transport) -> Result<()> {
        let parts = site.parts.read().await;
        let expect = |request: Request, status: u16, code: &'static str| async move {
            expect_refusal(site, transport, &request, &Refusal::new(status, code)).await
        };
        let outcome = match (self, parts.outage) {
            (Self::NoToken, _) => expect(Request::default(), 403, "token_missing").await,
            (Self::Origin, _) => {
                let origin = Some("https://elsewhere.example.com".to_owned());
                let token = Some(UNKNOWN_TOKEN.to_owned());
                expect(Request { token, origin }, 403, "origin").await
            }
            (Self::UnknownToken, outage) => {
                let request = Request::with_token(UNKNOWN_TOKEN);
                let invalid = Refusal::new(403, "token_invalid");
                let expected =
                    outage.filter(|it| !it.knows_tokens()).map_or(invalid, Outage::refusal);
                expect_refusal(site, transport, &request, &expected).await
            }
            (_, Some(outage)) => {
                let request = Request::with_token(&parts.shown);
                expect_refusal(site, transport, &request, &outage.refusal()).await
            }
            (Self::UsedToken, None) => {
                let request = token_of(site, parts.inventory.opened(0)).await?;
                let answer = site.upgrade(transport, &request).await?;
                ensure!(matches!(answer, Answer::Open(_)), "before it was used: {answer:?}");
                expect(request, 403, "token_invalid").await
            }
            (Self::Moved, None) => {
                let vm = &parts.inventory.moving;
                let request = token_of(site, vm).await?;
                block_in_place(|| parts.vcenter.migrate(&vm.name, ESXI_HOSTS[1]));
                let outcome = expect(request, 409, "console_moved").await;
                block_in_place(|| parts.vcenter.migrate(&vm.name, ESXI_HOSTS[0]));
                outcome
            }
            (Self::PoweredOff, None) => {
                let vm = &parts.inventory.off;
                let request = token_of(site, vm).await?;
                block_in_place(|| parts.vcenter.power_off(&vm.name));
                let outcome = expect(request, 409, "console_unavailable").await;
                block_in_place(|| parts.vcenter.power_on(&vm.name));
                outcome
            }
            (Self::ClosedPort, None) => {
                let request = token_of(site, &parts.inventory.closed).await?;
                expect(request, 503, "console_unreachable").await
            }
            (Self::DroppedPackets, None) => {
                let request = token_of(site, &parts.inventory.dropping).await?;
                expect(request, 503, "console_unreachable").await
            }
            (Self::SilentPort, None) => {
                let request = token_of(site, &parts.inventory.silent).await?;
                let Answer::Open(socket) = site.upgrade(transport, &request).await? else {
                    bail!("{self:?}: refused, though it accepts connections");
                };
                drop(parts);
                return expect_end(socket).await.with_context(|| format!("{self:?}"));
            }
            (Self::ResettingPort, None) => {
                let request = token_of(site, &parts.inventory.resetting).await?;
                // Envoy may see the reset before or after it has called the console connected.
                match site.upgrade(transport, &request).await? {
                    Answer::Open(socket) => expect_end(socket).await,
                    Answer::Refused(refusal) => {
                        check(site, &refusal, &Refusal::new(503, "console_unreachable"))
                    }
                }
            }
        };
        outcome.with_context(|| match parts.outage {
            Some(outage) => format!("{self:?}, {}", outage.name()),
            None => format!("{self:?}"),
        })
    }
}

async fn token_of(site: &Site, vm: &Vm) -> Result<Request> {
    Ok(Request::with_token(&site.token(vm).await?))
}

/// Connects and compares the answer with the refusal that it has to be.
/// Fails when it is another.
pub(crate) async fn expect_refusal(
    site: &Site,
    transport: Transport,
    request: &Request,
    expected: &Refusal,
) -> Result<()> {
    match site.upgrade(transport, request).await? {
        Answer::Refused(refusal) => check(site, &refusal, expected),
        Answer::Open(_) => bail!("a console opened instead of {expected}"),
    }
}

fn check(site: &Site, refusal: &Refusal, expected: &Refusal) -> Result<()> {
    site.tally.refused(refusal, refusal == expected);
    ensure!(refusal == expected, "refused with {refusal} instead of {expected}");
    Ok(())
}

/// Waits for the end of a session whose console says nothing.
async fn expect_end(mut socket: Box<WebSocket>) -> Result<()> {
    match timeout(LIMIT, socket.next()).await.context("the session does not end")? {
        None | Some(Err(_) | Ok(Message::Close(_))) => Ok(()),
        Some(Ok(message)) => bail!("a console that says nothing said {message:?}"),
    }
}
