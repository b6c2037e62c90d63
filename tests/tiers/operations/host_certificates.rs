//! Certificates of ESXi hosts with two authorities and two Envoys, each Envoy asking either authority: hosts that are new,
//! certificates that are renewed under open consoles, authorities and Envoys that are ended and started again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::{Ca, Identity};
use vncgate_test_support::envoy::{Envoy, Settings};
use vncgate_test_support::esxi::{Esxi, HostBehavior, self_signed};
use vncgate_test_support::process::Run;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::stores::Store;
use vncgate_test_support::vcsim::{Vcsim, Vm};
use vncgate_test_support::wait::until;
use vncgate_test_support::webmks::{self, HostSettings, WITHOUT_VNC};
use vncgate_test_support::workspace::free_address;

/// Two authorities that share a store and a vCenter.
struct Pair {
    authorities: [Authority; 2],
    esxi: Esxi,
    vcenter: Vcsim,
    _store: Store,
    run: Run,
}

/// A host with a machine.
struct Host {
    name: String,
    ip: IpAddr,
    vm: Vm,
    identity: Identity,
    _screen: TcpServer,
}

impl Pair {
    async fn start(name: &str, store: Store) -> Self {
        let run = Run::new(name);
        let ca = Ca::new(&run);
        let (vcenter, esxi) = webmks::start(&run, &ca).await;
        let other_run = Run::new(&format!("{name}-other"));
        other_run.write("ca.pem", ca.pem());
        let start = async |run: &Run| {
            Authority::start(run, Config::new(run, &vcenter, NO_GATEWAY).with_store(&store)).await
        };
        let authorities = [start(&run).await, start(&other_run).await];
        Self { authorities, esxi, vcenter, _store: store, run }
    }

    /// An Envoy whose requests for checks and certificates go to either authority.
    async fn envoy(&self, name: &str) -> Envoy {
        let run = Run::new(name);
        let [one, other] =
            self.authorities.each_ref().map(|authority| authority.config().internal());
        let endpoint = |address: SocketAddr| {
            let (ip, port) = (address.ip(), address.port());
            format!(
                "- endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}"
            )
        };
        let both = format!("{}\n              {}", endpoint(one), endpoint(other));
        let settings = Settings {
            listen: free_address(),
            authority_public: self.authorities[0].config().public(),
            authority_internal: one,
            changes: &[(&endpoint(one), both)],
        };
        Envoy::start(&run, &Ca::new(&run), &settings).await
    }

    /// A host that neither authority nor Envoy has met.
    async fn new_host(&self, number: u8) -> Host {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 3, number));
        let name = ip.to_string();
        let identity = self_signed(&self.run, &name, &[&name]);
        self.esxi.add_host_named(&self.vcenter, &name, ip, WITHOUT_VNC, &identity).await;
        let screen = TcpServer::echo(ip).await;
        let machine = format!("machine-{number}");
        let vm = self.esxi.create_vm(&self.vcenter, &machine, &name, screen.address()).await;
        Host { name, ip, vm, identity, _screen: screen }
    }

    /// From now on the host shows this certificate, and vCenter knows it.
    async fn renew(&self, host: &Host, identity: &Identity) {
        let settings =
            HostSettings { certificate: Some(identity.pem()), ..HostSettings::default() };
        self.vcenter.set_host(&host.name, &settings).await;
        self.esxi.set_host(&host.name, host.ip, identity, HostBehavior::Relay).await;
    }
}

/// No attempt is repeated: a console opens at its first.
async fn first_consoles_open_everywhere(store: Store) {
    let pair = Pair::start("pins-first", store).await;
    let envoys = [pair.envoy("pins-first-a").await, pair.envoy("pins-first-b").await];
    let mut slowest = Duration::ZERO;
    for number in 1..=12 {
        let host = pair.new_host(number).await;
        let tokens =
            [pair.authorities[0].issue(&host.vm).await, pair.authorities[1].issue(&host.vm).await];
        // At one Envoy, or at both at once.
        let number = usize::from(number);
        let started = Instant::now();
        match number % 3 {
            0 => {
                tokio::join!(envoys[0].open(&tokens[0]), envoys[1].open(&tokens[1]));
            }
            _ => drop(envoys[number % 2].open(&tokens[number / 2 % 2]).await),
        }
        slowest = slowest.max(started.elapsed());
        drop(envoys[(number + 1) % 2].open(&tokens[0]).await);
    }
    println!("from the request to the first console of a new host, at most: {slowest:?}");
    for authority in &pair.authorities {
        until("the same list everywhere", async || {
            authority.esxi_hosts().await == pair.authorities[0].esxi_hosts().await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_s_first_console_opens_whichever_authority_and_envoy_it_meets_on_redis() {
    first_consoles_open_everywhere(Store::redis(&Run::new("pins-redis")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_s_first_console_opens_whichever_authority_and_envoy_it_meets_on_memcached() {
    first_consoles_open_everywhere(Store::memcached(&Run::new("pins-memcached")).await).await;
}

/// A check waits for 400 ms when a certificate is new (`SETTLE`).
#[tokio::test(flavor = "multi_thread")]
async fn every_envoy_has_a_new_certificate_before_the_check_is_answered() {
    const UPDATES: &str =
        "cluster.vncgate_esxi_webmks.client_ssl_socket_factory.ssl_context_update_by_sds";
    let store = Store::redis(&Run::new("pins-spread-redis")).await;
    let pair = Pair::start("pins-spread", store).await;
    let envoys = [pair.envoy("pins-spread-a").await, pair.envoy("pins-spread-b").await];
    let mut times = Vec::new();
    for number in 50..60 {
        let host = pair.new_host(number).await;
        let authority = &pair.authorities[usize::from(number) % 2];
        let token = authority.issue(&host.vm).await;
        let before = [envoys[0].stat(UPDATES).await, envoys[1].stat(UPDATES).await];
        let started = Instant::now();
        let answer = authority.check(&token).await;
        times.push(started.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.body);
        for (envoy, before) in envoys.iter().zip(before) {
            assert!(envoy.stat(UPDATES).await > before, "the check was answered before: {times:?}");
        }
    }
    println!("until the check was answered: {times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_ends_no_console_and_is_accepted_at_once() {
    let store = Store::redis(&Run::new("pins-renewed-redis")).await;
    let pair = Pair::start("pins-renewed", store).await;
    let envoys = [pair.envoy("pins-renewed-a").await, pair.envoy("pins-renewed-b").await];
    let host = pair.new_host(20).await;
    let token = pair.authorities[0].issue(&host.vm).await;
    let mut live = [envoys[0].open(&token).await, envoys[1].open(&token).await];

    let renewed = self_signed(&pair.run, "renewed", &[&host.name]);
    pair.renew(&host, &renewed).await;
    for envoy in &envoys {
        assert_echoes(&mut envoy.open(&token).await, "with the new certificate").await;
    }
    for console in &mut live {
        assert_echoes(console, "still open").await;
    }

    // The old certificate is good for nobody any more, at either Envoy.
    pair.esxi.set_host(&host.name, host.ip, &host.identity, HostBehavior::Relay).await;
    for envoy in &envoys {
        envoy.send(&token).await.assert_refused(503, "console_unreachable");
    }
    for console in &mut live {
        assert_echoes(console, "open for all that").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_authority_goes_on_without_the_other() {
    let store = Store::redis(&Run::new("pins-killed-redis")).await;
    let mut pair = Pair::start("pins-killed", store).await;
    let envoy = pair.envoy("pins-killed-a").await;
    let first = pair.new_host(30).await;
    let token = pair.authorities[0].issue(&first.vm).await;
    let mut live = envoy.open(&token).await;

    pair.authorities[0].kill();
    let second = pair.new_host(31).await;
    let token = pair.authorities[1].issue(&second.vm).await;
    // A request that meets the killed authority is refused; none that meets the other one is.
    until("a console by the other authority", async || {
        let answer = envoy.send(&token).await;
        assert!(
            answer.status == 101 || answer.code() == "authority_unavailable",
            "{}",
            answer.body
        );
        answer.status == 101
    })
    .await;

    pair.authorities[0].start_again().await;
    let listed = async |authority: &Authority| authority.esxi_hosts().await;
    until("the list of the other", async || {
        listed(&pair.authorities[0]).await == listed(&pair.authorities[1]).await
    })
    .await;
    until("consoles by both authorities", async || {
        let mut opened = true;
        for _ in 0..4 {
            opened &= envoy.send(&token).await.status == 101;
        }
        opened
    })
    .await;
    assert_echoes(&mut live, "still open").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_starts_without_an_authority_and_accepts_hosts_when_there_is_one() {
    let store = Store::redis(&Run::new("pins-alone-redis")).await;
    let mut pair = Pair::start("pins-alone", store).await;
    let host = pair.new_host(40).await;
    let token = pair.authorities[0].issue(&host.vm).await;
    pair.authorities.iter_mut().for_each(Authority::kill);
    let started = Instant::now();
    let envoy = pair.envoy("pins-alone-a").await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    envoy.send(&token).await.assert_refused(503, "authority_unavailable");

    for authority in &mut pair.authorities {
        authority.start_again().await;
    }
    until("a console", async || envoy.send(&token).await.status == 101).await;
}
