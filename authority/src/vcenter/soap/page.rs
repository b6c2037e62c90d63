//! `PropertyCollector`: pages of objects and their properties, as its replies carry them.

use super::envelope::{read, required};
use super::error::{Fault, SoapError};
use crate::vcenter::xml::{Cursor, Element, Malformed};
use std::borrow::Cow;

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
    /// spaces between them. Of an array of `OptionValue` each option of [`KEPT_OPTIONS`] is a property with a keyed
    /// path, and the array's own value is empty.
    pub properties: Vec<(String, String)>,
    /// Paths of the properties that could not be read, each with the type of its fault, or [`NO_VALUE`].
    pub missing: Vec<(String, String)>,
}

impl ObjectContent {
    /// The value of the property at `path`.
    pub fn property(&self, path: &str) -> Option<&str> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value.as_str())
    }

    /// Gives back memory that was reserved and not used.
    pub fn shrink(&mut self) {
        for (path, text) in self.properties.iter_mut().chain(&mut self.missing) {
            path.shrink_to_fit();
            text.shrink_to_fit();
        }
        self.properties.shrink_to_fit();
        self.missing.shrink_to_fit();
        self.kind.shrink_to_fit();
        self.id.shrink_to_fit();
    }

    /// The memory that it takes, in bytes.
    pub fn size(&self) -> usize {
        let texts = self.properties.iter().chain(&self.missing);
        let texts: usize = texts.map(|(path, text)| path.capacity() + text.capacity()).sum();
        let pairs = self.properties.capacity() + self.missing.capacity();
        size_of::<Self>()
            + self.kind.capacity()
            + self.id.capacity()
            + pairs * size_of::<(String, String)>()
            + texts
    }

    /// The options of `config.extraConfig` with this key, without regard to case: the key as it is spelled, and the value.
    pub fn options<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let options = self.properties.iter().filter_map(|(path, value)| {
            Some((path.strip_prefix(OPTION_START)?.strip_suffix(OPTION_END)?, value.as_str()))
        });
        // ESXi's configuration files ignore spaces around a key.
        options.filter(move |(found, _)| found.trim().eq_ignore_ascii_case(key))
    }
}

/// Stands for the fault of a property whose value cannot be read.
const NO_VALUE: &str = "(a value that cannot be read)";

/// The array of a machine's options.
pub(super) const OPTIONS: &str = "config.extraConfig";

/// The parts of a keyed path around the key.
pub(super) const OPTION_START: &str = r#"config.extraConfig[""#;
const OPTION_END: &str = r#""]"#;

/// The beginning of the keys of the options that are kept of an array. A guest writes up to a mebibyte of its own
/// options (`guestinfo`), which no console depends on.
const KEPT_OPTIONS: &str = "RemoteDisplay.vnc.";

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
    check_session(&page.objects)?;
    Ok(page)
}

/// Returns `NotAuthenticated` if one of the objects has it in place of a property.
pub(super) fn check_session<'a>(
    objects: impl IntoIterator<Item = &'a ObjectContent>,
) -> Result<(), SoapError> {
    let mut missing = objects.into_iter().flat_map(|object| &object.missing);
    if missing.any(|(_, fault)| fault == Fault::NOT_AUTHENTICATED) {
        return Err(Fault::from_kind(Fault::NOT_AUTHENTICATED, "in place of a property").into());
    }
    Ok(())
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
            "propSet" => {
                if let Some(name) = property(cursor, &child, &mut object)? {
                    object.missing.push((name, NO_VALUE.to_owned()));
                }
            }
            "missingSet" => object.missing.push(missing_property(cursor, &child)?),
            _ => {}
        }
    }
    Ok(object)
}

/// Reads a property (`DynamicProperty`, `PropertyChange`) into `object`. Returns its path if it has no value at all.
pub(super) fn property(
    cursor: &mut Cursor<'_>,
    parent: &Element<'_>,
    object: &mut ObjectContent,
) -> Result<Option<String>, Malformed> {
    let (mut name, mut value) = (None, None);
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "name" => name = Some(cursor.text(&child)?),
            "val" => {
                value = Some(match cursor.xsi_type(&child)?.as_deref() {
                    Some("ArrayOfOptionValue") => {
                        while let Some(option) = cursor.child_named(&child, "OptionValue")? {
                            object.properties.extend(kept_option(cursor, &option)?);
                        }
                        Some(String::new())
                    }
                    kind => property_value(cursor, &child, kind)?,
                });
            }
            _ => {}
        }
    }
    let name = required(name, "name of a property")?;
    match value {
        Some(Some(value)) => object.properties.push((name, value)),
        // One odd value must not hide the other objects of the page.
        Some(None) => object.missing.push((name, NO_VALUE.to_owned())),
        None => return Ok(Some(name)),
    }
    Ok(None)
}

/// An option as a property with a keyed path, if it is kept.
fn kept_option(
    cursor: &mut Cursor<'_>,
    option: &Element<'_>,
) -> Result<Option<(String, String)>, Malformed> {
    let (mut key, mut value) = (String::new(), String::new());
    while let Some(child) = cursor.child(option)? {
        match child.name() {
            "key" => key = cursor.text(&child)?,
            "value" => value = cursor.text(&child)?,
            _ => {}
        }
    }
    let start = key.trim_start().get(..KEPT_OPTIONS.len());
    let is_kept = start.is_some_and(|start| start.eq_ignore_ascii_case(KEPT_OPTIONS));
    Ok(is_kept.then(|| (format!("{OPTION_START}{key}{OPTION_END}"), value)))
}

fn property_value(
    cursor: &mut Cursor<'_>,
    value: &Element<'_>,
    kind: Option<&str>,
) -> Result<Option<String>, Malformed> {
    match kind {
        Some("OptionValue") => {
            let option = cursor.child_named(value, "value")?;
            option.map(|option| cursor.text(&option)).transpose()
        }
        Some("LocalizedMethodFault") => match cursor.child_named(value, "fault")? {
            Some(fault) => Ok(cursor.xsi_type(&fault)?.map(Cow::into_owned)),
            None => Ok(None),
        },
        Some("ArrayOfByte") => {
            let mut bytes = Some(Vec::new());
            while let Some(byte) = cursor.child_named(value, "byte")? {
                let byte = parse_byte(&cursor.text(&byte)?);
                bytes = bytes.zip(byte).map(|(mut bytes, byte)| {
                    bytes.push(byte);
                    bytes
                });
            }
            Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
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
fn parse_byte(text: &str) -> Option<u8> {
    text.parse().ok().map(i8::cast_unsigned)
}

pub(super) fn missing_property(
    cursor: &mut Cursor<'_>,
    parent: &Element<'_>,
) -> Result<(String, String), Malformed> {
    let (mut path, mut kind) = (None, None);
    while let Some(child) = cursor.child(parent)? {
        match child.name() {
            "path" => path = Some(cursor.text(&child)?),
            "fault" => {
                if let Some(fault) = cursor.child_named(&child, "fault")? {
                    kind = cursor.xsi_type(&fault)?.map(Cow::into_owned);
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
