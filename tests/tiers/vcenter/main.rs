//! The authority and vCenter, by the authority's own interfaces: the console API as callers use it, the check
//! API as the filter uses it, its commands, its log.
//!
//! Real parts: the built authority. vCenter is govmomi's simulator, or `fake` for answers that no vCenter
//! gives. No Envoy: nothing is connected here.
//!
//! | module | what it shows |
//! |---|---|
//! | `issue`, `check` | a token for a machine, and what becomes of it until it is used |
//! | `access` | tokens that restrict their users, and tokens for one browser |
//! | `session`, `outage`, `faults`, `two_vcenters` | logins, and vCenters that are down, slow or broken |
//! | `calls` | how many SOAP calls each action costs |
//! | `size` | SOAP calls do not grow with the inventory |
//! | `projects` | callers who see some folders only, and names |
//! | `power` | machines that are started, stopped and rebooted |
//! | `screenshot` | pictures of what machines show |
//! | `targets`, `odd_machines` | where consoles may lead, and machines that vCenter tells little of |
//! | `watch` | what vCenter says has changed: listings without asking it |
//! | `watch_faults` | updates that are not as they should be |
//! | `command`, `service` | the commands, and the authority as a service |

mod access;
mod calls;
mod check;
mod command;
mod fake;
mod faults;
mod fixture;
mod issue;
mod odd_machines;
mod outage;
mod power;
mod projects;
mod screenshot;
mod service;
mod session;
mod size;
mod targets;
mod two_vcenters;
mod watch;
mod watch_faults;
