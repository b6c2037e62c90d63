//! Stalled, many and endless requests leave room for the others.

use crate::fixture::{
    ESXI, UNKNOWN_TOKEN, assert_serves, gateway, gateway_with_echo, raw_answer_to, status_of,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vncgate_authority::tokens::TokenHash;
use vncgate_test_support::authority::Config;
use vncgate_test_support::console_api::API_TOKEN;
use vncgate_test_support::gateway::Gateway;
use vncgate_test_support::http2::Http2;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::wait::{until, within};
use vncgate_test_support::websocket::{Upgrade, connect};

/// A client could exhaust the proxy with many requests: here, with tokens that were never issued. The gateway
/// refuses further requests of that client, whatever token and address they show, and serves the others.
#[tokio::test]
async fn ossn_0008_denial_of_service() {
    const GUESSES: usize = 400;
    const AT_ONCE: usize = 40;
    // `unknown_tokens` of the shipped configuration.
    const MOST: usize = 300;
    const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 1));
    let (gateway, _console, good) = gateway_with_echo().await;
    let mut bystander = gateway.envoy.open(&good).await;
    let calls = async || {
        let metrics = gateway.authority.metrics().await;
        let calls = metrics.lines().filter(|line| line.starts_with("vncgate_vcenter_calls_total"));
        calls.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };

    let before = calls().await;
    let mut refused = [0, 0];
    for _ in 0..GUESSES / AT_ONCE {
        let guess = gateway.envoy.upgrade_with(UNKNOWN_TOKEN).from(GUESSER);
        let guesses = (0..AT_ONCE).map(|_| guess.send());
        for answer in futures_util::future::join_all(guesses).await {
            let code = answer.code();
            match answer.status {
                403 => refused[0] += 1,
                429 => refused[1] += 1,
                status => panic!("{status} {code}"),
            }
            assert!(matches!(code.as_str(), "token_invalid" | "too_many_attempts"), "{code}");
        }
        assert_echoes(&mut bystander, "typed").await;
    }
    // Those that were under way when the limit was reached are answered.
    assert!((MOST..MOST + AT_ONCE).contains(&refused[0]), "{refused:?} of {GUESSES}");
    assert_eq!(refused[0] + refused[1], GUESSES);
    // Other tests use this gateway and its vCenter meanwhile, each for a few calls.
    let made = calls().await - before;
    assert!(made < 200, "{GUESSES} guesses made the authority call vCenter {made} times");

    let answer = Upgrade::with_token(&gateway.envoy, &good)
        .from(GUESSER)
        .header("X-Forwarded-For", "192.0.2.1")
        .header("X-Envoy-External-Address", "192.0.2.1")
        .send()
        .await;
    answer.assert_refused(429, "too_many_attempts");
    assert!(answer.header("retry-after").is_some());
    for request in [
        format!("GET /console/status HTTP/1.1\r\nAuthorization: Bearer {good}\r\n"),
        format!("GET /v1/vms?name=a HTTP/1.1\r\nX-Auth-Token: {API_TOKEN}\r\n"),
    ] {
        for disguise in [
            "",
            "X-Forwarded-For: 192.0.2.1\r\n",
            "X-Envoy-External-Address: 192.0.2.1\r\n",
            "Forwarded: for=192.0.2.1\r\n",
            "X-Real-IP: 192.0.2.1\r\n",
        ] {
            let request = format!("{request}Host: x\r\n{disguise}\r\n");
            let answer = raw_answer_to(GUESSER, &gateway.envoy, &request).await;
            assert_eq!(status_of(&answer), 429, "{request}: {answer}");
        }
    }
    // The log is not flooded, either: one line when the limit is reached, none for what is refused then.
    let log = gateway.authority.log();
    let lines = |message: &str, client: &str| {
        log.lines().filter(|line| line.contains(message) && line.contains(client)).count()
    };
    assert_eq!(lines("too many unknown tokens", &format!("client={GUESSER} ")), 1, "{log}");
    assert_eq!(lines("session refused", &format!("client=\"{GUESSER}\"")), refused[0], "{log}");
    // A client that another one names is not refused for it.
    assert_echoes(&mut gateway.envoy.open(&good).await, "typed").await;
    assert!(!gateway.envoy.has_trapped(), "the filter trapped");
}

/// The same by connections: those beyond the limit are closed, those within it are served.
#[tokio::test]
async fn ossn_0008_connections_beyond_the_limit() {
    let (gateway, _console, token) = gateway_with_echo().await;
    let limit = "max_active_downstream_connections: 4".to_owned();
    let changes = [("max_active_downstream_connections: 10000", limit)];
    let envoy = gateway.envoy_with(&changes).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(envoy.open(&token).await);
    }
    for _ in 0..20 {
        let mut refused = TcpStream::connect(envoy.address()).await.expect("the kernel accepts");
        let end = within("the end of the connection", refused.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    for session in &mut sessions {
        assert_echoes(session, "typed").await;
    }
}

/// The same by sessions: a client has so many on each of Envoy's workers, here two, and may open another as
/// its session ends, even without a word.
#[tokio::test]
async fn ossn_0008_sessions_of_one_client() {
    const PER_WORKER: usize = 2;
    const WORKERS: usize = 2;
    const TRIES: usize = 12;
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 2));
    let (gateway, _console, token) = gateway_with_echo().await;
    let limit = format!(r#""allowed_origins": [], "sessions_per_client": {PER_WORKER}"#);
    let envoy = gateway.envoy_with(&[(r#""allowed_origins": []"#, limit)]).await;
    let upgrade = envoy.upgrade_with(&token).from(CLIENT).header("X-Forwarded-For", "192.0.2.1");

    let open_many = async || {
        let mut sessions = Vec::new();
        for _ in 0..TRIES {
            let answer = upgrade.send().await;
            if answer.status == 101 {
                sessions.push(answer.into_websocket().await);
            } else {
                answer.assert_refused(429, "session_limit");
            }
        }
        let opened = sessions.len();
        assert!((PER_WORKER..=PER_WORKER * WORKERS).contains(&opened), "{opened} sessions");
        for session in &mut sessions {
            assert_echoes(session, "typed").await;
        }
        sessions
    };

    let sessions = open_many().await;
    let mut neighbour = envoy.open(&token).await;
    assert_echoes(&mut neighbour, "typed").await;

    // On one connection, and so on one worker, whose limit is exact.
    let browser = Http2::connect(&envoy).await;
    let mut shared = Vec::new();
    let refusal = loop {
        match browser.open(&token).await {
            Ok(session) => shared.push(session),
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.0 == 429 && refusal.1.contains("session_limit"), "{refusal:?}");
    // The neighbour may be on the same worker.
    assert!((PER_WORKER - 1..=PER_WORKER).contains(&shared.len()), "{}", shared.len());

    drop(sessions);
    let others = 1 + shared.len() as u64;
    until("the end of the dropped sessions", async || {
        let active = envoy.stat("wasmcustom.vncgate.sessions.active").await;
        active == others
    })
    .await;
    open_many().await;
}

/// Handshakes that stall held a thread, or the listener, each.
#[tokio::test]
async fn cve_2026_7776_stalled_handshakes() {
    const STALLED: usize = 60;
    let gateway = gateway().await;
    let address = gateway.envoy.address();
    let mut in_tls = Vec::new();
    let mut in_headers = Vec::new();
    for _ in 0..STALLED {
        let mut connection = TcpStream::connect(address).await.expect("connect");
        // The first bytes of a ClientHello.
        connection.write_all(&[0x16, 0x03, 0x01]).await.expect("send");
        in_tls.push(connection);
        let mut connection = connect(&gateway.envoy, &["http/1.1"]).await;
        connection.write_all(b"GET /websockify HTTP/1.1\r\nHost: x\r\nUpgr").await.expect("send");
        in_headers.push(connection);
    }
    assert_serves(gateway).await;

    let begun = Instant::now();
    for connection in &mut in_tls {
        let _ = within("the end", connection.read_to_end(&mut Vec::new())).await;
    }
    for connection in &mut in_headers {
        let mut answer = Vec::new();
        let _ = within("the end", connection.read_to_end(&mut answer)).await;
        assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "after {:?}", begun.elapsed());
}

/// A header, or a list of them, without an end is refused before it costs memory.
#[tokio::test]
async fn cve_2015_1779_endless_headers() {
    let gateway = gateway().await;
    for piece in ["a".repeat(1024), "x-a: b\r\n".repeat(128)] {
        let mut connection = connect(&gateway.envoy, &["http/1.1"]).await;
        connection
            .write_all(b"GET /websockify HTTP/1.1\r\nHost: x\r\nX-Long: ")
            .await
            .expect("send");
        let mut sent = 0;
        let (mut reader, mut writer) = tokio::io::split(connection);
        let endless = async {
            while sent < 16 * 1024 * 1024 && writer.write_all(piece.as_bytes()).await.is_ok() {
                sent += piece.len();
            }
        };
        let mut answer = [0; 12];
        let answered = within("an answer", async {
            tokio::select! {
                answered = reader.read_exact(&mut answer) => answered.is_ok(),
                () = endless => false,
            }
        })
        .await;
        if answered {
            assert_eq!(&answer, b"HTTP/1.1 431");
        }
        // The rest is what the kernel and TLS buffer on the way.
        assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    }
    assert_serves(gateway).await;
}

/// Requests whose bodies do not come held the authority for ten seconds each: page, API and status were shut for everybody.
/// They are one caller's, who is refused. (Envoy keeps such requests to itself, `unfinished_requests`; these come to the
/// authority itself, as they do where there is no Envoy before it.)
#[tokio::test]
async fn one_caller_s_requests_without_bodies_leave_room_for_others() {
    const REQUESTS: usize = 400;
    // `concurrent_requests` of the shipped configuration.
    const MOST: usize = 128;
    const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 3));
    let mallory = format!(
        "[[auth.api_token]]\nname = \"mallory\"\nsha256 = \"{}\"\n\n[[auth.api_token]]\nname = \"portal\"",
        TokenHash::of("mallory's token")
    );
    let change = |config: Config| config.with("[[auth.api_token]]\nname = \"portal\"", &mallory);
    let gateway = Gateway::start_with("bodies", change, &[]).await;
    let echo = TcpServer::echo(ESXI).await;
    let token = gateway.token_for(echo.address()).await;
    let request = "POST /v2.1/servers/5d93eed6-a1b7-5668-903c-b43c7c81d44c/action HTTP/1.1\r\nHost: x\r\n\
         X-Auth-Token: mallory's token\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";

    let authority = gateway.authority.config().public();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        flood.spawn(async move {
            let mut connection = TcpStream::connect(authority).await.expect("a connection");
            connection.write_all(request.as_bytes()).await.expect("send");
            let mut status_line = [0; "HTTP/1.1 429".len()];
            connection.read_exact(&mut status_line).await.expect("an answer");
            String::from_utf8_lossy(&status_line[9..]).parse::<u16>().expect("a status")
        });
    }
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        for (request, status) in [
            (format!("GET /console/status HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), 200),
            ("GET /console.html HTTP/1.1\r\n".to_owned(), 200),
            (format!("GET /v1/vms?name=a HTTP/1.1\r\nX-Auth-Token: {API_TOKEN}\r\n"), 200),
        ] {
            let asked = Instant::now();
            let answer =
                raw_answer_to(BYSTANDER, &gateway.envoy, &format!("{request}Host: x\r\n\r\n"))
                    .await;
            assert_eq!(
                status_of(&answer),
                status,
                "after {:?}: {request}: {answer}",
                begun.elapsed()
            );
            slowest = slowest.max(asked.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    let mut answers = BTreeMap::<_, usize>::new();
    while let Some(answer) = flood.join_next().await {
        *answers.entry(answer.expect("an answer")).or_default() += 1;
    }
    println!("answers {answers:?} within {:?}; a bystander waited {slowest:?}", begun.elapsed());
    // Those that were under way are answered when their time is over.
    let refused = answers.get(&429).copied().unwrap_or(0);
    assert!(refused > REQUESTS / 2, "{answers:?}");
    assert!(answers.get(&400).copied().unwrap_or(0) >= MOST / 2, "{answers:?}");
}
