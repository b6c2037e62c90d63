//! A caller who sees the machines of one folder alone, beside the administrator that a configuration has.

use crate::authority::{Authority, Config, new_api_token};
use crate::certificate::plain_http_client;
use crate::vcsim::{Vcsim, Vm};
use reqwest::{Method, RequestBuilder};

/// The tenant's folder of the inventory.
pub const FOLDER: &str = "/DC0/vm/tenant-a";

/// The tenant: an API token of a project that has [`FOLDER`].
#[derive(Debug)]
pub struct Tenant {
    token: String,
    block: String,
}

impl Tenant {
    /// A tenant with this role.
    pub fn new(role: &str) -> Self {
        let (token, sha256) = new_api_token("tenant");
        let block = format!(
            "[[auth.api_token]]\nname = \"tenant\"\nsha256 = \"{sha256}\"\nroles = [{role:?}]\n\
             project = \"tenant\"\n\n[[auth.project]]\nid = \"tenant\"\nvcenter = \"vcenter-a\"\n\
             folders = [{FOLDER:?}]\n"
        );
        Self { token, block }
    }

    /// A configuration by which the authority knows the tenant.
    pub fn known_in(&self, config: Config) -> Config {
        config.with("\n[log]\n", &format!("\n{}\n[log]\n", self.block))
    }

    /// Makes the tenant's folder.
    pub fn create_folder(vcenter: &Vcsim) {
        vcenter.govc(&["folder.create", FOLDER]);
    }

    /// Moves a machine into the tenant's folder.
    pub fn take(vcenter: &Vcsim, vm: &Vm) {
        vcenter.govc(&["object.mv", &format!("/DC0/vm/{}", vm.name), FOLDER]);
    }

    /// The tenant's request to the public listener of an authority, without Envoy before it.
    pub fn request(&self, authority: &Authority, method: Method, path: &str) -> RequestBuilder {
        let (public, _) = authority.listeners();
        let request = plain_http_client().request(method, format!("http://{public}{path}"));
        request.header("X-Auth-Token", &self.token)
    }
}
