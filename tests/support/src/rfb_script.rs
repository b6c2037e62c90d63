//! An RFB server that follows a script through the handshake (RFC 6143, 7.1 to 7.3), up to the odd and the
//! broken, and echoes once the handshake is over.

use crate::screen::TcpServer;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Security type None.
pub const NONE: u8 = 1;
/// Security type VNC Authentication.
pub const VNC_AUTHENTICATION: u8 = 2;

/// The password that servers with VNC authentication ask for.
pub const PASSWORD: &str = "vncgate!";
/// Their challenge.
const CHALLENGE: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// What answers their challenge with that password. Computed with OpenSSL's DES-ECB, each byte of the key
/// with its bits in reverse, as VNC has them.
pub const RESPONSE: [u8; 16] = [
    0x2c, 0x75, 0x7d, 0x1a, 0x3a, 0x1c, 0xae, 0x88, 0x23, 0x13, 0xe0, 0x98, 0x22, 0xb6, 0x5f, 0x4c,
];

/// ServerInit: a screen of 16x16 pixels in 32-bit true colour.
const SERVER_INIT: &[u8] =
    b"\x00\x10\x00\x10\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00\
      \x00\x00\x00\x08scripted";

/// A step of the server in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// ProtocolVersion.
    Version,
    /// The offered security types, in 3.3 the decided one.
    Security,
    /// The challenge of VNC authentication.
    Challenge,
    /// SecurityResult. RFB 3.3 and 3.7 have none after None.
    Result,
    /// ServerInit.
    Init,
}

/// What a server does otherwise than the protocol has it.
#[derive(Clone, Debug)]
enum Deviation {
    Send(Vec<u8>),
    Silence,
    Close,
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Script {
    minor: u8,
    offered: Vec<u8>,
    deviation: Option<(Step, Deviation)>,
    in_single_bytes: bool,
}

impl Script {
    /// A server of RFB 3.`minor` (3, 7 or 8) that offers these security types; a 3.3 server decides for
    /// the first. It serves [`NONE`] and [`VNC_AUTHENTICATION`] and refuses others when they are chosen.
    pub fn new(minor: u8, offered: &[u8]) -> Self {
        Self { minor, offered: offered.to_vec(), deviation: None, in_single_bytes: false }
    }

    /// Sends these bytes in place of those of a step, and goes on.
    pub fn send_instead(self, step: Step, bytes: impl Into<Vec<u8>>) -> Self {
        self.deviate(step, Deviation::Send(bytes.into()))
    }

    /// Falls silent where a step is due.
    pub fn silent_at(self, step: Step) -> Self {
        self.deviate(step, Deviation::Silence)
    }

    /// Closes the connection where a step is due.
    pub fn close_at(self, step: Step) -> Self {
        self.deviate(step, Deviation::Close)
    }

    /// Sends each byte of the handshake in a segment of its own.
    pub fn in_single_bytes(mut self) -> Self {
        self.in_single_bytes = true;
        self
    }

    fn deviate(mut self, step: Step, deviation: Deviation) -> Self {
        self.deviation = Some((step, deviation));
        self
    }

    /// SecurityResult "failed" with a reason, as 3.8 sends it; offered alone it is a refused connection.
    pub fn failure(reason: &str) -> Vec<u8> {
        let length = u32::try_from(reason.len()).expect("a short reason");
        [&1_u32.to_be_bytes()[..], &length.to_be_bytes(), reason.as_bytes()].concat()
    }
}

/// What a client said in the handshake, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Its ProtocolVersion.
    pub version: Vec<u8>,
    /// The security type that it chose; in 3.3 the one that it was told.
    pub security: Option<u8>,
    /// Whether it answered the challenge rightly.
    pub authenticated: Option<bool>,
    /// The shared-flag of its ClientInit.
    pub shared: Option<u8>,
}

/// A running server.
#[derive(Debug)]
pub struct ScriptedRfb {
    server: TcpServer,
    logins: Arc<Mutex<Vec<Login>>>,
}

impl ScriptedRfb {
    /// Starts a server on a free port of `ip`.
    pub async fn start(ip: IpAddr, script: Script) -> Self {
        let logins = Arc::<Mutex<Vec<Login>>>::default();
        let seen = Arc::clone(&logins);
        let server = TcpServer::start(ip, move |connection| {
            let (script, seen) = (script.clone(), Arc::clone(&seen));
            async move {
                let mut login = Login::default();
                let handshake = Server { connection, script }.serve(&mut login, &seen).await;
                if handshake.is_err() {
                    // The client left, or the script closed the connection, within the handshake.
                    record(&seen, &login);
                }
            }
        })
        .await;
        Self { server, logins }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The handshakes so far, those that went through and those that ended early, in the order of their
    /// ends.
    pub fn logins(&self) -> Vec<Login> {
        self.logins.lock().expect("no panic while locked").clone()
    }
}

fn record(logins: &Mutex<Vec<Login>>, login: &Login) {
    logins.lock().expect("no panic while locked").push(login.clone());
}

struct Server {
    connection: TcpStream,
    script: Script,
}

impl Server {
    async fn serve(mut self, login: &mut Login, logins: &Mutex<Vec<Login>>) -> io::Result<()> {
        self.connection.set_nodelay(true)?;
        let version = format!("RFB 003.{:03}\n", self.script.minor);
        self.step(Step::Version, version.as_bytes()).await?;
        let mut answer = [0; 12];
        self.connection.read_exact(&mut answer).await?;
        login.version = answer.to_vec();

        let security = self.negotiate().await?;
        login.security = Some(security);
        if security == VNC_AUTHENTICATION {
            self.step(Step::Challenge, &CHALLENGE).await?;
            let mut response = [0; 16];
            self.connection.read_exact(&mut response).await?;
            login.authenticated = Some(response == RESPONSE);
        }
        let passed = match security {
            NONE => true,
            VNC_AUTHENTICATION => login.authenticated == Some(true),
            _ => false,
        };
        if security != NONE || self.script.minor >= 8 {
            self.step(Step::Result, &self.result(passed)).await?;
        }
        if !passed {
            return Err(io::ErrorKind::PermissionDenied.into());
        }

        login.shared = Some(self.connection.read_u8().await?);
        self.step(Step::Init, SERVER_INIT).await?;
        record(logins, login);
        let (mut from, mut to) = self.connection.split();
        // The session is over however this ends; the handshake went through.
        let _ = tokio::io::copy(&mut from, &mut to).await;
        Ok(())
    }

    /// The security handshake (RFC 6143, 7.1.2): 3.7 and 3.8 offer, 3.3 decides.
    async fn negotiate(&mut self) -> io::Result<u8> {
        let offered = self.script.offered.clone();
        if self.script.minor == 3 {
            let decided = offered.first().copied().unwrap_or(0);
            self.step(Step::Security, &u32::from(decided).to_be_bytes()).await?;
            return Ok(decided);
        }
        let count = u8::try_from(offered.len()).expect("at most 255 types");
        self.step(Step::Security, &[&[count], &offered[..]].concat()).await?;
        self.connection.read_u8().await
    }

    fn result(&self, passed: bool) -> Vec<u8> {
        match (passed, self.script.minor) {
            (true, _) => vec![0; 4],
            (false, 8..) => Script::failure("Authentication failed"),
            (false, _) => 1_u32.to_be_bytes().to_vec(),
        }
    }

    async fn step(&mut self, step: Step, bytes: &[u8]) -> io::Result<()> {
        let deviation = self.script.deviation.clone().filter(|(at, _)| *at == step);
        match deviation.map(|(_, deviation)| deviation) {
            None => self.send(bytes).await,
            Some(Deviation::Send(bytes)) => self.send(&bytes).await,
            Some(Deviation::Close) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Deviation::Silence) => {
                // Whatever the client says is read, so that its leaving is seen.
                tokio::io::copy(&mut self.connection, &mut tokio::io::sink()).await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.script.in_single_bytes {
            return self.connection.write_all(bytes).await;
        }
        for byte in bytes {
            self.connection.write_all(&[*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
