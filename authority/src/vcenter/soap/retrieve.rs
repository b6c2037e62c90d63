//! `PropertyCollector`: the requests that read properties, each with the traversals it needs.

use super::envelope::call;
use super::service::ServiceContent;
use quick_xml::escape::escape;

/// `PropertyCollector.RetrievePropertiesEx`: properties of virtual machines and, by way of `runtime.host`, of
/// the hosts that run them. With `neighbour_paths`, also those of every machine that is registered on one of
/// these hosts, itself included.
pub fn retrieve_machines<'a>(
    content: &ServiceContent,
    machines: impl Iterator<Item = &'a str>,
    machine_paths: &[&str],
    host_paths: &[&str],
    neighbour_paths: &[&str],
    page_size: u32,
) -> String {
    let (mut machines_and_hosts, mut neighbours) = (String::new(), String::new());
    for (index, machine) in machines.enumerate() {
        // Names of traversals have to be unique within a filter.
        let start = |next: &str| {
            let to_host =
                traversal(&format!("host{index}"), "VirtualMachine", "runtime.host", next);
            object_spec("VirtualMachine", machine, &to_host)
        };
        machines_and_hosts += &start("");
        if !neighbour_paths.is_empty() {
            let name = format!("neighbour{index}");
            neighbours += &start(&traversal(&name, "HostSystem", "vm", ""));
        }
    }
    let mut specs = filter_spec(&machine_and_host(machine_paths, host_paths), &machines_and_hosts);
    if !neighbours.is_empty() {
        // A filter of its own, so that only these properties of a neighbour are read.
        specs += &filter_spec(&property_spec("VirtualMachine", neighbour_paths), &neighbours);
    }
    retrieve(content, &specs, page_size)
}

/// `PropertyCollector.RetrievePropertiesEx`: properties of the virtual machines in a container view and of
/// the hosts that run them, at most `page_size` objects at once.
pub fn retrieve_machines_in_view(
    content: &ServiceContent,
    view: &str,
    machine_paths: &[&str],
    host_paths: &[&str],
    page_size: u32,
) -> String {
    let to_host = traversal("host", "VirtualMachine", "runtime.host", "");
    let members = traversal("machine", "ContainerView", "view", &to_host);
    let objects = object_spec("ContainerView", view, &members);
    retrieve(
        content,
        &filter_spec(&machine_and_host(machine_paths, host_paths), &objects),
        page_size,
    )
}

/// `PropertyCollector.RetrievePropertiesEx`: properties of the objects of type `kind` in a container view.
pub fn retrieve_view(
    content: &ServiceContent,
    view: &str,
    kind: &str,
    paths: &[&str],
    page_size: u32,
) -> String {
    let members = traversal("member", "ContainerView", "view", "");
    let objects = object_spec("ContainerView", view, &members);
    retrieve(content, &filter_spec(&property_spec(kind, paths), &objects), page_size)
}

/// `PropertyCollector.RetrievePropertiesEx`: properties of one object.
pub fn retrieve_object(content: &ServiceContent, kind: &str, id: &str, paths: &[&str]) -> String {
    retrieve(content, &filter_spec(&property_spec(kind, paths), &object_spec(kind, id, "")), 1)
}

/// `PropertyCollector.RetrievePropertiesEx`: properties of every machine that is registered on a host.
pub fn retrieve_machines_of_host(
    content: &ServiceContent,
    host: &str,
    paths: &[&str],
    page_size: u32,
) -> String {
    let machines = traversal("machine", "HostSystem", "vm", "");
    let objects = object_spec("HostSystem", host, &machines);
    let properties = property_spec("VirtualMachine", paths);
    retrieve(content, &filter_spec(&properties, &objects), page_size)
}

/// `PropertyCollector.RetrievePropertiesEx`: properties of a machine's ancestors, by way of its folder, its
/// resource pool and its vApp.
pub fn retrieve_ancestors(
    content: &ServiceContent,
    machine: &str,
    paths: &[&str],
    page_size: u32,
) -> String {
    const UP: &str = "<selectSet><name>up</name></selectSet>";
    let ways = [
        // A machine is a managed entity too: this leads to its folder, and on from anything else.
        traversal("up", "ManagedEntity", "parent", UP),
        traversal("pool", "VirtualMachine", "resourcePool", UP),
        traversal("vapp", "VirtualMachine", "parentVApp", UP),
    ];
    let objects = object_spec("VirtualMachine", machine, &ways.concat());
    let properties = property_spec("ManagedEntity", paths);
    retrieve(content, &filter_spec(&properties, &objects), page_size)
}

/// `PropertyCollector.ContinueRetrievePropertiesEx`.
pub fn continue_retrieve_properties(content: &ServiceContent, token: &str) -> String {
    let arguments = format!("<token>{}</token>", escape(token));
    call(
        "ContinueRetrievePropertiesEx",
        "PropertyCollector",
        &content.property_collector,
        &arguments,
    )
}

fn retrieve(content: &ServiceContent, filter_specs: &str, page_size: u32) -> String {
    let arguments =
        format!("{filter_specs}<options><maxObjects>{page_size}</maxObjects></options>");
    call("RetrievePropertiesEx", "PropertyCollector", &content.property_collector, &arguments)
}

/// A `PropertyFilterSpec`: these properties of the objects that are reached from `objects`.
fn filter_spec(properties: &str, objects: &str) -> String {
    format!("<specSet>{properties}{objects}</specSet>")
}

/// The `PropertySpec`s of machines and of their hosts.
fn machine_and_host(machine_paths: &[&str], host_paths: &[&str]) -> String {
    let machine = property_spec("VirtualMachine", machine_paths);
    machine + &property_spec("HostSystem", host_paths)
}

/// An `ObjectSpec`: starts at this object and goes on along `traversals`.
pub(super) fn object_spec(kind: &str, id: &str, traversals: &str) -> String {
    format!(
        "<objectSet><obj type=\"{kind}\">{}</obj><skip>false</skip>{traversals}</objectSet>",
        escape(id)
    )
}

pub(super) fn property_spec(kind: &str, paths: &[&str]) -> String {
    let paths: String =
        paths.iter().map(|path| format!("<pathSet>{}</pathSet>", escape(*path))).collect();
    format!("<propSet><type>{kind}</type>{paths}</propSet>")
}

/// A `TraversalSpec` from objects of `kind` along `path`, and from there on along `next`.
pub(super) fn traversal(name: &str, kind: &str, path: &str, next: &str) -> String {
    format!(
        "<selectSet xsi:type=\"TraversalSpec\"><name>{name}</name><type>{kind}</type>\
         <path>{path}</path><skip>false</skip>{next}</selectSet>"
    )
}
