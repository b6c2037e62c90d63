//! vncgate in a Kubernetes cluster: the images, the chart, consoles through its pods, upgrades and what an operator gets
//! wrong.
//!
//! Real parts: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, containerd, runc, kube-proxy, CoreDNS,
//! helm, Envoy, Redis; Istio and Envoy Gateway by their own charts; the images of `./justw images`. vCenter is govmomi's simulator. All of it runs in namespaces that
//! `tests/setup/isolated-node` makes.

mod behind;
#[path = "../gateways/checks.rs"]
mod checks;
mod consoles;
mod control_planes;
mod fixture;
mod gateways;
mod images;
mod policy;
mod release;
mod rendered;
mod values;
