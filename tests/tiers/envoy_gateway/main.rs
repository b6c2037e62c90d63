//! vncgate behind Envoy Gateway, by the shipped `envoy-config/envoy-gateway`.
//!
//! Real parts: Envoy Gateway without Kubernetes (files in, a stock Envoy out), the built filter, fetched by Envoy
//! Gateway, and the built authority. vCenter is govmomi's simulator. All of it runs in namespaces of the test's own, one
//! test at a time: they share the gateway.
//!
//! | module | what it shows |
//! |---|---|
//! | `changes` | what changes, fails or is wrong ends no console that is open, and opens none that should not |
//! | `configuration` | every value is that of `envoy-config/static/envoy.yaml` |
//! | `consoles` | consoles of both kinds open, another host of the gateway notices nothing |

mod changes;
mod configuration;
mod consoles;
mod fixture;
#[path = "../gateways/mod.rs"]
mod gateways;
