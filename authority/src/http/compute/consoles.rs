//! Consoles: three ways to request one, and the lookup of what a token stands for.

use super::call::{Action, Call, json_body};
use super::microversion::Microversion;
use super::parameters::Parameters;
use super::schema::Object;
use crate::audit::Event;
use crate::console::issue::{IssueRequest, Issued};
use crate::console::{CheckError, TokenUse};
use crate::console_type::ConsoleType;
use crate::http::app::App;
use crate::http::audit::{CallerFields, OriginFields, TokenFields, log_token};
use crate::http::error::ApiError;
use crate::identity::Caller;
use crate::identity::policy::{ConsoleLimits, Right};
use crate::sites::SiteError;
use crate::text::is_invisible;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use vncgate_api::Access;

/// The action for machines of a vCenter, which upstream nova does not have.
const GET_VNC_CONSOLE_VMWARE: &str = "os-getVNCConsoleVmware";
/// nova's action for VNC, until `remote-consoles` replaced it.
const GET_VNC_CONSOLE: &str = "os-getVNCConsole";
/// nova's actions for other kinds of console, and the only type of each.
const OTHER_ACTIONS: [(&str, &str); 3] = [
    ("os-getSPICEConsole", "spice-html5"),
    ("os-getRDPConsole", "rdp-html5"),
    ("os-getSerialConsole", "serial"),
];

/// From this version on `remote-consoles` replaces the actions.
const REMOTE_CONSOLES: Microversion = Microversion::new(6);
/// From this version on `remote-consoles` accepts WebMKS.
const WEBMKS: Microversion = Microversion::new(8);
/// From this version on nova has SPICE consoles without a proxy, and its call about a token takes no parameters.
const SPICE_DIRECT: Microversion = Microversion::new(99);
/// From this version on tokens of every type of console can be looked up.
const AUTH_TOKENS: Microversion = Microversion::new(31);

/// nova's name for the policy about opening consoles.
const CONSOLES_RULE: &str = "os_compute_api:os-remote-consoles";
/// nova's name for the policy about looking tokens up.
const AUTH_TOKENS_RULE: &str = "os_compute_api:os-console-auth-tokens";

/// Longest host or hypervisor name (nova's schemas: 255).
const NAME_LIMIT: usize = 255;
/// Longest label of a token, in characters: a name and an occasion.
const LABEL_LIMIT: usize = 100;

#[derive(Deserialize)]
pub(super) struct ServerPath {
    id: String,
}

#[derive(Deserialize)]
pub(super) struct TokenPath {
    token: String,
}

/// The actions that request a console, of `POST /servers/{id}/action`.
pub(super) async fn action(
    app: &App,
    call: &Call,
    headers: &HeaderMap,
    Action { server, name, arguments }: Action,
) -> Result<Response, ApiError> {
    let request = match name.as_str() {
        GET_VNC_CONSOLE_VMWARE => vmware_console(arguments)?,
        GET_VNC_CONSOLE if call.version < REMOTE_CONSOLES => vnc_console(arguments)?,
        GET_VNC_CONSOLE => return Err(ApiError::not_found()),
        other => match OTHER_ACTIONS.iter().find(|(name, _)| *name == other) {
            Some((_, console)) if call.version < REMOTE_CONSOLES => {
                return Err(unavailable(console));
            }
            Some(_) => return Err(ApiError::not_found()),
            None => return Err(ApiError::bad_request(format!("There is no such action: {other}"))),
        },
    };
    let console = request.console;
    let url = issue(app, &call.caller, headers, &server, request).await?.url;
    Ok(Json(json!({"console": {"type": console.as_str(), "url": url}})).into_response())
}

/// `POST /servers/{id}/remote-consoles`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(server): Path<ServerPath>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let body = json_body(&headers, body).await?;
    if call.version < REMOTE_CONSOLES {
        return Err(ApiError::not_found());
    }
    let request = remote_console(body, call.version)?;
    let console = request.console;
    let url = issue(&app, &call.caller, &headers, &server.id, request).await?.url;
    let protocol = match console {
        ConsoleType::Novnc | ConsoleType::Xvpvnc => "vnc",
        ConsoleType::Webmks => "mks",
    };
    let console = json!({"protocol": protocol, "type": console.as_str(), "url": url});
    Ok(Json(json!({"remote_console": console})))
}

/// `GET /os-console-auth-tokens/{token}`. Unlike nova, it does not return a location that is no longer the machine's: a
/// proxy that connects there would show another machine's console.
pub(super) async fn show_token(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(path): Path<TokenPath>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    if call.version < AUTH_TOKENS {
        return Err(ApiError::malformed_or_incorrect());
    }
    Parameters::parse(query.as_deref())?.only(|_| false, call.version, SPICE_DIRECT)?;
    let caller = &call.caller;
    let scope = app.authorize(caller, Right::ReadToken, AUTH_TOKENS_RULE)?;
    let TokenUse { token, record, outcome } = app.consoles.record(&path.token, scope).await;
    let record = outcome.map_err(|error| {
        if matches!(error, CheckError::TokenInvalid) {
            app.throttle.unknown_token(app.portals.client(&headers));
        }
        let CallerFields { id, user, .. } = CallerFields::of(caller);
        let (fields, origin) =
            (TokenFields::of(token, record.as_deref()), OriginFields::of(&headers));
        log_token!(info, fields, origin, "token not shown"; shown_to = id, shown_to_user = user, %error,);
        match error {
            CheckError::TokenInvalid
            | CheckError::AccessNotEnforced
            | CheckError::BrowserUnknown
            | CheckError::UsedElsewhere
            | CheckError::UnknownOwner(_)
            | CheckError::OutOfScope
            | CheckError::OtherVcenter { .. }
            | CheckError::Moved { .. }
            | CheckError::Unavailable(_)
            | CheckError::SessionLimit(_)
            | CheckError::Ticket(_) => ApiError::item_not_found("Token not found"),
            CheckError::RemoteSite { reason, .. } => match reason {
                SiteError::Refused(refusal) if refusal.code.status() < 500 => {
                    ApiError::item_not_found("Token not found")
                }
                _ => ApiError::unavailable("The machine's site does not answer. Try again later."),
            },
            CheckError::Vcenter { error, .. } => ApiError::of_vcenter(&error),
            CheckError::Resolve(_) => ApiError::host_unresolved(),
            CheckError::HostCertificates(_) => ApiError::vcenter_unavailable(),
            CheckError::Audit(_) | CheckError::Store(_) => ApiError::store_unavailable(),
        }
    })?;
    // A WebMKS console has no port that a proxy could dial without a ticket, and nova's answer is never without one.
    let port = record.vnc_port.ok_or_else(|| ApiError::item_not_found("Token not found"))?;
    Ok(Json(json!({"console": {
        "instance_uuid": record.instance,
        "host": record.host,
        "port": port,
        "internal_access_path": null,
    }})))
}

/// The console that a caller requests, of the machine in the path.
#[derive(Debug)]
pub(in crate::http) struct ConsoleRequest {
    console: ConsoleType,
    hypervisor: Option<String>,
    host: Option<String>,
    options: ConsoleOptions,
}

impl ConsoleRequest {
    /// A console of this type, wherever its machine is.
    pub(in crate::http) fn new(console: ConsoleType, options: ConsoleOptions) -> Self {
        Self { console, hypervisor: None, host: None, options }
    }
}

/// What nova's calls do not have: properties that a caller may add.
#[derive(Debug, Default)]
pub(in crate::http) struct ConsoleOptions {
    access: Option<Access>,
    clipboard: Option<bool>,
    label: Option<String>,
    ttl: Option<Duration>,
}

impl ConsoleOptions {
    /// Reads `access`, `clipboard`, `label` and `ttl_seconds`.
    pub(in crate::http) fn read(arguments: &mut Object) -> Result<Self, ApiError> {
        let access = arguments.choice("access", &["control", "view"])?;
        let clipboard = arguments.boolean("clipboard")?;
        let label = arguments.nullable_string("label", LABEL_LIMIT)?;
        if label.as_ref().is_some_and(|label| label.contains(is_invisible)) {
            return Err(ApiError::bad_request("The label has a character that is not printable."));
        }
        let ttl = arguments.integer("ttl_seconds")?;
        Ok(Self {
            access: access.map(|access| match access {
                "view" => Access::View,
                _ => Access::Control,
            }),
            clipboard,
            label: label.filter(|label| !label.is_empty()),
            ttl: ttl.map(Duration::from_secs),
        })
    }

    /// What the user may do, within the caller's limits. Who asks for nothing gets what the limits allow.
    fn within(&self, limits: ConsoleLimits) -> Result<ConsoleLimits, ApiError> {
        let wanted = ConsoleLimits {
            access: self.access.unwrap_or(limits.access),
            clipboard: self.clipboard.unwrap_or(limits.clipboard),
        };
        if wanted.access != limits.and(wanted).access {
            return Err(ApiError::limited("Your role or project may view consoles only."));
        }
        if wanted.clipboard != limits.and(wanted).clipboard {
            return Err(ApiError::limited("Your project's consoles take no clipboard."));
        }
        Ok(wanted)
    }
}

/// Issues a console, and records the outcome in log and metrics.
pub(in crate::http) async fn issue(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    id: &str,
    request: ConsoleRequest,
) -> Result<Issued, ApiError> {
    let scope = app.authorize(caller, Right::ViewConsole, CONSOLES_RULE)?;
    let instance: Uuid = id.parse().map_err(|_| ApiError::instance_not_found(id))?;
    let ConsoleRequest { console, hypervisor, host, options } = request;
    let ConsoleLimits { access, clipboard } = options.within(app.policy.console_limits(caller))?;
    let request = IssueRequest {
        caller: caller.id.clone(),
        project: caller.project.clone(),
        user: caller.user().map(str::to_owned),
        instance,
        console,
        hypervisor,
        host,
        access,
        clipboard,
        label: options.label,
        ttl: options.ttl,
    };
    let (console_type, origin) = (console.as_str(), OriginFields::of(headers));
    match app.consoles.issue(&request, scope).await {
        Ok(issued) => {
            let fields = TokenFields::of(Some(issued.id), Some(&issued.record));
            let port = issued.record.vnc_port.map(u16::from);
            log_token!(info, fields, origin, "token issued"; port,);
            app.metrics.issue(console_type, "issued");
            let expires_at =
                humantime::format_rfc3339_seconds(issued.record.expires_at).to_string();
            app.audit.record(|| Event::TokenIssued { token: fields, origin, expires_at });
            Ok(issued)
        }
        Err(error) => {
            let refused = ApiError::of_issue(&request, &error);
            let fields = TokenFields::of_request(caller, instance, console);
            log_token!(
                warn, fields, origin, "token not issued"; refusal = refused.name(), %error,
            );
            app.metrics.issue(console_type, refused.name());
            app.audit.record(|| Event::TokenRefused {
                token: fields,
                origin,
                refusal: refused.name(),
                error: error.to_string(),
            });
            Err(refused)
        }
    }
}

fn vnc_console(arguments: Value) -> Result<ConsoleRequest, ApiError> {
    let mut arguments = Object::new(Some(GET_VNC_CONSOLE), arguments)?;
    let console = arguments.choice("type", &["novnc", "xvpvnc"])?;
    let console = arguments.require("type", console)?;
    let options = ConsoleOptions::read(&mut arguments)?;
    arguments.end()?;
    Ok(ConsoleRequest::new(console_type(console)?, options))
}

fn vmware_console(arguments: Value) -> Result<ConsoleRequest, ApiError> {
    let mut arguments = Object::new(Some(GET_VNC_CONSOLE_VMWARE), arguments)?;
    let console = arguments.nullable_string("type", NAME_LIMIT)?;
    // Clients send either name for the same thing.
    let hypervisor = arguments.nullable_string("hypervisor_name", NAME_LIMIT)?;
    let service_host = arguments.nullable_string("service_host", NAME_LIMIT)?;
    let host = arguments.nullable_string("host", NAME_LIMIT)?;
    let console = arguments.require("type", console)?;
    let options = ConsoleOptions::read(&mut arguments)?;
    arguments.end()?;
    Ok(ConsoleRequest {
        console: console_type(&console)?,
        hypervisor: hypervisor.or(service_host),
        host,
        options,
    })
}

fn remote_console(body: Value, version: Microversion) -> Result<ConsoleRequest, ApiError> {
    const PROTOCOLS: [&str; 5] = ["vnc", "spice", "serial", "rdp", "mks"];
    const TYPES: [&str; 7] =
        ["novnc", "xvpvnc", "spice-html5", "serial", "rdp-html5", "webmks", "spice-direct"];
    // Newer ones are at the end.
    let (protocols, types) = match version {
        version if version < WEBMKS => (&PROTOCOLS[..4], &TYPES[..5]),
        version if version < SPICE_DIRECT => (&PROTOCOLS[..], &TYPES[..6]),
        _ => (&PROTOCOLS[..], &TYPES[..]),
    };
    let mut body = Object::new(None, body)?;
    let mut arguments = body.object("remote_console")?;
    let protocol = arguments.choice("protocol", protocols)?;
    let console = arguments.choice("type", types)?;
    let protocol = arguments.require("protocol", protocol)?;
    let console = arguments.require("type", console)?;
    let options = ConsoleOptions::read(&mut arguments)?;
    arguments.end()?;
    body.end()?;
    match (protocol, console) {
        ("vnc", console) => Ok(ConsoleRequest::new(console_type(console)?, options)),
        ("mks", "webmks") => Ok(ConsoleRequest::new(ConsoleType::Webmks, options)),
        ("mks", console) => Err(invalid(console)),
        ("rdp", _) => Err(unavailable(protocol)),
        _ => Err(unavailable(console)),
    }
}

fn console_type(name: &str) -> Result<ConsoleType, ApiError> {
    match name {
        "novnc" => Ok(ConsoleType::Novnc),
        "xvpvnc" => Ok(ConsoleType::Xvpvnc),
        other => Err(invalid(other)),
    }
}

fn invalid(console: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid console type {console}"))
}

fn unavailable(console: &str) -> ApiError {
    ApiError::bad_request(format!("Unavailable console type {console}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_what_its_limits_allow_and_is_refused_more() {
        const VIEW: ConsoleLimits = ConsoleLimits { access: Access::View, clipboard: true };
        const SILENT: ConsoleLimits = ConsoleLimits { access: Access::Control, clipboard: false };
        let within = |access, clipboard, limits| {
            ConsoleOptions { access, clipboard, ..ConsoleOptions::default() }.within(limits).ok()
        };
        let (control, view) = (Some(Access::Control), Some(Access::View));
        for (access, clipboard, limits, expected) in [
            (None, None, ConsoleLimits::NONE, Some(ConsoleLimits::NONE)),
            (view, None, ConsoleLimits::NONE, Some(VIEW)),
            (None, Some(false), ConsoleLimits::NONE, Some(SILENT)),
            (None, None, VIEW, Some(VIEW)),
            (view, Some(true), VIEW, Some(VIEW)),
            (control, None, VIEW, None),
            (None, None, SILENT, Some(SILENT)),
            (control, Some(true), SILENT, None),
        ] {
            assert_eq!(within(access, clipboard, limits), expected, "{access:?} {clipboard:?}");
        }
    }
}
