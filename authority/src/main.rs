//! The command line of the authority.

use clap::{Args, CommandFactory, Parser, Subcommand};
use secrecy::SecretString;
use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};
use url::Url;
use vncgate_api::Access;
use vncgate_authority::config::Config;
use vncgate_authority::console_command::{Authority, ConsoleRequest};
use vncgate_authority::doctor::authority::ClientCertificate;
use vncgate_authority::doctor::{self, Extent, Report, Severity};
use vncgate_authority::identity::api_token;
use vncgate_authority::serve::{self, ServeError};
use vncgate_authority::sessions_command::{self, SessionFilter};
use vncgate_authority::text;
use vncgate_authority::tls::Trust;

/// A check allocates some hundred times, and costs 8 % less CPU time than with glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of sysexits.h: the configuration is wrong, and a restart does not help.
const EXIT_BAD_CONFIGURATION: u8 = 64;

/// How often `sessions --watch` prints.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Moves the cursor to the first line and erases what is below (ECMA-48: CUP, ED).
const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[J";

/// The variable with an API token.
const API_TOKEN_VARIABLE: &str = "VNCGATE_API_TOKEN";

/// Largest file of an API token, in bytes: Keystone's longest tokens have a few thousand.
const API_TOKEN_LIMIT: u64 = 64 * 1024;

/// Issues console tokens for vCenter's virtual machines, and checks them for the gateway.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  # Make an API token for a portal: the token for the portal, its hash for the configuration
  vncgate-authority api-token --name portal

  # Check the configuration, then run
  vncgate-authority check-config --config /etc/vncgate/authority.toml
  vncgate-authority serve --config /etc/vncgate/authority.toml

  # Open a console by name or by instance UUID
  export VNCGATE_API_TOKEN=...
  xdg-open \"$(vncgate-authority console web-1)\"

  # See who is at which console, and end a session
  vncgate-authority sessions
  vncgate-authority sessions end 5d93eed6 --reason \"maintenance at 14:00\"

  # Make a link by which a guest can watch for two hours
  vncgate-authority console web-1 --view --ttl 2h --label \"vendor, ticket 4711\"

authority/vncgate-authority.toml in the sources explains every key of the configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service. Logs go to standard error.
    ///
    /// SIGTERM lets requests finish, then stops the service. SIGHUP reads the configuration and the files that it names
    /// again. If there is any problem, the log has all of them and nothing changes. [listen] and [tokens] need a restart.
    Serve(ConfigFile),
    /// Check a configuration and the files it names. Lists every problem; exits with 64 if there is one.
    CheckConfig(CheckArguments),
    /// Try everything that consoles need, and print what to do about what is wrong. Exits with 1 if there is a problem.
    Doctor(DoctorArguments),
    /// Print the URL of a new console. The URL is good for one machine and for the configured time.
    Console(ConsoleArguments),
    /// List the consoles that are open, or end one.
    ///
    /// Without a command it prints a table. LAST is how long ago the browser sent something, TO BROWSER what the console
    /// sent. All gateways whose authorities share a token store are in it.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "\
Examples:
  # Who is at which console?
  vncgate-authority sessions
  vncgate-authority sessions --machine web-1 --watch

  # End one, by the first characters of its SESSION, and tell its user why
  vncgate-authority sessions end 5d93eed6 --reason \"maintenance at 14:00\"

  # The machines with an open console, for a script
  vncgate-authority sessions --json | jq -r '.[].machine' | sort -u"
    )]
    Sessions(SessionsArguments),
    /// Print a new random API token and the configuration for it.
    ApiToken {
        /// Name of the caller that gets the token. It appears in the log with each console.
        #[arg(long, default_value = "portal")]
        name: String,
    },
    /// Write the manual pages into a folder, one for each command. Packages bring them.
    #[command(hide = true)]
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration, a TOML file.
    #[arg(long, value_name = "FILE", env = "VNCGATE_CONFIG")]
    config: PathBuf,
}

#[derive(Args)]
struct CheckArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Log in to each vCenter, and try token store, Keystone and the names of the ESXi hosts. Exits with 1 if there is a
    /// problem.
    #[arg(long)]
    online: bool,
    /// Exit with 1 if there is a warning.
    #[arg(long)]
    strict: bool,
}

#[derive(Args)]
struct DoctorArguments {
    /// The configuration, a TOML file. Without it, only what the other arguments name is tried.
    #[arg(
        long,
        value_name = "FILE",
        env = "VNCGATE_CONFIG",
        required_unless_present_any = ["vm", "envoy_admin"]
    )]
    config: Option<PathBuf>,
    /// A virtual machine's name or instance UUID: try its console too, with a token that is revoked at once. With an API
    /// token, the console API issues it.
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    #[command(flatten)]
    authority: AuthorityArguments,
    /// The admin interface of the Envoy that has the filter: examine its configuration too.
    #[arg(long, value_name = "URL")]
    envoy_admin: Option<Url>,
    /// Envoy's certificate for the authority, PEM. Needed if [listen.internal_tls] is set.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// Print a JSON object with every finding.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ConsoleArguments {
    /// The virtual machine's instance UUID or name.
    vm: String,
    #[command(flatten)]
    authority: AuthorityArguments,
    /// The type of console.
    #[arg(long = "type", value_parser = ["novnc", "xvpvnc"], default_value = "novnc")]
    console_type: String,
    /// Let the user see the screen and do nothing else.
    #[arg(long)]
    view: bool,
    /// Let the user send no clipboard.
    #[arg(long)]
    no_clipboard: bool,
    /// For whom or what the link is. It appears in the list of tokens and in the log.
    #[arg(long)]
    label: Option<String>,
    /// How long the link is good, such as 2h. Without it, the configured time.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// Have the link checked as the console page does, and print what it would open in place of the link. Exits with 1 if it
    /// would open nothing.
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct AuthorityArguments {
    /// Where the console API is: the authority's public listener, or Envoy in front of it.
    #[arg(long, env = "VNCGATE_URL", default_value = "http://127.0.0.1:6082")]
    url: Url,
    /// A file with the API token. Without it, VNCGATE_API_TOKEN holds the token itself.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM certificates to trust for an https URL, in place of the system's.
    #[arg(long, value_name = "FILE", env = "VNCGATE_CA_FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Args)]
struct SessionsArguments {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    authority: AuthorityArguments,
    /// Only those of this virtual machine: its instance UUID or exact name.
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Only those that this caller requested: api_token:NAME, a Keystone user's name (alice@Default) or
    /// keystone:IDENTIFIER.
    #[arg(long)]
    caller: Option<String>,
    /// Only those of this project's callers, by its identifier.
    #[arg(long)]
    project: Option<String>,
    /// Only those of browsers at this IP address.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// Print a JSON array with all that is known of each session.
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

#[derive(Subcommand)]
enum SessionsCommand {
    /// End a session. Its user is told who ended it and why.
    End {
        /// The session's identifier, or the first characters of it.
        session: String,
        /// Why, in words for its user: one line of at most 100 bytes.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        authority: AuthorityArguments,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vncgate-authority: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Serve(file) => match runtime()?.block_on(serve::run(&file.config)) {
            Err(error @ ServeError::Config(_)) => {
                eprintln!("vncgate-authority: {error}");
                return Ok(EXIT_BAD_CONFIGURATION.into());
            }
            result => result?,
        },
        Command::CheckConfig(CheckArguments { file, online, strict }) => {
            let Some(config) = load(&file) else { return Ok(EXIT_BAD_CONFIGURATION.into()) };
            let mut report = Report::default();
            doctor::files::look(&config, &mut report);
            if online {
                let extent = Extent::default();
                runtime()?.block_on(doctor::try_online(config, &extent, &mut report))?;
            }
            let findings = report.findings.iter();
            for finding in findings.filter(|finding| finding.severity != Severity::Good) {
                eprintln!("{finding}");
            }
            let worst = if strict { Severity::Warning } else { Severity::Problem };
            if report.has(worst) {
                return Ok(ExitCode::FAILURE);
            }
            println!("{} is a good configuration", file.config.display());
        }
        Command::Doctor(DoctorArguments {
            config,
            vm,
            authority,
            envoy_admin,
            client_certificate,
            client_key,
            json,
        }) => {
            let client = client_certificate.zip(client_key);
            let client = client.map(|(certificate, key)| ClientCertificate { certificate, key });
            // Without a configuration nothing but the console API can open a console.
            let api = match vm.is_some() && (authority.has_api_token() || config.is_none()) {
                true => Some(authority.connect()?),
                false => None,
            };
            let extent = Extent { vm, envoy_admin, running: true, client, api };
            let mut report = Report::default();
            let runtime = runtime()?;
            match config {
                Some(config) => {
                    let file = ConfigFile { config };
                    let Some(config) = load(&file) else {
                        return Ok(EXIT_BAD_CONFIGURATION.into());
                    };
                    doctor::files::look(&config, &mut report);
                    runtime.block_on(doctor::try_online(config, &extent, &mut report))?;
                }
                None => runtime.block_on(doctor::try_without_configuration(&extent, &mut report)),
            }
            match json {
                true => println!("{}", serde_json::to_string_pretty(&report)?),
                false => report.findings.iter().for_each(|finding| println!("{finding}")),
            }
            if report.has(Severity::Problem) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Console(console) => println!("{}", runtime()?.block_on(console.run())?),
        Command::Sessions(sessions) => runtime()?.block_on(sessions.run())?,
        Command::ApiToken { name } => {
            let (token, sha256) = api_token::generate()?;
            println!("# For {name}, to send as X-Auth-Token. It is shown this once:\n{token}\n");
            println!("# For the authority's configuration:\n[[auth.api_token]]");
            println!("name = {}\nsha256 = \"{sha256}\"", toml::Value::String(name));
        }
        Command::Man { folder } => clap_mangen::generate_to(Cli::command(), folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the configuration. `None` after its problems were printed.
fn load(file: &ConfigFile) -> Option<Config> {
    Config::load(&file.config).map_err(|error| eprintln!("vncgate-authority: {error}")).ok()
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

impl ConsoleArguments {
    async fn run(&self) -> Result<String, Box<dyn Error>> {
        let request = ConsoleRequest {
            console_type: self.console_type.clone(),
            access: self.view.then_some(Access::View),
            clipboard: self.no_clipboard.then_some(false),
            label: self.label.clone(),
            ttl_seconds: self.ttl.map(|ttl| ttl.as_secs()),
        };
        let authority = self.authority.connect()?;
        Ok(match self.check {
            true => authority.check(&self.vm, &request).await?,
            false => authority.console(&self.vm, &request).await?,
        })
    }
}

impl SessionsArguments {
    async fn run(self) -> Result<(), Box<dyn Error>> {
        if let Some(SessionsCommand::End { session, reason, authority }) = self.command {
            let outcome = authority.connect()?.end_session(&session, reason.as_deref()).await?;
            println!("{outcome}");
            return Ok(());
        }
        let authority = self.authority.connect()?;
        let filter = SessionFilter {
            machine: self.machine,
            caller: self.caller,
            project: self.project,
            client: self.client,
        };
        loop {
            let sessions = authority.sessions(&filter).await?;
            let shown = match self.json {
                true => serde_json::to_string(&sessions)?,
                false => sessions_command::table(&sessions, SystemTime::now()),
            };
            if self.watch && !self.json && io::stdout().is_terminal() {
                print!("{CLEAR_SCREEN}");
            }
            println!("{shown}");
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

impl AuthorityArguments {
    fn connect(&self) -> Result<Authority, Box<dyn Error>> {
        let trust = self.ca_file.clone().map_or(Trust::System, Trust::CaFile);
        Ok(Authority::new(self.url.clone(), self.api_token()?, trust)?)
    }

    fn has_api_token(&self) -> bool {
        self.token_file.is_some() || std::env::var_os(API_TOKEN_VARIABLE).is_some()
    }

    fn api_token(&self) -> Result<SecretString, String> {
        let token = match &self.token_file {
            Some(path) => text::read_file(path, API_TOKEN_LIMIT)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            None => std::env::var(API_TOKEN_VARIABLE).map_err(
                |_| "set VNCGATE_API_TOKEN to an API token, or name its file by --token-file",
            )?,
        };
        Ok(token.trim().into())
    }
}
