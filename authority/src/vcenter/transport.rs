//! One SOAP call over HTTP: post the envelope, read the reply, measure both.

use super::error::{RESPONSE_LIMIT, VcenterError};
use super::soap::{self, Fault, SoapError};
use crate::http_client::{self, ResponseBodyError};
use crate::password::PasswordFile;
use crate::telemetry::Metrics;
use crate::text::printable;
use crate::tls::expiry;
use crate::traces::TARGET;
use axum::body::Bytes;
use reqwest::StatusCode;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE,
};
use reqwest::tls::TlsInfo;
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Level, span};
use url::Url;

/// A vCenter on the same network answers a SYN in milliseconds; two seconds allow for one lost SYN and its
/// retransmission.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Shorter than the idle timeouts of vCenter's own reverse proxy and of the load balancers in front of it.
const IDLE_CONNECTION: Duration = Duration::from_secs(55);

/// RFC 9110, section 12.5.3: no encoding.
const IDENTITY: &str = "identity";

/// Where a vCenter is and as whom to log in.
pub struct Endpoint {
    /// The SDK's URL, `https://HOST/sdk`.
    pub url: Url,
    /// Verifies the server.
    pub tls: ClientConfig,
    /// User name, such as `vncgate@vsphere.local`.
    pub username: String,
    /// Holds the user's password, and is read at each login.
    pub password: PasswordFile,
}

/// Carries calls to one vCenter over a pool of kept-alive connections. It knows nothing of sessions but the
/// cookie that it is given.
pub(super) struct Transport {
    /// Names the vCenter in logs and metrics.
    pub(super) service_host: String,
    pub(super) endpoint: Endpoint,
    http: reqwest::Client,
    /// The certificate that it showed last, in DER.
    certificate: Mutex<Vec<u8>>,
    metrics: Arc<Metrics>,
}

impl Transport {
    pub(super) fn new(
        service_host: &str,
        endpoint: Endpoint,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        let http = http_client::builder(endpoint.tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION)
            // For the metric of the certificate's expiry.
            .tls_info(true)
            .build()?;
        let certificate = Mutex::default();
        metrics.vcenter_added(service_host);
        Ok(Self { service_host: service_host.to_owned(), endpoint, http, certificate, metrics })
    }

    /// Makes one call and returns what `reply` reads, with the session cookie that the reply sets. The metrics
    /// count it as `method`.
    pub(super) async fn call<T>(
        &self,
        method: &'static str,
        cookie: Option<&HeaderValue>,
        request: String,
        reply: impl Fn(&[u8]) -> Result<T, SoapError>,
    ) -> Result<(T, Option<HeaderValue>), VcenterError> {
        self.call_that_waits(method, Duration::ZERO, cookie, request, reply).await
    }

    /// The same for a call that vCenter may answer only after `wait`, as it is asked to.
    pub(super) async fn call_that_waits<T>(
        &self,
        method: &'static str,
        wait: Duration,
        cookie: Option<&HeaderValue>,
        request: String,
        reply: impl Fn(&[u8]) -> Result<T, SoapError>,
    ) -> Result<(T, Option<HeaderValue>), VcenterError> {
        self.measured(method, wait, async {
            let (body, cookie) = self.post(cookie, Bytes::from(request)).await?;
            Ok((reply(&body)?, cookie))
        })
        .await
    }

    /// Reads `/screen` of vCenter's web server, with what SOAP would have answered for its statuses. The metrics count it as
    /// `Screen`.
    pub(super) async fn screen(
        &self,
        cookie: &HeaderValue,
        machine: &str,
    ) -> Result<Vec<u8>, VcenterError> {
        let mut url = self.endpoint.url.clone();
        url.set_path("/screen");
        url.query_pairs_mut().clear().append_pair("id", machine);
        self.measured("Screen", Duration::ZERO, async {
            let request = self.http.get(url).header(COOKIE, cookie);
            let request = request.header(ACCEPT_ENCODING, IDENTITY);
            let response = request.send().await.map_err(unreachable)?;
            self.read_certificate(&response);
            let kind = match response.status() {
                StatusCode::OK => return read_body(response).await,
                StatusCode::UNAUTHORIZED => Fault::NOT_AUTHENTICATED,
                StatusCode::FORBIDDEN => Fault::NO_PERMISSION,
                StatusCode::NOT_FOUND => Fault::MANAGED_OBJECT_NOT_FOUND,
                status => return Err(VcenterError::Status(status)),
            };
            Err(SoapError::Fault(Fault::from_kind(kind, "as the status of /screen")).into())
        })
        .await
    }

    /// Makes a call that the metrics count and the traces have as `method`. vCenter may take `wait` for its answer.
    async fn measured<T>(
        &self,
        method: &'static str,
        wait: Duration,
        call: impl Future<Output = Result<T, VcenterError>>,
    ) -> Result<T, VcenterError> {
        let started = Instant::now();
        let mut measured = Call { transport: self, method, wait, started, ended: false };
        let span = span!(
            target: TARGET,
            Level::TRACE,
            "vcenter",
            otel.name = method,
            otel.kind = "client",
            vcenter = self.service_host,
            outcome = Empty,
        );
        let result = call.instrument(span.clone()).await;
        let outcome = result.as_ref().map_or_else(VcenterError::outcome, |_| "ok");
        span.record("outcome", outcome);
        measured.end(result.as_ref().err());
        result
    }

    /// Keeps the expiry of the certificate that vCenter shows in the metrics.
    fn read_certificate(&self, response: &reqwest::Response) {
        let Some(info) = response.extensions().get::<TlsInfo>() else { return };
        let Some(shown) = info.peer_certificate() else { return };
        let mut known = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != shown {
            shown.clone_into(&mut known);
            if let Some(expires_at) = expiry(shown) {
                self.metrics.certificate("vcenter", &self.service_host, expires_at);
            }
        }
    }

    async fn post(
        &self,
        cookie: Option<&HeaderValue>,
        envelope: Bytes,
    ) -> Result<(Vec<u8>, Option<HeaderValue>), VcenterError> {
        match self.post_once(cookie, envelope.clone()).await {
            // vCenter closes kept-alive connections as it likes, also while a request is on its way. Every call
            // made here may be made twice.
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
            // vCenter compresses its replies unless this is asked for.
            .header(ACCEPT_ENCODING, IDENTITY)
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
        self.read_certificate(&response);
        // SOAP 1.1, section 6.2: a fault comes with status 500.
        let status = response.status();
        if status != StatusCode::OK && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(PostError::Other(VcenterError::Status(status)));
        }
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != IDENTITY
        {
            let encoding = printable(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(PostError::Other(VcenterError::Encoded(encoding)));
        }
        let cookie = response.headers().get_all(SET_COOKIE).iter().find_map(session_cookie);
        Ok((read_body(response).await.map_err(PostError::Other)?, cookie))
    }
}

async fn read_body(response: reqwest::Response) -> Result<Vec<u8>, VcenterError> {
    let body = http_client::read_body(response, RESPONSE_LIMIT).await;
    body.map_err(|error| match error {
        ResponseBodyError::Broken(error) => unreachable(error),
        ResponseBodyError::TooLarge => VcenterError::TooLarge,
    })
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.metrics.vcenter_removed(&self.service_host);
    }
}

/// A call under way, which the metrics count when it ends. A caller stops waiting by dropping it.
struct Call<'a> {
    transport: &'a Transport,
    method: &'static str,
    /// For how long vCenter may be silent without being slow.
    wait: Duration,
    started: Instant,
    ended: bool,
}

impl Call<'_> {
    fn end(&mut self, error: Option<&VcenterError>) {
        self.ended = true;
        let Transport { service_host, metrics, .. } = self.transport;
        let outcome = error.map_or("ok", VcenterError::outcome);
        metrics.vcenter_call(service_host, self.method, outcome, self.started.elapsed());
        match error {
            None => metrics.vcenter_answered(service_host, true),
            // An expired session is replaced by the next login.
            Some(error) if error.fault() == Some(Fault::NOT_AUTHENTICATED) => {}
            Some(error) if error.refusal().is_some() => {
                metrics.vcenter_answered(service_host, false);
            }
            Some(_) => metrics.vcenter_down(service_host),
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // One that is dropped at once says nothing about vCenter: its caller went away.
        if !self.ended && self.started.elapsed() >= self.wait + CONNECT_TIMEOUT {
            self.end(Some(&VcenterError::TimedOut(self.started.elapsed())));
        }
    }
}

enum PostError {
    /// Worth a second try on a new connection.
    ConnectionLost(reqwest::Error),
    Other(VcenterError),
}

/// The `vmware_soap_session` pair of a `Set-Cookie` header, marked sensitive so that no `Debug` shows it.
fn session_cookie(header: &HeaderValue) -> Option<HeaderValue> {
    let pair = header.to_str().ok()?.split(';').next()?.trim();
    if !pair.starts_with("vmware_soap_session=") {
        return None;
    }
    let mut cookie = HeaderValue::from_str(pair).ok()?;
    cookie.set_sensitive(true);
    Some(cookie)
}

/// Keeps the whole chain of causes: reqwest's own message stops at "error sending request".
fn unreachable(error: reqwest::Error) -> VcenterError {
    VcenterError::Unreachable(http_client::explain(error))
}
