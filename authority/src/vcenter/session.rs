//! One shared session with one vCenter: log in once for all callers, and again when the session has expired.

use super::error::VcenterError;
use super::soap::{self, Fault, ServiceContent, SoapError};
use super::transport::{Endpoint, Transport};
use crate::password::RefusedPassword;
use crate::telemetry::Metrics;
use crate::text::printable;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{info, warn};

/// A login may wait for a directory server. It outlives the caller that started it, so it may take longer than
/// that caller waits: the next caller finds the session ready.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The API of the oldest vCenter that is supported, the one that [`soap::SOAP_ACTION`] names.
pub(super) const OLDEST_API: (u32, u32) = (6, 5);

/// How long a password is not tried again after "wrong password". By default vCenter locks an account after five failures in
/// three minutes, and every check would be one.
const REJECTED_LOGIN_PAUSE: Duration = Duration::from_secs(60);

/// A SOAP client for one vCenter. All callers share one session and a pool of kept-alive connections.
pub(super) struct SoapClient {
    shared: Arc<Shared>,
}

impl SoapClient {
    /// A client that logs in at its first call. `service_host` names the vCenter in logs and metrics.
    pub(super) fn new(
        service_host: &str,
        endpoint: Endpoint,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let transport = Transport::new(service_host, endpoint, metrics)?;
        Ok(Self { shared: Arc::new(Shared { transport, state: Mutex::default() }) })
    }

    /// Makes one call. `method` is its name for the metrics; `request` and `reply` are of [`super::soap`]. If the
    /// session has expired, logs in again and makes the call once more.
    pub(super) async fn call<T>(
        &self,
        method: &'static str,
        request: impl Fn(&ServiceContent) -> String,
        reply: impl Fn(&[u8]) -> Result<T, SoapError>,
    ) -> Result<T, VcenterError> {
        self.call_that_waits(method, Duration::ZERO, request, reply).await
    }

    /// The same for a call that vCenter may answer only after `wait`, as it is asked to.
    pub(super) async fn call_that_waits<T>(
        &self,
        method: &'static str,
        wait: Duration,
        request: impl Fn(&ServiceContent) -> String,
        reply: impl Fn(&[u8]) -> Result<T, SoapError>,
    ) -> Result<T, VcenterError> {
        let transport = &self.shared.transport;
        let session = self.session(None).await?;
        let call = |cookie, request| {
            transport.call_that_waits(method, wait, Some(cookie), request, &reply)
        };
        let first = call(&session.cookie, request(&session.content));
        match first.await {
            Err(error) if error.fault() == Some(Fault::NOT_AUTHENTICATED) => {
                let renewed = self.session(Some(&session)).await?;
                let (value, _) = call(&renewed.cookie, request(&renewed.content)).await?;
                Ok(value)
            }
            result => result.map(|(value, _)| value),
        }
    }

    /// Reads what a machine shows, as vCenter's web server has it for the session of the SOAP API.
    pub(super) async fn screen(&self, machine: &str) -> Result<Vec<u8>, VcenterError> {
        let transport = &self.shared.transport;
        let session = self.session(None).await?;
        match transport.screen(&session.cookie, machine).await {
            Err(error) if error.fault() == Some(Fault::NOT_AUTHENTICATED) => {
                let renewed = self.session(Some(&session)).await?;
                transport.screen(&renewed.cookie, machine).await
            }
            result => result,
        }
    }

    /// `about.instanceUuid`, which tells vCenters apart.
    pub(super) async fn instance_uuid(&self) -> Result<Option<String>, VcenterError> {
        Ok(self.session(None).await?.content.instance_uuid.clone())
    }

    /// The identifier of the inventory's root folder.
    pub(super) async fn root_folder(&self) -> Result<String, VcenterError> {
        Ok(self.session(None).await?.content.root_folder.clone())
    }

    /// The account's name.
    pub(super) fn username(&self) -> &str {
        &self.shared.transport.endpoint.username
    }

    /// Ends the session, if there is one.
    pub(super) async fn logout(&self) {
        self.shared.logout().await;
    }

    /// The session in use, or a new one if the current session is `expired`. One login runs at a time, however
    /// many callers ask, and all of them get its result.
    async fn session(&self, expired: Option<&Arc<Session>>) -> Result<Arc<Session>, VcenterError> {
        let login = {
            let mut state = self.shared.state();
            match &state.session {
                Some(session) if !expired.is_some_and(|old| Arc::ptr_eq(old, session)) => {
                    return Ok(Arc::clone(session));
                }
                _ => {}
            }
            match &state.login {
                Some(login) if !login.task.is_finished() => login.result.clone(),
                _ => {
                    state.session = None;
                    let login = Login::start(&self.shared);
                    let result = login.result.clone();
                    state.login = Some(login);
                    result
                }
            }
        };
        login.await
    }
}

/// Ends the session of a vCenter that has left the configuration, when its last request is answered.
impl Drop for SoapClient {
    fn drop(&mut self) {
        let (session, login) = {
            let mut state = self.shared.state();
            (state.session.is_some(), state.login.take())
        };
        let login = login.filter(|login| !login.task.is_finished());
        if !session && login.is_none() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Some(login) = login {
                    // The login has logged its own failure.
                    let _ = login.result.await;
                }
                shared.logout().await;
            });
        }
    }
}

/// A session that vCenter has accepted.
struct Session {
    /// `vmware_soap_session=…`, as good as the password.
    cookie: HeaderValue,
    content: ServiceContent,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    login: Option<Login>,
    refused: Option<RefusedPassword>,
}

/// A login in progress. It is a task of its own: a caller that stops waiting does not cancel it for the others.
struct Login {
    task: AbortHandle,
    result: future::Shared<BoxFuture<'static, Result<Arc<Session>, VcenterError>>>,
}

impl Login {
    fn start(shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move { shared.renew().await });
        Self {
            task: task.abort_handle(),
            result: task
                .map(|ended| ended.unwrap_or(Err(VcenterError::Abandoned)))
                .boxed()
                .shared(),
        }
    }
}

struct Shared {
    transport: Transport,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so it is complete even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session, if there is one.
    async fn logout(&self) {
        let Some(session) = self.state().session.take() else { return };
        let transport = &self.transport;
        let request = soap::logout(&session.content);
        let reply = |reply: &[u8]| soap::read_empty(reply, "LogoutResponse");
        if let Err(error) = transport.call("Logout", Some(&session.cookie), request, reply).await {
            let vcenter = &transport.service_host;
            warn!(vcenter, %error, "logout failed; vCenter ends the session when it expires");
        }
    }

    /// Logs in and stores the outcome for later callers.
    async fn renew(&self) -> Result<Arc<Session>, VcenterError> {
        let outcome = timeout(LOGIN_TIMEOUT, self.login())
            .await
            .unwrap_or(Err(VcenterError::TimedOut(LOGIN_TIMEOUT)))
            .map(Arc::new);
        let vcenter = &self.transport.service_host;
        let mut state = self.state();
        match &outcome {
            Ok(session) => {
                info!(vcenter, product = session.content.full_name, "logged in");
                state.session = Some(Arc::clone(session));
            }
            // Every request meets this one until the pause is over. The log has its cause.
            Err(VcenterError::Rejected(_)) => {}
            Err(error) => warn!(vcenter, %error, "login failed"),
        }
        outcome
    }

    async fn login(&self) -> Result<Session, VcenterError> {
        let transport = &self.transport;
        let Endpoint { username, password, .. } = &transport.endpoint;
        let password = password.read().await?;
        let pause = self.state().refused.as_ref().and_then(|refused| refused.pause_of(&password));
        if let Some(pause) = pause {
            return Err(VcenterError::Rejected(pause));
        }
        let request = soap::retrieve_service_content();
        let reply = soap::read_service_content;
        let (content, early_cookie) =
            transport.call("RetrieveServiceContent", None, request, reply).await?;
        if let Some(version) = content.api_version.as_deref().filter(|version| is_too_old(version))
        {
            return Err(VcenterError::TooOld(printable(version)));
        }
        let request = soap::login(&content, username, password.expose_secret());
        let reply = |reply: &[u8]| soap::read_empty(reply, "LoginResponse");
        let login = transport.call("Login", early_cookie.as_ref(), request, reply).await;
        let (_, cookie) = login.inspect_err(|error| {
            if matches!(error.fault(), Some(Fault::INVALID_LOGIN | Fault::PASSWORD_EXPIRED)) {
                self.state().refused = Some(RefusedPassword::new(password, REJECTED_LOGIN_PAUSE));
            }
        })?;
        let cookie = cookie.or(early_cookie).ok_or(VcenterError::NoCookie)?;
        Ok(Session { cookie, content })
    }
}

/// Is the API older than [`OLDEST_API`]? A version that cannot be read is let through: the calls will tell.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST_API,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcenter_before_6_5_is_too_old() {
        for (version, too_old) in [
            ("5.5", true),
            ("6.0", true),
            ("6.5", false),
            ("6.7.3", false),
            ("7.0.3.2", false),
            ("10.0", false),
            ("", false),
            ("8", false),
            ("x.y", false),
        ] {
            assert_eq!(is_too_old(version), too_old, "{version}");
        }
    }
}
