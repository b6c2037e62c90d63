//! What callers may do, and with which machines.

use super::caller::Caller;
use super::roles::Roles;
use crate::vcenter::scope::Scope;
use std::collections::HashMap;

/// A right that a role may grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See machines and open their consoles.
    OpenConsole,
    /// Read what tokens were issued for.
    ReadToken,
    /// End tokens before their time.
    RevokeToken,
}

/// Which roles grant which rights, from the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Roles with [`Right::OpenConsole`].
    pub open_console: Roles,
    /// Roles with [`Right::ReadToken`].
    pub read_token: Roles,
    /// Roles with [`Right::RevokeToken`].
    pub revoke_token: Roles,
    /// Roles that are not confined to the machines of the caller's project.
    pub every_project: Roles,
    /// The domains in whose projects a Keystone role of `every_project` counts, by identifier or name. `None` for every
    /// domain. It confines no caller with an API token, whose roles the configuration has.
    pub every_project_domains: Option<Vec<String>>,
    /// The machines of each project, by the project's identifier.
    pub projects: HashMap<String, Scope>,
}

impl Policy {
    /// Does this caller have that right? The right extends to the machines of [`Self::scope`].
    pub fn allows(&self, caller: &Caller, right: Right) -> bool {
        let roles = match right {
            Right::OpenConsole => &self.open_console,
            Right::ReadToken => &self.read_token,
            Right::RevokeToken => &self.revoke_token,
        };
        caller.roles.any_of(roles)
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
            read_token: Roles::from_iter(["admin"]),
            revoke_token: Roles::from_iter(["admin"]),
            every_project: Roles::from_iter(["admin"]),
            every_project_domains: None,
            projects: HashMap::from([("a".to_owned(), tenant_a())]),
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
        for right in [Right::OpenConsole, Right::ReadToken, Right::RevokeToken] {
            assert!(policy.allows(&caller(&["ADMIN"], None), right));
            assert!(!policy.allows(&caller(&[], Some("a")), right));
        }
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
