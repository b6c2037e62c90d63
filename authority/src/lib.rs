//! The authority: it knows who may open which console, and where that console is right now.
//!
//! It runs beside Envoy and never sees a byte of a console. In the path of one session it has three parts:
//!
//! 1. A caller asks nova's API for a console ([`http::compute`]). The caller is known ([`identity`]), the
//!    machine is found in vCenter ([`vcenter`]), and a token is issued for the ESXi host and port where the
//!    console is at that moment ([`console`], [`tokens`]).
//! 2. The browser loads the page that the token's URL names ([`http::pages`]), which asks what the token is
//!    good for ([`http::status`]) and opens a WebSocket at Envoy.
//! 3. The filter in Envoy asks whether that token is good ([`http::check`]). vCenter is read again, and the
//!    answer is the console's address ([`names`]) or the reason why not. Envoy does the rest. Where the machine
//!    is another site's, that site's authority is asked in vCenter's place ([`sites`]).
//!
//! A console token is a password. The authority keeps its SHA-256, and writes neither into a log, a metric
//! or an error.
//!
//! | module | job |
//! |---|---|
//! | [`config`] | the TOML file, checked as a whole |
//! | [`console`] | the use cases: issue, check, status |
//! | [`tokens`] | what a token was issued for |
//! | [`vcenter`] | SOAP client, one shared session per vCenter |
//! | [`host_certificates`] | which ESXi hosts Envoy accepts |
//! | [`names`] | host name to address |
//! | [`sites`] | the authorities of other sites |
//! | [`identity`] | who calls the console API |
//! | [`throttle`] | who has shown too many unknown tokens |
//! | [`http`] | routers, errors as responses, the server |
//! | [`tls`] | whom to trust |
//! | [`outbound`] | HTTP requests to others |
//! | [`telemetry`] | logs and metrics |
//! | [`serve`], [`client`] | what the commands `serve` and `console` do |

pub mod client;
pub mod config;
pub mod console;
pub mod host_certificates;
pub mod http;
pub mod identity;
pub mod names;
pub mod outbound;
pub mod serve;
pub mod sites;
pub mod telemetry;
pub mod throttle;
pub mod tls;
pub mod tokens;
pub mod vcenter;
