//! OpenStack's identity service: the real Keystone, on SQLite, over TLS.

use crate::certificate::{Ca, Identity};
use crate::process::{Process, Run, run_to_end};
use crate::workspace::{cached, checkout, free_port};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::sync::OnceCell;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The region that Keystone is set up with.
pub const REGION: &str = "RegionOne";
/// The domain that Keystone is set up with, by name.
pub const DOMAIN: &str = "Default";
/// The administrator that Keystone is set up with, who has the role `admin` in the project `admin`.
pub const ADMINISTRATOR: &str = "admin";
/// Every user's password.
pub const PASSWORD: &str = "p&ss<w>\"r'd";

/// The file of its database in a run.
const DATABASE: &str = "keystone.db";
/// The folder of the keys of its tokens in a run.
const KEYS: &str = "fernet";
/// The command that makes them.
const FERNET_SETUP: [&str; 5] =
    ["fernet_setup", "--keystone-user", "root", "--keystone-group", "root"];

/// A running Keystone.
#[derive(Debug)]
pub struct Keystone {
    process: Process,
    port: u16,
    ca: PathBuf,
    run: Run,
    identity: Identity,
    http: reqwest::Client,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// A project, by name.
    Project(&'a str),
    /// The whole system.
    System,
    /// Nothing but to ask for another token.
    Unscoped,
}

impl Keystone {
    /// Sets up an empty Keystone and starts it.
    pub async fn start(run: &Run, ca: &Ca) -> Self {
        let port = free_port(LOOPBACK);
        write_configuration(run, "keystone.conf", "");
        copy_template(run, &url(port)).await;
        let identity = ca.issue("keystone");
        let http = ca.http_client();
        let process = launch(run, &identity, port, "keystone.conf", &http).await;
        let run = run.clone();
        Self { process, port, ca: ca.path().clone(), run, identity, http }
    }

    /// The Identity API, version 3.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Creates a project and returns its identifier.
    pub async fn create_project(&self, name: &str) -> String {
        let project = json!({"project": {"name": name, "domain_id": "default"}});
        let created = self.administer(Method::POST, "/projects", Some(&project)).await;
        text(&created["project"]["id"])
    }

    /// Creates a user with [`PASSWORD`] who has a role in a project.
    pub async fn create_user(&self, name: &str, project: &str, role: &str) {
        let user = json!({"user": {"name": name, "domain_id": "default", "password": PASSWORD}});
        let user = self.administer(Method::POST, "/users", Some(&user)).await;
        let user = text(&user["user"]["id"]);
        let project = self.id_of("projects", project).await;
        let role = self.id_of("roles", role).await;
        let grant = format!("/projects/{project}/users/{user}/roles/{role}");
        self.administer(Method::PUT, &grant, None).await;
    }

    /// Gives a user a role on the whole system.
    pub async fn grant_on_system(&self, user: &str, role: &str) {
        let (user, role) = (self.id_of("users", user).await, self.id_of("roles", role).await);
        let grant = format!("/system/users/{user}/roles/{role}");
        self.administer(Method::PUT, &grant, None).await;
    }

    /// Enables or disables a user, a project or a domain: `kind` is `users`, `projects` or `domains`.
    pub async fn set_enabled(&self, kind: &str, name: &str, enabled: bool) {
        let path = format!("/{kind}/{}", self.id_of(kind, name).await);
        let change = json!({kind.trim_end_matches('s'): {"enabled": enabled}});
        self.administer(Method::PATCH, &path, Some(&change)).await;
    }

    /// Deletes a user.
    pub async fn delete_user(&self, name: &str) {
        let path = format!("/users/{}", self.id_of("users", name).await);
        self.administer(Method::DELETE, &path, None).await;
    }

    /// Puts the compute service into the catalog.
    pub async fn create_compute_endpoint(&self, url: &str) {
        self.create_endpoint("compute", url, REGION).await;
    }

    /// Puts a service of this type into the catalog of a region, which is created at its first service.
    pub async fn create_endpoint(&self, kind: &str, url: &str, region: &str) {
        let listed = self.administer(Method::GET, &format!("/services?type={kind}"), None).await;
        let service_id = match listed["services"][0]["id"].as_str() {
            Some(id) => id.to_owned(),
            None => {
                let service = json!({"service": {"type": kind, "name": kind}});
                let service = self.administer(Method::POST, "/services", Some(&service)).await;
                text(&service["service"]["id"])
            }
        };
        let regions = self.administer(Method::GET, "/regions", None).await;
        let regions = regions["regions"].as_array().expect("regions");
        if !regions.iter().any(|known| known["id"] == region) {
            let region = json!({"region": {"id": region}});
            self.administer(Method::POST, "/regions", Some(&region)).await;
        }
        let endpoint = json!({"endpoint": {
            "service_id": service_id, "interface": "public", "url": url, "region_id": region,
        }});
        self.administer(Method::POST, "/endpoints", Some(&endpoint)).await;
    }

    /// A new token of a user's.
    pub async fn token(&self, user: &str, scope: Scope<'_>) -> String {
        token_from(&self.http, &self.url(), user, scope).await
    }

    /// The identifier of the project that a token is good for.
    pub async fn project_of(&self, token: &str) -> String {
        let shown = self.http.get(format!("{}/auth/tokens", self.url()));
        let shown = shown.header("X-Auth-Token", token).header("X-Subject-Token", token);
        let shown: Value = send(shown).await.json().await.expect("JSON");
        text(&shown["token"]["project"]["id"])
    }

    /// A token by a new application credential of a user's in a project. `access_rules` are its rules, as the Identity API
    /// has them.
    pub async fn restricted_token(&self, user: &str, project: &str, access_rules: Value) -> String {
        let token = self.token(user, Scope::Project(project)).await;
        let tokens = format!("{}/auth/tokens", self.url());
        let shown = self.http.get(&tokens).header("X-Auth-Token", &token);
        let shown: Value =
            send(shown.header("X-Subject-Token", &token)).await.json().await.expect("JSON");
        let user = text(&shown["token"]["user"]["id"]);
        let name = format!("restricted-{}", &token[token.len() - 20..]);
        let credential = json!({"application_credential": {
            "name": name, "secret": PASSWORD, "access_rules": access_rules,
        }});
        let request =
            self.http.post(format!("{}/users/{user}/application_credentials", self.url()));
        let created = send(request.header("X-Auth-Token", &token).json(&credential)).await;
        assert_eq!(created.status(), StatusCode::CREATED, "Keystone makes {credential}");
        let created: Value = created.json().await.expect("JSON");
        let id = &created["application_credential"]["id"];
        let identity = json!({
            "methods": ["application_credential"],
            "application_credential": {"id": id, "secret": PASSWORD},
        });
        let request = self.http.post(tokens).json(&json!({"auth": {"identity": identity}}));
        issued(send(request).await, "an application credential")
    }

    /// Creates a domain with a project and a user of this name, who has the role there. Returns a token of that user's.
    pub async fn token_in_new_domain(&self, name: &str, role: &str) -> String {
        let domain = json!({"domain": {"name": name}});
        let domain = self.administer(Method::POST, "/domains", Some(&domain)).await;
        let domain = text(&domain["domain"]["id"]);
        let project = json!({"project": {"name": name, "domain_id": domain}});
        let project = self.administer(Method::POST, "/projects", Some(&project)).await;
        let project = text(&project["project"]["id"]);
        let user = json!({"user": {"name": name, "domain_id": domain, "password": PASSWORD}});
        let user = self.administer(Method::POST, "/users", Some(&user)).await;
        let user = text(&user["user"]["id"]);
        let role = self.id_of("roles", role).await;
        let grant = format!("/projects/{project}/users/{user}/roles/{role}");
        self.administer(Method::PUT, &grant, None).await;
        let identity = json!({
            "methods": ["password"], "password": {"user": {"id": user, "password": PASSWORD}},
        });
        let scope = json!({"project": {"id": project}});
        let request = json!({"auth": {"identity": identity, "scope": scope}});
        let request = self.http.post(format!("{}/auth/tokens", self.url())).json(&request);
        issued(send(request).await, name)
    }

    /// A token that has expired when this returns.
    pub async fn expired_token(&self, user: &str, scope: Scope<'_>) -> String {
        // The expiry is in the token and its keys are in files, so another Keystone with them makes it.
        write_configuration(&self.run, "hasty.conf", "expiration = 1");
        let port = free_port(LOOPBACK);
        let hasty = launch(&self.run, &self.identity, port, "hasty.conf", &self.http).await;
        let token = token_from(&self.http, &url(port), user, scope).await;
        drop(hasty);
        while self.validate(&token).await == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        token
    }

    /// Revokes a token, as logging out does.
    pub async fn revoke(&self, token: &str) {
        let request = self.http.delete(format!("{}/auth/tokens", self.url()));
        let request = request.header("X-Auth-Token", token).header("X-Subject-Token", token);
        assert_eq!(send(request).await.status(), StatusCode::NO_CONTENT, "the token is revoked");
    }

    /// The environment variables of OpenStack's clients for a user and a project.
    pub fn environment(&self, user: &str, project: &str) -> Vec<(&'static str, String)> {
        vec![
            ("OS_AUTH_URL", self.url()),
            ("OS_CACERT", self.ca.display().to_string()),
            ("OS_IDENTITY_API_VERSION", "3".to_owned()),
            ("OS_USERNAME", user.to_owned()),
            ("OS_PASSWORD", PASSWORD.to_owned()),
            ("OS_USER_DOMAIN_NAME", DOMAIN.to_owned()),
            ("OS_PROJECT_NAME", project.to_owned()),
            ("OS_PROJECT_DOMAIN_NAME", DOMAIN.to_owned()),
        ]
    }

    /// Stops answering without closing anything.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Answers again after [`Self::freeze`].
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Ends it; its port refuses connections.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with all it had.
    pub async fn start_again(&mut self) {
        let Self { run, identity, port, http, .. } = self;
        self.process = launch(run, identity, *port, "keystone.conf", http).await;
    }

    /// Makes every token invalid, the service users' too: new keys, as after a compromise. It has to be
    /// started again for that.
    pub fn replace_keys(&self) {
        fs::remove_dir_all(self.run.path(KEYS)).expect("remove Keystone's keys");
        manage(&self.run, &FERNET_SETUP);
    }

    /// The identifier of a user, project, domain or role.
    async fn id_of(&self, kind: &str, name: &str) -> String {
        let listed = self.administer(Method::GET, &format!("/{kind}?name={name}"), None).await;
        text(&listed[kind][0]["id"])
    }

    async fn validate(&self, token: &str) -> StatusCode {
        let admin_token = self.administrator_token().await;
        let request = self.http.get(format!("{}/auth/tokens", self.url()));
        let request = request.header("X-Auth-Token", admin_token).header("X-Subject-Token", token);
        send(request).await.status()
    }

    async fn administer(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let admin_token = self.administrator_token().await;
        let mut request = self.http.request(method, format!("{}{path}", self.url()));
        request = request.header("X-Auth-Token", admin_token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = send(request).await;
        let status = response.status();
        let answer = response.text().await.expect("Keystone's whole answer");
        assert!(status.is_success(), "Keystone answers {status} to {path}: {answer}");
        serde_json::from_str(&answer).unwrap_or(Value::Null)
    }

    async fn administrator_token(&self) -> String {
        self.token(ADMINISTRATOR, Scope::Project("admin")).await
    }
}

/// A command of Keystone's or of OpenStack's clients, of what set-up installed.
pub fn python(script: PathBuf) -> Command {
    let mut command = Command::new("python3");
    command.arg(script).env("PYTHONPATH", installed("")).env("PYTHONWARNINGS", "ignore");
    command
}

/// Where set-up installed a command.
pub fn installed(path: &str) -> PathBuf {
    cached(&format!("openstack/{path}"), "./justw setup")
}

fn url(port: u16) -> String {
    format!("https://{LOOPBACK}:{port}/v3")
}

/// `token` is what the section of that name begins with.
fn write_configuration(run: &Run, name: &str, token: &str) {
    let path = |name: &str| run.path(name).display().to_string();
    let (database, keys) = (path(DATABASE), path(KEYS));
    let text = format!(
        "[database]\nconnection = sqlite:///{database}\n\
         [token]\n{token}\n\
         [fernet_tokens]\nkey_repository = {keys}\n\
         [fernet_receipts]\nkey_repository = {keys}\n\
         [credential]\nkey_repository = {keys}\n\
         # The least that bcrypt takes: these passwords guard nothing.\n\
         [identity]\npassword_hash_rounds = 4\n"
    );
    run.write(name, text);
}

/// Gives a run a Keystone that was set up, with its own endpoint at `url`. The set-up takes Keystone's commands some seconds, so
/// it is done once in a process, and copied.
async fn copy_template(run: &Run, url: &str) {
    static TEMPLATE: OnceCell<Run> = OnceCell::const_new();
    let template = TEMPLATE.get_or_init(async || set_up()).await;
    fs::copy(template.path(DATABASE), run.path(DATABASE)).expect("copy Keystone's database");
    fs::create_dir(run.path(KEYS)).expect("a folder for Keystone's keys");
    for key in fs::read_dir(template.path(KEYS)).expect("list Keystone's keys") {
        let key = key.expect("a key");
        let copy = run.path(KEYS).join(key.file_name());
        fs::copy(key.path(), copy).expect("copy Keystone's key");
    }
    let set_url = "import sqlite3, sys\n\
        with sqlite3.connect(sys.argv[1]) as database:\n\
        \x20   changed = database.execute('UPDATE endpoint SET url = ?', sys.argv[2:])\n\
        \x20   assert changed.rowcount == 1";
    let mut python = Command::new("python3");
    run_to_end(python.args(["-c", set_url]).arg(run.path(DATABASE)).arg(url));
}

/// An empty Keystone with its administrator and an endpoint of its own, in a run that is left to the process's end.
fn set_up() -> Run {
    let run = Run::new("keystone");
    write_configuration(&run, "keystone.conf", "");
    manage(&run, &["db_sync"]);
    manage(&run, &FERNET_SETUP);
    let bootstrap = ["bootstrap", "--bootstrap-password", PASSWORD];
    let endpoint = ["--bootstrap-public-url", &url(0), "--bootstrap-region-id", REGION];
    manage(&run, &[&bootstrap[..], &endpoint[..]].concat());
    run
}

fn manage(run: &Run, arguments: &[&str]) {
    let mut command = python(installed("bin/keystone-manage"));
    command.arg("--config-file").arg(run.path("keystone.conf")).args(arguments);
    run_to_end(&mut command);
}

async fn launch(
    run: &Run,
    identity: &Identity,
    port: u16,
    configuration: &str,
    http: &reqwest::Client,
) -> Process {
    let mut command = python(checkout().join("tests/openstack/serve_keystone.py"));
    command.arg(port.to_string()).arg(&identity.certificate).arg(&identity.key);
    command.env("OS_KEYSTONE_CONFIG_FILES", run.path(configuration));
    let mut process = Process::start(run, "keystone", &command);
    let url = url(port);
    let answers = async || http.get(&url).send().await.ok()?.status().is_success().then_some(());
    process.ready(answers).await;
    process
}

async fn token_from(http: &reqwest::Client, url: &str, user: &str, scope: Scope<'_>) -> String {
    let user = json!({"name": user, "domain": {"name": DOMAIN}, "password": PASSWORD});
    let scope = match scope {
        Scope::Project(name) => json!({"project": {"name": name, "domain": {"name": DOMAIN}}}),
        Scope::System => json!({"system": {"all": true}}),
        Scope::Unscoped => json!("unscoped"),
    };
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let request = json!({"auth": {"identity": identity, "scope": scope}});
    let response = send(http.post(format!("{url}/auth/tokens")).json(&request)).await;
    issued(response, &request.to_string())
}

fn issued(response: Response, to: &str) -> String {
    assert_eq!(response.status(), StatusCode::CREATED, "Keystone gives a token for {to}");
    let token = response.headers().get("x-subject-token").expect("a token");
    token.to_str().expect("a token is text").to_owned()
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("Keystone answers")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
