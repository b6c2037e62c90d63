//! The built filter, run as Envoy would run it.
//!
//! | module | what it tells |
//! |---|---|
//! | `configuration` | what the filter needs of its host, and which configurations it takes |
//! | `session` | a console from the upgrade to its end |
//! | `refusals` | every way to be refused, and requests that are not for a console |
//! | `tunnel` | frames and bytes once a console is open |
//! | `login` | a console with a password |
//! | `webmks` | a console that is a WebSocket already |
//! | `access` | what it costs to read what the browser sends |
//! | `sessions` | what the authority is told of open sessions, and its orders |
//! | `versions` | answers of an authority of another version |
//! | `clients` | how many sessions one client has |
//! | `budget` | what the filter may cost at most |
//! | `costs` | what a byte costs, and that a session leaves nothing behind |
//! | `faults` | a host whose calls fail |

mod access;
mod budget;
mod clients;
mod configuration;
mod costs;
mod faults;
mod login;
mod refusals;
mod session;
mod sessions;
mod story;
mod tunnel;
mod versions;
mod webmks;
