//! Replies as vcsim and vCenter write them, and replies as they must not break the reader.

use super::*;
use crate::text::FOREIGN_TEXT_LIMIT;
use crate::vcenter::xml::Malformed;
use proptest::prelude::*;
use quick_xml::escape::escape;

fn envelope(body: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <soapenv:Envelope xmlns:soapenc=\"http://schemas.xmlsoap.org/soap/encoding/\" \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n\
         <soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
    .into_bytes()
}

fn content() -> ServiceContent {
    ServiceContent {
        authorization_manager: Some("AuthorizationManager".to_owned()),
        root_folder: "group-d1".to_owned(),
        property_collector: "propertyCollector".to_owned(),
        event_manager: Some("EventManager".to_owned()),
        search_index: "SearchIndex".to_owned(),
        session_manager: "SessionManager".to_owned(),
        view_manager: "ViewManager".to_owned(),
        full_name: "VMware vCenter Server 6.5.0 build-5973321".to_owned(),
        api_version: Some("6.5".to_owned()),
        instance_uuid: Some("dbed6e0c-bd88-4ef6-b594-21283e1c677f".to_owned()),
    }
}

const PAGE: &str = r#"<RetrievePropertiesExResponse xmlns="urn:vim25"><returnval>
    <token>7</token>
    <objects><obj type="VirtualMachine">vm-41</obj>
      <propSet><name>summary.config.name</name><val xsi:type="xsd:string">a&amp;b &lt;c&gt; &#x44;</val></propSet>
      <propSet><name>runtime.host</name>
        <val type="HostSystem" xmlns:X="http://www.w3.org/2001/XMLSchema-instance" X:type="ManagedObjectReference">host-29</val>
      </propSet>
      <propSet><name>config.extraConfig[&#34;RemoteDisplay.vnc.port&#34;]</name>
        <val xsi:type="OptionValue"><key>RemoteDisplay.vnc.port</key><value xsi:type="xsd:string">5901</value></val>
      </propSet>
      <missingSet><path>runtime.powerState</path><fault><fault xsi:type="NoPermission">
        <object type="VirtualMachine">vm-41</object><privilegeId>System.Read</privilegeId></fault>
        <localizedMessage/></fault></missingSet>
    </objects>
    <objects><obj type="HostSystem">host-29</obj>
      <propSet><name>name</name><val xsi:type="xsd:string"><![CDATA[esx<1>]]>.example.com</val></propSet>
    </objects>
  </returnval></RetrievePropertiesExResponse>"#;

#[test]
fn a_page_of_properties_is_read_with_its_entities_and_references() {
    let page = read_page(&envelope(PAGE)).unwrap();
    assert_eq!(page.token.as_deref(), Some("7"));
    let [machine, host] = page.objects.as_slice() else { panic!("{page:?}") };
    assert_eq!((machine.kind.as_str(), machine.id.as_str()), ("VirtualMachine", "vm-41"));
    assert_eq!(machine.property("summary.config.name"), Some("a&b <c> D"));
    assert_eq!(machine.property("runtime.host"), Some("host-29"));
    assert_eq!(
        machine.property("config.extraConfig[\"RemoteDisplay.vnc.port\"]"),
        Some("5901"),
        "an option's value, not its key"
    );
    assert_eq!(machine.missing, [("runtime.powerState".to_owned(), "NoPermission".to_owned())]);
    assert_eq!(host.property("name"), Some("esx<1>.example.com"));
}

/// The answer to a check of `validate = "live"` is such a page. The figure is the same on every machine, with a twentieth
/// to spare; a change that needs more raises it and says why.
#[test]
fn reading_a_page_allocates_what_it_did() {
    let reply = envelope(PAGE);
    let counted = allocation_counter::measure(|| drop(read_page(&reply).unwrap())).count_total;
    println!("{counted} allocations");
    assert!((24..=48).contains(&counted), "{counted} allocations");
}

/// One odd value must not take the other objects of the page with it.
#[test]
fn an_odd_value_is_a_missing_property() {
    for (value, odd) in [
        ("<val xsi:type=\"OptionValue\"><key>k</key></val>", true),
        ("<val xsi:type=\"LocalizedMethodFault\"/>", true),
        ("<val xsi:type=\"ArrayOfByte\"><byte>-1</byte></val>", true),
        ("<val xsi:type=\"ArrayOfByte\"><byte>128</byte><byte>65</byte></val>", true),
        ("", true),
        ("<val xsi:type=\"ArrayOfByte\"><byte>65</byte></val>", false),
        ("<val xsi:type=\"ArrayOfOptionValue\"/>", false),
        ("<val xsi:type=\"ArrayOfHostVirtualNic\"><HostVirtualNic/></val>", false),
    ] {
        let property = format!("<propSet><name>p</name>{value}</propSet><missingSet>");
        let page = read_page(&envelope(&PAGE.replace("<missingSet>", &property))).unwrap();
        let [machine, host] = page.objects.as_slice() else { panic!("{page:?}") };
        assert_eq!(machine.missing.iter().any(|(path, _)| path == "p"), odd, "{value}");
        assert_eq!(machine.property("p").is_none(), odd, "{value}");
        assert_eq!(host.property("name"), Some("esx<1>.example.com"));
    }
}

#[test]
fn of_options_those_of_vnc_are_kept_and_of_interfaces_the_addresses() {
    let option = |key: &str, value: &str| {
        format!(
            "<OptionValue><key>{key}</key><value xsi:type=\"xsd:string\">{value}</value></OptionValue>"
        )
    };
    let options = [
        option("remotedisplay.VNC.port", "5901"),
        option("guestinfo.x", "1"),
        option("ä", "2"),
        option(" RemoteDisplay.vnc.enabled", "TRUE"),
    ];
    let interface = |ip: &str| {
        format!("<HostVirtualNic><device>vmk0</device><spec><ip>{ip}</ip></spec></HostVirtualNic>")
    };
    let interfaces = [
        interface(
            "<dhcp>false</dhcp><ipAddress>192.0.2.5</ipAddress><subnetMask>255.0.0.0</subnetMask>",
        ),
        interface(
            "<ipV6Config><ipV6Address><ipAddress>2001:db8::5</ipAddress><prefixLength>64</prefixLength>\
             </ipV6Address><ipV6Address><ipAddress>fe80::5</ipAddress></ipV6Address></ipV6Config>",
        ),
    ];
    let properties = format!(
        "<propSet><name>config.extraConfig</name><val xsi:type=\"ArrayOfOptionValue\">{}</val></propSet>\
         <propSet><name>vnic</name><val xsi:type=\"ArrayOfHostVirtualNic\">{}</val></propSet><missingSet>",
        options.concat(),
        interfaces.concat()
    );
    let page = read_page(&envelope(&PAGE.replace("<missingSet>", &properties))).unwrap();
    let machine = &page.objects[0];
    let port: Vec<_> = machine.options("RemoteDisplay.vnc.port").map(|(_, value)| value).collect();
    assert_eq!(port, ["5901", "5901"], "the keyed one of the page, and the one of the array");
    let enabled: Vec<_> = machine.options("RemoteDisplay.vnc.enabled").collect();
    assert_eq!(enabled, [(" RemoteDisplay.vnc.enabled", "TRUE")]);
    assert!(!format!("{machine:?}").contains("guestinfo"), "{machine:?}");
    let addresses = machine.property("vnic").unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(addresses, ["192.0.2.5", "2001:db8::5", "fe80::5"]);
}

#[test]
fn no_objects_and_no_machine_are_answers() {
    let nothing = envelope("<RetrievePropertiesExResponse xmlns=\"urn:vim25\"/>");
    assert_eq!(read_page(&nothing), Ok(Page::default()));
    let nothing = envelope("<FindByUuidResponse xmlns=\"urn:vim25\"></FindByUuidResponse>");
    assert_eq!(read_find_by_uuid(&nothing), Ok(None));
}

#[test]
fn the_service_content_is_read_by_name_not_by_place() {
    let reply = envelope(
        "<RetrieveServiceContentResponse xmlns=\"urn:vim25\"><returnval>\
         <viewManager type=\"ViewManager\">ViewManager</viewManager>\
         <rootFolder type=\"Folder\">group-d1</rootFolder>\
         <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
         <about><name>VMware vCenter Server</name>\
         <fullName>VMware vCenter Server 6.5.0 build-5973321</fullName><version>6.5.0</version><apiVersion>6.5</apiVersion>\
         <instanceUuid>dbed6e0c-bd88-4ef6-b594-21283e1c677f</instanceUuid></about>\
         <sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
         <searchIndex type=\"SearchIndex\">SearchIndex</searchIndex>\
         <authorizationManager type=\"AuthorizationManager\">AuthorizationManager</authorizationManager>\
         <eventManager type=\"EventManager\">EventManager</eventManager>\
         <somethingNew type=\"SomethingNew\"><nested><deeper/></nested></somethingNew>\
         </returnval></RetrieveServiceContentResponse>",
    );
    assert_eq!(read_service_content(&reply), Ok(content()));
    let without = String::from_utf8(reply).unwrap().replace("searchIndex", "searchindex");
    assert_eq!(
        read_service_content(without.as_bytes()),
        Err(Malformed::Missing("searchIndex").into())
    );
}

#[test]
fn a_fault_is_known_by_its_type() {
    let fault = |detail: &str| {
        let reply = envelope(&format!(
            "<soapenv:Fault><faultcode>ServerFaultCode</faultcode>\
             <faultstring>Cannot complete login &amp; so on.</faultstring>\
             <detail>{detail}</detail></soapenv:Fault>"
        ));
        match read_empty(&reply, "LoginResponse") {
            Err(SoapError::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    };
    let by_type = fault("<Fault xmlns=\"urn:vim25\" xsi:type=\"InvalidLogin\"></Fault>");
    assert_eq!(by_type.kind, Fault::INVALID_LOGIN);
    assert_eq!(by_type.message, "Cannot complete login & so on.");
    assert_eq!(fault("<InvalidLoginFault xmlns=\"urn:vim25\"/>").kind, Fault::INVALID_LOGIN);
    assert_eq!(fault("").kind, "ServerFaultCode");
}

#[test]
fn a_fault_s_message_is_cut_between_characters() {
    let reply = envelope(&format!(
        "<soapenv:Fault><faultcode>c</faultcode><faultstring>{}</faultstring></soapenv:Fault>",
        "é".repeat(FOREIGN_TEXT_LIMIT + 1)
    ));
    let Err(SoapError::Fault(fault)) = read_page(&reply) else { panic!("not a fault") };
    assert_eq!(fault.message, "é".repeat(FOREIGN_TEXT_LIMIT) + "…");
}

#[test]
fn an_expired_session_in_place_of_a_property_is_an_expired_session() {
    let reply = envelope(&PAGE.replace("NoPermission", "NotAuthenticated"));
    let Err(SoapError::Fault(fault)) = read_page(&reply) else { panic!("not a fault") };
    assert_eq!(fault.kind, Fault::NOT_AUTHENTICATED);
}

#[test]
fn other_documents_are_refused() {
    let with = |from: &str, to: &str| String::from_utf8(envelope(PAGE)).unwrap().replace(from, to);
    for (what, reply) in [
        ("nothing", String::new()),
        ("text", "Service Unavailable".to_owned()),
        ("an HTML page", "<html><body><h1>503</h1></body></html>".to_owned()),
        ("HTML with a doctype", "<!DOCTYPE html><html><br></html>".to_owned()),
        ("an envelope in another namespace", with("soap/envelope/", "soap/other/")),
        ("a response in another namespace", with("urn:vim25", "urn:vim26")),
        ("another call's response", with("RetrievePropertiesExResponse", "LoginResponse")),
        (
            "a document type",
            with("<soapenv:Envelope", "<!DOCTYPE x [<!ENTITY e \"x\">]><soapenv:Envelope"),
        ),
        ("an undefined entity", with("&amp;", "&nbsp;")),
        ("an invalid character", with("&#x44;", "&#xD800;")),
        (
            "an unbound prefix",
            with("<returnval>", "<x:returnval>").replace("</returnval>", "</x:returnval>"),
        ),
        ("crossed tags", with("</val></propSet>", "</propSet></val>")),
        ("a second end", with("</soapenv:Envelope>", "</soapenv:Envelope></x>")),
    ] {
        let answer = read_page(reply.as_bytes());
        assert!(matches!(answer, Err(SoapError::Malformed(_))), "{what}: {answer:?}");
    }
    assert_eq!(read_page(b"\xff\xfe"), Err(Malformed::Encoding.into()));
}

#[test]
fn a_reply_cut_anywhere_is_refused() {
    let whole = envelope(PAGE);
    assert!(read_page(&whole).is_ok());
    for end in 0..whole.len() {
        let answer = read_page(&whole[..end]);
        assert!(matches!(answer, Err(SoapError::Malformed(_))), "cut at {end}: {answer:?}");
    }
}

#[test]
fn depth_and_width_cost_no_stack() {
    const MANY: usize = 50_000;
    let wide = format!("<x a='1'/>{}", "<y/>".repeat(MANY));
    let reply = envelope(&PAGE.replace("<token>", &format!("{wide}<token>")));
    assert!(read_page(&reply).is_ok());
    let deep = format!("{}{}", "<x>".repeat(MANY), "</x>".repeat(MANY));
    let reply = envelope(&PAGE.replace("<token>", &format!("{deep}<token>")));
    assert!(read_page(&reply).is_ok());
    let reply = envelope(&"<x>".repeat(MANY));
    assert!(read_page(&reply).is_err());
}

#[test]
fn a_request_escapes_what_it_is_given() {
    let request = login(&content(), "a<b>&'\"", "]]></password>&amp;");
    assert!(request.contains("<userName>a&lt;b&gt;&amp;&apos;&quot;</userName>"), "{request}");
    assert!(request.contains("<password>]]&gt;&lt;/password&gt;&amp;amp;</password>"), "{request}");
    assert!(destroy_view("session[a&b]1").contains("session[a&amp;b]1"));
}

const UPDATES: &str = r#"<WaitForUpdatesExResponse xmlns="urn:vim25"><returnval><version>3</version>
    <filterSet><filter type="PropertyFilter">session[5]6</filter>
    <objectSet><kind>enter</kind><obj type="VirtualMachine">vm-41</obj><changeSet><name>runtime.powerState</name><op>assign</op><val xsi:type="VirtualMachinePowerState">poweredOn</val></changeSet><changeSet><name>config.extraConfig</name><op>assign</op><val xsi:type="ArrayOfOptionValue"><OptionValue xsi:type="OptionValue"><key>RemoteDisplay.vnc.port</key><value xsi:type="xsd:string">5901</value></OptionValue></val></changeSet><missingSet><path>parent</path><fault><fault xsi:type="NoPermission"/><localizedMessage/></fault></missingSet></objectSet>
    <objectSet><kind>modify</kind><obj type="VirtualMachine">vm-41</obj><changeSet><name>runtime.host</name><op>assign</op><val type="HostSystem" xsi:type="ManagedObjectReference">host-29</val></changeSet><changeSet><name>config.extraConfig</name><op>remove</op></changeSet></objectSet>
    <objectSet><kind>leave</kind><obj type="VirtualMachine">vm-41</obj></objectSet></filterSet>
    <truncated>true</truncated></returnval></WaitForUpdatesExResponse>"#;

#[test]
fn updates_are_read_in_their_order_and_lead_from_one_state_to_the_next() {
    let set = read_updates(&envelope(UPDATES)).unwrap().unwrap();
    assert_eq!((set.version.as_str(), set.truncated), ("3", true));
    let [enter, modify, leave] = set.objects.as_slice() else { panic!("{set:?}") };
    assert_eq!(enter.kind, UpdateKind::Enter);
    assert_eq!(enter.object.property("runtime.powerState"), Some("poweredOn"));
    assert_eq!(enter.object.missing, [("parent".to_owned(), "NoPermission".to_owned())]);
    assert_eq!(modify.removed, ["config.extraConfig"]);
    assert_eq!((leave.kind, leave.object.id.as_str()), (UpdateKind::Leave, "vm-41"));

    let mut object = enter.object.clone();
    let port = r#"config.extraConfig["RemoteDisplay.vnc.port"]"#;
    assert_eq!(object.property(port), Some("5901"));
    object.modify(modify.clone());
    assert_eq!(object.property("runtime.host"), Some("host-29"));
    assert_eq!(object.property("runtime.powerState"), Some("poweredOn"));
    assert_eq!(object.property(port), None, "the array is gone with its options");
    object.modify(enter.clone());
    assert_eq!(object.property(port), Some("5901"));
    assert_eq!(object.property("runtime.host"), Some("host-29"));
    assert_eq!(object.missing.len(), 1);
}

#[test]
fn an_update_that_cannot_be_followed_is_refused() {
    let nothing = r#"<WaitForUpdatesExResponse xmlns="urn:vim25"/>"#;
    assert_eq!(read_updates(&envelope(nothing)), Ok(None));
    for (part, replacement) in [
        ("<version>3</version>", ""),
        ("<version>3</version>", "<version></version>"),
        ("<kind>enter</kind>", ""),
        ("<kind>enter</kind>", "<kind>arrive</kind>"),
        ("<name>runtime.host</name>", ""),
        (r#"<obj type="VirtualMachine">"#, "<obj>"),
        ("WaitForUpdatesExResponse", "WaitForUpdatesResponse"),
    ] {
        let odd = UPDATES.replace(part, replacement);
        assert_ne!(odd, UPDATES, "{part}");
        assert!(read_updates(&envelope(&odd)).is_err(), "{part} → {replacement}");
    }
    // An expired session may look so.
    let expired = UPDATES.replace("NoPermission", "NotAuthenticated");
    let Err(SoapError::Fault(fault)) = read_updates(&envelope(&expired)) else { panic!() };
    assert_eq!(fault.kind, Fault::NOT_AUTHENTICATED);
}

proptest! {
    /// What is escaped into a request comes back out of a reply that repeats it.
    #[test]
    fn text_survives_the_round_trip(text in "[ -~äöü漢字&<>'\"\\]]{0,40}") {
        let reply = envelope(&format!(
            "<FindByUuidResponse xmlns=\"urn:vim25\"><returnval type=\"VirtualMachine\">{}</returnval>\
             </FindByUuidResponse>",
            escape(&text)
        ));
        prop_assert_eq!(read_find_by_uuid(&reply), Ok(Some(text)));
    }

    /// No reply makes the reader panic.
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_page(&bytes);
        let _ = read_service_content(&bytes);
    }

    /// Nor does a good reply with a few bytes changed.
    #[test]
    fn damage_is_an_answer_or_an_error(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut reply = envelope(PAGE);
        for (place, byte) in damage {
            let place = place.index(reply.len());
            reply[place] = byte;
        }
        let _ = read_page(&reply);
        let _ = read_empty(&reply, "LoginResponse");
    }
}
