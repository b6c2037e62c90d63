use crate::http::app::App;
use crate::http::public;
use crate::http::testing::{API_TOKEN, Setup, send};
use crate::vcenter::scope::{Container, ContainerKind, Locator, Scope};
use crate::vcenter::watch::tests::{Listed, fill};
use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use uuid::Uuid;

const VCENTERS: [&str; 2] = ["vcenter-a", "vcenter-b"];

fn project(folder: &str) -> Scope {
    let container = |service_host: &str| Container {
        service_host: service_host.to_owned(),
        kind: ContainerKind::Folder,
        locator: Locator::parse(folder).unwrap(),
    };
    Scope::Within(VCENTERS.map(container).to_vec())
}

/// An authority whose vCenters have these machines.
fn authority(machines: [&[Listed]; 2]) -> Arc<App> {
    let projects = [("blue", project("group-v4")), ("red", project("/DC0/vm/tenant-b"))];
    let projects = projects.map(|(name, scope)| (name.to_owned(), scope));
    let projects = HashMap::from(projects);
    let app = Setup { vcenters: &VCENTERS, projects, ..Setup::default() }.app();
    for (vcenter, machines) in VCENTERS.into_iter().zip(machines) {
        let vcenter = app.consoles.vcenters().by_service_host(vcenter).unwrap();
        fill(vcenter.watch(), machines);
    }
    app
}

async fn servers(app: &Arc<App>, list: &str, query: &str) -> Value {
    let request = Request::get(format!("/v2.1/{list}?{query}")).header("X-Auth-Token", API_TOKEN);
    let request = request.header("OpenStack-API-Version", "compute 2.96");
    send(public(Arc::clone(app), None), request.body(Body::empty()).unwrap()).await.json()
}

fn instance(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

/// A machine, of which several have the same name, time and UUID.
fn listed() -> impl Strategy<Value = Listed> {
    let times = prop::option::weighted(0.9, 0..6_u64);
    (prop::option::weighted(0.9, 0..60_u8), "[ab][ab]?", times, any::<bool>(), any::<bool>())
        .prop_map(|(number, name, created, running, blue)| Listed {
            instance: number.map(instance),
            name,
            created: created
                .map(|second| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)),
            running,
            parent: if blue { "group-v4" } else { "group-v5" },
        })
}

/// The machines of one vCenter: it has no UUID twice.
fn inventory() -> impl Strategy<Value = Vec<Listed>> {
    prop::collection::vec(listed(), 0..40).prop_map(|mut machines| {
        let mut seen = Vec::new();
        machines.retain(|machine| {
            let is_new = !seen.contains(&machine.instance);
            seen.extend(machine.instance.map(Some));
            is_new
        });
        machines
    })
}

fn query() -> impl Strategy<Value = String> {
    const KEYS: [&str; 10] = [
        "created_at",
        "display_name",
        "uuid",
        "host",
        "node",
        "project_id",
        "vm_state",
        "updated_at",
        "key_name",
        "instance_type_id",
    ];
    const FILTERS: [&str; 6] = [
        "",
        "&status=ACTIVE",
        "&host=vcenter-b",
        "&all_tenants=1&project_id=blue",
        "&all_tenants=1",
        "&all_tenants=1&project_id=red&status=SHUTOFF",
    ];
    let keys = prop::collection::vec(
        (prop::sample::select(&KEYS[..]), prop::sample::select(&["asc", "desc"][..])),
        0..4,
    );
    let marker = prop::option::of(0..60_u8);
    let filter = prop::sample::select(&FILTERS[..]);
    (keys, prop::option::of(0..50_u8), marker, filter).prop_map(|(keys, limit, marker, filter)| {
        let mut query = String::new();
        for (key, direction) in keys {
            write!(query, "&sort_key={key}&sort_dir={direction}").unwrap();
        }
        limit.iter().for_each(|limit| write!(query, "&limit={limit}").unwrap());
        marker.iter().for_each(|marker| write!(query, "&marker={}", instance(*marker)).unwrap());
        query + filter
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A name of which every name has a part makes the second answer one for which each machine is looked at.
    #[test]
    fn a_page_from_the_watches_is_what_a_look_at_all_machines_finds(
        here in inventory(),
        there in inventory(),
        queries in prop::collection::vec(query(), 6),
    ) {
        let app = authority([&here, &there]);
        let runtime = Runtime::new().unwrap();
        for query in queries {
            for list in ["servers", "servers/detail"] {
                let page = runtime.block_on(servers(&app, list, &query));
                let found = runtime.block_on(servers(&app, list, &format!("{query}&name=")));
                prop_assert_eq!(&page["servers"], &found["servers"], "{}", query);
                prop_assert_eq!(&page["badRequest"], &found["badRequest"], "{}", query);
                prop_assert_eq!(page["servers_links"].is_array(), found["servers_links"].is_array());
            }
        }
    }
}
