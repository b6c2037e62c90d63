//! A forward-only cursor over one XML document, on quick-xml's events.
//!
//! serde does not fit: vCenter writes `<val type="HostSystem" xsi:type="ManagedObjectReference">`, two
//! attributes that serde takes for one field, and serde accepts the right local name in a wrong namespace. The
//! cursor neither recurses nor buffers, so a document costs memory and time in proportion to its bytes.

use crate::text::printable;
use quick_xml::errors::Error as XmlError;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use std::borrow::Cow;
use std::rc::Rc;
use thiserror::Error;

/// XML Schema instance: the namespace of `xsi:type`.
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Why a reply is not the XML document that the reader expects.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8, the only encoding that vCenter writes.
    #[error("it is not UTF-8")]
    Encoding,
    /// Not well-formed.
    #[error("it is not well-formed XML: {}", printable(.0))]
    Syntax(String),
    /// The document ends inside an element.
    #[error("it ends in the middle")]
    Truncated,
    /// SOAP 1.1, section 3: a message must not contain a document type declaration.
    #[error("it has a document type declaration")]
    DocumentType,
    /// A reference to an entity that XML does not predefine.
    #[error("it refers to the undefined entity {:?}", printable(.0))]
    Entity(String),
    /// A different document, an HTML page for example.
    #[error("it has {} where {expected} belongs", printable(.found))]
    Unexpected {
        /// What the protocol requires here.
        expected: &'static str,
        /// What the document has.
        found: String,
    },
    /// Something that the protocol requires is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
}

impl From<XmlError> for Malformed {
    fn from(error: XmlError) -> Self {
        Self::Syntax(error.to_string())
    }
}

/// An element whose start tag was read.
pub(super) struct Element<'a> {
    /// The namespace it is in, empty for none. Shared: nearly every element of a document is in the same.
    namespace: Rc<str>,
    start: BytesStart<'a>,
    /// How many elements are open including this one.
    depth: usize,
}

impl Element<'_> {
    /// Is this the element `name` of `namespace`?
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        *self.namespace == *namespace && self.name() == name
    }

    /// The name without prefix.
    pub(super) fn name(&self) -> &str {
        self.start.name().local_name().into_inner()
    }

    /// Name and namespace, for a message.
    pub(super) fn describe(&self) -> String {
        match &*self.namespace {
            "" => self.name().to_owned(),
            namespace => format!("{} of namespace {namespace}", self.name()),
        }
    }

    /// An attribute in no namespace.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<String>, Malformed> {
        let attribute = self
            .start
            .try_get_attribute(name)
            .map_err(|error| Malformed::Syntax(error.to_string()))?;
        attribute.map(|found| unescape(&found.value)).transpose()
    }
}

/// Reads elements in document order and skips those that are not requested.
pub(super) struct Cursor<'a> {
    reader: NsReader<&'a [u8]>,
    depth: usize,
    /// The namespace of the element read last.
    namespace: Rc<str>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(document: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(document).map_err(|_| Malformed::Encoding)?;
        let mut reader = NsReader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Ok(Self { reader, depth: 0, namespace: Rc::default() })
    }

    /// The document's root element.
    pub(super) fn root(&mut self) -> Result<Element<'a>, Malformed> {
        self.child_below(0)?.ok_or(Malformed::Missing("root element"))
    }

    /// The next child of `parent`, or `None` when `parent` has ended. Skips the rest of the child returned
    /// before.
    pub(super) fn child(&mut self, parent: &Element<'_>) -> Result<Option<Element<'a>>, Malformed> {
        self.child_below(parent.depth)
    }

    /// The next child of `parent` with this name, in `parent`'s namespace.
    pub(super) fn child_named(
        &mut self,
        parent: &Element<'_>,
        name: &str,
    ) -> Result<Option<Element<'a>>, Malformed> {
        while let Some(child) = self.child(parent)? {
            if child.is(&parent.namespace, name) {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The text of `element` without that of its children. Reads the element to its end. Text arrives in
    /// pieces: each `&amp;` and each CDATA section is an event of its own.
    pub(super) fn text(&mut self, element: &Element<'_>) -> Result<String, Malformed> {
        let mut text = String::new();
        while self.depth >= element.depth {
            let inside = self.depth == element.depth;
            match self.event()? {
                Event::Text(piece) if inside => text.push_str(&piece.xml10_content()),
                Event::CData(piece) if inside => text.push_str(&piece.xml10_content()),
                Event::GeneralRef(reference) if inside => {
                    match reference.resolve_char_ref()? {
                        Some(character) => text.push(character),
                        None => text.push_str(predefined(&reference)?),
                    };
                }
                Event::Eof => return Err(Malformed::Truncated),
                _ => {}
            }
        }
        Ok(text)
    }

    /// The local part of `xsi:type`, a qualified name.
    pub(super) fn xsi_type<'e>(
        &self,
        element: &'e Element<'_>,
    ) -> Result<Option<Cow<'e, str>>, Malformed> {
        for attribute in element.start.attributes() {
            let attribute = attribute.map_err(|error| Malformed::Syntax(error.to_string()))?;
            let (namespace, name) = self.reader.resolver().resolve_attribute(attribute.key);
            if namespace == ResolveResult::Bound(Namespace(XSI)) && name.as_ref() == "type" {
                // The name of a type needs no escapes.
                let value = match attribute.value {
                    Cow::Borrowed(value) if !value.contains('&') => Cow::Borrowed(value),
                    value => Cow::Owned(unescape(&value)?),
                };
                return Ok(Some(match value {
                    Cow::Borrowed(value) => Cow::Borrowed(local_part(value)),
                    Cow::Owned(value) => Cow::Owned(local_part(&value).to_owned()),
                }));
            }
        }
        Ok(None)
    }

    /// Reads the rest of the document. A document that was cut off after the interesting part is an error too.
    pub(super) fn finish(mut self) -> Result<(), Malformed> {
        loop {
            if matches!(self.event()?, Event::Eof) {
                return if self.depth == 0 { Ok(()) } else { Err(Malformed::Truncated) };
            }
        }
    }

    fn child_below(&mut self, parent_depth: usize) -> Result<Option<Element<'a>>, Malformed> {
        while self.depth >= parent_depth {
            match self.event()? {
                Event::Start(start) if self.depth == parent_depth + 1 => {
                    let (resolved, _) = self.reader.resolver().resolve_element(start.name());
                    let namespace = match resolved {
                        ResolveResult::Bound(Namespace(namespace)) => namespace,
                        ResolveResult::Unbound => "",
                        ResolveResult::Unknown(prefix) => {
                            return Err(Malformed::Syntax(format!("unbound prefix {prefix:?}")));
                        }
                    };
                    if *self.namespace != *namespace {
                        self.namespace = namespace.into();
                    }
                    let namespace = Rc::clone(&self.namespace);
                    return Ok(Some(Element { namespace, start, depth: self.depth }));
                }
                Event::Eof if self.depth == 0 => return Ok(None),
                Event::Eof => return Err(Malformed::Truncated),
                _ => {}
            }
        }
        Ok(None)
    }

    fn event(&mut self) -> Result<Event<'a>, Malformed> {
        let event = self.reader.read_event()?;
        match &event {
            Event::Start(_) => self.depth += 1,
            Event::End(_) => self.depth -= 1,
            Event::DocType(_) => return Err(Malformed::DocumentType),
            _ => {}
        }
        Ok(event)
    }
}

/// A qualified name without its prefix.
fn local_part(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn predefined(name: &str) -> Result<&'static str, Malformed> {
    resolve_xml_entity(name).ok_or_else(|| Malformed::Entity(name.to_owned()))
}

fn unescape(value: &str) -> Result<String, Malformed> {
    quick_xml::escape::unescape(value)
        .map(Cow::into_owned)
        .map_err(|error| Malformed::Syntax(error.to_string()))
}
