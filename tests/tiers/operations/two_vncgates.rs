//! Two vncgates in one connection manager, each with an authority and a name of its own.

use crate::beside::Beside;
use crate::site::{ESXI, Site};
use vncgate_test_support::envoy::CONSOLES;
use vncgate_test_support::screen::TcpServer;
use vncgate_test_support::session::assert_echoes;
use vncgate_test_support::websocket::Upgrade;
use vncgate_test_support::workspace;

/// The name of the second one's consoles.
const OTHER_CONSOLES: &str = "localhost";

/// Where a filter may stand: after the first one.
const AFTER: &str =
    "                  # What the filter found out about the session's target, where";
const ORIGINS: &str = "\n                              \"allowed_origins\": []";

/// `vm_id`: the first one has `vncgate`. Those that have one in common share a VM.
async fn each_opens_its_own_consoles(vm_id: &str) {
    let other = Site::start("other").await;
    let (_, internal) = other.authority.listeners();
    let configuration = |cluster: &str, host: &str| {
        format!(
            "{{ \"authority\": {{ \"cluster\": \"{cluster}\" }}, \"hosts\": [\"{host}\"], \"other_hosts\": \"pass\" }}"
        )
    };
    let filter = format!(
        "                  - name: other_vncgate
                    typed_config:
                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                      config:
                        name: other_vncgate
                        root_id: vncgate
                        failure_policy: FAIL_RELOAD
                        configuration:
                          \"@type\": type.googleapis.com/google.protobuf.StringValue
                          value: '{}'
                        vm_config:
                          vm_id: {vm_id}
                          runtime: envoy.wasm.runtime.v8
                          code: {{ local: {{ filename: {} }} }}
{AFTER}",
        configuration("other_authority", OTHER_CONSOLES),
        workspace::filter().display()
    );
    let cluster = format!(
        "\n  clusters:
    - name: other_authority
      type: STATIC
      load_assignment:
        cluster_name: other_authority
        endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }}] }}]
",
        internal.ip(),
        internal.port()
    );
    let own_name = format!(
        "\n                              \"hosts\": [\"{CONSOLES}\"], \"other_hosts\": \"pass\",{ORIGINS}"
    );
    let beside = Beside::in_one_manager("two", |_| {
        vec![(AFTER, filter), ("\n  clusters:\n", cluster), (ORIGINS, own_name)]
    })
    .await;
    let screen = TcpServer::echo(ESXI).await;
    let machine = other.vcenter.create_vm("of-the-other", ESXI, screen.address().port());
    let others = other.authority.issue(&machine).await;
    let [own, own_webmks] = beside.tokens().await;

    for (name, token) in
        [(CONSOLES, &own), (CONSOLES, &own_webmks), (OTHER_CONSOLES, &others), (CONSOLES, &own)]
    {
        let mut browser = Upgrade::with_token(beside.envoy.named(name), token).open().await;
        assert_echoes(&mut browser, "typed").await;
    }
    for (name, token) in [(CONSOLES, &others), (OTHER_CONSOLES, &own)] {
        let answer = Upgrade::with_token(beside.envoy.named(name), token).send().await;
        answer.assert_refused(403, "token_invalid");
    }
    assert!(!beside.envoy.has_trapped());
}

#[tokio::test]
async fn two_vncgates_in_one_gateway_open_each_its_own_consoles() {
    each_opens_its_own_consoles("other_vncgate").await;
}

#[tokio::test]
async fn two_vncgates_that_share_a_vm_do_so_too() {
    each_opens_its_own_consoles("vncgate").await;
}
