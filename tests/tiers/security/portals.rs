//! Portals, whose many users come from one address.

use futures_util::future::join_all;
use vncgate_authority::tokens::TokenHash;
use vncgate_test_support::gateway::Gateway;

/// How many people use the portal.
const USERS: usize = 500;

/// How many of them ask at the same time: half of what the limits allow one client.
const AT_ONCE: usize = 50;

/// The address of one of the users.
fn address(user: usize) -> String {
    format!("203.0.{}.{}", user / 250, user % 250)
}

/// Of 500 users each shows a token that has expired, and then one that is good: a portal in `[limits] portals` is not one
/// client that guesses tokens.
#[tokio::test]
async fn five_hundred_users_of_a_portal_do_not_lock_each_other_out() {
    let token = |user: usize| format!("token of user {user}");
    let block = |user: usize| {
        let sha256 = TokenHash::of(&token(user));
        format!("[[auth.api_token]]\nname = \"user-{user}\"\nsha256 = \"{sha256}\"\n\n")
    };
    let users: String = (0..USERS).map(block).collect();
    let gateway = Gateway::start_with(
        "portal",
        |config| {
            config
                .with("#portals = [\"192.0.2.20\"]", "portals = [\"127.0.0.1\"]")
                .with("\n[log]\n", &format!("\n{users}[log]\n"))
        },
        &[],
    )
    .await;
    let http = gateway.ca.http_client();
    let list = async |user: usize, token: String, names_user: bool| {
        let url = format!("{}/v2.1/servers?limit=1", gateway.envoy.url());
        let mut request = http.get(url).header("X-Auth-Token", token);
        if names_user {
            let forwarded = format!("for={};by=openstack_auth", address(user));
            request = request.header("Forwarded", forwarded);
        }
        request.send().await.expect("the gateway answers").status().as_u16()
    };
    // As Horizon calls, which names no user, and as a portal that does.
    for names_user in [false, true] {
        for first in (0..USERS).step_by(AT_ONCE) {
            let users = first..first + AT_ONCE;
            let expired = users.clone().map(|user| list(user, "expired".to_owned(), names_user));
            assert_eq!(join_all(expired).await, [401; AT_ONCE]);
            let good = users.map(|user| list(user, token(user), names_user));
            assert_eq!(join_all(good).await, [200; AT_ONCE]);
        }
    }
}
