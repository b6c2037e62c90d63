//! A vCenter that answers at once: it asks the simulated one about each machine once, and says the same again
//! when it is asked the same again, alone or with others. With it a measurement of the authority is not one of
//! the simulator.

use anyhow::{Context, Result, ensure};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;
use vncgate_test_support::certificate::Ca;

/// Longest SOAP message, in bytes.
const MESSAGE_LEN_MAX: usize = 1024 * 1024;

/// The method of each check, answered from memory. Everything else, such as a login, is passed
/// on.
const CACHED_METHOD: &str = "<RetrievePropertiesEx ";

/// A running cache, on the runtime's thread.
#[derive(Debug)]
pub(crate) struct VcenterCache {
    address: SocketAddr,
}

struct Shared {
    vcenter: SocketAddr,
    client: TlsConnector,
    answers: RefCell<HashMap<String, Rc<Answer>>>,
}

/// What vCenter says of one machine.
struct Answer {
    /// Of HTTP, without the length.
    head: String,
    before: String,
    /// `ObjectContent`s: the machine and its host.
    objects: String,
    after: String,
}

impl VcenterCache {
    /// Starts a cache before the vCenter at an `https` URL. Needs a `LocalSet`.
    /// Fails when the URL has no IP address and port, or TLS cannot be set up.
    pub(crate) async fn start(ca: &Ca, vcenter_url: &str) -> Result<Self> {
        let vcenter = vcenter_url.trim_start_matches("https://").trim_end_matches("/sdk");
        let vcenter = vcenter.parse().with_context(|| format!("not an address: {vcenter}"))?;
        let acceptor = TlsAcceptor::from(ca.issue("vcenter-cache").tls_server());
        let client = TlsConnector::from(ca.tls_client(&[]));
        let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let address = listener.local_addr()?;
        let shared = Rc::new(Shared { vcenter, client, answers: RefCell::default() });
        tokio::task::spawn_local(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Rc::clone(&shared));
                tokio::task::spawn_local(async move {
                    // The authority sees a failure as a vCenter that breaks off, and reports it.
                    drop(serve(connection, &acceptor, &shared).await);
                });
            }
        });
        Ok(Self { address })
    }

    /// The SDK's URL.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/sdk", self.address)
    }
}

async fn serve(connection: TcpStream, acceptor: &TlsAcceptor, shared: &Shared) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut connection = acceptor.accept(connection).await?;
    let mut unread = Vec::new();
    while let Some((message, head_len)) = read_message(&mut connection, &mut unread).await? {
        let (head, body) = message.split_at(head_len);
        let answer = match questions(std::str::from_utf8(body)?) {
            Some(questions) => {
                let mut answers = Vec::new();
                for question in questions {
                    answers.push(answer(question, head, shared).await?);
                }
                together(&answers)
            }
            None => ask(head, body, shared).await?,
        };
        connection.write_all(&answer).await?;
        connection.flush().await?;
    }
    Ok(())
}

const OBJECT_BEGIN: &str = "<objectSet>";
const OBJECT_END: &str = "</objectSet>";
const SPEC_END: &str = "</specSet>";

/// The same request about each of its machines alone, in the authority's words. `None` for another one.
fn questions(body: &str) -> Option<Vec<String>> {
    if !body.contains(CACHED_METHOD) {
        return None;
    }
    let (specs, end) = body.rsplit_once(SPEC_END)?;
    let specs: Option<Vec<(&str, Vec<&str>)>> = specs
        .split(SPEC_END)
        .map(|spec| {
            let (properties, objects) = spec.split_once(OBJECT_BEGIN)?;
            Some((
                properties,
                objects.strip_suffix(OBJECT_END)?.split("</objectSet><objectSet>").collect(),
            ))
        })
        .collect();
    let specs = specs?;
    let (_, first) = specs.first()?;
    let question = |index: usize| {
        let mut question = String::new();
        for (properties, objects) in &specs {
            // Traversals are numbered like the machines.
            let object = objects.get(index)?.replace(&format!("{index}</name>"), "0</name>");
            question += &format!("{properties}{OBJECT_BEGIN}{object}{OBJECT_END}{SPEC_END}");
        }
        Some(question + end)
    };
    (0..first.len()).map(question).collect()
}

/// The answer to a question about one machine.
async fn answer(question: String, head: &[u8], shared: &Shared) -> Result<Rc<Answer>> {
    let cached = shared.answers.borrow().get(&question).cloned();
    if let Some(answer) = cached {
        return Ok(answer);
    }
    let head = std::str::from_utf8(head)?;
    let length = content_length(head.as_bytes())?;
    let head = head.replace(
        &format!("content-length: {length}"),
        &format!("content-length: {}", question.len()),
    );
    let answer = ask(head.as_bytes(), question.as_bytes(), shared).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "the simulator refuses");
    let head_len = end_of_head(&answer).context("an answer without an end of its head")?;
    let (head, body) = answer.split_at(head_len);
    let (head, body) = (std::str::from_utf8(head)?, std::str::from_utf8(body)?);
    let first = body.find("<objects>").context("an answer about nothing")?;
    let end = body.rfind("</objects>").context("objects without an end")? + "</objects>".len();
    let headers = head.trim_end().split("\r\n");
    let headers = headers.filter(|line| !line.starts_with("Content-Length:"));
    let answer = Rc::new(Answer {
        head: headers.flat_map(|line| [line, "\r\n"]).collect(),
        before: body[..first].to_owned(),
        objects: body[first..end].to_owned(),
        after: body[end..].to_owned(),
    });
    shared.answers.borrow_mut().insert(question, Rc::clone(&answer));
    Ok(answer)
}

/// One answer with the objects of all.
fn together(answers: &[Rc<Answer>]) -> Vec<u8> {
    let Some(first) = answers.first() else { return Vec::new() };
    let objects = answers.iter().map(|answer| answer.objects.as_str());
    let body: String =
        [first.before.as_str()].into_iter().chain(objects).chain([first.after.as_str()]).collect();
    format!("{}Content-Length: {}\r\n\r\n{body}", first.head, body.len()).into_bytes()
}

/// Passes a request on, as one of HTTP/1.0: its answer comes in one piece and ends with the connection.
async fn ask(head: &[u8], body: &[u8], shared: &Shared) -> Result<Vec<u8>> {
    let line_len = head.iter().position(|byte| *byte == b'\n').context("a request line")?;
    let (line, rest) = head.split_at(line_len);
    let line = std::str::from_utf8(line)?.replace("HTTP/1.1", "HTTP/1.0");
    let connection = TcpStream::connect(shared.vcenter).await?;
    let mut connection = shared.client.connect(shared.vcenter.ip().into(), connection).await?;
    connection.write_all(line.as_bytes()).await?;
    connection.write_all(&[rest, body].concat()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    let head_len = end_of_head(&answer).context("an answer without an end of its head")?;
    let (head, body) = answer.split_at(head_len);
    let mut kept = String::new();
    for line in std::str::from_utf8(head)?.trim_end().split("\r\n") {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name != "content-length" && name != "connection" {
            kept.push_str(&line.replace("HTTP/1.0", "HTTP/1.1"));
            kept.push_str("\r\n");
        }
    }
    let head = format!("{kept}Content-Length: {}\r\n\r\n", body.len());
    Ok([head.as_bytes(), body].concat())
}

/// One HTTP message with a `Content-Length`, and the length of its head; `None` at the end.
async fn read_message(
    connection: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
) -> Result<Option<(Vec<u8>, usize)>> {
    loop {
        if let Some(head_len) = end_of_head(unread) {
            let len = head_len + content_length(&unread[..head_len])?;
            ensure!(len <= MESSAGE_LEN_MAX, "a message of {len} bytes");
            if unread.len() >= len {
                let rest = unread.split_off(len);
                return Ok(Some((std::mem::replace(unread, rest), head_len)));
            }
        }
        ensure!(unread.len() <= MESSAGE_LEN_MAX, "a head without an end");
        if connection.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of a message's head with the empty line behind it.
fn end_of_head(message: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    Some(message.windows(END.len()).position(|window| window == END)? + END.len())
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("a message without Content-Length")?;
    length.trim().parse().context("a Content-Length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_about_several_machines_is_one_about_each() {
        let object = |name: &str, number: usize| {
            format!("{OBJECT_BEGIN}<obj>vm-{name}</obj><name>host{number}</name>{OBJECT_END}")
        };
        let request = |objects: &[String]| {
            let objects = objects.concat();
            format!(
                "{CACHED_METHOD}><specSet><p>1</p>{objects}</specSet>\
                 <specSet><p>2</p>{objects}</specSet><options/>"
            )
        };
        let both = request(&[object("a", 0), object("b", 1)]);
        let alone = [request(&[object("a", 0)]), request(&[object("b", 0)])];
        assert_eq!(questions(&both).unwrap(), alone);
        assert_eq!(questions(&alone[1]).unwrap(), [alone[1].clone()]);
        assert_eq!(questions("<Login><specSet></specSet>"), None);
    }

    #[test]
    fn answers_are_put_together() {
        let answer = |objects: &str| {
            let [head, before, objects, after] =
                ["HTTP/1.1 200 OK\r\n", "<e>", objects, "</e>"].map(str::to_owned);
            Rc::new(Answer { head, before, objects, after })
        };
        let text = together(&[answer("<objects>1</objects>"), answer("<objects>2</objects>")]);
        let expected = "HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n\
                        <e><objects>1</objects><objects>2</objects></e>";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
