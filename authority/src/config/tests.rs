use super::values::parse_sha256;
use super::vcenter::parse_sdk_url;
use super::*;
use crate::console::{AllowedTargets, TokenUsage, WhenMoved};
use crate::identity::policy::Right;
use crate::identity::{Caller, Roles};
use crate::telemetry::LogFormat;
use crate::tokens::RedisTopology;
use crate::vcenter::console_settings::Validation;
use crate::vcenter::scope::Scope;
use secrecy::ExposeSecret;
use std::fs;
use std::time::Duration;
use url::Url;

/// A folder with the files that the configurations below name.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "p&ss<w>\n").unwrap();
        let key = rcgen::generate_simple_self_signed(["vcenter.example.com".to_owned()]).unwrap();
        fs::write(folder.path().join("ca.pem"), key.cert.pem()).unwrap();
        Self(folder)
    }

    fn parse(&self, text: &str) -> Result<Config, Vec<String>> {
        Config::parse(text, self.0.path())
    }

    fn problems(&self, text: &str) -> Vec<String> {
        self.parse(text).map(|_| ()).expect_err("it has problems")
    }
}

const SITES_NEED_A_STORE: &str = "needs [tokens] store = \"redis\" or \"memcached\": other sites know a \
                                  token by the store that they share";

const LEAST: &str = r#"
[console]
novnc_url = "https://consoles.example.com/console.html#token={token}"

[[auth.api_token]]
name = "portal"
sha256 = "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456"

[[vcenter]]
service_host = "vcenter-a"
url = "https://vcenter-a.example.com/sdk"
username = "vncgate@vsphere.local"
password_file = "password"
ca_file = "ca.pem"
"#;

#[test]
fn what_is_not_said_has_a_default() {
    let folder = Folder::new();
    let config = folder.parse(LEAST).unwrap();
    assert_eq!(config.public.address.to_string(), "127.0.0.1:6082");
    assert_eq!(config.internal.address.to_string(), "127.0.0.1:6083");
    assert_eq!(config.metrics.address.to_string(), "127.0.0.1:6085");
    assert_eq!(config.consoles.token_ttl, Duration::from_secs(600));
    assert_eq!(config.consoles.token_use, TokenUsage::Reusable);
    let TokensConfig::Memory { capacity } = config.tokens else { panic!("in memory") };
    assert_eq!(capacity.get(), 10_000);
    let throttle = config.limits.throttle.expect("a limit");
    assert_eq!((throttle.unknown_tokens.get(), throttle.window), (300, Duration::from_secs(60)));
    assert_eq!(config.web, None);
    assert_eq!(config.log.format, LogFormat::Text);
    let [vcenter] = config.vcenters.as_slice() else { panic!("one vCenter") };
    let password = vcenter.password.read_blocking().unwrap();
    assert_eq!(password.expose_secret(), "p&ss<w>", "without the line break");
    assert_eq!(vcenter.timeout, Duration::from_secs(3));
    assert_eq!(vcenter.consoles.validation, Validation::Live);
    assert_eq!(config.consoles.when_moved, WhenMoved::Refuse);
}

#[test]
fn a_check_may_read_what_was_watched_and_a_token_may_follow_its_machine() {
    let folder = Folder::new();
    let watched = |more: &str| folder.parse(&format!("{LEAST}\nvalidate = \"watched\"\n{more}"));
    let validation = |config: Config| config.vcenters[0].consoles.validation;
    let max_age = Duration::from_secs(15);
    assert_eq!(validation(watched("").unwrap()), Validation::Watched { max_age });
    let max_age = Duration::from_secs(60);
    let config = watched("watched_max_age = \"1m\"").unwrap();
    assert_eq!(validation(config), Validation::Watched { max_age });
    for (line, problem) in [
        ("validate = \"cached\"", "vcenter[0].validate: must be \"live\" or \"watched\""),
        (
            "watched_max_age = \"1m\"",
            "vcenter[0].watched_max_age: has no use without validate = \"watched\"",
        ),
        (
            "validate = \"watched\"\nwatched_max_age = \"5s\"",
            "vcenter[0].watched_max_age: must be between 6s and 10m, not \"5s\"",
        ),
    ] {
        let problems = folder.parse(&format!("{LEAST}\n{line}")).map(|_| ()).unwrap_err();
        assert_eq!(problems, [problem]);
    }
    let console = |value: &str| {
        folder.parse(&LEAST.replace("[console]", &format!("[console]\nwhen_moved = \"{value}\"")))
    };
    assert_eq!(console("follow").unwrap().consoles.when_moved, WhenMoved::Follow);
    let problems = console("chase").map(|_| ()).unwrap_err();
    assert_eq!(problems, ["console.when_moved: must be \"refuse\" or \"follow\""]);
}

#[test]
fn the_shipped_example_explains_a_configuration_that_works() {
    const SHA256: &str = "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456";
    let shipped = include_str!("../../vncgate-authority.toml");
    let text = &shipped.replace(&"0".repeat(64), SHA256).replace(&["00"; 32].join(":"), SHA256);
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["vcenter.example.com".to_owned()]).unwrap();
    for server in ["vcenter-a", "keystone"] {
        fs::write(folder.path().join(format!("{server}.password")), "secret").unwrap();
        fs::write(folder.path().join(format!("{server}-ca.pem")), key.cert.pem()).unwrap();
    }
    fs::write(folder.path().join("peer.crt"), key.cert.pem()).unwrap();
    fs::write(folder.path().join("peer.key"), key.signing_key.serialize_pem()).unwrap();
    fs::write(folder.path().join("authority.crt"), key.cert.pem()).unwrap();
    fs::write(folder.path().join("authority.key"), key.signing_key.serialize_pem()).unwrap();
    for ca in ["peer-ca.pem", "gateway-ca.pem", "prometheus-ca.pem"] {
        fs::write(folder.path().join(ca), key.cert.pem()).unwrap();
    }
    let config = Config::parse(text, folder.path()).unwrap();
    assert_eq!(config.vcenters.len(), 1);
    let problems = Config::parse(shipped, folder.path()).map(|_| ()).unwrap_err();
    let example = "auth.api_token[0].sha256: is the example's, and no SHA-256 of anything";
    assert_eq!(problems, [example], "an example that was not finished");

    // Every key that the file shows in a comment is a key: set them all.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                setting
            }
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let web = folder.path().join("web");
    fs::create_dir(&web).unwrap();
    fs::write(web.join("vnc.html"), "a page").unwrap();
    fs::write(folder.path().join("logo.svg"), "<svg/>").unwrap();
    let all = all.replace("/usr/share/novnc", web.to_str().unwrap());
    let problems = Config::parse(&all, folder.path()).map(|_| ()).unwrap_err();
    let unknown: Vec<_> =
        problems.iter().filter(|problem| problem.contains("not a known key")).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    let choose = "certificate_sha256: cannot be combined with ca_file: choose one";
    let elsewhere = "is for a store on the network: set store, too";
    assert_eq!(
        problems,
        [
            format!("tokens.url: {elsewhere}"),
            format!("tokens.timeout: {elsewhere}"),
            format!("tokens.username: {elsewhere}"),
            format!("tokens.password_file: {elsewhere}"),
            format!("tokens.sentinel_username: {elsewhere}"),
            format!("tokens.sentinel_password_file: {elsewhere}"),
            format!("tokens.ca_file: {elsewhere}"),
            format!("tokens.min_replicas: {elsewhere}"),
            format!("vcenter[0].{choose}"),
            "vcenter[0].watched_max_age: has no use without validate = \"watched\"".to_owned(),
            format!("site: {SITES_NEED_A_STORE}"),
            format!("auth.keystone.{choose}"),
            format!("traces.{choose}"),
        ]
    );
}

#[test]
fn a_credential_of_systemd_needs_systemd() {
    let folder = Folder::new();
    let tokens = "[tokens]\nstore = 'redis'\nurl = 'redis://x'\n\
                  password_file = '${CREDENTIALS_DIRECTORY}/redis.password'\n";
    assert_eq!(
        folder.problems(&format!("{tokens}{LEAST}")),
        ["tokens.password_file: CREDENTIALS_DIRECTORY is not set: is it a unit of systemd with \
             LoadCredential=redis.password:...?"]
    );
}

#[test]
fn where_consoles_may_lead_is_bounded_by_default() {
    let folder = Folder::new();
    let allowed = |text: &str| folder.parse(text).unwrap().consoles.allowed_targets;
    assert_eq!(allowed(LEAST), AllowedTargets::default());
    let nova =
        "token={token}\"\nvnc_ports = \"5900-15900\"\nallowed_networks = [\"10.0.0.0/8\", \"::1\"]";
    let set = LEAST.replace("token={token}\"", nova);
    assert_eq!(allowed(&set).vnc_ports.end().get(), 15900);
    assert_eq!(allowed(&set).networks.len(), 2);

    let beyond = format!("{LEAST}\n[vcenter.enable_vnc]\nports = \"6000-6106\"\n");
    let problem = "vcenter[0].enable_vnc.ports: has ports that are not in console.vnc_ports";
    assert_eq!(folder.problems(&beyond), [problem]);
    let wrong = set.replace("5900-15900", "0-1").replace("::1", "localhost");
    let problems = folder.problems(&wrong);
    assert!(problems[0].starts_with("console.vnc_ports: must be a range"), "{problems:?}");
    assert!(problems[1].starts_with("console.allowed_networks: must be networks"), "{problems:?}");
}

#[test]
fn tokens_are_used_as_often_as_the_configuration_says() {
    let folder = Folder::new();
    let with = |lines: &str| {
        let console = format!("[console]\n{lines}\n");
        LEAST.replacen("[console]\n", &console, 1)
    };
    let usage = |lines: &str| folder.parse(&with(lines)).unwrap().consoles.token_use;
    let same_browser =
        |seconds| TokenUsage::SameBrowser { reconnect_for: Duration::from_secs(seconds) };
    for (lines, expected) in [
        ("", TokenUsage::Reusable),
        ("token_use = 'reusable'", TokenUsage::Reusable),
        ("token_use = 'once'", TokenUsage::Once),
        ("token_use = 'same-browser'", same_browser(300)),
        ("token_use = 'same-browser'\nreconnect_for = '2m'", same_browser(120)),
        ("single_use = true", TokenUsage::Once),
        ("single_use = false", TokenUsage::Reusable),
    ] {
        assert_eq!(usage(lines), expected, "{lines}");
    }
    for (lines, problem) in [
        (
            "token_use = 'twice'",
            "console.token_use: must be \"reusable\", \"once\" or \"same-browser\"",
        ),
        (
            "token_use = 'once'\nsingle_use = true",
            "console.single_use: is replaced by token_use: remove it",
        ),
        ("reconnect_for = '1s'", "console.reconnect_for: must be between 1m and 1day, not \"1s\""),
        (
            "view_ttl_max = '8days'",
            "console.view_ttl_max: must be between 10s and 7days, not \"8days\"",
        ),
    ] {
        assert_eq!(folder.problems(&with(lines)), [problem]);
    }
    let stock = with("token_use = 'same-browser'\nxvpvnc_url = 'https://x/vnc_auto.html'");
    let problems = folder.problems(&stock);
    assert!(
        problems[0].starts_with("console.token_use: may be \"same-browser\" only"),
        "{problems:?}"
    );
}

#[test]
fn a_role_or_a_project_may_be_limited_to_view() {
    let folder = Folder::new();
    let limited = format!(
        "{LEAST}\n[auth.policy]\nview_console = ['reader']\n\
         [[auth.project]]\nid = 'a'\nvcenter = 'vcenter-a'\nfolders = ['/DC0/vm/a']\naccess = 'view'\n\
         [[auth.project]]\nid = 'a'\nvcenter = 'vcenter-a'\nfolders = ['/DC0/vm/b']\nclipboard = false\n"
    );
    let policy = folder.parse(&limited).unwrap().auth.policy;
    assert_eq!(policy.view_console, Roles::from_iter(["reader"]));
    let limits = policy.project_limits["a"];
    assert_eq!((limits.access, limits.clipboard), (vncgate_api::Access::View, false));
    assert!(folder.parse(LEAST).unwrap().auth.policy.view_console.is_empty());
    let problems = folder.problems(&limited.replace("'view'", "'look'"));
    assert_eq!(problems, ["auth.project[0].access: must be \"control\" or \"view\""]);
}

#[test]
fn a_limit_of_none_is_no_limit() {
    let config = Folder::new().parse(&format!("[limits]\nunknown_tokens = 0\n{LEAST}")).unwrap();
    assert_eq!(config.limits.throttle, None);
}

#[test]
fn every_fault_is_reported_at_once() {
    let problems = Folder::new().problems(
        r#"
        colour = "red"
        [listen]
        public = "localhost:6082"
        internal = "unix:relative.sock"
        [console]
        xvpvnc_url = "gopher://x/{token}"
        token_ttl = "2s"
        single_use = "yes"
        web = "no-such-folder"
        [tokens]
        store = "etcd"
        [limits]
        unknown_tokens = -1
        unknown_tokens_window = "2h"
        [[auth.api_token]]
        name = "portal"
        sha256 = "abc"
        [[auth.api_token]]
        name = "portal"
        sha256 = "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456"
        role = "admin"
        roles = "admin"
        project = ""
        [auth.keystone]
        url = "http://keystone.example.com:5000"
        user_domain = ""
        password_file = "no-such-file"
        cache_ttl = "2h"
        cache_size = 0
        timeout = "0s"
        [auth.policy]
        open_consoles = ["member"]
        [[auth.project]]
        vcenter = "vcenter-a"
        folders = ["DC0/vm/tenant-a"]
        [[auth.project]]
        id = "a"
        vcenter = "vcenter-a"
        [[vcenter]]
        url = "http://vcenter-a.example.com/sdk"
        username = ""
        password_file = "no-such-file"
        ca_file = "password"
        hypervisors = [1]
        timeout = 3
        [log]
        level = "loud=very"
        format = "xml"
        "#,
    );
    let starts = [
        "listen.public: must be ADDRESS:PORT",
        "listen.internal: must be an absolute path after unix:",
        "console.xvpvnc_url: must begin with https://",
        "console.token_ttl: must be between 10s and 1day",
        "console.single_use: must be true or false, not a string",
        "console.web: is not a folder that can be read",
        "tokens.store: must be \"memory\", \"memcached\" or \"redis\"",
        "limits.unknown_tokens: must be between 0 and 1000000, not -1",
        "limits.unknown_tokens_window: must be between 1s and 1h, not \"2h\"",
        "auth.api_token[0].sha256: must be a SHA-256",
        "auth.api_token[1].role: is not a known key",
        "auth.api_token[1].roles: must be an array of strings, not a string",
        "auth.api_token[1].project: must not be empty",
        "auth.keystone.url: must begin with https:// (http is for loopback addresses)",
        "auth.keystone.username: is missing",
        "auth.keystone.user_domain: must not be empty",
        "auth.keystone.password_file: cannot read",
        "auth.keystone.cache_ttl: must be between 0s and 1h",
        "auth.keystone.cache_size: must be between 1 and 1000000, not 0",
        "auth.keystone.timeout: must be between 100ms and 30s",
        "auth.policy.open_consoles: is not a known key",
        "auth.project[0].id: is missing",
        "auth.project[0].folders: must be an inventory path that begins with /",
        "auth.project[1].folders: is missing, and resource_pools too",
        "vcenter[0].service_host: is missing",
        "vcenter[0].url: must begin with https:// (http is for loopback addresses)",
        "vcenter[0].username: must not be empty",
        "vcenter[0].password_file: cannot read",
        "vcenter[0].hypervisors: must be an array of strings, not an array",
        "vcenter[0].timeout: must be a string, not a number",
        "log.level: ",
        "log.format: must be \"text\" or \"json\"",
        "colour: is not a known key",
    ];
    for start in starts {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start} in {problems:#?}"
        );
    }
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn a_file_that_says_nothing_is_told_what_it_needs() {
    let problems = Folder::new().problems("");
    for key in ["console.novnc_url", "auth.api_token", "vcenter"] {
        assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} in {problems:#?}");
    }
    assert_eq!(problems.len(), 3, "{problems:#?}");
}

#[test]
fn text_that_is_not_toml_is_shown_where_it_is_wrong() {
    let problems = Folder::new().problems("[console]\nnovnc_url = \n");
    assert!(problems[0].contains("line 2"), "{problems:?}");
}

#[test]
fn wrong_shapes_are_faults_and_not_ignored() {
    let folder = Folder::new();
    for (text, problem) in [
        ("listen = 1", "listen: must be a table [listen], not a number"),
        ("vcenter = 'x'", "vcenter: must be tables [[vcenter]], not a string"),
        ("vcenter = ['x']", "vcenter[0]: must be a table, not a string"),
        ("[auth]\napi_token = [1]", "auth.api_token[0]: must be a table, not a number"),
    ] {
        let problems = folder.problems(text);
        assert!(problems.iter().any(|found| found == problem), "{problem} in {problems:#?}");
    }
}

#[test]
fn two_of_one_name_are_refused() {
    let twice = format!("{LEAST}{}", &LEAST[LEAST.find("[[auth").unwrap()..]);
    let problems = Folder::new().problems(&twice);
    assert_eq!(
        problems,
        [
            "vcenter: two have the service_host \"vcenter-a\"",
            "vcenter: two have the url \"https://vcenter-a.example.com/sdk\"",
            "auth.api_token: two have the name \"portal\"",
            "auth.api_token: the sha256 \
             \"930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456\" is there twice",
        ]
    );
}

#[test]
fn keystone_alone_is_enough_and_has_defaults() {
    let keystone = "[auth.keystone]\n\
        url = 'https://keystone.example.com/identity/'\n\
        username = 'vncgate'\n\
        password_file = 'password'\n\
        ca_file = 'ca.pem'\n\n";
    let (start, end) = (LEAST.find("[[auth").unwrap(), LEAST.find("[[vcenter").unwrap());
    let text = format!("{}{keystone}{}", &LEAST[..start], &LEAST[end..]);
    let auth = Folder::new().parse(&text).unwrap().auth;
    assert_eq!(auth.api_tokens, []);
    let keystone = auth.keystone.unwrap();
    assert_eq!(keystone.url.as_str(), "https://keystone.example.com/identity/v3");
    assert_eq!((keystone.project.as_str(), keystone.user_domain.as_str()), ("service", "Default"));
    assert_eq!(keystone.cache_ttl, Duration::from_secs(60));
    assert!(!format!("{keystone:?}").contains("p&ss"), "{keystone:?}");
}

#[test]
fn an_identity_url_may_be_written_with_or_without_its_version() {
    for text in ["https://k.example.com", "https://k.example.com/", "https://k.example.com/v3/"] {
        assert_eq!(auth::parse_identity_url(text).unwrap().as_str(), "https://k.example.com/v3");
    }
    assert!(auth::parse_identity_url("https://k.example.com/v3?x=1").is_err());
}

#[test]
fn only_administrators_may_do_anything_unless_roles_say_otherwise() {
    let caller = |roles: &[&str]| Caller {
        id: "keystone:1".to_owned(),
        name: "somebody".to_owned(),
        roles: roles.iter().collect(),
        project: Some("a".to_owned()),
        keystone: None,
    };
    let rights = [Right::OpenConsole, Right::ReadToken, Right::RevokeToken];
    let folder = Folder::new();
    let auth = folder.parse(LEAST).unwrap().auth;
    for right in rights {
        assert!(auth.policy.allows(&caller(&["admin"]), right));
        assert!(!auth.policy.allows(&caller(&["member", "reader"]), right));
    }
    assert_eq!(auth.api_tokens[0].roles, Roles::from_iter(["admin"]));

    let with_projects = format!(
        "{LEAST}\n[auth.policy]\nopen_console = ['admin', 'member']\n\
         [[auth.project]]\nid = 'a'\nvcenter = 'vcenter-a'\nfolders = ['/DC0/vm/a']\n\
         [[auth.project]]\nid = 'a'\nvcenter = 'vcenter-a'\nresource_pools = ['resgroup-8']\n"
    );
    let auth = folder.parse(&with_projects).unwrap().auth;
    let member = caller(&["member"]);
    assert!(auth.policy.allows(&member, Right::OpenConsole));
    let Scope::Within(containers) = auth.policy.scope(&member) else { panic!("confined") };
    assert_eq!(containers.len(), 2, "both blocks of the project");
    assert_eq!(*auth.policy.scope(&caller(&["admin"])), Scope::Everything);

    let problems =
        folder.problems(&with_projects.replace("vcenter = 'vcenter-a'", "vcenter = 'b'"));
    assert_eq!(
        problems,
        [
            "auth.project[0].vcenter: no [[vcenter]] has the service_host \"b\"",
            "auth.project[1].vcenter: no [[vcenter]] has the service_host \"b\"",
        ]
    );
}

#[test]
fn the_internal_listener_is_not_the_public_one() {
    let text = format!("[listen]\npublic = '127.0.0.1:80'\ninternal = '127.0.0.1:80'\n{LEAST}");
    let problems = Folder::new().problems(&text);
    assert_eq!(
        problems,
        ["listen.internal: must not be the public address: it answers without a password"]
    );
}

#[test]
fn an_sdk_url_is_https_or_loopback_and_has_no_credentials() {
    for (text, expected) in [
        ("https://vc.example.com/sdk", Some("https://vc.example.com/sdk")),
        ("https://vc.example.com", Some("https://vc.example.com/sdk")),
        ("https://vc.example.com:8443/other", Some("https://vc.example.com:8443/other")),
        ("http://127.0.0.1:8989/sdk", Some("http://127.0.0.1:8989/sdk")),
        ("http://[::1]:8989/sdk", Some("http://[::1]:8989/sdk")),
        ("http://localhost/sdk", Some("http://localhost/sdk")),
        ("http://10.0.0.1/sdk", None),
        ("http://localhost.example.com/sdk", None),
        ("ftp://vc.example.com/sdk", None),
        ("https://user@vc.example.com/sdk", None),
        ("https://user:secret@vc.example.com/sdk", None),
        ("https://vc.example.com/sdk?x=1", None),
        ("vc.example.com", None),
    ] {
        let parsed = parse_sdk_url(text);
        assert_eq!(parsed.as_ref().ok().map(Url::as_str), expected, "{text}: {parsed:?}");
    }
}

#[test]
fn a_thumbprint_may_be_written_as_openssl_writes_it() {
    let plain = "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456";
    let bytes = parse_sha256(plain).unwrap();
    let colons: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(parse_sha256(&colons.join(":")), Ok(bytes));
    assert!(parse_sha256(&plain[1..]).is_err());
    assert!(parse_sha256(&format!("{plain}00")).is_err());
}

#[test]
fn a_token_and_a_pin_may_have_a_successor() {
    let folder = Folder::new();
    let hash = "930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456";
    let other = "a".repeat(63) + "b";
    let sha256 = |value: &str| LEAST.replace(&format!("\"{hash}\""), value);
    let config = folder.parse(&sha256(&format!("['{hash}', '{other}']"))).unwrap();
    assert_eq!(config.auth.api_tokens[0].sha256.len(), 2);
    for (value, problem) in [
        ("[]".to_owned(), "auth.api_token[0].sha256: must not be empty"),
        ("7".to_owned(), "auth.api_token[0].sha256: must be a string or an array of strings"),
        (format!("['{hash}', 'x']"), "auth.api_token[0].sha256: must be a SHA-256"),
        (format!("['{hash}', '{hash}']"), "auth.api_token: the sha256 "),
    ] {
        let problems = folder.parse(&sha256(&value)).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
    }

    let pin = |value: &str| {
        folder
            .parse(&LEAST.replace("ca_file = \"ca.pem\"", &format!("certificate_sha256 = {value}")))
    };
    let tls = |value: &str| pin(value).unwrap().vcenters[0].tls.clone();
    assert!(tls(&format!("'{hash}'")) == tls(&format!("['{hash}']")));
    assert!(tls(&format!("'{hash}'")) != tls(&format!("['{hash}', '{other}']")));
    assert_eq!(pin("[]").unwrap_err(), ["vcenter[0].certificate_sha256: must not be empty"]);
}

#[test]
fn no_password_shows_in_debug_output() {
    let shown = format!("{:?}", Folder::new().parse(LEAST).unwrap());
    assert!(!shown.contains("p&ss"), "{shown}");
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let folder = Folder::new();
    let path: PathBuf = folder.0.path().join("authority.toml");
    fs::write(&path, LEAST).unwrap();
    assert!(Config::load(&path).is_ok());
    let error = Config::load(&folder.0.path().join("absent.toml")).unwrap_err().to_string();
    assert!(error.contains("absent.toml"), "{error}");
    fs::write(&path, LEAST.replace("ca.pem", "none.pem")).unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("has a problem:\n  vcenter[0].ca_file: "), "{error}");
}

impl Folder {
    /// The store of a configuration that is good but for these keys of `[tokens]`.
    fn tokens(&self, keys: &str) -> Result<TokensConfig, Vec<String>> {
        self.parse(&format!("[tokens]\n{keys}\n{LEAST}")).map(|config| config.tokens)
    }
}

#[test]
fn a_store_on_the_network_has_an_address_and_limits() {
    let folder = Folder::new();
    let tokens = folder.tokens("store = 'memcached'\nurl = 'memcached://127.0.0.1'").unwrap();
    let TokensConfig::Memcached { address, timeout } = tokens else { panic!("{tokens:?}") };
    assert_eq!((address.as_str(), timeout), ("127.0.0.1:11211", Duration::from_millis(500)));

    let tokens = folder.tokens(
        "store = 'redis'\nurl = 'rediss://redis.example.com:6380/3'\nusername = 'vncgate'\n\
         password_file = 'password'\nca_file = 'ca.pem'\ntimeout = '1s'",
    );
    let tokens = tokens.unwrap();
    assert!(!format!("{tokens:?}").contains("p&ss"), "{tokens:?}");
    let TokensConfig::Redis { server, timeout } = tokens else { panic!("{tokens:?}") };
    assert_eq!(timeout, Duration::from_secs(1));
    let RedisTopology::Standalone(address) = server.topology else { panic!("{server:?}") };
    assert_eq!(address.to_string(), "redis.example.com:6380");
    assert!(server.tls.is_some());
    assert_eq!((server.database, server.min_replicas), (3, 0));
    assert_eq!(server.login.username.as_deref(), Some("vncgate"));
    let password = server.login.password.unwrap().read_blocking().unwrap();
    assert_eq!(password.expose_secret(), "p&ss<w>");

    let tokens = folder.tokens("store = 'redis'\nurl = 'redis://[::1]'").unwrap();
    let TokensConfig::Redis { server, .. } = tokens else { panic!("{tokens:?}") };
    let RedisTopology::Standalone(address) = server.topology else { panic!("{server:?}") };
    assert_eq!(address.to_string(), "[::1]:6379");
    assert!(server.tls.is_none());

    let tokens = folder.tokens(
        "store = 'redis'\nurl = 'redis-sentinel://a,b/vncgate/1'\nsentinel_username = 'watcher'\n\
         sentinel_password_file = 'password'",
    );
    let TokensConfig::Redis { server, .. } = tokens.unwrap() else { panic!("Redis") };
    let RedisTopology::Sentinel { sentinels, service, login } = server.topology else {
        panic!("Sentinel")
    };
    assert_eq!(sentinels.len(), 2);
    assert_eq!((service.as_str(), login.username.as_deref()), ("vncgate", Some("watcher")));
    assert!(login.password.is_some() && server.login.password.is_none());
    assert_eq!((server.database, server.min_replicas), (1, 1));

    let tokens = folder.tokens("store = 'redis'\nurl = 'redis-cluster://a,b'\nmin_replicas = 0");
    let TokensConfig::Redis { server, .. } = tokens.unwrap() else { panic!("Redis") };
    assert!(matches!(server.topology, RedisTopology::Cluster(nodes) if nodes.len() == 2));
    assert_eq!(server.min_replicas, 0);
}

#[test]
fn a_store_s_keys_are_held_to_the_store() {
    let folder = Folder::new();
    let problems = |keys: &str| folder.tokens(keys).map(|_| ()).expect_err("it has problems");
    for (keys, expected) in [
        ("capacity = 0", "tokens.capacity: must be between 1 and 1000000, not 0"),
        ("store = 'redis'", "tokens.url: is missing"),
        (
            "store = 'redis'\nurl = 'redis://x'\ncapacity = 5",
            "tokens.capacity: is for store = \"memory\": Redis has its own, maxmemory",
        ),
        (
            "store = 'redis'\nurl = 'redis://x'\nusername = 'y'",
            "tokens.username: needs a password_file beside it",
        ),
        (
            "store = 'redis'\nurl = 'redis://x'\nca_file = 'ca.pem'",
            "tokens.ca_file: needs a url that begins with rediss",
        ),
        (
            "store = 'redis'\nurl = 'redis://x'\nsentinel_password_file = 'password'",
            "tokens.sentinel_password_file: needs a url that begins with redis-sentinel://",
        ),
        (
            "store = 'redis'\nurl = 'redis-sentinel://x/y'\nsentinel_username = 'z'",
            "tokens.sentinel_username: needs a sentinel_password_file beside it",
        ),
        (
            "store = 'redis'\nurl = 'redis-sentinel://x/y'\nmin_replicas = 9",
            "tokens.min_replicas: must be between 0 and 8, not 9",
        ),
        ("store = 'redis'\nurl = 'redis://x/many'", "tokens.url: "),
        ("store = 'redis'\nurl = 'rediss://x'\nca_file = 'absent.pem'", "tokens.ca_file: "),
        (
            "store = 'memcached'\nurl = 'memcached://x'\npassword_file = 'password'",
            "tokens.password_file: is for store = \"redis\"",
        ),
        (
            "store = 'memcached'\nurl = 'memcached://x'\ntimeout = '1m'",
            "tokens.timeout: must be between 50ms and 10s, not \"1m\"",
        ),
    ] {
        let problems = problems(keys);
        assert!(problems[0].starts_with(expected), "{keys}: {problems:#?}");
        assert_eq!(problems.len(), 1, "{keys}: {problems:#?}");
    }
}

/// What makes another site of a configuration that is good but for this.
const PEER: &str = r#"
[peer]
certificate_file = "peer.crt"
key_file = "peer.key"
ca_file = "ca.pem"
"#;

const SITE: &str = r#"
[[site]]
name = "site-b"
url = "https://authority.site-b.example.com:6084"
service_hosts = ["vcenter-b", "vcenter-c"]
"#;

const LISTEN_PEER: &str = "[listen]\npeer = '192.0.2.10:6084'\n";

impl Folder {
    fn with_credentials() -> Self {
        let folder = Self::new();
        let key = rcgen::generate_simple_self_signed(["authority.example.com".to_owned()]).unwrap();
        fs::write(folder.0.path().join("peer.crt"), key.cert.pem()).unwrap();
        fs::write(folder.0.path().join("peer.key"), key.signing_key.serialize_pem()).unwrap();
        folder
    }

    /// A configuration of several sites, of these parts.
    fn sites(&self, parts: &[&str]) -> Result<Option<SitesConfig>, Vec<String>> {
        let tokens = "[tokens]\nstore = 'redis'\nurl = 'redis://127.0.0.1'\n";
        let text = format!("{}{tokens}{LEAST}", parts.concat());
        self.parse(&text).map(|config| config.sites)
    }
}

#[test]
fn another_site_has_a_name_a_url_and_vcenters() {
    let folder = Folder::with_credentials();
    let sites = folder.sites(&[LISTEN_PEER, PEER, SITE]).unwrap().expect("another site");
    let [site] = sites.sites.as_slice() else { panic!("one other site") };
    assert_eq!((site.name.as_str(), site.timeout), ("site-b", Duration::from_secs(4)));
    assert_eq!(site.url.as_str(), "https://authority.site-b.example.com:6084/");
    assert_eq!(site.service_hosts, ["vcenter-b", "vcenter-c"]);
    assert!(site.networks.is_empty(), "anywhere");
    assert_eq!(sites.peer.expect("they may ask").0.to_string(), "192.0.2.10:6084");

    let networks = "networks = ['10.8.0.0/16', '2001:db8::/32']\n";
    let sites = folder.sites(&[PEER, SITE, networks]).unwrap().expect("another site");
    let networks: Vec<_> = sites.sites[0].networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.8.0.0/16", "2001:db8::/32"]);

    let sites = folder.sites(&[PEER, SITE]).unwrap().expect("another site");
    assert!(sites.peer.is_none(), "a site may ask and not be asked");
    assert!(folder.sites(&[]).unwrap().is_none());
}

#[test]
fn sites_that_cannot_be_told_apart_or_asked_are_faults() {
    let folder = Folder::with_credentials();
    let other_key = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap().signing_key;
    fs::write(folder.0.path().join("other.key"), other_key.serialize_pem()).unwrap();
    let with = |literal: &str, replacement: &str| {
        assert!(SITE.contains(literal) || PEER.contains(literal), "{literal}");
        [PEER, SITE].concat().replace(literal, replacement)
    };
    let other_site = SITE.replace("site-b", "site-c").replace("vcenter-", "vc-");
    for (text, expected) in [
        (SITE.to_owned(), "peer: is missing: [[site]] needs the certificate"),
        (PEER.to_owned(), "peer: has no use without a [[site]]"),
        (
            LISTEN_PEER.to_owned(),
            "listen.peer: has no use without a [[site]], which alone may connect",
        ),
        (
            [LISTEN_PEER, "internal = '192.0.2.10:6084'\n", PEER, SITE].concat(),
            "listen.peer: must be an address of its own",
        ),
        (
            ["[listen]\npeer = 'unix:/x'\n", PEER, SITE].concat(),
            "listen.peer: must be ADDRESS:PORT",
        ),
        (
            [PEER, SITE, &other_site.replace("site-c\"", "site-b\"")].concat(),
            "site: two have the name",
        ),
        (
            [PEER, SITE, &other_site.replace("site-c.example", "site-b.example")].concat(),
            "site: two have the host \"authority.site-b.example.com\"",
        ),
        (
            [PEER, SITE, &other_site.replace("vc-c", "vcenter-c")].concat(),
            "site: the service host \"vcenter-c\" is there twice",
        ),
        (with("vcenter-b", "vcenter-a"), "site[0].service_hosts: \"vcenter-a\" is a [[vcenter]]"),
        (
            with("vcenter-b\", \"vcenter-c", "b\", \"b"),
            "site: the service host \"b\" is there twice",
        ),
        (with("service_hosts", "hosts"), "site[0].service_hosts: is missing"),
        (
            [PEER, SITE, "networks = ['10.8.0.0']\n"].concat(),
            "site[0].networks: must be networks such as 10.8.0.0/16",
        ),
        (
            [PEER, SITE, "networks = ['10.8.0.1/16']\n"].concat(),
            "site[0].networks: \"10.8.0.1/16\" is an address in the network 10.8.0.0/16",
        ),
        ([PEER, SITE, "networks = '10.8.0.0/16'\n"].concat(), "site[0].networks: must be an array"),
        (with("https:", "http:"), "site[0].url: must begin with https://"),
        (with(":6084", "/sdk"), "site[0].url: must be https://HOST:PORT and nothing else"),
        (with("https://", "https://user@"), "site[0].url: must be https://HOST:PORT"),
        (with("peer.key", "other.key"), "peer.key_file: "),
        (with("peer.key", "peer.crt"), "peer.key_file: "),
        (with("ca.pem", "peer.key"), "peer.ca_file: "),
        (with("peer.crt", "absent.crt"), "peer.certificate_file: "),
        (with("peer.crt", "peer.key"), "peer.certificate_file: "),
        (with("ca_file", "#"), "peer.ca_file: is missing: a PEM file"),
    ] {
        let problems = folder.sites(&[&text]).map(|_| ()).expect_err("it has problems");
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{text}: {problems:#?}"
        );
    }
    let problems = folder.problems(&[PEER, SITE, LEAST].concat());
    assert_eq!(problems, [format!("site: {SITES_NEED_A_STORE}")]);
}

/// A configuration that is good but for one literal.
fn with(literal: &str, replacement: &str) -> String {
    assert!(LEAST.contains(literal), "{literal}");
    LEAST.replacen(literal, replacement, 1)
}

/// `"CORP\tnova"` is a tab to TOML: vCenter refused the login until the account was locked.
#[test]
fn a_configuration_that_cannot_work_is_not_called_good() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("empty")).unwrap();
    for (file, text) in [
        ("blank", "\n"),
        ("spaces", "secret \n"),
        ("lines", "one\ntwo\n"),
        ("template", "changeme\n"),
        ("bom", "\u{feff}secret\n"),
        ("large", &"x".repeat(100_000)),
    ] {
        fs::write(folder.0.path().join(file), text).unwrap();
    }
    let user = "username = \"vncgate@vsphere.local\"";
    let sha256 = "sha256 = \"930cff54e97d9e52e892c501b61d1e1d3adf0278815dc67a6f2e60964ef06456\"";
    let page = "novnc_url = \"https://consoles.example.com/console.html#token={token}\"";
    let password = "password_file = \"password\"";
    let url = "url = \"https://vcenter-a.example.com/sdk\"";
    let keystone = |url: &str| {
        let lines = "username = 'a'\npassword_file = 'password'\nca_file = 'ca.pem'";
        format!("{LEAST}\n[auth.keystone]\nurl = '{url}'\n{lines}\n")
    };
    let listen = |lines: &str| format!("[listen]\n{lines}\n{LEAST}");
    let cases = [
        (
            with(user, "username = \"CORP\\tnova\""),
            "vcenter[0].username: has the invisible character U+0009",
        ),
        (
            with(user, "username = \"CORP\\nova\""),
            "vcenter[0].username: has the invisible character U+000A",
        ),
        (
            with(user, "username = \"nova\\u202e\""),
            "vcenter[0].username: has the invisible character U+202E",
        ),
        (
            with(user, "username = ' nova'"),
            "vcenter[0].username: must not begin or end with white space",
        ),
        (
            with(user, "username = 'nova\u{a0}'"),
            "vcenter[0].username: must not begin or end with white space",
        ),
        (with(user, "username = '<USER>'"), "vcenter[0].username: is still the placeholder"),
        (with(user, "username = '${USER}'"), "vcenter[0].username: is still the placeholder"),
        (with(user, "username = '...'"), "vcenter[0].username: is still the placeholder"),
        (with(user, "username = 'ChangeMe'"), "vcenter[0].username: is still the placeholder"),
        (with("\"portal\"", "\"por\\u001btal\""), "auth.api_token[0].name: has the invisible"),
        (with("\"vcenter-a\"", "\"vcenter-a \""), "vcenter[0].service_host: must not begin"),
        (
            with(sha256, &format!("sha256 = '{}'", "0".repeat(64))),
            "auth.api_token[0].sha256: is the example's",
        ),
        (
            with(
                sha256,
                "sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'",
            ),
            "auth.api_token[0].sha256: is the SHA-256 of nothing",
        ),
        (
            with(sha256, &format!("{sha256}\nroles = []")),
            "auth.api_token[0].roles: must not be empty",
        ),
        (
            with(sha256, &format!("{sha256}\nroles = ['']")),
            "auth.api_token[0].roles: \"\" must not be empty",
        ),
        (
            with(sha256, &format!("{sha256}\nroles = ['reader']")),
            "auth.api_token[0].roles: grant no right",
        ),
        (
            format!(
                "{}\n[auth.policy]\nopen_console = ['member']\n",
                with(sha256, &format!("{sha256}\nroles = ['member']"))
            ),
            "auth.api_token[0].project: is missing",
        ),
        (
            format!(
                "{}\n[auth.policy]\nopen_console = ['member']\n",
                with(sha256, &format!("{sha256}\nroles = ['member']\nproject = 'b'"))
            ),
            "auth.api_token[0].project: no [[auth.project]] has the id \"b\"",
        ),
        (
            with(sha256, &format!("{sha256}\n[[auth.api_token]]\nname = 'other'\n{sha256}")),
            "auth.api_token: the sha256",
        ),
        (
            with(page, "novnc_url = 'https://x/console.html'"),
            "console.novnc_url: must end with /console.html#token=",
        ),
        (
            with(page, "novnc_url = \"https://x/vnc\\t.html\""),
            "console.novnc_url: has the invisible",
        ),
        (with(page, &format!("{page}\nweb = 'empty'")), "console.web: is an empty folder"),
        (with(password, "password_file = 'blank'"), "vcenter[0].password_file: "),
        (with(password, "password_file = 'spaces'"), "vcenter[0].password_file: "),
        (with(password, "password_file = 'lines'"), "vcenter[0].password_file: "),
        (with(password, "password_file = 'template'"), "vcenter[0].password_file: "),
        (with(password, "password_file = 'bom'"), "vcenter[0].password_file: "),
        (with(password, "password_file = 'large'"), "vcenter[0].password_file: cannot read"),
        (with(password, "password_file = '/dev/zero'"), "vcenter[0].password_file: cannot read"),
        (with(password, "password_file = 'empty'"), "vcenter[0].password_file: cannot read"),
        (with(password, "password_file = ''"), "vcenter[0].password_file: must not be empty"),
        (
            with(url, "url = 'https://vcenter-a.example.com:0/sdk'"),
            "vcenter[0].url: must not have port 0",
        ),
        (
            with(url, &format!("{url}\nhypervisors = ['']")),
            "vcenter[0].hypervisors: \"\" must not be empty",
        ),
        (
            format!(
                "{LEAST}{}",
                LEAST[LEAST.find("[[vcenter").unwrap()..].replace("\"vcenter-a\"", "\"b\"")
            ),
            "vcenter: two have the url",
        ),
        (
            keystone("https://k.example.com/v2.0"),
            "auth.keystone.url: must be the Identity API's own address",
        ),
        (
            keystone("https://k.example.com/v3/auth/tokens"),
            "auth.keystone.url: must be the Identity",
        ),
        (listen("public = '127.0.0.1:0'"), "listen.public: must not have port 0"),
        (listen("public = '224.0.0.1:80'"), "listen.public: must be an address of this machine"),
        (listen("public = '0.0.0.0:6083'"), "listen.internal: must not be the public address"),
        (listen("public = '[::]:6083'"), "listen.internal: must not be the public address"),
        (
            listen("public = '[::ffff:127.0.0.1]:6083'"),
            "listen.internal: must not be the public address",
        ),
        (listen("metrics = '0.0.0.0:6083'"), "listen.metrics: must not be the internal address"),
        (listen("metrics = '127.0.0.1:6082'"), "listen.metrics: must not be the public address"),
        (listen("internal = 'unix:/'"), "listen.internal: is a folder"),
        (
            listen(&format!("internal = 'unix:/{}'", "x".repeat(107))),
            "listen.internal: must be a path of at most",
        ),
        (format!("[log]\nlevel = ''\n{LEAST}"), "log.level: must not be empty"),
        (
            format!("[webmks]\nhost_certificates = 'none'\n{LEAST}"),
            "webmks.host_certificates: must be \"pinned\" or \"ca\"",
        ),
        (
            format!("[webmks]\nhost_certificates = '/run/vncgate/esxi-hosts.json'\n{LEAST}"),
            "webmks.host_certificates: must be \"pinned\" or \"ca\". It is no file any more: Envoy asks the authority",
        ),
        (
            format!("[tokens]\nstore = 'redis'\nurl = 'redis://x:0'\n{LEAST}"),
            "tokens.url: must not have port 0",
        ),
    ];
    for (text, expected) in cases {
        let problems = folder.problems(&text);
        assert!(problems[0].starts_with(expected), "{expected}: {problems:#?}");
        assert_eq!(problems.len(), 1, "{expected}: {problems:#?}");
        assert!(!problems[0].contains("secret"), "{problems:#?}");
    }
    for good in [
        with(user, "username = 'CORP\\nova'"),
        with(user, "username = \"CORP\\\\nova\""),
        listen("public = '0.0.0.0:6082'\ninternal = '0.0.0.0:6083'"),
        listen("public = '0.0.0.0:6083'\ninternal = '[::1]:6083'"),
        listen("public = '192.0.2.1:6083'\ninternal = '127.0.0.1:6083'"),
    ] {
        assert!(folder.parse(&good).is_ok(), "{good}");
    }
}

#[test]
fn a_listener_with_tls_has_files_that_fit() {
    let folder = Folder::with_credentials();
    const TLS: &str = "[listen.internal_tls]\ncertificate_file = 'peer.crt'\nkey_file = 'peer.key'\n\
                       client_ca_file = 'ca.pem'\nclient_names = ['gateway.example.com']\n";
    let config = folder.parse(&format!("{TLS}{LEAST}")).unwrap();
    assert!(config.internal.tls.is_some() && config.public.tls.is_none());
    let public =
        TLS.replace("internal_tls", "public_tls").replace("client_ca_file = 'ca.pem'\n", "");
    let public = public.replace("client_names", "#");
    let config = folder.parse(&format!("{public}{LEAST}")).unwrap();
    assert!(config.public.tls.is_some() && config.internal.tls.is_none());

    for (literal, replacement, expected) in [
        ("certificate_file", "#", "listen.internal_tls.certificate_file: is missing: a PEM file"),
        ("key_file", "#", "listen.internal_tls.key_file: is missing: a PEM file"),
        ("client_ca_file", "#", "listen.internal_tls.client_ca_file: is missing: this listener"),
        ("client_ca_file", "ca_file", "listen.internal_tls.ca_file: is not a known key"),
        ("peer.key", "ca.pem", "listen.internal_tls.key_file: "),
        ("peer.crt", "ca.pem", "listen.internal_tls.key_file: "),
        ("'ca.pem'", "'password'", "listen.internal_tls.client_ca_file: "),
        ("gateway.example.com", "a b", "listen.internal_tls.client_names: must be DNS names"),
        (
            "[listen",
            "[listen]\ninternal = 'unix:/x'\n[listen",
            "listen.internal_tls: needs ADDRESS:PORT",
        ),
    ] {
        assert!(TLS.contains(literal), "{literal}");
        let problems =
            folder.problems(&format!("{}{LEAST}", TLS.replacen(literal, replacement, 1)));
        let found = problems.iter().any(|problem| problem.starts_with(expected));
        assert!(found, "{expected}: {problems:#?}");
    }
    let mismatch = folder.problems(&format!("{}{LEAST}", TLS.replace("peer.crt", "ca.pem")));
    assert!(mismatch[0].contains("is not the key of the certificate in"), "{mismatch:?}");
    let names = public.replace("#", "client_names");
    let problems = folder.problems(&format!("{names}{LEAST}"));
    assert_eq!(problems, ["listen.public_tls.client_names: has no use without client_ca_file"]);
    let both = TLS.replace("peer.crt", "absent").replace("'ca.pem'", "'absent'");
    assert_eq!(folder.problems(&format!("{both}{LEAST}")).len(), 2, "each at once");
}

#[test]
fn the_page_is_as_the_operator_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("logo.png"), b"\x89PNG").unwrap();
    fs::write(folder.path().join("huge.svg"), vec![b' '; 256 * 1024 + 1]).unwrap();
    fs::write(folder.path().join("password"), "secret").unwrap();
    let least = LEAST.lines().filter(|line| !line.starts_with("ca_file"));
    let least: String = least.map(|line| format!("{line}\n")).collect();
    let page = |page: &str| Config::parse(&format!("{least}\n[page]\n{page}"), folder.path());

    let settings = page(
        "title = 'Example Cloud'\nlogo = 'logo.png'\nbuttons = ['paste']\nlayout = 'tr-q'\nlocked = ['layout']",
    );
    let settings = settings.unwrap().page;
    assert_eq!(settings.title.as_deref(), Some("Example Cloud"));
    assert_eq!(settings.logo.unwrap().content_type, "image/png");
    assert_eq!(settings.buttons.unwrap(), ["paste"]);
    assert_eq!(settings.defaults["layout"], "tr-q");
    assert_eq!(settings.locked, ["layout"]);

    for (wrong, problem) in [
        ("layout = 'dvorak'", "page.layout: the page has no table of the layout \"dvorak\""),
        ("layout = '../languages/en'", "page.layout: the page has no table"),
        ("language = 'tlh'", "page.language: the page does not speak \"tlh\""),
        ("language = 'details/de'", "page.language: the page does not speak \"details/de\""),
        ("others = 'all'", "page.others: must be one of none, count, names, not \"all\""),
        ("keyboard = 'de'", "page.keyboard: must be one of keysyms, positions, not \"de\""),
        ("resize = 'big'", "page.resize: must be one of scale, off, remote, not \"big\""),
        ("buttons = ['power']", "page.buttons: \"power\" is none of ctrl_alt_del, "),
        ("locked = ['title']", "page.locked: \"title\" is none of language, "),
        ("logo = 'none.svg'", "page.logo: "),
        ("logo = 'logo.gif'", "page.logo: must be a file whose name ends with"),
        ("logo = 'huge.svg'", "page.logo: is larger than 256 KiB"),
    ] {
        let problems = page(wrong).map(|_| ()).unwrap_err();
        assert!(problems[0].starts_with(problem), "{wrong}: {problems:?}");
    }
}

#[test]
fn frames_and_portals_are_for_those_that_are_named() {
    let folder = Folder::new();
    let with = |console: &str, limits: &str| {
        let text = LEAST.replace("[console]\n", &format!("[console]\n{console}\n"));
        folder.parse(&format!("{text}\n[limits]\n{limits}"))
    };
    let config = with("", "").unwrap();
    assert!(config.embed_origins.is_empty() && config.limits.portals.is_empty());
    let config = with(
        "embed_origins = ['https://dashboard.example.com', 'http://127.0.0.1:8080']",
        "portals = ['192.0.2.20', '2001:db8::/64']",
    );
    let config = config.unwrap();
    let origins: Vec<String> = config.embed_origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["https://dashboard.example.com", "http://127.0.0.1:8080"]);
    assert_eq!(config.limits.portals.len(), 2);

    for origin in ["*", "https://*.example.com", "https://a.example/horizon", "https://a.example;"]
    {
        let problems = with(&format!("embed_origins = ['{origin}']"), "portals = ['horizon']");
        let problems = problems.map(|_| ()).unwrap_err();
        let told = "console.embed_origins: must be an origin such as https://dashboard.example.com";
        assert!(problems[0].starts_with(told), "{problems:?}");
        assert!(problems[1].starts_with("limits.portals: must be networks"), "{problems:?}");
    }
}
