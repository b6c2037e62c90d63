//! The SOAP envelope around every call and every reply, and the faults that replace a response.

use super::error::{Fault, SoapError};
use crate::text::printable;
use crate::vcenter::xml::{Cursor, Element, Malformed};
use quick_xml::escape::escape;
use std::borrow::Cow;

/// Namespace of the vSphere API.
const VIM: &str = "urn:vim25";

/// Namespace of SOAP 1.1 envelopes.
const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// The API version requested in the `SOAPAction` header: the oldest vCenter that this client supports. Newer
/// vCenters serve older clients; an older vCenter refuses a newer client.
pub const SOAP_ACTION: &str = "urn:vim25/6.5";

/// The envelope of one method call on one managed object. `arguments` is XML.
pub(super) fn call(method: &str, kind: &str, id: &str, arguments: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <soapenv:Envelope xmlns:soapenv=\"{SOAP}\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
         <{method} xmlns=\"{VIM}\"><_this type=\"{kind}\">{}</_this>{arguments}</{method}>\
         </soapenv:Body></soapenv:Envelope>",
        escape(id)
    )
}

/// Opens the envelope, returns a fault as an error, lets `body` read the response, and checks that the document
/// is complete.
pub(super) fn read<T>(
    reply: &[u8],
    response: &'static str,
    body: impl FnOnce(&mut Cursor<'_>, &Element<'_>) -> Result<T, Malformed>,
) -> Result<T, SoapError> {
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
                    kind = Some(cursor.xsi_type(&detail)?.map_or(element, Cow::into_owned));
                    privilege = missing_privilege(cursor, &detail)?;
                }
            }
            _ => {}
        }
    }
    Ok(Fault {
        kind: printable(&kind.unwrap_or(code)),
        message: printable(&message),
        privilege: privilege.as_deref().map(printable),
    })
}

/// The privilege that a `NoPermission` names: `privilegeId`, or since vSphere 7.0.3.2 a list for each entity.
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

pub(super) fn required<T>(value: Option<T>, what: &'static str) -> Result<T, Malformed> {
    value.ok_or(Malformed::Missing(what))
}
