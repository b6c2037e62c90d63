//! What callers may do, and with which machines.

use super::caller::Caller;
use super::roles::Roles;
use crate::vcenter::scope::Scope;
use std::collections::HashMap;
use vncgate_api::Access;

/// A right that a role may grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Open consoles, and do everything there.
    OpenConsole,
    /// See machines, and open their consoles to view them. [`Self::OpenConsole`] includes it.
    ViewConsole,
    /// Read what tokens were issued for.
    ReadToken,
    /// End tokens before their time.
    RevokeToken,
    /// Switch machines on and off.
    Power,
    /// See which consoles are open, and whose they are.
    SeeSessions,
    /// End open consoles.
    EndSessions,
    /// See what machines show, as pictures.
    Screenshot,
}

/// Which roles grant which rights, from the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Roles with [`Right::OpenConsole`].
    pub open_console: Roles,
    /// Roles with [`Right::ViewConsole`] alone.
    pub view_console: Roles,
    /// Roles with [`Right::ReadToken`].
    pub read_token: Roles,
    /// Roles with [`Right::RevokeToken`].
    pub revoke_token: Roles,
    /// Roles with [`Right::Power`].
    pub power: Roles,
    /// Roles with [`Right::SeeSessions`].
    pub see_sessions: Roles,
    /// Roles with [`Right::EndSessions`].
    pub end_sessions: Roles,
    /// Roles with [`Right::Screenshot`].
    pub screenshot: Roles,
    /// Roles that are not confined to the machines of the caller's project.
    pub every_project: Roles,
    /// The domains in whose projects a Keystone role of `every_project` counts, by identifier or name. `None` for every
    /// domain. It confines no caller with an API token, whose roles the configuration has.
    pub every_project_domains: Option<Vec<String>>,
    /// The machines of each project, by the project's identifier.
    pub projects: HashMap<String, Scope>,
    /// What the users of a project's tokens may do at most, by the project's identifier. A project that is not named has no
    /// limit of its own.
    pub project_limits: HashMap<String, ConsoleLimits>,
}

/// What the user of a console may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleLimits {
    /// What the user may do.
    pub access: Access,
    /// Whether the user may send a clipboard.
    pub clipboard: bool,
}

impl ConsoleLimits {
    /// No limit.
    pub const NONE: Self = Self { access: Access::Control, clipboard: true };

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let control = self.access.is_control() && other.access.is_control();
        Self {
            access: if control { Access::Control } else { Access::View },
            clipboard: self.clipboard && other.clipboard,
        }
    }
}

impl Policy {
    /// Does this caller have that right? The right extends to the machines of [`Self::scope`].
    pub fn allows(&self, caller: &Caller, right: Right) -> bool {
        let roles = match right {
            Right::OpenConsole => &self.open_console,
            Right::ViewConsole if caller.roles.any_of(&self.open_console) => return true,
            Right::ViewConsole => &self.view_console,
            Right::ReadToken => &self.read_token,
            Right::RevokeToken => &self.revoke_token,
            Right::Power => &self.power,
            Right::SeeSessions => &self.see_sessions,
            Right::EndSessions => &self.end_sessions,
            Right::Screenshot => &self.screenshot,
        };
        caller.roles.any_of(roles)
    }

    /// What the users of a token of this caller may do at most, if it has [`Right::ViewConsole`]. The limits of its project
    /// are no limits of a caller that may act for every project.
    pub fn console_limits(&self, caller: &Caller) -> ConsoleLimits {
        let by_role = match self.allows(caller, Right::OpenConsole) {
            true => ConsoleLimits::NONE,
            false => ConsoleLimits { access: Access::View, ..ConsoleLimits::NONE },
        };
        let project = caller.project.as_ref().and_then(|id| self.project_limits.get(id));
        match project {
            Some(limits) if *self.scope(caller) != Scope::Everything => by_role.and(*limits),
            _ => by_role,
        }
    }

    /// The machines that this caller can see. A project that the configuration does not name has no machines.
    pub fn scope(&self, caller: &Caller) -> &Scope {
        const NOTHING: &Scope = &Scope::Within(Vec::new());
        if caller.roles.any_of(&self.every_project) && self.is_domain_of_every_project(caller) {
            return &Scope::Everything;
        }
        caller.project.as_ref().and_then(|project| self.projects.get(project)).unwrap_or(NOTHING)
    }

    fn is_domain_of_every_project(&self, caller: &Caller) -> bool {
        match (&self.every_project_domains, &caller.keystone) {
            (None, _) | (_, None) => true,
            (Some(domains), Some(keystone)) => {
                keystone.domain.iter().any(|domain| domains.contains(domain))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeystoneScope;
    use crate::vcenter::scope::{Container, ContainerKind, Locator};

    fn tenant_a() -> Scope {
        Scope::Within(vec![Container {
            service_host: "vcenter-a".to_owned(),
            kind: ContainerKind::Folder,
            locator: Locator::Path("DC0/vm/tenant-a".to_owned()),
        }])
    }

    fn policy() -> Policy {
        Policy {
            open_console: Roles::from_iter(["admin", "member"]),
            view_console: Roles::from_iter(["reader"]),
            read_token: Roles::from_iter(["admin"]),
            revoke_token: Roles::from_iter(["admin"]),
            power: Roles::from_iter(["operator"]),
            see_sessions: Roles::from_iter(["admin"]),
            end_sessions: Roles::from_iter(["admin"]),
            screenshot: Roles::from_iter(["operator"]),
            every_project: Roles::from_iter(["admin"]),
            every_project_domains: None,
            projects: HashMap::from([("a".to_owned(), tenant_a())]),
            project_limits: HashMap::new(),
        }
    }

    fn caller(roles: &[&str], project: Option<&str>) -> Caller {
        Caller {
            id: "keystone:1".to_owned(),
            name: "somebody".to_owned(),
            roles: roles.iter().collect(),
            project: project.map(str::to_owned),
            keystone: Some(KeystoneScope {
                domain: vec!["default".to_owned(), "Default".to_owned()],
                access_rules: None,
            }),
        }
    }

    /// The administrator of any domain could see the machines of all.
    #[test]
    fn a_role_for_every_project_counts_in_the_named_domains_alone() {
        let domains = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            Policy { every_project_domains: Some(names), ..policy() }
        };
        let admin = caller(&["admin"], Some("a"));
        for named in [&["default"][..], &["Default"], &["x", "default"]] {
            assert_eq!(*domains(named).scope(&admin), Scope::Everything, "{named:?}");
        }
        for named in [&["x"][..], &[], &["DEFAULT"], &[""]] {
            assert_eq!(*domains(named).scope(&admin), tenant_a(), "{named:?}");
        }
        let portal = Caller { keystone: None, ..admin };
        assert_eq!(*domains(&["x"]).scope(&portal), Scope::Everything, "an API token's");
    }

    #[test]
    fn a_right_comes_with_a_role_in_any_case() {
        let policy = policy();
        let member = caller(&["reader", "Member"], Some("a"));
        assert!(policy.allows(&member, Right::OpenConsole));
        assert!(!policy.allows(&member, Right::ReadToken));
        assert!(!policy.allows(&member, Right::RevokeToken));
        assert!(!policy.allows(&member, Right::SeeSessions));
        assert!(!policy.allows(&member, Right::EndSessions));
        for right in [
            Right::OpenConsole,
            Right::ReadToken,
            Right::RevokeToken,
            Right::SeeSessions,
            Right::EndSessions,
        ] {
            assert!(policy.allows(&caller(&["ADMIN"], None), right));
            assert!(!policy.allows(&caller(&[], Some("a")), right));
        }
    }

    #[test]
    fn a_role_or_a_project_may_be_limited_to_view() {
        let view = ConsoleLimits { access: Access::View, clipboard: true };
        let no_clipboard = ConsoleLimits { access: Access::Control, clipboard: false };
        let limits = [("a".to_owned(), no_clipboard), ("b".to_owned(), view)];
        let policy = Policy { project_limits: HashMap::from(limits), ..policy() };
        let (member, reader) = (["member"], ["reader"]);
        for (roles, project, expected) in [
            (&member, "a", no_clipboard),
            (&member, "b", view),
            (&member, "c", ConsoleLimits::NONE),
            (&["admin"], "b", ConsoleLimits::NONE),
            (&reader, "c", view),
            (&reader, "a", ConsoleLimits { access: Access::View, clipboard: false }),
        ] {
            let caller = caller(roles, Some(project));
            assert!(policy.allows(&caller, Right::ViewConsole), "{roles:?}");
            assert_eq!(policy.console_limits(&caller), expected, "{roles:?} in {project}");
        }
        let viewer = caller(&["reader"], Some("a"));
        assert!(!policy.allows(&viewer, Right::OpenConsole));
        assert!(!policy.allows(&caller(&["other"], Some("a")), Right::ViewConsole));
    }

    #[test]
    fn a_project_has_its_own_machines_and_a_project_that_is_not_named_has_none() {
        let policy = policy();
        assert_eq!(*policy.scope(&caller(&["member"], Some("a"))), tenant_a());
        for project in [Some("b"), None] {
            assert_eq!(*policy.scope(&caller(&["member"], project)), Scope::Within(Vec::new()));
            assert_eq!(*policy.scope(&caller(&["admin"], project)), Scope::Everything);
        }
    }
}
