//! How sessions come to be: a portal asks for a token, and a worker has it checked.

use crate::fleet::Fleet;
use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::Duration;
use tokio::time::sleep;
use vncgate_api::{CHECK_PATH, Grant};
use vncgate_test_support::console_api::API_TOKEN;

/// Connects that are under way at once. All browsers of a fleet come at once after an outage; Envoy queues
/// what the authority's cluster does not take.
const AT_ONCE: usize = 64;

/// After a 503 callers and pages try again, as docs/errors.md tells them.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 30;

/// What became of many connects.
#[derive(Debug, Default)]
pub(crate) struct Retries(Cell<u64>);

impl Retries {
    /// As a note of a phase.
    pub(crate) fn note(&self) -> String {
        format!("{} answers of 503, each tried again after a second", self.0.get())
    }

    /// Sends a request until it is not answered with 503. Returns the body.
    /// Fails on any other refusal.
    async fn send(&self, request: RequestBuilder) -> Result<String> {
        for _ in 0..TRIES {
            let request = request.try_clone().context("a request that can be repeated")?;
            let answer = request.send().await?;
            let (status, body) = (answer.status(), answer.text().await?);
            if status != StatusCode::SERVICE_UNAVAILABLE {
                ensure!(status.is_success(), "refused: {status} {body}");
                return Ok(body);
            }
            self.0.set(self.0.get() + 1);
            sleep(PAUSE).await;
        }
        bail!("{TRIES} answers of 503")
    }
}

/// Asks for so many tokens, of one machine after the other.
/// Fails when one is refused.
pub(crate) async fn issue(fleet: &Fleet, count: u32, retries: &Retries) -> Result<Vec<String>> {
    let of = |number: u32| &fleet.machines[number as usize % fleet.machines.len()];
    let base = format!("http://{}", fleet.authority.config().public());
    let issued = (0..count).map(|number| {
        let url = format!("{base}/v2.1/servers/{}/action", of(number).instance_uuid);
        let request = fleet.shared.http.post(url).header("X-Auth-Token", API_TOKEN);
        let request = request.json(&json!({"os-getVNCConsoleVmware": {"type": "novnc"}}));
        async move {
            let answer: Value = serde_json::from_str(&retries.send(request).await?)?;
            let url = answer["console"]["url"].as_str().context("no URL")?;
            let (_, token) = url.rsplit_once("token=").context("no token in the URL")?;
            Ok(token.to_owned())
        }
    });
    stream::iter(issued).buffered(AT_ONCE).try_collect().await
}

/// Has one token after the other checked, and opens a session at one worker after the other.
/// Fails when one is refused.
pub(crate) async fn open(
    fleet: &Fleet,
    tokens: &[String],
    count: usize,
    retries: &Retries,
) -> Result<()> {
    let url = format!("{}{CHECK_PATH}", fleet.shared.internal);
    let checks = tokens.iter().cycle().take(count).enumerate().map(|(number, token)| {
        let question =
            json!({"token": token, "client_address": "203.0.113.7", "request_id": "fleet"});
        let request = fleet.shared.http.post(&url).json(&question);
        async move {
            let grant: Grant = serde_json::from_str(&retries.send(request).await?)?;
            let worker = &fleet.workers[number % fleet.workers.len()];
            worker.open(grant.session.into(), grant.description.into())
        }
    });
    stream::iter(checks).buffer_unordered(AT_ONCE).try_for_each(async |()| Ok(())).await
}
