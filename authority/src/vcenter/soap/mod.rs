//! The vSphere Web Services codec: bytes in, typed values out. It does no I/O and keeps no state.
//!
//! Each request is a function that returns the whole SOAP envelope; each reply has a function that reads
//! it. The calls are those of the vSphere API (`vim25`), named as its reference names them.

mod reconfigure;
mod ticket;

pub use reconfigure::{reconfigure_vm, task};
pub use ticket::{Ticket, acquire_ticket, ticket};

use super::xml::{Cursor, Element, Malformed};
use quick_xml::escape::escape;
use thiserror::Error;
use uuid::Uuid;

/// Namespace of the vSphere API.
const VIM: &str = "urn:vim25";

/// Namespace of SOAP 1.1 envelopes.
const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// The API version asked for in the `SOAPAction` header: the oldest vCenter that this client is for. Newer
/// ones serve older clients; an older one refuses a newer client.
pub const SOAP_ACTION: &str = "urn:vim25/6.5";

/// A SOAP reply that is not the answer hoped for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unanswered {
    /// vCenter understood the call and refused it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The reply is not a SOAP envelope with that call's response.
    #[error("the reply cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// A SOAP fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("fault {kind}: {message}")]
pub struct Fault {
    /// The vSphere fault type, such as `NotAuthenticated`; without one, the SOAP fault code.
    pub kind: String,
    /// vCenter's words, cut at [`FAULT_MESSAGE_LIMIT`].
    pub message: String,
    /// Of `NoPermission`: the privilege that the account lacks.
    pub privilege: Option<String>,
}

impl Fault {
    /// The session has expired or was ended.
    pub const NOT_AUTHENTICATED: &str = "NotAuthenticated";
    /// User name or password is wrong, or the account is locked.
    pub const INVALID_LOGIN: &str = "InvalidLogin";
    /// The object that a call names was deleted.
    pub const MANAGED_OBJECT_NOT_FOUND: &str = "ManagedObjectNotFound";
    /// The account lacks a privilege on an object.
    pub const NO_PERMISSION: &str = "NoPermission";
    /// The machine is not powered on.
    pub const INVALID_POWER_STATE: &str = "InvalidPowerState";
    /// The machine is not in a state to do that: disconnected, for one.
    pub const INVALID_STATE: &str = "InvalidState";
    /// The host, or its software, cannot do that.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// vCenter has no connection to the machine's host.
    pub const HOST_NOT_CONNECTED: &str = "HostNotConnected";
    /// The machine's host does not answer vCenter.
    pub const HOST_NOT_REACHABLE: &str = "HostNotReachable";
    /// The machine has as many consoles open as it may have.
    pub const MKS_CONNECTION_LIMIT_REACHED: &str = "MksConnectionLimitReached";
    /// The machine was changed since its `changeVersion` was read.
    pub const CONCURRENT_ACCESS: &str = "ConcurrentAccess";
    /// Another task is changing the machine.
    pub const TASK_IN_PROGRESS: &str = "TaskInProgress";

    /// A fault that arrived otherwise than as a fault of the call.
    pub(super) fn told_as(kind: &str, message: &str) -> Self {
        Self { kind: kind.to_owned(), message: message.to_owned(), privilege: None }
    }
}

/// Fault messages go to the log; one line of a screen or two says it, and a server's megabyte does not.
pub const FAULT_MESSAGE_LIMIT: usize = 300;

/// The managed objects that every session needs (`ServiceContent`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceContent {
    /// The inventory's root folder.
    pub root_folder: String,
    /// Serves `RetrievePropertiesEx`.
    pub property_collector: String,
    /// Serves `FindByUuid`.
    pub search_index: String,
    /// Serves `Login` and `Logout`.
    pub session_manager: String,
    /// Serves `CreateContainerView`. A standalone ESXi host has one as well.
    pub view_manager: String,
    /// Product, version and build, for the log.
    pub full_name: String,
    /// `about.instanceUuid`: which vCenter this is. A standalone ESXi host has none.
    pub instance_uuid: Option<String>,
}

/// A managed object, as calls name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedObject {
    /// Its type, such as `Folder`.
    pub kind: String,
    /// Its identifier, such as `group-v42`.
    pub id: String,
}

/// One object's properties, out of a page of `RetrievePropertiesEx`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectContent {
    /// The managed object's type, `VirtualMachine` or `HostSystem` here.
    pub kind: String,
    /// The managed object's identifier.
    pub id: String,
    /// Property path and value. Of an `OptionValue` it is the option's value, of a reference the
    /// referenced object's identifier, of an `ArrayOfByte` the text that it is in UTF-8, and of a
    /// `LocalizedMethodFault` the fault's type.
    pub properties: Vec<(String, String)>,
    /// Property path and fault type of what could not be read.
    pub missing: Vec<(String, String)>,
}

impl ObjectContent {
    /// The value of the property at `path`.
    pub fn property(&self, path: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value.as_str())
    }
}

/// One page of `RetrievePropertiesEx`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects in vCenter's order.
    pub objects: Vec<ObjectContent>,
    /// Asks for the next page; `None` on the last.
    pub token: Option<String>,
}

/// `ServiceInstance.RetrieveServiceContent`, the one call that needs no session.
pub fn retrieve_service_content() -> String {
    call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance", "")
}

/// `SessionManager.Login`. The result contains the password.
pub fn login(content: &ServiceContent, username: &str, password: &str) -> String {
    let arguments = format!(
        "<userName>{}</userName><password>{}</password>",
        escape(username),
        escape(password)
    );
    call("Login", "SessionManager", &content.session_manager, &arguments)
}

/// `SessionManager.Logout`.
pub fn logout(content: &ServiceContent) -> String {
    call("Logout", "SessionManager", &content.session_manager, "")
}

/// `ServiceInstance.CurrentTime`, the cheapest call that needs a session.
pub fn current_time() -> String {
    call("CurrentTime", "ServiceInstance", "ServiceInstance", "")
}

/// `SearchIndex.FindByUuid` for a virtual machine by its instance UUID.
pub fn find_by_uuid(content: &ServiceContent, instance: Uuid) -> String {
    let arguments = format!(
        "<uuid>{instance}</uuid><vmSearch>true</vmSearch><instanceUuid>true</instanceUuid>"
    );
    call("FindByUuid", "SearchIndex", &content.search_index, &arguments)
}

/// `SearchIndex.FindByInventoryPath`.
pub fn find_by_inventory_path(content: &ServiceContent, path: &str) -> String {
    let arguments = format!("<inventoryPath>{}</inventoryPath>", escape(path));
    call("FindByInventoryPath", "SearchIndex", &content.search_index, &arguments)
}

/// `ViewManager.CreateContainerView` of every object of a type below `container`; without one, below the
/// root folder.
pub fn create_container_view(
    content: &ServiceContent,
    container: Option<&ManagedObject>,
    kind: &str,
) -> String {
    let (container_kind, id) = match container {
        Some(container) => (container.kind.as_str(), container.id.as_str()),
        None => ("Folder", content.root_folder.as_str()),
    };
    let arguments = format!(
        "<container type=\"{}\">{}</container><type>{kind}</type><recursive>true</recursive>",
        escape(container_kind),
        escape(id)
    );
    call("CreateContainerView", "ViewManager", &content.view_manager, &arguments)
}

/// `ContainerView.DestroyView`.
pub fn destroy_view(view: &str) -> String {
    call("DestroyView", "ContainerView", view, "")
}

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
        // Names of traversals are unique within a filter.
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
        // A filter of its own: of a neighbour nothing else is anybody's business.
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

/// `PropertyCollector.RetrievePropertiesEx`: properties of everything that a machine is below, by way of
/// its folder, its resource pool and its vApp.
pub fn retrieve_ancestors(
    content: &ServiceContent,
    machine: &str,
    paths: &[&str],
    page_size: u32,
) -> String {
    const UP: &str = "<selectSet><name>up</name></selectSet>";
    let ways = [
        // A machine is a managed entity too: this is its folder, and the way on from anything else.
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

/// Reads the reply to [`retrieve_service_content`].
pub fn service_content(reply: &[u8]) -> Result<ServiceContent, Unanswered> {
    read(reply, "RetrieveServiceContentResponse", |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        let mut content = [const { None }; 5];
        let mut full_name = String::new();
        let mut instance_uuid = None;
        while let Some(child) = cursor.child(&value)? {
            let slot = match child.name() {
                "rootFolder" => 0,
                "propertyCollector" => 1,
                "searchIndex" => 2,
                "sessionManager" => 3,
                "viewManager" => 4,
                "about" => {
                    while let Some(about) = cursor.child(&child)? {
                        match about.name() {
                            "fullName" => full_name = cursor.text(&about)?,
                            "instanceUuid" => instance_uuid = Some(cursor.text(&about)?),
                            _ => {}
                        }
                    }
                    continue;
                }
                _ => continue,
            };
            content[slot] = Some(cursor.text(&child)?);
        }
        let [root_folder, property_collector, search_index, session_manager, view_manager] =
            content;
        Ok(ServiceContent {
            root_folder: required(root_folder, "rootFolder")?,
            property_collector: required(property_collector, "propertyCollector")?,
            search_index: required(search_index, "searchIndex")?,
            session_manager: required(session_manager, "sessionManager")?,
            view_manager: required(view_manager, "viewManager")?,
            full_name,
            instance_uuid,
        })
    })
}

/// Reads a reply whose value does not matter, as long as it is the response to `method`.
pub fn done(reply: &[u8], response: &'static str) -> Result<(), Unanswered> {
    read(reply, response, |_, _| Ok(()))
}

/// Reads the reply to [`find_by_uuid`]: the machine's identifier, or `None` for an unknown UUID.
pub fn found(reply: &[u8]) -> Result<Option<String>, Unanswered> {
    read(reply, "FindByUuidResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else {
            return Ok(None);
        };
        match value.attribute("type")?.as_deref() {
            Some("VirtualMachine") => Ok(Some(cursor.text(&value)?)),
            other => Err(Malformed::Unexpected {
                expected: "a VirtualMachine",
                found: other.unwrap_or("an object without a type").to_owned(),
            }),
        }
    })
}

/// Reads the reply to [`find_by_inventory_path`]: the object, or `None` if there is none at that path.
pub fn found_at_path(reply: &[u8]) -> Result<Option<ManagedObject>, Unanswered> {
    read(reply, "FindByInventoryPathResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else {
            return Ok(None);
        };
        let kind = required(value.attribute("type")?, "type of an object")?;
        Ok(Some(ManagedObject { kind, id: cursor.text(&value)? }))
    })
}

/// Reads the reply to [`create_container_view`]: the view's identifier. It may contain the session's
/// key, so it belongs in no log.
pub fn container_view(reply: &[u8]) -> Result<String, Unanswered> {
    read(reply, "CreateContainerViewResponse", |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        cursor.text(&value)
    })
}

/// Reads the reply to a `RetrievePropertiesEx`. No `returnval` means that there are no objects.
///
/// vCenter may answer an expired session with `NotAuthenticated` for each property in place of a fault
/// for the call: that is made the fault it means.
pub fn page(reply: &[u8]) -> Result<Page, Unanswered> {
    page_of(reply, "RetrievePropertiesExResponse")
}

/// Reads the reply to [`continue_retrieve_properties`].
pub fn continued_page(reply: &[u8]) -> Result<Page, Unanswered> {
    page_of(reply, "ContinueRetrievePropertiesExResponse")
}

fn page_of(reply: &[u8], response: &'static str) -> Result<Page, Unanswered> {
    let page = read(reply, response, |cursor, response| {
        let mut page = Page::default();
        let Some(value) = cursor.child_named(response, "returnval")? else {
            return Ok(page);
        };
        while let Some(child) = cursor.child(&value)? {
            match child.name() {
                "token" => page.token = Some(cursor.text(&child)?),
                "objects" => page.objects.push(object_content(cursor, &child)?),
                _ => {}
            }
        }
        Ok(page)
    })?;
    let mut missing = page.objects.iter().flat_map(|object| &object.missing);
    if missing.any(|(_, fault)| fault == Fault::NOT_AUTHENTICATED) {
        return Err(Fault::told_as(Fault::NOT_AUTHENTICATED, "in place of a property").into());
    }
    Ok(page)
}

fn object_content(
    cursor: &mut Cursor<'_>,
    parent: &Element<'_>,
) -> Result<ObjectContent, Malformed> {
    let mut object = ObjectContent::default();
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "obj" => {
                object.kind = required(child.attribute("type")?, "type of an object")?;
                object.id = cursor.text(&child)?;
            }
            "propSet" => object.properties.push(property(cursor, &child)?),
            "missingSet" => object.missing.push(missing_property(cursor, &child)?),
            _ => {}
        }
    }
    Ok(object)
}

fn property(cursor: &mut Cursor<'_>, parent: &Element<'_>) -> Result<(String, String), Malformed> {
    let (mut name, mut value) = (None, None);
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "name" => name = Some(cursor.text(&child)?),
            "val" => value = property_value(cursor, &child)?,
            _ => {}
        }
    }
    Ok((required(name, "name of a property")?, required(value, "value of a property")?))
}

fn property_value(
    cursor: &mut Cursor<'_>,
    value: &Element<'_>,
) -> Result<Option<String>, Malformed> {
    match cursor.xsi_type(value)?.as_deref() {
        Some("OptionValue") => {
            let option = cursor.child_named(value, "value")?;
            option.map(|option| cursor.text(&option)).transpose()
        }
        Some("LocalizedMethodFault") => match cursor.child_named(value, "fault")? {
            Some(fault) => cursor.xsi_type(&fault),
            None => Ok(None),
        },
        Some("ArrayOfByte") => {
            let mut bytes = Vec::new();
            while let Some(byte) = cursor.child_named(value, "byte")? {
                bytes.push(parse_byte(cursor.text(&byte)?)?);
            }
            String::from_utf8(bytes).map(Some).map_err(|_| Malformed::Encoding)
        }
        _ => cursor.text(value).map(Some),
    }
}

/// An `xsd:byte`, which is signed.
fn parse_byte(text: String) -> Result<u8, Malformed> {
    let byte: Result<i8, _> = text.parse();
    byte.map(i8::cast_unsigned)
        .map_err(|_| Malformed::Unexpected { expected: "a byte", found: text })
}

fn missing_property(
    cursor: &mut Cursor<'_>,
    parent: &Element<'_>,
) -> Result<(String, String), Malformed> {
    let (mut path, mut kind) = (None, None);
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "path" => path = Some(cursor.text(&child)?),
            "fault" => {
                if let Some(fault) = cursor.child_named(&child, "fault")? {
                    kind = cursor.xsi_type(&fault)?;
                }
            }
            _ => {}
        }
    }
    Ok((
        required(path, "path of a missing property")?,
        required(kind, "fault of a missing property")?,
    ))
}

/// Opens the envelope, turns a fault into the error it is, has `body` read the response, and holds the
/// document to being complete.
fn read<T>(
    reply: &[u8],
    response: &'static str,
    body: impl FnOnce(&mut Cursor<'_>, &Element<'_>) -> Result<T, Malformed>,
) -> Result<T, Unanswered> {
    let mut cursor = Cursor::new(reply)?;
    let envelope = cursor.root()?;
    if !envelope.is(SOAP, "Envelope") {
        let found = envelope.describe();
        return Err(Malformed::Unexpected { expected: "a SOAP envelope", found }.into());
    }
    let soap_body = required(cursor.child_named(&envelope, "Body")?, "SOAP body")?;
    let answer = required(cursor.child(&soap_body)?, "response in the SOAP body")?;
    if answer.is(SOAP, "Fault") {
        let fault = fault(&mut cursor, &answer)?;
        cursor.finish()?;
        return Err(fault.into());
    }
    if !answer.is(VIM, response) {
        let found = answer.describe();
        return Err(Malformed::Unexpected { expected: response, found }.into());
    }
    let value = body(&mut cursor, &answer)?;
    cursor.finish()?;
    Ok(value)
}

fn fault(cursor: &mut Cursor<'_>, parent: &Element<'_>) -> Result<Fault, Malformed> {
    let (mut code, mut kind, mut message) = (String::new(), None, String::new());
    let mut privilege = None;
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "faultcode" => code = cursor.text(&child)?,
            "faultstring" => message = cursor.text(&child)?,
            "detail" => {
                if let Some(detail) = cursor.child(&child)? {
                    let element = detail.name().trim_end_matches("Fault").to_owned();
                    kind = Some(cursor.xsi_type(&detail)?.unwrap_or(element));
                    privilege = missing_privilege(cursor, &detail)?;
                }
            }
            _ => {}
        }
    }
    if let Some((end, _)) = message.char_indices().nth(FAULT_MESSAGE_LIMIT) {
        message.truncate(end);
    }
    Ok(Fault { kind: kind.unwrap_or(code), message, privilege })
}

/// What a `NoPermission` names: `privilegeId`, or since vSphere 7.0.3.2 a list for each entity.
fn missing_privilege(
    cursor: &mut Cursor<'_>,
    fault: &Element<'_>,
) -> Result<Option<String>, Malformed> {
    let mut privilege = None;
    while let Some(child) = cursor.child(fault)? {
        match child.name() {
            "privilegeId" => privilege = Some(cursor.text(&child)?),
            "missingPrivileges" if privilege.is_none() => {
                if let Some(id) = cursor.child_named(&child, "privilegeIds")? {
                    privilege = Some(cursor.text(&id)?);
                }
            }
            _ => {}
        }
    }
    Ok(privilege.filter(|privilege| !privilege.is_empty()))
}

fn required<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
    value.ok_or(Malformed::Missing(what))
}

/// The envelope of one method call on one managed object. `arguments` is XML.
fn call(method: &str, kind: &str, id: &str, arguments: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <soapenv:Envelope xmlns:soapenv=\"{SOAP}\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
         <{method} xmlns=\"{VIM}\"><_this type=\"{kind}\">{}</_this>{arguments}</{method}>\
         </soapenv:Body></soapenv:Envelope>",
        escape(id)
    )
}

fn retrieve(content: &ServiceContent, filter_specs: &str, page_size: u32) -> String {
    let arguments =
        format!("{filter_specs}<options><maxObjects>{page_size}</maxObjects></options>");
    call("RetrievePropertiesEx", "PropertyCollector", &content.property_collector, &arguments)
}

/// A `PropertyFilterSpec`: these properties of the objects that are found from these on.
fn filter_spec(properties: &str, objects: &str) -> String {
    format!("<specSet>{properties}{objects}</specSet>")
}

/// The `PropertySpec`s of machines and of their hosts.
fn machine_and_host(machine_paths: &[&str], host_paths: &[&str]) -> String {
    let machine = property_spec("VirtualMachine", machine_paths);
    machine + &property_spec("HostSystem", host_paths)
}

/// An `ObjectSpec`: start at this object and go on along `traversals`.
fn object_spec(kind: &str, id: &str, traversals: &str) -> String {
    format!(
        "<objectSet><obj type=\"{kind}\">{}</obj><skip>false</skip>{traversals}</objectSet>",
        escape(id)
    )
}

fn property_spec(kind: &str, paths: &[&str]) -> String {
    let paths: String =
        paths.iter().map(|path| format!("<pathSet>{}</pathSet>", escape(*path))).collect();
    format!("<propSet><type>{kind}</type>{paths}</propSet>")
}

/// A `TraversalSpec` from objects of `kind` along `path`, and from there on along `next`.
fn traversal(name: &str, kind: &str, path: &str, next: &str) -> String {
    format!(
        "<selectSet xsi:type=\"TraversalSpec\"><name>{name}</name><type>{kind}</type>\
         <path>{path}</path><skip>false</skip>{next}</selectSet>"
    )
}

#[cfg(test)]
mod tests;
