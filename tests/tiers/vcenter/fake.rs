//! A vCenter that answers as a test tells it to, for what the simulator never does: garbage, silence, faults
//! in odd places. It speaks plain HTTP, as a TLS proxy on the same machine would.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::scripted::read_request;

/// The instance UUID of the one machine that it has.
pub(crate) const INSTANCE: &str = "5d93eed6-a1b7-5668-903c-b43c7c81d44c";
/// That machine's host and console port.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub(crate) const PORT: u16 = 5901;

/// How it answers a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status, content type and body.
    Http(u16, &'static str, String),
    /// These bytes, then the end of the connection.
    Raw(String),
    /// The end of the connection, the first time; then as usual.
    CloseOnce,
    /// The first the first time, and then the second.
    Then(Box<Reply>, Box<Reply>),
    /// Nothing, ever.
    Silence,
}

impl Reply {
    /// A SOAP body.
    pub(crate) fn soap(body: &str) -> Self {
        Self::Http(200, "text/xml", envelope(body))
    }

    /// A fault of this vSphere type.
    pub(crate) fn fault(kind: &str) -> Self {
        let body = format!(
            "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>no</faultstring><detail>\
             <{kind}Fault xmlns=\"urn:vim25\" xsi:type=\"{kind}\"/></detail></soapenv:Fault>"
        );
        Self::Http(500, "text/xml", envelope(&body))
    }

    pub(crate) fn html(status: u16) -> Self {
        let body =
            "<html><head><title>503</title></head><body><br>Service Unavailable</body></html>";
        Self::Http(status, "text/html", body.to_owned())
    }
}

/// A running fake.
pub(crate) struct FakeVcenter {
    server: TcpServer,
    script: Arc<Mutex<Script>>,
}

#[derive(Default)]
struct Script {
    replies: HashMap<&'static str, Reply>,
    calls: Vec<String>,
    /// Request line and headers of the last call.
    head: String,
}

impl FakeVcenter {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let played = Arc::clone(&script);
        let server = TcpServer::start(IpAddr::V4(Ipv4Addr::LOCALHOST), move |connection| {
            let script = Arc::clone(&played);
            // The authority may close its connection at any time.
            async move { serve(connection, &script).await.unwrap_or_default() }
        })
        .await;
        Self { server, script }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// From now on answers `method` so.
    pub(crate) fn answer(&self, method: &'static str, reply: Reply) {
        self.script.lock().expect("no panic while locked").replies.insert(method, reply);
    }

    /// From now on answers `method` as a vCenter does.
    pub(crate) fn recover(&self, method: &str) {
        self.script.lock().expect("no panic while locked").replies.remove(method);
    }

    /// The methods called so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.script.lock().expect("no panic while locked").calls.clone()
    }
}

impl FakeVcenter {
    /// Request line and headers of the last call.
    pub(crate) fn head(&self) -> String {
        self.script.lock().expect("no panic while locked").head.clone()
    }
}

async fn serve(connection: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some((head, body)) = read_request(&mut connection).await? {
        let request = String::from_utf8(body).expect("XML from the authority");
        let method = method(&request).to_owned();
        let reply = {
            let mut script = script.lock().expect("no panic while locked");
            script.calls.push(method.clone());
            script.head = head;
            let reply = script.replies.get(method.as_str()).cloned();
            match reply {
                Some(Reply::CloseOnce) => {
                    script.replies.remove(method.as_str());
                    reply
                }
                Some(Reply::Then(first, then)) => {
                    if let Some(next) = script.replies.get_mut(method.as_str()) {
                        *next = *then;
                    }
                    Some(*first)
                }
                reply => reply,
            }
        };
        match reply.unwrap_or_else(|| usual(&method)) {
            Reply::Http(status, content_type, body) => {
                let head = format!(
                    "HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\n\
                     Set-Cookie: vmware_soap_session=\"fake-session-cookie\"; Path=/; HttpOnly\r\n\
                     Content-Length: {}\r\n\r\n",
                    body.len()
                );
                connection.write_all((head + &body).as_bytes()).await?;
            }
            Reply::Raw(bytes) => {
                connection.write_all(bytes.as_bytes()).await?;
                return connection.shutdown().await;
            }
            Reply::CloseOnce | Reply::Then(..) => return Ok(()),
            Reply::Silence => std::future::pending().await,
        }
    }
    Ok(())
}

/// The first element in the SOAP body.
fn method(request: &str) -> &str {
    let (_, body) = request.split_once("<soapenv:Body><").expect("a SOAP request");
    body.split_once([' ', '>', '/']).expect("an element").0
}

fn usual(method: &str) -> Reply {
    let value = match method {
        "RetrieveServiceContent" => "<returnval><rootFolder type=\"Folder\">group-d1</rootFolder>\
             <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
             <viewManager type=\"ViewManager\">ViewManager</viewManager>\
             <about><fullName>Fake</fullName></about>\
             <sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
             <searchIndex type=\"SearchIndex\">SearchIndex</searchIndex></returnval>"
            .to_owned(),
        "FindByUuid" => "<returnval type=\"VirtualMachine\">vm-1</returnval>".to_owned(),
        "CreateContainerView" => {
            "<returnval type=\"ContainerView\">session[fake-session-key]view</returnval>".to_owned()
        }
        "RetrievePropertiesEx" => format!("<returnval>{}</returnval>", machine("vm-1", "web-1")),
        _ => String::new(),
    };
    Reply::soap(&format!("<{method}Response xmlns=\"urn:vim25\">{value}</{method}Response>"))
}

/// The machine and its host, as `RetrievePropertiesEx` returns them.
pub(crate) fn machine(id: &str, name: &str) -> String {
    let text = |path: &str, value: &str| {
        format!("<propSet><name>{path}</name><val xsi:type=\"xsd:string\">{value}</val></propSet>")
    };
    [
        &format!("<objects><obj type=\"VirtualMachine\">{id}</obj>"),
        &text("summary.config.name", name),
        &text("summary.config.instanceUuid", INSTANCE),
        &text("runtime.powerState", "poweredOn"),
        &text("runtime.connectionState", "connected"),
        "<propSet><name>runtime.host</name>\
         <val type=\"HostSystem\" xsi:type=\"ManagedObjectReference\">host-1</val></propSet>\
         <propSet><name>config.extraConfig</name><val xsi:type=\"ArrayOfOptionValue\">\
         <OptionValue><key>guestinfo.x</key><value xsi:type=\"xsd:string\">1</value></OptionValue>\
         <OptionValue xsi:type=\"OptionValue\"><key>RemoteDisplay.vnc.port</key>",
        &format!(
            "<value xsi:type=\"xsd:string\">{PORT}</value></OptionValue></val></propSet></objects>"
        ),
        "<objects><obj type=\"HostSystem\">host-1</obj>",
        &text("name", &HOST.to_string()),
        &text("summary.config.product.version", "6.7.0"),
        "</objects>",
    ]
    .concat()
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
}
