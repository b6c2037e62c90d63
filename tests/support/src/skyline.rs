//! OpenStack's newer dashboard: an unmodified Skyline, whose pages and API server stand behind nginx, over plain HTTP.

use crate::browser::Browser;
use crate::certificate::plain_http_client;
use crate::keystone::{ADMINISTRATOR, DOMAIN, Keystone, PASSWORD, REGION, installed};
use crate::process::{Process, Run, run_to_end};
use crate::template::substitute;
use crate::workspace::{cached, free_address};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running Skyline.
#[derive(Debug)]
pub struct Skyline {
    address: SocketAddr,
    _api_server: Process,
    _nginx: Process,
}

impl Skyline {
    /// Starts Skyline for this Keystone's users, with an empty database, at a free address of `127.0.0.1`. It proxies to the
    /// services that the catalog has now. `policy` is a file of policies for nova.
    pub async fn start(run: &Run, keystone: &Keystone, policy: &Path) -> Self {
        let folder = run.path("skyline");
        std::fs::create_dir_all(&folder).expect("a folder for Skyline");
        // JSON is YAML, too.
        let settings = json!({
            "default": {
                "log_dir": folder,
                "database_url": format!("sqlite:///{}", folder.join("skyline.db").display()),
                "cafile": run.path("ca.pem"),
                "ssl_enabled": false,
                "policy_file_path": folder,
            },
            "openstack": {
                "keystone_url": format!("{}/", keystone.url()),
                "system_user_name": ADMINISTRATOR,
                "system_user_password": PASSWORD,
                "system_project": "admin",
                "default_region": REGION,
            },
        });
        run.write("skyline/skyline.yaml", settings.to_string());
        std::fs::copy(policy, folder.join("nova_policy.yaml")).expect("copy the policies");
        let python = |arguments: &[&str]| {
            let mut command = Command::new("python3");
            let homes = [home(""), cached("horizon", "./justw setup"), installed("")];
            command
                .args(arguments)
                .env("PYTHONPATH", std::env::join_paths(homes).expect("no colon in a path"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("PYTHONWARNINGS", "ignore")
                .env("OS_CONFIG_DIR", &folder);
            command
        };
        let mut migrate = python(&["-m", "alembic", "upgrade", "head"]);
        run_to_end(migrate.current_dir(home("skyline_apiserver/db/alembic")));

        let (address, behind) = (free_address(), free_address());
        let http = plain_http_client();
        let port = behind.port().to_string();
        let api_server = python(&["-m", "uvicorn", "--port", &port, "skyline_apiserver.main:app"]);
        let mut api_server = Process::start(run, "skyline", &api_server);
        let regions = format!("http://{behind}/api/v1/contrib/regions");
        let answers = async || http.get(&regions).send().await.ok().map(drop);
        api_server.ready(answers).await;

        let generator = home("bin/skyline-nginx-generator").display().to_string();
        let generate = [&*generator, "--listen-address", &address.to_string()];
        let configuration = configuration(run, &run_to_end(&mut python(&generate)), behind);
        let mut nginx = Command::new("nginx");
        nginx.arg("-e").arg("stderr").arg("-c").arg(configuration);
        let mut nginx = Process::start(run, "skyline-nginx", &nginx);
        let page = format!("http://{address}/");
        nginx.ready(async || http.get(&page).send().await.ok().map(drop)).await;
        Self { address, _api_server: api_server, _nginx: nginx }
    }

    /// Its address, which is also the origin of its pages.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Logs a user in, who is then in their first project, in English. By the call that the form makes: the list of domains
    /// in the form of Skyline 9.0.0 is for those who are logged in.
    pub async fn log_in(&self, browser: &Browser, user: &str) {
        browser.open(&format!("{}/auth/login", self.url())).await;
        let log_in = "localStorage.setItem('lang', 'en');
            const [region, domain, username, password] = arguments;
            const answer = await fetch('/api/openstack/skyline/api/v1/login', {
                method: 'POST',
                headers: {'Content-Type': 'application/json'},
                body: JSON.stringify({region, domain, username, password}),
            });
            return answer.status;";
        let arguments = [REGION, DOMAIN, user, PASSWORD].map(Value::from).to_vec();
        assert_eq!(browser.script_with(log_in, arguments).await, 200, "{user} logs in");
    }
}

/// The configuration that Skyline's command has made for nginx, as one process with all its files in the run.
fn configuration(run: &Run, generated: &str, behind: SocketAddr) -> PathBuf {
    let folder = run.path("skyline").display().to_string();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .concat();
    let table = [
        ("worker_processes auto;", "daemon off; master_process off;".to_owned()),
        ("pid /run/nginx.pid;", format!("pid {folder}/nginx.pid;")),
        ("include /etc/nginx/modules-enabled/*.conf;", String::new()),
        ("server unix:/var/lib/skyline/skyline.sock fail_timeout=0;", format!("server {behind};")),
        ("sendfile on;", format!("sendfile on; {temporary}")),
    ];
    run.write("skyline/nginx.conf", substitute(generated, &table))
}

fn home(path: &str) -> PathBuf {
    cached(&format!("skyline/{path}"), "./justw setup")
}
