//! vCenter's replies against another XML reader, and strings of users on their way into requests.

use crate::text::FOREIGN_TEXT_LIMIT;
use crate::vcenter::soap::{self, ServiceContent, SoapError};
use arbitrary::Arbitrary;
use roxmltree::{Document, Node};

const VIM: &str = "urn:vim25";

/// A document of vCenter, or a text that goes into a request.
#[derive(Arbitrary, Debug)]
pub enum Input<'a> {
    /// A reply.
    Reply(&'a [u8]),
    /// Names, passwords, paths.
    Text(&'a str),
}

/// Runs the target.
///
/// # Panics
///
/// On a finding.
pub fn run(input: Input<'_>) {
    match input {
        Input::Reply(reply) => read(reply),
        Input::Text(text) => write(text),
    }
}

/// Every reader on every document: one that is not its own must be refused, whatever it is.
fn read(reply: &[u8]) {
    let found = soap::read_find_by_uuid(reply);
    let results = [
        soap::read_service_content(reply).err(),
        soap::read_empty(reply, "LoginResponse").err(),
        found.as_ref().err().cloned(),
        soap::read_find_by_inventory_path(reply).err(),
        soap::read_container_view(reply).err(),
        soap::read_page(reply).err(),
        soap::read_continued_page(reply).err(),
        soap::read_reconfigure_vm(reply).err(),
        soap::PowerTask::PowerOn.read(reply).err(),
        soap::read_missing_privileges(reply).err(),
        soap::read_ticket(reply).err(),
        soap::read_property_collector(reply).err(),
        soap::read_filter(reply).err(),
        soap::read_updates(reply).err(),
    ];
    let read = results.iter().filter(|result| result.is_none()).count();
    assert!(read <= 1, "one document is two replies");
    for unanswered in results.into_iter().flatten() {
        if let SoapError::Fault(fault) = unanswered {
            assert!(fault.message.chars().count() <= FOREIGN_TEXT_LIMIT + "…".chars().count());
            assert!(!fault.to_string().contains(char::is_control), "a line of its own");
        }
    }
    if let Ok(Some(set)) = soap::read_updates(reply) {
        follow(set);
    }
    let Ok(text) = std::str::from_utf8(reply) else { return };
    let Ok(document) = Document::parse(text) else { return };
    if let Ok(Some(id)) = found {
        let value = child(document.root_element(), "FindByUuidResponse").expect("the response");
        let value = value.children().find(|node| node.has_tag_name((VIM, "returnval")));
        let value = value.expect("its value");
        assert_eq!(id, text_of(value), "another identifier");
    }
    if let Ok(page) = soap::read_page(reply) {
        let response = child(document.root_element(), "RetrievePropertiesExResponse");
        let page_node = response.and_then(|response| {
            response.children().find(|node| node.has_tag_name((VIM, "returnval")))
        });
        let objects = page_node.into_iter().flat_map(|page| page.children());
        let objects = objects.filter(|node| node.tag_name().name() == "objects").count();
        assert_eq!(page.objects.len(), objects, "another number of objects");
    }
}

/// Whatever an update says of an object, what is kept of it is what it said, once for each property.
fn follow(set: soap::UpdateSet) {
    assert!(!set.version.is_empty(), "the initial version");
    let mut kept = soap::ObjectContent::default();
    for update in set.objects {
        let paths = |object: &soap::ObjectContent| {
            let all = object.properties.iter().chain(&object.missing);
            all.map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        let (said, removed) = (paths(&update.object), update.removed.clone());
        let before = paths(&kept);
        kept.modify(update);
        for path in paths(&kept) {
            assert!(said.contains(&path) || before.contains(&path), "{path} from nowhere");
        }
        for path in removed.iter().filter(|path| !said.contains(path)) {
            assert!(!paths(&kept).contains(path), "{path} was removed");
        }
        assert!(paths(&kept).len() <= before.len() + said.len());
    }
}

/// The first descendant of that name in vSphere's namespace.
fn child<'a>(root: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    root.descendants().find(|node| node.has_tag_name((VIM, name)))
}

/// The text directly in an element.
fn text_of(element: Node<'_, '_>) -> String {
    element.children().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

/// A text stays the text that it was and becomes no element, whatever it contains.
fn write(text: &str) {
    let content = ServiceContent {
        authorization_manager: None,
        event_manager: None,
        root_folder: text.to_owned(),
        property_collector: text.to_owned(),
        search_index: text.to_owned(),
        session_manager: text.to_owned(),
        view_manager: text.to_owned(),
        full_name: String::new(),
        api_version: None,
        instance_uuid: None,
    };
    for request in [
        soap::login(&content, text, text),
        soap::find_by_inventory_path(&content, text),
        soap::continue_retrieve_properties(&content, text),
    ] {
        // XML 1.0 cannot say every character; a document that says one is no document to vCenter either.
        let Ok(document) = Document::parse(&request) else {
            assert!(!text.chars().all(is_xml_char), "a request that is not XML");
            continue;
        };
        for element in document.descendants().filter(|node| node.is_element()) {
            if !element.children().any(|node| node.is_element()) {
                assert_eq!(text_of(element), text, "in {}", element.tag_name().name());
            }
        }
    }
}

/// XML 1.0, 2.2.
fn is_xml_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}'
        | '\u{10000}'..='\u{10ffff}')
}
