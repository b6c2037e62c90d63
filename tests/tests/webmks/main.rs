//! Consoles of ESXi 7 and later, and VNC consoles with a password.
//!
//! `parts` holds the real parts that these tests stand on to what the rest relies on.

mod consoles;
mod fixture;
mod parts;
