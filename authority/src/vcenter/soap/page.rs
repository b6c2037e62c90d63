//! `PropertyCollector`: pages of objects and their properties, as its replies carry them.

use super::envelope::{read, required};
use super::error::{Fault, SoapError};
use crate::vcenter::xml::{Cursor, Element, Malformed};

/// One object's properties, out of a page of `RetrievePropertiesEx`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectContent {
    /// The managed object's type, `VirtualMachine` or `HostSystem` here.
    pub kind: String,
    /// The managed object's identifier.
    pub id: String,
    /// Property paths and values. The value of an `OptionValue` is the option's value, that of a reference the
    /// referenced object's identifier, that of an `ArrayOfByte` its bytes as UTF-8, that of a
    /// `LocalizedMethodFault` the fault's type, and that of an `ArrayOfHostVirtualNic` the interfaces' addresses with
    /// spaces between them.
    pub properties: Vec<(String, String)>,
    /// Paths of the properties that could not be read, each with the type of its fault.
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
    /// Requests the next page; `None` on the last.
    pub token: Option<String>,
}

/// Reads the reply to a `RetrievePropertiesEx`. No `returnval` means that there are no objects.
///
/// vCenter may answer an expired session with `NotAuthenticated` for each property instead of a fault for the
/// call. This is returned as the fault that it means.
pub fn read_page(reply: &[u8]) -> Result<Page, SoapError> {
    page_of(reply, "RetrievePropertiesExResponse")
}

/// Reads the reply to a `ContinueRetrievePropertiesEx`.
pub fn read_continued_page(reply: &[u8]) -> Result<Page, SoapError> {
    page_of(reply, "ContinueRetrievePropertiesExResponse")
}

fn page_of(reply: &[u8], response: &'static str) -> Result<Page, SoapError> {
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
        return Err(Fault::from_kind(Fault::NOT_AUTHENTICATED, "in place of a property").into());
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
        Some("ArrayOfHostVirtualNic") => {
            let mut addresses = String::new();
            while let Some(interface) = cursor.child_named(value, "HostVirtualNic")? {
                interface_addresses(cursor, &interface, &mut addresses)?;
            }
            Ok(Some(addresses))
        }
        _ => cursor.text(value).map(Some),
    }
}

/// Appends `spec.ip.ipAddress` and those of `spec.ip.ipV6Config` of a `HostVirtualNic`.
fn interface_addresses(
    cursor: &mut Cursor<'_>,
    interface: &Element<'_>,
    addresses: &mut String,
) -> Result<(), Malformed> {
    let Some(spec) = cursor.child_named(interface, "spec")? else { return Ok(()) };
    let Some(ip) = cursor.child_named(&spec, "ip")? else { return Ok(()) };
    while let Some(child) = cursor.child(&ip)? {
        match child.name() {
            "ipAddress" => *addresses += &format!("{} ", cursor.text(&child)?),
            "ipV6Config" => {
                while let Some(config) = cursor.child_named(&child, "ipV6Address")? {
                    if let Some(address) = cursor.child_named(&config, "ipAddress")? {
                        *addresses += &format!("{} ", cursor.text(&address)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
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
