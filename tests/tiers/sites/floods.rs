//! Clients of the listener for other sites that hold connections: strangers, and a site itself.

use crate::fixture::{BERLIN, FILTER_TIMEOUT, Pair, Plan, TOKYO};
use futures_util::future::join_all;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::process::Run;
use vncgate_test_support::stores::Store;
use vncgate_test_support::wait::{SLACK, until_some};

/// A request between two sites on one machine, which may be busy with a build.
const AT_ONCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn silent_clients_without_a_certificate_keep_no_site_out() {
    let Pair { berlin, tokyo, .. } = &Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let silent = async |number: usize| -> Vec<TcpStream> {
        let connections = (0..number).map(|_| TcpStream::connect(berlin.peer));
        join_all(connections).await.into_iter().flatten().collect()
    };
    let held = silent(400).await;
    let started = Instant::now();
    tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    drop(held);

    // They come again as fast as they are thrown out. Each check needs a new connection: the other site has restarted.
    let Pair { berlin, mut tokyo, store: _store, ca: _ca } = Pair::start("").await;
    let (_, port, token) = berlin.machine_and_token().await;
    let peer = berlin.peer;
    let flood = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.extend(TcpStream::connect(peer).await);
            if held.len() > 400 {
                held.drain(..100);
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..3 {
        tokyo.authority.kill();
        tokyo.authority.start_again().await;
        let started = Instant::now();
        tokyo.authority.check(&token).await.assert_granted(BERLIN.esxi, port);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    }
    flood.abort();
}

/// With 256 descriptors: Tokyo takes all that it gets, and Berlin's gateway and callers notice nothing.
#[tokio::test]
async fn a_site_that_holds_connections_leaves_the_other_site_its_own() {
    let ca = Ca::new(&Run::new("sites"));
    let store = Store::redis(&Run::new("sites-redis")).await;
    let (berlin, tokyo) = (Plan::new(&BERLIN).await, Plan::new(&TOKYO).await);
    let others = tokyo.other();
    let few = |config: vncgate_test_support::authority::Config| config.with_open_files(256);
    let berlin = berlin.start_with(&ca, &store, &others, few).await;
    let (_, port, token) = berlin.machine_and_token().await;

    let identity = ca.issue_for("tokyo-s", &[TOKYO.host]);
    let mut open = Vec::new();
    for _ in 0..60 {
        // Few at once: they would displace each other.
        for mut connection in join_all((0..5).map(|_| admitted(berlin.peer, &ca, &identity)))
            .await
            .into_iter()
            .flatten()
        {
            // A connection beyond the limit is closed after the handshake.
            let read = timeout(Duration::from_millis(20), connection.read(&mut [0; 1])).await;
            if read.is_err() {
                open.push(connection);
            }
        }
    }
    // Some may have been closed later than that.
    let stays = open.into_iter().map(stays_open);
    let mut open: Vec<_> = join_all(stays).await.into_iter().flatten().collect();
    assert!((1..=64).contains(&open.len()), "{} connections", open.len());
    for _ in 0..5 {
        let started = Instant::now();
        let checks = join_all((0..20).map(|_| berlin.authority.check(&token))).await;
        assert!(started.elapsed() < FILTER_TIMEOUT + SLACK, "{:?}", started.elapsed());
        for answer in checks {
            answer.assert_granted(BERLIN.esxi, port);
        }
    }
    berlin.machine_and_token().await;
    assert!(berlin.authority.log().contains("site tokyo has too many connections"));

    // What it gives back it gets again.
    open.clear();
    until_some("a connection again", async || {
        stays_open(admitted(berlin.peer, &ca, &identity).await?).await
    })
    .await;
}

/// The connection, unless the site closes it.
async fn stays_open(mut connection: TlsStream<TcpStream>) -> Option<TlsStream<TcpStream>> {
    let read = timeout(Duration::from_millis(200), connection.read(&mut [0; 1])).await;
    read.is_err().then_some(connection)
}

/// A connection that the site has admitted, if it gets so far within the time for it.
async fn admitted(peer: SocketAddr, ca: &Ca, identity: &Identity) -> Option<TlsStream<TcpStream>> {
    let connected = async {
        let tcp = TcpStream::connect(peer).await.ok()?;
        let name = ServerName::try_from(BERLIN.host).expect("a host name");
        TlsConnector::from(ca.tls_client_with(identity)).connect(name, tcp).await.ok()
    };
    timeout(Duration::from_secs(10), connected).await.ok()?
}
