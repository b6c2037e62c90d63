//! Consoles of ESXi 7 and later, VNC that is switched on, and VNC consoles with a password.
//!
//! `parts` holds the real parts that these tests stand on to what the rest relies on.

mod consoles;
mod enable_vnc;
mod fixture;
mod hosts;
mod parts;
mod passwords;
mod refusals;
