//! Open consoles as the authority knows and ends them: the register, orders to the gateway, limits, audit, and machines
//! that change while their console is open.
//!
//! Real parts: Envoy with the built filter, the built authority. vCenter is govmomi's simulator, and consoles are TCP
//! servers in the test's hands.
//!
//! | module | what it shows |
//! |---|---|
//! | `access` | links for one browser: a thief and the owner, past their time, across restarts |
//! | `audit` | the audit trail has each grant, opening and end, once |
//! | `changes` | a console ends when vCenter changes its machine |
//! | `consoles` | consoles open, and are on two workers |
//! | `limits` | how long sessions may be open, and how many |
//! | `register` | they are listed and ended, at one authority or several, whatever dies |
//! | `reports` | what the gateway reports, its orders, and an authority that misbehaves |
//! | `whole_path` | filter and authority together: both protocols, an outage, a restart of Envoy |

mod access;
mod audit;
mod changes;
mod consoles;
mod fixture;
mod limits;
mod register;
mod reports;
mod whole_path;
