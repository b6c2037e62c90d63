//! `PropertyCollector`: filters, and the updates of the objects that they select.

use super::envelope::{call, read, required};
use super::error::SoapError;
use super::page::{
    OPTION_START, OPTIONS, ObjectContent, check_session, missing_property, property,
};
use super::retrieve::{object_spec, property_spec, traversal};
use super::service::ServiceContent;
use crate::vcenter::xml::{Cursor, Element, Malformed};
use quick_xml::escape::escape;

/// `PropertyCollector.CreatePropertyCollector`: a collector with filters of its own. It ends with the session.
pub fn create_property_collector(content: &ServiceContent) -> String {
    call("CreatePropertyCollector", "PropertyCollector", &content.property_collector, "")
}

/// Reads the reply to [`create_property_collector`]: the collector's identifier. It may contain the session's key and
/// must not be logged.
pub fn read_property_collector(reply: &[u8]) -> Result<String, SoapError> {
    reference(reply, "CreatePropertyCollectorResponse")
}

/// `PropertyCollector.DestroyPropertyCollector`.
pub fn destroy_property_collector(collector: &str) -> String {
    call("DestroyPropertyCollector", "PropertyCollector", collector, "")
}

/// `PropertyCollector.CreateFilter` for the objects in a container view: of each type these properties, always with their
/// whole values.
pub fn create_filter(collector: &str, view: &str, properties: &[(&str, &[&str])]) -> String {
    let properties: String =
        properties.iter().map(|(kind, paths)| property_spec(kind, paths)).collect();
    let members = traversal("member", "ContainerView", "view", "");
    let objects = object_spec("ContainerView", view, &members);
    let arguments =
        format!("<spec>{properties}{objects}</spec><partialUpdates>false</partialUpdates>");
    call("CreateFilter", "PropertyCollector", collector, &arguments)
}

/// Reads the reply to [`create_filter`]: the filter's identifier.
pub fn read_filter(reply: &[u8]) -> Result<String, SoapError> {
    reference(reply, "CreateFilterResponse")
}

/// `PropertyCollector.WaitForUpdatesEx`: what has changed since `version`, at most `objects` updates at once. vCenter waits
/// up to `seconds` for a change. The empty version stands for an empty inventory.
pub fn wait_for_updates(collector: &str, version: &str, seconds: u64, objects: u32) -> String {
    let arguments = format!(
        "<version>{}</version><options><maxWaitSeconds>{seconds}</maxWaitSeconds>\
         <maxObjectUpdates>{objects}</maxObjectUpdates></options>",
        escape(version)
    );
    call("WaitForUpdatesEx", "PropertyCollector", collector, &arguments)
}

/// `UpdateSet`: one page of what has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateSet {
    /// The state that the objects have with these updates: the next call begins from it.
    pub version: String,
    /// Whether vCenter has more updates already. The state is not complete without them.
    pub truncated: bool,
    /// The updates in their order, whichever filter they are of.
    pub objects: Vec<ObjectUpdate>,
}

/// What has become of one object (`ObjectUpdate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUpdate {
    /// Whether it is new, changed or gone.
    pub kind: UpdateKind,
    /// The object with the properties that have changed; of a new object, with all that it has.
    pub object: ObjectContent,
    /// Paths of the properties that it has no longer.
    pub removed: Vec<String>,
}

/// `ObjectUpdateKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateKind {
    /// The filter selects it from now on.
    Enter,
    /// Properties have changed.
    Modify,
    /// The filter selects it no longer, or it was deleted.
    Leave,
}

impl ObjectContent {
    /// Changes the object as an update of the kind [`UpdateKind::Modify`] says.
    pub fn modify(&mut self, update: ObjectUpdate) {
        let ObjectUpdate { object: Self { properties, missing, .. }, removed, .. } = update;
        let named = |path: &str| {
            properties.iter().chain(&missing).any(|(name, _)| name == path)
                || removed.iter().any(|name| name == path)
        };
        // An array of options replaces those that were read of the last one.
        let replaces_options = named(OPTIONS);
        let stays = |(path, _): &(String, String)| {
            !(named(path) || (replaces_options && path.starts_with(OPTION_START)))
        };
        self.properties.retain(stays);
        self.missing.retain(stays);
        self.properties.extend(properties);
        self.missing.extend(missing);
    }
}

/// Reads the reply to [`wait_for_updates`]. `None` if nothing changed in the time that vCenter waited.
pub fn read_updates(reply: &[u8]) -> Result<Option<UpdateSet>, SoapError> {
    let set = read(reply, "WaitForUpdatesExResponse", |cursor, response| {
        let Some(value) = cursor.child_named(response, "returnval")? else { return Ok(None) };
        let mut set = UpdateSet::default();
        while let Some(child) = cursor.child(&value)? {
            match child.name() {
                "version" => set.version = cursor.text(&child)?,
                "truncated" => set.truncated = matches!(cursor.text(&child)?.trim(), "true" | "1"),
                "filterSet" => {
                    while let Some(object) = cursor.child_named(&child, "objectSet")? {
                        set.objects.push(object_update(cursor, &object)?);
                    }
                }
                _ => {}
            }
        }
        // It would stand for an empty inventory.
        required((!set.version.is_empty()).then_some(Some(set)), "version of an update")
    })?;
    check_session(set.iter().flat_map(|set| &set.objects).map(|update| &update.object))?;
    Ok(set)
}

fn object_update(cursor: &mut Cursor<'_>, parent: &Element<'_>) -> Result<ObjectUpdate, Malformed> {
    let (mut kind, mut object, mut removed) = (None, ObjectContent::default(), Vec::new());
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "kind" => kind = Some(update_kind(cursor.text(&child)?)?),
            "obj" => {
                object.kind = required(child.attribute("type")?, "type of an object")?;
                object.id = cursor.text(&child)?;
            }
            "changeSet" => removed.extend(property(cursor, &child, &mut object)?),
            "missingSet" => object.missing.push(missing_property(cursor, &child)?),
            _ => {}
        }
    }
    Ok(ObjectUpdate { kind: required(kind, "kind of an update")?, object, removed })
}

fn update_kind(text: String) -> Result<UpdateKind, Malformed> {
    match text.as_str() {
        "enter" => Ok(UpdateKind::Enter),
        "modify" => Ok(UpdateKind::Modify),
        "leave" => Ok(UpdateKind::Leave),
        _ => Err(Malformed::Unexpected { expected: "a kind of update", found: text }),
    }
}

fn reference(reply: &[u8], response: &'static str) -> Result<String, SoapError> {
    read(reply, response, |cursor, response| {
        let value = required(cursor.child_named(response, "returnval")?, "returnval")?;
        cursor.text(&value)
    })
}
