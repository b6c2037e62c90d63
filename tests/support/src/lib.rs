//! Harness of the demo and of the test tiers: starts the real parts of a console session on loopback
//! addresses and speaks to them as their users do.
//!
//! The parts, in the order of the path of a session:
//!
//! - [`vcsim`]: a vCenter, simulated by govmomi, changed through `govc`;
//! - [`screen`]: what stands in for an ESXi host's VNC port: a QEMU guest, a small RFB server, or a
//!   TCP server that echoes, floods, falls silent or resets; [`rfb_script`]: one that follows a script
//!   through the RFB handshake;
//! - [`esxi`]: the HTTPS ports of ESXi hosts, with their WebMKS consoles; [`webmks`]: such hosts in a
//!   vCenter;
//! - [`authority`]: the built `vncgate-authority` and its configuration; [`audit`]: its audit trail; [`doctor`]: what its
//!   command of that name finds;
//! - [`stores`]: memcached and Redis, one or several, where authorities keep tokens;
//! - [`console_api`]: callers that ask it for a console; [`tenant`]: one with few machines; [`answer`]: what they are answered;
//!   [`keystone`]: who knows them, in an OpenStack; [`horizon`]: that OpenStack's dashboard;
//! - [`envoy`]: a real Envoy with the shipped `envoy-config/static/envoy.yaml` and the built filter;
//!   [`listener`]: more listeners of it;
//! - [`application`]: another application behind the same Envoy;
//! - [`api_server`]: Kubernetes' API for control planes of gateways; [`istio`], [`envoy_gateway`]: such
//!   gateways, with the shipped `envoy-config/istio` and `envoy-config/envoy-gateway`;
//! - [`gateway`]: all of these but the last, wired together;
//! - [`cluster`]: a Kubernetes cluster that runs the images by the chart; [`registry`]: where images are fetched;
//! - [`cloud`]: an OpenStack whose compute service is the gateway;
//! - [`websocket`]: browsers, well-behaved and not, over HTTP/1.1; [`http2`]: the same over HTTP/2;
//!   [`session`]: what tests send and receive once a console is open; [`wire`]: the connections of load.
//! - [`consoles`]: all of a gateway but its Envoy.
//!
//! Beside them, [`scripted`]: an authority, the gateway's own or another site's, that does what the real one
//! never does; [`reports`]: what it is told of open sessions.
//!
//! Below them: [`wait`] (time limits), [`process`] (children that cannot outlive the tests), [`clock`] (a child's wrong clock),
//! [`certificate`] (one CA for each run), [`workspace`] (where built and downloaded things are), [`template`]
//! (shipped files with a few values replaced).
//!
//! A part that cannot start panics with its log and, where something is missing, with the recipe that
//! installs it. Nothing here connects to anything but `127.0.0.0/8`.

pub mod answer;
pub mod api_server;
pub mod application;
pub mod audit;
pub mod authority;
pub mod browser;
pub mod certificate;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod console_api;
pub mod consoles;
pub mod doctor;
pub mod envoy;
pub mod envoy_gateway;
pub mod esxi;
pub mod gateway;
pub mod horizon;
pub mod http2;
pub mod istio;
pub mod keystone;
pub mod listener;
pub mod process;
pub mod registry;
pub mod reports;
pub mod rfb_script;
pub mod screen;
pub mod scripted;
pub mod session;
pub mod stores;
pub mod template;
pub mod tenant;
pub mod vcsim;
pub mod wait;
pub mod webmks;
pub mod websocket;
pub mod wire;
pub mod workspace;
