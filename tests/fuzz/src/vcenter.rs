//! The authority's own source of its vSphere codec. As a dependency, the authority would bring its HTTP server,
//! its HTTP client and TLS, minutes of instrumented build for two modules that use none of it.
#![allow(dead_code, unused_imports)]

#[path = "../../../authority/src/vcenter/soap/mod.rs"]
pub mod soap;
#[path = "../../../authority/src/vcenter/xml.rs"]
mod xml;
