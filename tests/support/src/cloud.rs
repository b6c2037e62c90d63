//! An OpenStack cloud: Keystone, a vCenter with two tenants' machines, and the gateway.

use crate::authority::Config;
use crate::certificate::Ca;
use crate::console_api::API_TOKEN;
use crate::esxi::Esxi;
use crate::gateway::{ESXI_HOSTS, Gateway};
use crate::keystone::{ADMINISTRATOR, Keystone, PASSWORD, installed, python};
use crate::process::Run;
use crate::screen::{Qemu, RfbServer};
use crate::vcsim::Vm;
use crate::webmks::{self, WITHOUT_VNC};
use crate::workspace::free_address_of;
use reqwest::Method;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Output};
use tokio::sync::OnceCell;

/// A running cloud.
#[derive(Debug)]
pub struct Cloud {
    /// The whole path of a session.
    pub gateway: Gateway,
    /// Knows the callers.
    pub keystone: Keystone,
    /// A machine of the project [`TENANT`]. Nothing listens where its console is.
    pub ours: Vm,
    /// A machine of no project's.
    pub other: Vm,
    /// The host [`MKS_HOST`].
    esxi: Esxi,
}

/// The host whose consoles are WebMKS; those of the others are VNC.
const MKS_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));

/// A member of the project `tenant-a`.
pub const MEMBER: &str = "alice";
/// A reader there, whose role opens no consoles.
pub const READER: &str = "bob";
/// The project that has a folder of the inventory.
pub const TENANT: &str = "tenant-a";
/// That folder.
pub const FOLDER: &str = "/DC0/vm/tenant-a";

/// A member of the project `tenant-b`.
pub const POOL_MEMBER: &str = "carol";
/// The project that has a resource pool.
pub const POOL_TENANT: &str = "tenant-b";
/// That pool.
pub const POOL: &str = "/DC0/host/DC0_C0/Resources/tenant-b";

impl Cloud {
    /// The cloud that the tests of a process share. Its parts end with the process.
    pub async fn shared() -> &'static Self {
        static CLOUD: OnceCell<Cloud> = OnceCell::const_new();
        CLOUD.get_or_init(Self::start).await
    }

    /// A cloud of a test's own.
    pub async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    /// A cloud of a test's own whose authority's configuration `change` has changed.
    pub async fn start_with(change: impl FnOnce(Config) -> Config) -> Self {
        let run = Run::new("openstack");
        let ca = Ca::new(&run);
        let keystone = Keystone::start(&run, &ca).await;
        let tenant = keystone.create_project(TENANT).await;
        let pool_tenant = keystone.create_project(POOL_TENANT).await;
        keystone.create_project("service").await;
        keystone.create_user("vncgate", "service", "service").await;
        keystone.create_user(MEMBER, TENANT, "member").await;
        keystone.create_user(READER, TENANT, "reader").await;
        keystone.create_user(POOL_MEMBER, POOL_TENANT, "member").await;
        run.write("keystone.password", PASSWORD);
        let identity =
            |config: Config| change(configured(config, &keystone, &tenant, &pool_tenant));
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        for host in ESXI_HOSTS {
            vcenter.add_host(host);
        }
        esxi.add_host(&vcenter, MKS_HOST, WITHOUT_VNC).await;
        let gateway = Gateway::over(run, ca, vcenter, identity, &[]).await;
        keystone.create_compute_endpoint(&format!("{}/v2.1", gateway.envoy.url())).await;
        gateway.vcenter.govc(&["folder.create", FOLDER]);
        let ours = gateway.vcenter.create_vm("web-1", ESXI_HOSTS[0], 5901);
        gateway.vcenter.govc(&["object.mv", "/DC0/vm/web-1", FOLDER]);
        let other = gateway.vcenter.create_vm("other-1", ESXI_HOSTS[0], 5902);
        Self { gateway, keystone, ours, other, esxi }
    }

    /// A new machine of the project [`TENANT`], and its screen.
    pub async fn machine_with_screen(&self, name: &str) -> (Vm, RfbServer) {
        let screen = RfbServer::start(ESXI_HOSTS[0]).await;
        let vm = self.gateway.vcenter.create_vm(name, ESXI_HOSTS[0], screen.address().port());
        self.hand_over(name);
        (vm, screen)
    }

    /// The same with a screen that a person can read.
    pub async fn machine_with_guest(&self, name: &str) -> (Vm, Qemu) {
        let address = free_address_of(ESXI_HOSTS[0]);
        let guest = Qemu::start(&self.gateway.run, address).await;
        let vm = self.gateway.vcenter.create_vm(name, address.ip(), address.port());
        self.hand_over(name);
        (vm, guest)
    }

    /// The same on a host that has WebMKS consoles only.
    pub async fn mks_machine_with_guest(&self, name: &str) -> (Vm, Qemu) {
        let Self { gateway, esxi, .. } = self;
        let address = free_address_of(MKS_HOST);
        let guest = Qemu::start(&gateway.run, address).await;
        let vm = esxi.create_vm(&gateway.vcenter, name, &MKS_HOST.to_string(), address).await;
        self.hand_over(name);
        (vm, guest)
    }

    /// Gives a machine to the project [`TENANT`].
    fn hand_over(&self, name: &str) {
        self.gateway.vcenter.govc(&["object.mv", &format!("/DC0/vm/{name}"), FOLDER]);
    }

    /// Runs `openstack` as a user of a project.
    pub fn openstack(&self, user: &str, project: &str, arguments: &[&str]) -> Output {
        let mut command = python(installed("bin/openstack"));
        command.args(arguments);
        self.run_as(user, project, command)
    }

    /// Runs a client with a user's environment.
    pub fn run_as(&self, user: &str, project: &str, mut command: Command) -> Output {
        command.envs(self.keystone.environment(user, project));
        command.output().expect("run a client of OpenStack's")
    }

    /// The status and body of a call of the console API with this token.
    pub async fn call(&self, token: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let http = self.gateway.ca.http_client();
        let url = format!("{}/v2.1{path}", self.gateway.envoy.url());
        let request = match body {
            Some(body) => http.post(url).json(&body),
            None => http.get(url),
        };
        let request = request.header("X-Auth-Token", token);
        let request = request.header("OpenStack-API-Version", "compute 2.96");
        let response = request.send().await.expect("the gateway answers");
        let status = response.status().as_u16();
        (status, response.json().await.expect("JSON"))
    }

    /// The status and body of a call that nova does not have.
    pub async fn v1(&self, token: &str, method: Method, path: &str) -> (u16, Value) {
        let http = self.gateway.ca.http_client();
        let request = http.request(method, format!("{}{path}", self.gateway.envoy.url()));
        let response = request.header("X-Auth-Token", token).send().await;
        let response = response.expect("the gateway answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// The status and body of asking for a console with this token.
    pub async fn console(&self, token: &str, vm: &Vm) -> (u16, Value) {
        let path = format!("/servers/{}/remote-consoles", vm.instance_uuid);
        let body = json!({"remote_console": {"protocol": "vnc", "type": "novnc"}});
        self.call(token, &path, Some(body)).await
    }
}

/// The token of a caller that Keystone does not know, with an administrator's role.
pub const PORTAL: &str = API_TOKEN;
/// Keystone's administrator, and the name of its project.
pub const ADMIN: &str = ADMINISTRATOR;

fn configured(config: Config, keystone: &Keystone, tenant: &str, pool_tenant: &str) -> Config {
    let pools = r#"#resource_pools = ["/DC0/host/cluster-a/Resources/tenant-a", "resgroup-42"]"#;
    let pool_project = format!(
        "\n[[auth.project]]\nid = \"{pool_tenant}\"\nvcenter = \"vcenter-a\"\n\
         resource_pools = [\"{POOL}\"]"
    );
    let table = [
        ("#[auth.keystone]", "[auth.keystone]".to_owned()),
        (r#"#url = "https://keystone.example.com/v3""#, format!("url = \"{}\"", keystone.url())),
        (r#"#ca_file = "keystone-ca.pem""#, r#"ca_file = "ca.pem""#.to_owned()),
        (
            "#username = \"vncgate\"\n#password_file = \"keystone.password\"",
            "username = \"vncgate\"\npassword_file = \"keystone.password\"".to_owned(),
        ),
        (r#"#cache_ttl = "1m""#, r#"cache_ttl = "1s""#.to_owned()),
        (r#"#open_console = ["admin"]"#, r#"open_console = ["admin", "member"]"#.to_owned()),
        ("#[[auth.project]]", "[[auth.project]]".to_owned()),
        (r#"#id = "0123456789abcdef0123456789abcdef""#, format!("id = \"{tenant}\"")),
        (r#"#vcenter = "vcenter-a""#, r#"vcenter = "vcenter-a""#.to_owned()),
        (r#"#folders = ["/DC0/vm/tenant-a"]"#, r#"folders = ["/DC0/vm/tenant-a"]"#.to_owned()),
        (pools, pool_project),
    ];
    table.iter().fold(config, |config, (literal, replacement)| config.with(literal, replacement))
}
