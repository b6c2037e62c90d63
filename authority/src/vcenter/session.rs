//! One shared session with one vCenter: log in once for all callers, and again when it has expired.

use super::soap::{self, Fault, ServiceContent, Unanswered};
use crate::outbound::{self, NoBody};
use crate::telemetry::Metrics;
use axum::body::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use url::Url;

/// A vCenter on the same network answers a SYN in milliseconds; two seconds allow for one that is lost
/// and sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A login may wait for a directory server. It outlives the caller that started it, so it may take
/// longer than the caller waits: the next one finds the session ready.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// After "wrong password" no login is tried for this long: vCenter locks an account after five failures
/// in three minutes by default, and every check would be one.
const REJECTED_LOGIN_PAUSE: Duration = Duration::from_secs(60);

/// A page of 200 virtual machines takes about 300 KiB; nothing asked for here comes near this.
pub const RESPONSE_LIMIT: usize = 4 * 1024 * 1024;

/// Shorter than the idle timeouts of vCenter's own reverse proxy and of the load balancers in front of it.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// Why vCenter gave no answer.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// No connection, no TLS, or the connection broke.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// Connected, but no whole answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// An HTTP status that no SOAP answer has.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// More than [`RESPONSE_LIMIT`].
    #[error("the answer is larger than {RESPONSE_LIMIT} bytes")]
    TooLarge,
    /// A fault, or something that is not a SOAP answer to the call.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// Logged in, but without a session cookie.
    #[error("the answer to Login sets no vmware_soap_session cookie")]
    NoCookie,
    /// The last login failed for the credentials, and it is too early to try again.
    #[error("user name or password was refused; the next login is tried in {0:?}")]
    Rejected(Duration),
    /// The authority's own task that logs in was ended, as happens at shutdown.
    #[error("the login was abandoned")]
    Abandoned,
}

impl Error {
    /// The vSphere fault type, if it is a fault.
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Unanswered(Unanswered::Fault(fault)) => Some(&fault.kind),
            _ => None,
        }
    }

    /// The privilege that the account lacks, if that is the fault.
    pub fn missing_privilege(&self) -> Option<&str> {
        match self {
            Self::Unanswered(Unanswered::Fault(fault)) if fault.kind == Fault::NO_PERMISSION => {
                Some(fault.privilege.as_deref().unwrap_or("(vCenter does not say which)"))
            }
            _ => None,
        }
    }

    /// The kind of failure, as a metric's label.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::Status(_) => "http_status",
            Self::TooLarge => "too_large",
            Self::Unanswered(Unanswered::Fault(_)) => "fault",
            Self::Unanswered(Unanswered::Malformed(_)) => "malformed",
            Self::NoCookie | Self::Rejected(_) | Self::Abandoned => "login",
        }
    }
}

/// Where a vCenter is and as whom to log in.
pub struct Endpoint {
    /// The SDK's URL, `https://HOST/sdk`.
    pub url: Url,
    /// Verifies the server.
    pub tls: ClientConfig,
    /// User name, such as `vncgate@vsphere.local`.
    pub username: String,
    /// The user's password.
    pub password: SecretString,
}

/// A SOAP client for one vCenter. All callers share one session and a pool of kept-alive connections.
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// A client that logs in at its first call. `service_host` names the vCenter in logs and metrics.
    pub fn new(
        service_host: &str,
        endpoint: Endpoint,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let http = outbound::client(endpoint.tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()?;
        let service_host = service_host.to_owned();
        let state = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { service_host, endpoint, http, state, metrics }) })
    }

    /// Makes one call. `method` is its name for the metrics; `request` and `reply` are of
    /// [`super::soap`]. An expired session is renewed and the call made once more.
    pub async fn call<T>(
        &self,
        method: &'static str,
        request: impl Fn(&ServiceContent) -> String,
        reply: impl Fn(&[u8]) -> Result<T, Unanswered>,
    ) -> Result<T, Error> {
        let session = self.session(None).await?;
        let first =
            self.shared.call(method, Some(&session.cookie), request(&session.content), &reply);
        match first.await {
            Err(error) if error.fault() == Some(Fault::NOT_AUTHENTICATED) => {
                let renewed = self.session(Some(&session)).await?;
                let request = request(&renewed.content);
                let (value, _) =
                    self.shared.call(method, Some(&renewed.cookie), request, &reply).await?;
                Ok(value)
            }
            answered => answered.map(|(value, _)| value),
        }
    }

    /// Which vCenter it is, by its own word.
    pub async fn instance_uuid(&self) -> Result<Option<String>, Error> {
        Ok(self.session(None).await?.content.instance_uuid.clone())
    }

    /// Ends the session, if there is one.
    pub async fn logout(&self) {
        let Some(session) = self.shared.state().session.take() else { return };
        let request = soap::logout(&session.content);
        let reply = |reply: &[u8]| soap::done(reply, "LogoutResponse");
        if let Err(error) = self.shared.call("Logout", Some(&session.cookie), request, reply).await
        {
            warn!(vcenter = self.shared.service_host, %error, "logout failed; the session expires by itself");
        }
    }

    /// The session in use, unless it is `expired`: then a new one. However many callers ask, one login
    /// is under way at a time, and all of them get what it gives.
    async fn session(&self, expired: Option<&Arc<Session>>) -> Result<Arc<Session>, Error> {
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
                    if let Some(pause) = state.rejected_until.and_then(remaining) {
                        return Err(Error::Rejected(pause));
                    }
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
    rejected_until: Option<Instant>,
}

/// A login under way. It runs as a task of its own, so that a caller who stops waiting ends it for nobody.
struct Login {
    task: AbortHandle,
    result: future::Shared<BoxFuture<'static, Result<Arc<Session>, Error>>>,
}

impl Login {
    fn start(shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        let task = tokio::spawn(async move { shared.renew().await });
        Self {
            task: task.abort_handle(),
            result: task.map(|ended| ended.unwrap_or(Err(Error::Abandoned))).boxed().shared(),
        }
    }
}

struct Shared {
    service_host: String,
    endpoint: Endpoint,
    http: reqwest::Client,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment: it is whole even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs in and notes the outcome for those who come later.
    async fn renew(&self) -> Result<Arc<Session>, Error> {
        let outcome = timeout(LOGIN_TIMEOUT, self.login())
            .await
            .unwrap_or(Err(Error::TimedOut(LOGIN_TIMEOUT)))
            .map(Arc::new);
        let vcenter = &self.service_host;
        let mut state = self.state();
        match &outcome {
            Ok(session) => {
                info!(vcenter, product = session.content.full_name, "logged in");
                state.session = Some(Arc::clone(session));
            }
            Err(error) => {
                warn!(vcenter, %error, "login failed");
                if error.fault() == Some(Fault::INVALID_LOGIN) {
                    state.rejected_until = Some(Instant::now() + REJECTED_LOGIN_PAUSE);
                }
            }
        }
        outcome
    }

    async fn login(&self) -> Result<Session, Error> {
        let request = soap::retrieve_service_content();
        let (content, early_cookie) =
            self.call("RetrieveServiceContent", None, request, soap::service_content).await?;
        let Endpoint { username, password, .. } = &self.endpoint;
        let request = soap::login(&content, username, password.expose_secret());
        let reply = |reply: &[u8]| soap::done(reply, "LoginResponse");
        let (_, cookie) = self.call("Login", early_cookie.as_ref(), request, reply).await?;
        let cookie = cookie.or(early_cookie).ok_or(Error::NoCookie)?;
        Ok(Session { cookie, content })
    }

    /// One call, measured, and the session cookie that its answer sets.
    async fn call<T>(
        &self,
        method: &'static str,
        cookie: Option<&HeaderValue>,
        request: String,
        reply: impl Fn(&[u8]) -> Result<T, Unanswered>,
    ) -> Result<(T, Option<HeaderValue>), Error> {
        let started = Instant::now();
        let answered = match self.post(cookie, Bytes::from(request)).await {
            Ok((body, cookie)) => reply(&body).map(|value| (value, cookie)).map_err(Error::from),
            Err(error) => Err(error),
        };
        let outcome = answered.as_ref().map_or_else(Error::outcome, |_| "ok");
        self.metrics.vcenter_call(&self.service_host, method, outcome, started.elapsed());
        answered
    }

    async fn post(
        &self,
        cookie: Option<&HeaderValue>,
        envelope: Bytes,
    ) -> Result<(Vec<u8>, Option<HeaderValue>), Error> {
        match self.post_once(cookie, envelope.clone()).await {
            // vCenter closes kept-alive connections as it likes, also while a request is on its way.
            // Every call made here may be made twice.
            Err(PostError::ConnectionLost(_)) => self.post_once(cookie, envelope).await,
            posted => posted,
        }
        .map_err(|error| match error {
            PostError::ConnectionLost(error) => unreachable(error),
            PostError::Other(error) => error,
        })
    }

    async fn post_once(
        &self,
        cookie: Option<&HeaderValue>,
        envelope: Bytes,
    ) -> Result<(Vec<u8>, Option<HeaderValue>), PostError> {
        let mut request = self
            .http
            .post(self.endpoint.url.clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", soap::SOAP_ACTION)
            .body(envelope);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let response = request.send().await.map_err(|error| {
            if error.is_connect() || error.is_timeout() {
                PostError::Other(unreachable(error))
            } else {
                PostError::ConnectionLost(error)
            }
        })?;
        // SOAP 1.1, section 6.2: a fault comes with status 500.
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(PostError::Other(Error::Status(status)));
        }
        let cookie = response.headers().get_all(SET_COOKIE).iter().find_map(session_cookie);
        let body = outbound::body(response, RESPONSE_LIMIT).await;
        let body = body.map_err(|error| match error {
            NoBody::Broken(error) => unreachable(error),
            NoBody::TooLarge => Error::TooLarge,
        });
        Ok((body.map_err(PostError::Other)?, cookie))
    }
}

enum PostError {
    /// Worth a second try on a new connection.
    ConnectionLost(reqwest::Error),
    Other(Error),
}

/// The `vmware_soap_session` pair of a `Set-Cookie` header, marked so that no `Debug` shows it.
fn session_cookie(header: &HeaderValue) -> Option<HeaderValue> {
    let pair = header.to_str().ok()?.split(';').next()?.trim();
    if !pair.starts_with("vmware_soap_session=") {
        return None;
    }
    let mut cookie = HeaderValue::from_str(pair).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

/// The whole chain of causes: reqwest's own message stops at "error sending request".
fn unreachable(error: reqwest::Error) -> Error {
    Error::Unreachable(outbound::explain(error))
}

fn remaining(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}
