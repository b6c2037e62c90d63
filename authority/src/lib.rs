//! The authority: it decides who may open which console, and knows where that console is right now.
//!
//! It runs beside Envoy and never sees a byte of a console. Its part of a session, which
//! `docs/architecture.md` follows file by file:
//!
//! 1. A caller requests a console from nova's API ([`http::compute`]). [`identity`] identifies the caller, [`vcenter`]
//!    finds the machine, and [`console`] issues a token for the ESXi host and port where the console is at that moment.
//!    [`tokens`] keeps what the token was issued for.
//! 2. The browser loads the page at the token's URL ([`http::pages`]). The page asks what the token is good for
//!    ([`http::status`]) and opens a WebSocket to Envoy.
//! 3. The filter in Envoy asks whether that token is good ([`http::check`]). [`console`] reads the machine
//!    again and answers with the console's address ([`resolver`]), or with the reason for a refusal. Envoy does
//!    the rest. If the machine belongs to another site, that site's authority answers in vCenter's place
//!    ([`sites`]).
//!
//! A console token is a password. The authority keeps only its SHA-256, and never writes the token into a log,
//! a metric or an error.
//!
//! Modules import only from modules below them in this table. [`config`] stands apart: it builds what all of them need,
//! and only [`serve`], [`doctor`] and `main` import it.
//!
//! | module | job |
//! |---|---|
//! | [`serve`], [`console_command`], [`sessions_command`], [`doctor`] | what the commands `serve`, `console`, `sessions`, `doctor` and `check-config` do |
//! | [`supervisor`] | tells systemd that the service is ready, alive or stopping |
//! | [`config`] | the TOML file, checked as a whole |
//! | [`http`] | four listeners, a router for each API, errors as responses |
//! | [`console`] | the use cases: issue a token, check it, tell its status, revoke it |
//! | [`audit`] | a record of each console that was asked for, opened, refused and ended |
//! | [`session_access`] | ends the sessions of callers who lost their access |
//! | [`session_limits`] | how long sessions may be open, and how many |
//! | [`sessions`] | the register of live sessions |
//! | [`power`], [`screenshots`] | the use cases: switch a machine on or off, and see what it shows |
//! | [`sites`] | the authorities of other sites |
//! | [`host_certificates`] | which ESXi hosts Envoy accepts |
//! | [`tokens`] | stores of what tokens were issued for |
//! | [`identity`] | who calls the console API, and what callers may do |
//! | [`vcenter`] | SOAP client, one shared session for each vCenter |
//! | [`concurrency`] | bounds the requests of a client and of a caller that are answered at the same time |
//! | [`throttle`] | refuses clients that show too many unknown tokens |
//! | [`console_type`] | what callers request, and how a console is reached |
//! | [`resolver`] | host name to address |
//! | [`http_client`], [`tls`] | HTTP requests to other services, what they trust, and TLS of the listeners |
//! | [`password`] | password files, read at each login |
//! | [`traces`] | spans for a collector |
//! | [`telemetry`] | logs and metrics |
//! | [`text`] | text that another party wrote: in files, log lines and on terminals |

pub mod audit;
pub mod concurrency;
pub mod config;
pub mod console;
pub mod console_command;
pub mod console_type;
pub mod doctor;
pub mod host_certificates;
pub mod http;
pub mod http_client;
pub mod identity;
pub mod password;
pub mod power;
pub mod resolver;
pub mod screenshots;
pub mod serve;
pub mod session_access;
pub mod session_limits;
pub mod sessions;
pub mod sessions_command;
pub mod sites;
pub mod supervisor;
pub mod telemetry;
pub mod text;
pub mod throttle;
pub mod tls;
pub mod tokens;
pub mod traces;
pub mod vcenter;
