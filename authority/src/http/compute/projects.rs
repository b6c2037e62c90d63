//! Whose machines a request is about, as nova has it: the caller's project's, or with `all_tenants` those of all.

use super::call::Call;
use super::document::Server;
use super::parameters::{Parameters, is_true};
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::vcenter::VcenterError;
use crate::vcenter::reference::MachineRef;
use crate::vcenter::scope::Scope;
use crate::vcenter::vcenters::LocatedMachine;
use futures_util::future::join_all;
use std::collections::HashMap;
use tracing::warn;

/// The machines that a list is asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Those of the caller's project. nova ignores a filter by project then.
    Own,
    /// Those of every project (`all_tenants`).
    All,
    /// Those of one project out of all.
    Project(String),
}

impl Wanted {
    /// Reads `all_tenants` with `project_id`, which `tenant_id` stands for too.
    pub(super) fn parse(parameters: &Parameters) -> Result<Self, ApiError> {
        let all = match parameters.last("all_tenants") {
            None => false,
            Some("") => true,
            Some(text) => is_true(text).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "Invalid input received: Unrecognized value '{text}', acceptable values are: '0', '1', 'f', \
                     'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'"
                ))
            })?,
        };
        let project = parameters.last("project_id").or_else(|| parameters.last("tenant_id"));
        Ok(match (all, project) {
            (false, _) => Self::Own,
            (true, Some(project)) => Self::Project(project.to_owned()),
            (true, None) => Self::All,
        })
    }
}

/// A part of the inventories whose machines a caller may see, and the project that they belong to.
pub(super) struct Selection<'a> {
    /// The part.
    pub(super) scope: &'a Scope,
    /// The project, if all of the part belongs to one.
    pub(super) project: Option<&'a str>,
}

/// Whether the caller is what nova calls an administrator: not confined to a project's machines.
pub(super) fn is_admin(app: &App, call: &Call) -> bool {
    matches!(app.policy.scope(&call.caller), Scope::Everything)
}

/// The part of the inventories that a request is about. `rule` is nova's policy about what is not the caller's own.
pub(super) fn select<'a>(
    app: &'a App,
    call: &'a Call,
    wanted: &'a Wanted,
    rule: &str,
) -> Result<Selection<'a>, ApiError> {
    let own = call.caller.project.as_deref();
    let scope = app.policy.scope(&call.caller);
    match (scope, wanted) {
        (Scope::Within(_), Wanted::Own) => Ok(Selection { scope, project: own }),
        (Scope::Within(_), _) => Err(ApiError::forbidden(rule)),
        (Scope::Everything, Wanted::Project(project)) => Ok(of_project(app, project)),
        (Scope::Everything, Wanted::Own) => match own {
            Some(project) => Ok(of_project(app, project)),
            // A caller without a project has no part of its own.
            None => Ok(Selection { scope, project: None }),
        },
        (Scope::Everything, Wanted::All) => Ok(Selection { scope, project: None }),
    }
}

fn of_project<'a>(app: &'a App, project: &'a str) -> Selection<'a> {
    Selection { scope: scope_of(app, project), project: Some(project) }
}

/// The machines of one project. One that the configuration does not name has none.
pub(super) fn scope_of<'a>(app: &'a App, project: &str) -> &'a Scope {
    const NOTHING: &Scope = &Scope::Within(Vec::new());
    app.policy.projects.get(project).unwrap_or(NOTHING)
}

/// The project of each machine that belongs to one.
pub(super) struct Owners<'a>(HashMap<(&'a str, MachineRef), &'a str>);

impl<'a> Owners<'a> {
    /// Lists the machines of every project. A machine that is in the folders of two belongs to the first by its
    /// identifier.
    pub(super) async fn read(app: &'a App) -> Self {
        let projects = sorted(app).into_iter().map(|(project, scope)| async move {
            let (machines, _) = app.consoles.vcenters().list(scope, |_| true).await;
            (project, machines)
        });
        let mut owners = HashMap::new();
        for (project, machines) in join_all(projects).await {
            for located in machines {
                let key = (located.vcenter.service_host(), located.machine.reference.clone());
                owners.entry(key).or_insert(project);
            }
        }
        Self(owners)
    }

    /// The project that a machine belongs to, if it belongs to one.
    pub(super) fn of(&self, located: &LocatedMachine<'a>) -> Option<&'a str> {
        let key = (located.vcenter.service_host(), located.machine.reference.clone());
        self.0.get(&key).copied()
    }
}

/// Adds to each server the project that it belongs to. As long as the watches are current, that costs a look at these
/// machines alone.
pub(super) async fn add_owners<'a>(app: &'a App, servers: &mut [Server<'a>]) {
    let parts = sorted(app);
    let vcenters = app.consoles.vcenters();
    let mut owners = None;
    for server in servers {
        server.project = match vcenters.watched_part_of(&server.located, parts.iter().copied()) {
            Some(project) => project,
            None => {
                if owners.is_none() {
                    owners = Some(Owners::read(app).await);
                }
                owners.as_ref().and_then(|owners| owners.of(&server.located))
            }
        };
    }
}

/// The project of one machine that the caller sees.
pub(super) async fn owner<'a>(
    app: &'a App,
    call: &'a Call,
    located: &LocatedMachine<'_>,
) -> Option<&'a str> {
    if !is_admin(app, call) {
        return call.caller.project.as_deref();
    }
    let vcenters = app.consoles.vcenters();
    if let Some(part) = vcenters.watched_part_of(located, sorted(app).into_iter()) {
        return part;
    }
    let part = vcenters.part_of(located, sorted(app).into_iter()).await;
    part.unwrap_or_else(|error: VcenterError| {
        warn!(%error, "cannot read which project a machine belongs to");
        None
    })
}

fn sorted(app: &App) -> Vec<(&str, &Scope)> {
    let mut projects: Vec<(&str, &Scope)> =
        app.policy.projects.iter().map(|(project, scope)| (project.as_str(), scope)).collect();
    projects.sort_unstable_by_key(|(project, _)| *project);
    projects
}
