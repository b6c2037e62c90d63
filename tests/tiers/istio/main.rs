//! vncgate on an ingress gateway of Istio, by the shipped `envoy-config/istio`.
//!
//! Real parts: kube-apiserver with etcd, istiod, pilot-agent with a stock Envoy, the built filter, fetched by
//! pilot-agent, and the built authority. vCenter is govmomi's simulator. All of it runs in namespaces of the test's own,
//! one test at a time: they share the gateway.
//!
//! | module | what it shows |
//! |---|---|
//! | `changes` | what changes, fails or is wrong ends no console that is open, and opens none that should not |
//! | `configuration` | every value is that of `envoy-config/static/envoy.yaml` |
//! | `gateway_api` | all of it with the Kubernetes Gateway API |
//! | `consoles` | consoles of both kinds open, another host of the gateway notices nothing |

mod changes;
mod configuration;
mod consoles;
mod fixture;
mod gateway_api;
#[path = "../gateways/mod.rs"]
mod gateways;
