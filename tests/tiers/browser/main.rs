//! A person opens consoles in a real browser, on the whole path.
//!
//! Real parts: Chromium, Envoy with the built filter, the built authority, QEMU guests with a screen and a
//! keyboard, Debian's noVNC pages. vCenter is govmomi's simulator.
//!
//! Each test keeps a picture of what the person saw at its end in `.run/screenshots/`.
//!
//! | module | what it shows |
//! |---|---|
//! | `screens` | each kind of console shows its screen and takes keys |
//! | `token` | the token is in no URL and no log; the page connects to its gateway only |
//! | `controls` | the page's controls |
//! | `refusals` | links that open no console |
//! | `ends` | sessions that end, and how they come back |

mod controls;
mod ends;
mod fixture;
mod refusals;
mod screens;
mod token;
mod vnc_script;
