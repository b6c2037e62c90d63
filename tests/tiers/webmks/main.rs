//! Consoles of ESXi 7 and later (WebMKS), VNC that the authority switches on, and VNC consoles with a password.
//!
//! Real parts: Envoy with the built filter, the built authority, QEMU. vCenter is govmomi's simulator; the hosts
//! are `tests/vcsim/hostd`. `parts` holds both to what the other tests rely on, with clients that share no code
//! with the gateway.
//!
//! | module | what it shows |
//! |---|---|
//! | `access` | links that do not allow everything, on a real guest |
//! | `consoles`, `refusals` | WebMKS sessions, and those that do not open |
//! | `doctor` | what `doctor` finds of a host's HTTPS port and certificate |
//! | `hosts` | which host Envoy connects to, and which certificates it accepts |
//! | `enable_vnc` | VNC switched on, each machine with a port of its own |
//! | `passwords` | the login at a VNC server |

mod access;
mod consoles;
mod doctor;
mod enable_vnc;
mod fixture;
mod hosts;
mod parts;
mod passwords;
mod refusals;
mod rfb_client;
