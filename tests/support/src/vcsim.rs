//! A vCenter: govmomi's simulator with TLS and one login, built and changed through `govc`.

use crate::certificate::{Ca, Identity, plain_http_client};
use crate::process::{Process, Run, run_to_end};
use crate::workspace::{cached, checkout, free_address_of};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;

/// The one user that may log in, the one of the shipped configuration.
pub const USERNAME: &str = "vncgate@vsphere.local";
/// That user's password; its characters are those that XML must escape.
pub const PASSWORD: &str = r#"p&ss<w>"r'd"#;
/// The name of the vCenter's only cluster.
pub const CLUSTER: &str = "DC0_C0";

/// The host that the simulator starts with.
const TEMPLATE_HOST: &str = "DC0_C0_H0";

/// A simulated vCenter, empty but for one cluster.
#[derive(Debug)]
pub struct Vcsim {
    process: Process,
    address: SocketAddr,
    /// Where hosts get what the vSphere API cannot set ([`crate::webmks`]), or not thousands of times.
    pub(crate) control: SocketAddr,
    ca: PathBuf,
    pub(crate) run: Run,
    identity: Identity,
    options: Options,
    /// What `govc` logs in with.
    password: Mutex<String>,
}

/// What a vCenter is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who makes the tickets of its WebMKS consoles ([`crate::esxi::Esxi::control_url`]). Without it no
    /// virtual machine knows `AcquireTicket`.
    pub esxi: Option<String>,
    /// How long each `ReconfigVM_Task` takes. Meanwhile properties read as before, and another such task
    /// of the same machine fails with `TaskInProgress`.
    pub reconfigure_time: Duration,
    /// The address that it listens at, if it is not `127.0.0.1`.
    pub address: Option<IpAddr>,
}

/// A virtual machine in a [`Vcsim`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Vm {
    /// Its name in the inventory.
    pub name: String,
    /// `config.instanceUuid`, by which nova and the console API know it.
    pub instance_uuid: String,
}

impl Vcsim {
    /// Starts a vCenter on a free port of `127.0.0.1`.
    pub async fn start(run: &Run, ca: &Ca) -> Self {
        Self::start_with(run, ca, Options::default()).await
    }

    /// The same with other options.
    pub async fn start_with(run: &Run, ca: &Ca, options: Options) -> Self {
        let ip = options.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let identity = ca.issue_for("vcsim", &["localhost", "127.0.0.1", "::1", &ip.to_string()]);
        // Below the ephemeral ports: while it is away, an outgoing connection could take one of those.
        let listen = free_address_of(ip).to_string();
        let (process, address, control) = launch(run, &identity, &listen, &options).await;
        let ca = ca.path().clone();
        let password = Mutex::new(PASSWORD.to_owned());
        Self { process, address, control, ca, run: run.clone(), identity, options, password }
    }

    /// The SDK's URL.
    pub fn url(&self) -> String {
        format!("https://{}/sdk", self.address)
    }

    /// Adds an ESXi host of version 6.7 to the cluster. Its name is its address, as in many real inventories.
    pub fn add_host(&self, address: IpAddr) {
        self.add_host_named(&address.to_string());
    }

    /// Adds an ESXi host under a name of its own.
    pub fn add_host_named(&self, name: &str) {
        self.govc(&[
            "cluster.add",
            "-cluster",
            CLUSTER,
            "-hostname",
            name,
            // The simulator clones the host of this name, with its datastore.
            "-username",
            TEMPLATE_HOST,
            "-password",
            "unused",
            "-thumbprint",
            "unused",
        ]);
    }

    /// Removes the host that the others were cloned from, whose name no resolver knows. No host can be added afterwards.
    pub fn remove_template_host(&self) {
        self.govc(&["host.remove", TEMPLATE_HOST]);
    }

    /// Creates a virtual machine on `host`, powered on, with its console at `port` of that host.
    pub fn create_vm(&self, name: &str, host: IpAddr, port: u16) -> Vm {
        let vm = self.create_vm_without_vnc(name, &host.to_string());
        self.set_extra_config(name, "RemoteDisplay.vnc.enabled", "TRUE");
        self.set_console_port(name, port);
        vm
    }

    /// Creates a virtual machine on the host of that name, powered on, of whose console its
    /// configuration says nothing.
    pub fn create_vm_without_vnc(&self, name: &str, host: &str) -> Vm {
        self.govc(&[
            "vm.create",
            "-on=false",
            "-host",
            host,
            "-ds",
            "LocalDS_0",
            "-disk.controller",
            "ide",
            name,
        ]);
        self.power_on(name);
        let info: Value =
            serde_json::from_str(&self.govc(&["vm.info", "-json", name])).expect("govc's JSON");
        let uuid = info["virtualMachines"][0]["config"]["instanceUuid"]
            .as_str()
            .expect("an instance UUID");
        Vm { name: name.to_owned(), instance_uuid: uuid.to_owned() }
    }

    /// Creates many virtual machines on a host at once, powered on, each with a console port of its own.
    pub async fn create_vms(&self, host: &str, count: usize) -> Vec<Vm> {
        let http = plain_http_client();
        let url = format!("http://{}/hosts/{host}/machines", self.control);
        let request = http.post(url).json(&json!({"count": count}));
        let answer = request.send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 201, "the vCenter knows no host {host}");
        answer.json().await.expect("machines as JSON")
    }

    /// Sets `RemoteDisplay.vnc.port`.
    pub fn set_console_port(&self, vm: &str, port: u16) {
        self.set_extra_config(vm, "RemoteDisplay.vnc.port", &port.to_string());
    }

    /// Sets a key of `config.extraConfig`; an empty value removes the key.
    pub fn set_extra_config(&self, vm: &str, key: &str, value: &str) {
        self.govc(&["vm.change", "-vm", vm, "-e", &format!("{key}={value}")]);
    }

    /// Withholds these properties of a machine from everybody, as from an account that may not read them.
    pub async fn withhold(&self, vm: &str, paths: &[&str]) {
        let http = plain_http_client();
        let url = format!("http://{}/machines/{vm}/withheld", self.control);
        let request = http.put(url).json(&json!({"paths": paths}));
        let answer = request.send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 204, "the vCenter knows no machine {vm}");
    }

    /// Says what runs in a machine: VMware Tools or not, and whether it ignores a request to shut down.
    pub async fn set_guest(&self, vm: &str, tools_running: bool, ignores_shutdown: bool) {
        let guest = json!({"tools_running": tools_running, "ignores_shutdown": ignores_shutdown});
        self.set_machine(vm, "guest", &guest).await;
    }

    /// Changes what the next power tasks of a machine do: how long they take, and whether they fail for want of memory.
    pub async fn set_power_tasks(&self, vm: &str, take: Duration, fail: bool) {
        let settings = json!({"takes_ms": take.as_millis(), "fails": fail});
        self.set_machine(vm, "power", &settings).await;
    }

    /// Changes what vCenter has for a picture of a machine's screen: `answer`, repeated until it has `bytes`, or a picture if
    /// it is empty, after this time.
    pub async fn set_screen(&self, vm: &str, answer: &str, bytes: usize, takes: Duration) {
        let settings = json!({"answer": answer, "bytes": bytes, "takes_ms": takes.as_millis()});
        self.set_machine(vm, "screen", &settings).await;
    }

    async fn set_machine(&self, vm: &str, what: &str, value: &Value) {
        let url = format!("http://{}/machines/{vm}/{what}", self.control);
        let answer = plain_http_client().put(url).json(value).send().await;
        let status = answer.expect("the vCenter answers").status();
        assert_eq!(status, 204, "the vCenter knows no machine {vm}");
    }

    /// `runtime.powerState` of a machine.
    pub fn power_state(&self, vm: &str) -> String {
        let info: Value =
            serde_json::from_str(&self.govc(&["vm.info", "-json", vm])).expect("govc's JSON");
        let state = info["virtualMachines"][0]["runtime"]["powerState"].as_str();
        state.expect("a power state").to_owned()
    }

    /// Gives the authority's account a role with these privileges, and no others, on a machine.
    pub fn restrict(&self, vm: &str, privileges: &[&str]) {
        let role = format!("only-{vm}");
        // A role of an earlier call goes first.
        let _ = self.try_govc(&["role.remove", "-force", &role]);
        self.govc(&[&["role.create", &role], privileges].concat());
        let machine = format!("/DC0/vm/{vm}");
        self.govc(&["permissions.set", "-principal", USERNAME, "-role", &role, &machine]);
    }

    /// Gives a machine the instance UUID of another vCenter's machine, as a copy of that one's files has.
    pub async fn set_instance_uuid(&self, vm: &str, uuid: &str) {
        let http = plain_http_client();
        let url = format!("http://{}/machines/{vm}/instance-uuid", self.control);
        let request = http.put(url).json(&json!({"uuid": uuid}));
        let answer = request.send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 204, "the vCenter knows no machine {vm}");
    }

    /// Makes the version of every watch of the inventory one that the vCenter does not know, as if it had dropped it.
    pub async fn forget_versions(&self) {
        let url = format!("http://{}/watches/forget", self.control);
        let answer = plain_http_client().post(url).send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 204, "forget the versions");
    }

    /// Changes something of so many machines at once.
    pub async fn change_machines(&self, machines: usize) {
        let url = format!("http://{}/changes", self.control);
        let request = plain_http_client().post(url).json(&json!({"machines": machines}));
        let answer = request.send().await.expect("the vCenter answers");
        assert_eq!(answer.status(), 204, "change machines");
    }

    /// Moves a running machine to another host (vMotion).
    pub fn migrate(&self, vm: &str, host: IpAddr) {
        self.govc(&["vm.migrate", "-host", &host.to_string(), vm]);
    }

    /// Powers a machine on.
    pub fn power_on(&self, vm: &str) {
        self.govc(&["vm.power", "-on", vm]);
    }

    /// Powers a machine off.
    pub fn power_off(&self, vm: &str) {
        self.govc(&["vm.power", "-off", vm]);
    }

    /// Suspends a machine.
    pub fn suspend(&self, vm: &str) {
        self.govc(&["vm.power", "-suspend", vm]);
    }

    /// Moves a machine, or a folder, to the folder of this path.
    pub fn move_to_folder(&self, object: &str, folder: &str) {
        self.govc(&["object.mv", object, folder]);
    }

    /// Takes a machine out of the inventory.
    pub fn unregister(&self, vm: &str) {
        self.govc(&["vm.unregister", vm]);
    }

    /// Changes machines by pyvmomi, each in one of the ways of `tests/vcsim/change.py`.
    pub fn change_by_pyvmomi(&self, changes: &[String]) {
        let mut command = Command::new("python3");
        command
            .arg(checkout().join("tests/vcsim/change.py"))
            .arg(self.url())
            .arg(&self.ca)
            .args(changes)
            .env("PYTHONPATH", cached("pyvmomi", "./justw _pyvmomi"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("VCENTER_USERNAME", USERNAME)
            .env("VCENTER_PASSWORD", PASSWORD);
        run_to_end(&mut command);
    }

    /// Ends every session but `govc`'s own, as an administrator or an idle timeout would: the next call
    /// of each client answers `NotAuthenticated`. Returns how many were ended.
    pub fn end_sessions(&self) -> usize {
        let listed: Value =
            serde_json::from_str(&self.govc(&["session.ls", "-json"])).expect("govc's JSON");
        let current = &listed["currentSession"]["key"];
        let sessions = listed["sessionList"].as_array().expect("a list of sessions");
        let others: Vec<&str> = sessions
            .iter()
            .map(|session| &session["key"])
            .filter(|&key| key != current)
            .map(|key| key.as_str().expect("a session key"))
            .collect();
        for key in &others {
            self.govc(&["session.rm", key]);
        }
        others.len()
    }

    /// Changes the password of the one user. Sessions stay.
    pub async fn set_password(&self, password: &str) {
        self.rotate("password", &json!({"password": password})).await;
        password.clone_into(&mut self.password.lock().expect("no test panics with it"));
    }

    /// Shows another certificate to new clients. Connections stay.
    pub async fn set_certificate(&self, identity: &Identity) {
        let key = std::fs::read_to_string(&identity.key).expect("the key was written");
        self.rotate("certificate", &json!({"certificate": identity.pem(), "key": key})).await;
    }

    async fn rotate(&self, what: &str, next: &Value) {
        let url = format!("http://{}/{what}", self.control);
        let answer = plain_http_client().put(url).json(next).send().await;
        assert_eq!(answer.expect("the vCenter answers").status(), 204, "set its {what}");
    }

    /// Stops answering without closing anything, as an overloaded vCenter does.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Answers again after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Ends the vCenter; its port refuses connections.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with an empty inventory.
    pub async fn start_again(&mut self) {
        let listen = self.address.to_string();
        let (process, _, control) = launch(&self.run, &self.identity, &listen, &self.options).await;
        self.process = process;
        self.control = control;
        self.password = Mutex::new(PASSWORD.to_owned());
    }

    /// What the vCenter has logged.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// Runs `govc` as the administrator and returns what it prints.
    ///
    /// # Panics
    ///
    /// With its error message when it fails.
    pub fn govc(&self, arguments: &[&str]) -> String {
        run_to_end(&mut self.govc_command(arguments))
    }

    /// The same for a command that may fail: then the error is what it complains of.
    pub fn try_govc(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.govc_command(arguments).output().expect("run govc");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).expect("its output is text"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn govc_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cached("vcsim/govc", "./justw setup"));
        command
            .args(arguments)
            .env("GOVC_URL", self.url())
            .env("GOVC_USERNAME", USERNAME)
            .env("GOVC_PASSWORD", &*self.password.lock().expect("no test panics with it"))
            .env("GOVC_TLS_CA_CERTS", &self.ca)
            .env("GOVC_PERSIST_SESSION", "false");
        command
    }
}

async fn launch(
    run: &Run,
    identity: &Identity,
    listen: &str,
    options: &Options,
) -> (Process, SocketAddr, SocketAddr) {
    let mut command = Command::new(cached("vcsim/vcsim", "./justw setup"));
    command.args(["-listen", listen, "-username", USERNAME, "-password", PASSWORD]);
    command.arg("-cert").arg(&identity.certificate).arg("-key").arg(&identity.key);
    command.arg("-reconfigure-time").arg(format!("{}ms", options.reconfigure_time.as_millis()));
    if let Some(esxi) = &options.esxi {
        command.args(["-esxi", esxi]);
    }
    // Its datastore is a temporary directory, which it leaves behind when it is killed.
    let files = run.path("vcsim");
    std::fs::create_dir_all(&files).expect("make the simulator's directory");
    command.env("TMPDIR", files);
    let mut process = Process::start(run, "vcsim", &command);
    let log = run.path("vcsim.stdout");
    let (address, control) = process
        .ready(async || {
            let log = std::fs::read_to_string(&log).expect("vcsim's log");
            let address = announced(&log, "vcsim: listening on ")?;
            let control = announced(&log, "vcsim: control on ")?;
            // After a restart the lines may be an earlier start's, and only a connection tells.
            TcpStream::connect(address).await.ok()?;
            TcpStream::connect(control).await.ok()?;
            Some((address, control))
        })
        .await;
    (process, address, control)
}

/// The address in the last line of a log that begins so.
pub(crate) fn announced(log: &str, beginning: &str) -> Option<SocketAddr> {
    log.lines().rev().find_map(|line| line.strip_prefix(beginning))?.parse().ok()
}
