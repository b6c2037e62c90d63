//! What the register of live sessions takes. A process of its own, whose memory nothing else uses.

use std::num::NonZeroU16;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vncgate_api::{EndedSession, OpenedSession, SessionReply, SessionReport, Traffic};
use vncgate_authority::console_type::ConsoleType;
use vncgate_authority::sessions::{Description, Sessions};
use vncgate_authority::tokens::TokenHash;

const SESSIONS: u128 = 10_000;
const WORKERS: u128 = 4;
/// As the filter reports them.
const PER_REPORT: usize = 200;
const LIMIT: usize = 20 * 1000 * 1000;

/// The process's resident memory, in bytes (proc_pid_statm(5)).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux's /proc");
    let pages = statm.split(' ').nth(1).expect("the resident pages");
    pages.parse::<usize>().expect("a number") * rustix::param::page_size()
}

fn opened(number: u128) -> OpenedSession<'static> {
    let description = Description {
        instance: Uuid::from_u128(1 + number),
        machine: Some(format!("tenant-a-web-frontend-{number}").into()),
        vcenter: "vcenter-a.example.com".into(),
        reference: Some(format!("vm-{number}").into()),
        host: format!("esx-{}.rack-7.example.com", number % 100).into(),
        host_reference: Some(format!("host-{}", number % 100).into()),
        vnc_port: NonZeroU16::new(5901),
        console_type: Some(ConsoleType::Novnc),
        caller: format!("keystone:4f1f8c1b2a7d4e0c9b3a5d6e7f80{}", number % 1000).into(),
        user: Some(format!("user-{}@Default", number % 1000).into()),
        project: Some("8d2f3a4b5c6d7e8f901a2b3c4d5e6f70".into()),
        confined: true,
        token_id: Some(TokenHash::of(&number.to_string())),
        client: Some("2001:db8:85a3::8a2e:370:7334".into()),
        target: Some("10.0.0.5:5901".parse().expect("an address")),
        must_end_at: Some(1_800_000_000_000),
        ..Description::default()
    };
    OpenedSession {
        session: Uuid::from_u128(number).to_string().into(),
        opened_at: 1_790_000_000_000,
        description: description.to_text().into(),
        traffic: Traffic { last_message_at: Some(1), last_input_at: Some(1), ..Traffic::default() },
        known: false,
    }
}

async fn report(sessions: &Sessions, report: SessionReport<'_>) -> SessionReply {
    let reply = sessions.report(report, &CancellationToken::new()).await;
    reply.expect("the report is taken")
}

#[tokio::test]
async fn ten_thousand_sessions_take_less_than_20_megabytes() {
    let sessions = Sessions::new(None, Arc::default());
    let mut names = Vec::new();
    for _ in 0..WORKERS {
        let first = SessionReport { gateway: "envoy".into(), ..SessionReport::default() };
        names.push(report(&sessions, first).await.worker);
    }
    let before = resident();
    let numbers: Vec<u128> = (0..SESSIONS).collect();
    for (part, numbers) in numbers.chunks(PER_REPORT).enumerate() {
        let opened = numbers.iter().copied().map(opened).collect();
        let worker = Some(names[part % names.len()].clone().into());
        let gateway = "envoy".into();
        report(&sessions, SessionReport { worker, gateway, opened, ..SessionReport::default() })
            .await;
    }
    let taken = resident().saturating_sub(before);
    assert_eq!(sessions.live().len(), numbers.len());
    println!("{SESSIONS} sessions take {} bytes each", taken / numbers.len());
    assert!(taken > 1_000_000, "{taken} bytes: what was measured?");
    assert!(taken < LIMIT, "{taken} bytes");

    // They come and go for as long as the process runs.
    for round in 0..3 {
        for (part, numbers) in numbers.chunks(PER_REPORT).enumerate() {
            let ended = numbers.iter().map(|number| EndedSession {
                session: Uuid::from_u128(number + round * SESSIONS).to_string().into(),
                ended_at: 1,
                cause: "browser_closed".into(),
                traffic: Traffic::default(),
            });
            let opened = numbers.iter().map(|number| opened(number + (round + 1) * SESSIONS));
            let (ended, opened) = (ended.collect(), opened.collect());
            let worker = Some(names[part % names.len()].clone().into());
            let gateway = "envoy".into();
            let both = SessionReport { worker, gateway, opened, ended, ..SessionReport::default() };
            report(&sessions, both).await;
        }
    }
    let taken = resident().saturating_sub(before);
    assert_eq!(sessions.live().len(), numbers.len());
    println!("and {} bytes each after they were replaced three times", taken / numbers.len());
    assert!(taken < LIMIT, "{taken} bytes");
}
