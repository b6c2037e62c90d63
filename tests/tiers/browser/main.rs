//! A person opens consoles in a real browser, on the whole path.
//!
//! Real parts: Chromium, and Firefox and WebKitGTK for the main stories; Envoy with the built filter, the built
//! authority, QEMU guests with a screen and a keyboard, Debian's noVNC pages. vCenter is govmomi's simulator.
//!
//! Each test keeps a picture of what the person saw at its end in `.run/screenshots/`.
//!
//! | module | what it shows |
//! |---|---|
//! | `accessibility` | axe-core, colours, motion, the order of Tab |
//! | `background` | a tab that nobody looks at |
//! | `bad_input` | settings, servers and browsers that are not as they should be |
//! | `screens` | each kind of console shows its screen and takes keys |
//! | `token` | the token is in no URL and no log; the page connects to its gateway only |
//! | `controls` | the page's controls |
//! | `access` | links to view, without a clipboard, or for one browser |
//! | `refusals` | links that open no console |
//! | `ends` | sessions that end, and how they come back |
//! | `orders` | sessions that the authority has end |
//! | `others` | who else has the console open |
//! | `follow` | a link that follows its machine after a vMotion |
//! | `engines` | the main stories in Chromium, Firefox and WebKit |
//! | `history` | what the browser's history keeps of a link |
//! | `origin` | a balancer that drops the port or the scheme |
//! | `loading` | the page is light, early, and as the operator wants it |
//! | `long_paste` | pasted text is sent whole, or the page says what it cannot send |
//! | `languages` | the page speaks the person's language |
//! | `layouts` | guests with other keyboards than a US one |
//! | `old_browsers` | the oldest versions that noVNC supports |
//! | `phone` | touch, a soft keyboard, a narrow screen |

mod access;
mod accessibility;
mod background;
mod bad_input;
mod controls;
mod ends;
mod engines;
mod fixture;
mod follow;
mod history;
mod languages;
mod layouts;
mod loading;
mod long_paste;
mod old_browsers;
mod orders;
mod origin;
mod others;
mod phone;
mod refusals;
mod screens;
mod token;
mod vnc_script;
