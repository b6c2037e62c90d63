use super::*;
use crate::vcenter::scope::{ContainerKind, Locator};
use crate::vcenter::soap::{ObjectContent, UpdateKind};
use std::time::{Instant as Clock, SystemTime};

const ROOT: &str = "group-d1";

fn update(kind: UpdateKind, of: &str, id: &str, properties: &[(&str, &str)]) -> ObjectUpdate {
    let property = |&(path, value): &(&str, &str)| (path.to_owned(), value.to_owned());
    let properties = properties.iter().map(property).collect();
    let (of, id) = (of.to_owned(), id.to_owned());
    let object = ObjectContent { kind: of, id, properties, missing: Vec::new() };
    ObjectUpdate { kind, object, removed: Vec::new() }
}

fn enter(of: &str, id: &str, properties: &[(&str, &str)]) -> ObjectUpdate {
    update(UpdateKind::Enter, of, id, properties)
}

fn machine(number: u128, host: &str, port: u16) -> ObjectUpdate {
    let (uuid, port) = (Uuid::from_u128(number).to_string(), port.to_string());
    enter(
        "VirtualMachine",
        &format!("vm-{number}"),
        &[
            ("summary.config.name", &format!("web-{number:05}")),
            ("summary.config.instanceUuid", &uuid),
            ("runtime.powerState", "poweredOn"),
            ("runtime.connectionState", "connected"),
            ("runtime.host", host),
            ("config.template", "false"),
            (r#"config.extraConfig["RemoteDisplay.vnc.port"]"#, &port),
            ("parent", "group-v4"),
            ("resourcePool", "resgroup-8"),
        ],
    )
}

/// Two folders, a cluster with a pool and two hosts, and a machine on the first.
fn inventory() -> Inventory {
    let mut inventory = Inventory::new(ROOT.to_owned());
    let mut changes = Changes::Nothing;
    for update in [
        // vCenter has no order.
        machine(1, "host-1", 5901),
        enter("Datacenter", "datacenter-2", &[("name", "DC0"), ("parent", ROOT)]),
        enter("Folder", "group-v3", &[("name", "vm"), ("parent", "datacenter-2")]),
        enter("Folder", "group-v4", &[("name", "tenant%2fa"), ("parent", "group-v3")]),
        enter("Folder", "group-v5", &[("name", "tenant-b"), ("parent", "group-v3")]),
        enter("ClusterComputeResource", "domain-c7", &[("name", "C0"), ("parent", ROOT)]),
        enter("ResourcePool", "resgroup-8", &[("name", "gold"), ("parent", "domain-c7")]),
        enter("HostSystem", "host-1", &[("name", "esx-1"), ("parent", "domain-c7")]),
        enter("HostSystem", "host-2", &[("name", "esx-2"), ("parent", "domain-c7")]),
    ] {
        inventory.apply(update, &mut changes);
    }
    inventory
}

/// What a list shows of a machine, and sorts machines by.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) instance: Option<Uuid>,
    pub(crate) name: String,
    pub(crate) created: Option<SystemTime>,
    pub(crate) running: bool,
    /// Its folder.
    pub(crate) parent: &'static str,
}

/// Has a watch be current, of a vCenter with two folders, `group-v4` and `group-v5`, and these machines.
pub(crate) fn fill(watch: &Watch, machines: &[Listed]) {
    let (mut inventory, mut changes) = (inventory(), Changes::Nothing);
    inventory.apply(update(UpdateKind::Leave, "VirtualMachine", "vm-1", &[]), &mut changes);
    for (number, listed) in machines.iter().enumerate() {
        let state = if listed.running { "poweredOn" } else { "poweredOff" };
        let instance = listed.instance.map(|instance| instance.to_string());
        let created = listed.created.map(|time| humantime::format_rfc3339(time).to_string());
        let mut properties = vec![
            ("summary.config.name", listed.name.as_str()),
            ("runtime.powerState", state),
            ("runtime.connectionState", "connected"),
            ("runtime.host", "host-1"),
            ("parent", listed.parent),
        ];
        properties.extend(instance.as_deref().map(|it| ("summary.config.instanceUuid", it)));
        properties.extend(created.as_deref().map(|it| ("config.createDate", it)));
        let machine = enter("VirtualMachine", &format!("vm-{number}"), &properties);
        inventory.apply(machine, &mut changes);
    }
    watch.filled(inventory);
}

/// Has a watch be current, of a vCenter with one machine: this instance UUID, `vm-1`, on a host of this name, with this
/// VNC port.
pub(crate) fn fill_with_console(watch: &Watch, instance: Uuid, host: &str, port: u16) {
    let (mut inventory, mut changes) = (inventory(), Changes::Nothing);
    let host = enter(
        "HostSystem",
        "host-1",
        &[("name", host), ("parent", "domain-c7"), ("summary.config.product.version", "6.7.0")],
    );
    inventory.apply(host, &mut changes);
    inventory.apply(machine(instance.as_u128(), "host-1", port), &mut changes);
    watch.filled(inventory);
}

fn container(text: &str) -> Container {
    let (service_host, kind) = ("vcenter-a".to_owned(), ContainerKind::Folder);
    Container { service_host, kind, locator: Locator::parse(text).unwrap() }
}

fn reference(number: u128) -> MachineRef {
    MachineRef::from(format!("vm-{number}"))
}

fn changed(inventory: &mut Inventory, update: ObjectUpdate) -> Changes {
    let mut changes = Changes::Nothing;
    inventory.apply(update, &mut changes);
    changes
}

fn noted(machines: &[u128]) -> Changes {
    Changes::Machines(machines.iter().copied().map(Uuid::from_u128).collect())
}

#[test]
fn a_machine_is_as_its_updates_say() {
    let mut inventory = inventory();
    let instance = Uuid::from_u128(1);
    let now = |inventory: &Inventory| inventory.machine(instance, None).cloned();
    let first = now(&inventory).unwrap();
    assert_eq!(first.host.as_ref().unwrap().name, "esx-1", "the host came after it");
    assert_eq!(first.cluster.as_deref(), Some("domain-c7"));

    let modify = |properties: &[(&str, &str)]| {
        update(UpdateKind::Modify, "VirtualMachine", "vm-1", properties)
    };
    let moved = modify(&[("runtime.host", "host-2"), ("runtime.powerState", "suspended")]);
    assert_eq!(changed(&mut inventory, moved), noted(&[1]));
    let second = now(&inventory).unwrap();
    assert_eq!(second.host.as_ref().unwrap().name, "esx-2");
    assert_eq!(second.name, first.name);

    let mut without_port = modify(&[]);
    without_port.removed = vec![r#"config.extraConfig["RemoteDisplay.vnc.port"]"#.to_owned()];
    changed(&mut inventory, without_port);
    let third = now(&inventory).unwrap();
    assert!(third.vnc_port.is_none() && third.has_options);
    let mut withheld = modify(&[]);
    withheld.removed = vec!["config.template".to_owned()];
    changed(&mut inventory, withheld);
    assert!(!now(&inventory).unwrap().has_options);

    let left = update(UpdateKind::Leave, "VirtualMachine", "vm-1", &[]);
    assert_eq!(changed(&mut inventory, left.clone()), noted(&[1]));
    assert_eq!(now(&inventory), None);
    assert_eq!(inventory.in_order().count(), 0);
    assert_eq!(changed(&mut inventory, left), Changes::Nothing, "it is gone already");
}

#[test]
fn updates_of_objects_that_were_not_asked_for_change_nothing() {
    let mut inventory = inventory();
    let size = inventory.size();
    for kind in [UpdateKind::Modify, UpdateKind::Leave] {
        let stranger = update(kind, "VirtualMachine", "vm-9", &[("runtime.host", "host-1")]);
        assert_eq!(changed(&mut inventory, stranger), Changes::Nothing, "{kind:?}");
    }
    changed(
        &mut inventory,
        update(UpdateKind::Modify, "Datastore", "datastore-1", &[("name", "x")]),
    );
    assert_eq!((inventory.size(), inventory.machine_count()), (size, 1));
}

/// The console that may have become another machine's is that of a machine that has not changed itself.
#[test]
fn a_machine_with_the_port_of_another_concerns_both() {
    let mut inventory = inventory();
    assert_eq!(changed(&mut inventory, machine(2, "host-1", 5902)), noted(&[2]));
    assert_eq!(changed(&mut inventory, machine(3, "host-2", 5901)), noted(&[3]), "another host");
    assert_eq!(changed(&mut inventory, machine(4, "host-1", 5901)), noted(&[1, 4]));
    let first = inventory.machine_with(Uuid::from_u128(1), &reference(1), Detail::Vnc).unwrap();
    let port = first.vnc_port;
    assert!(first.neighbours.iter().all(|other| other.running && other.port == port));
    assert_eq!(first.neighbours.len(), 1, "a machine with another port does not count");
    let third = inventory.machine_with(Uuid::from_u128(3), &reference(3), Detail::Vnc).unwrap();
    assert!(third.neighbours.is_empty(), "{third:?}");
    changed(&mut inventory, machine(4, "host-1", 5903));
    let first = inventory.machine_with(Uuid::from_u128(1), &reference(1), Detail::Vnc).unwrap();
    assert!(first.neighbours.is_empty(), "{first:?}");
}

#[test]
fn a_machine_is_in_the_folders_and_pools_above_it() {
    let mut inventory = inventory();
    let is_in = |inventory: &Inventory, text: &str| {
        let containers = [container(text)];
        let membership = inventory.membership(&reference(1), &containers);
        assert_eq!(
            inventory.within(&containers).count() == 1,
            membership == Membership::Within,
            "{text}: as listings have it"
        );
        membership
    };
    for above in ["/DC0/vm/tenant%2fa", "/DC0/vm", "group-v4", "/C0/gold", "resgroup-8", ROOT] {
        assert_eq!(is_in(&inventory, above), Membership::Within, "{above}");
    }
    for elsewhere in ["/DC0/vm/tenant-b", "/DC0/vm/tenant", "/vm", "group-v5"] {
        assert_eq!(is_in(&inventory, elsewhere), Membership::Outside, "{elsewhere}");
    }
    let moved = update(UpdateKind::Modify, "VirtualMachine", "vm-1", &[("parent", "group-v5")]);
    changed(&mut inventory, moved);
    assert_eq!(is_in(&inventory, "/DC0/vm/tenant-b"), Membership::Within);
    assert_eq!(is_in(&inventory, "group-v4"), Membership::Outside);
    let renamed = update(UpdateKind::Modify, "Folder", "group-v5", &[("name", "tenant-c")]);
    assert_eq!(changed(&mut inventory, renamed), Changes::Everything);
    assert_eq!(is_in(&inventory, "/DC0/vm/tenant-b"), Membership::Outside);
    // The account may no longer see a folder: nobody knows what is above it.
    let withheld = update(UpdateKind::Leave, "Folder", "group-v3", &[]);
    changed(&mut inventory, withheld);
    assert_eq!(is_in(&inventory, "group-v4"), Membership::Unknown);
    // A loop ends.
    let looped = enter("Folder", "group-v3", &[("name", "vm"), ("parent", "group-v5")]);
    changed(&mut inventory, looped);
    assert_eq!(is_in(&inventory, "group-v4"), Membership::Unknown);
}

#[test]
fn what_is_kept_is_counted_and_given_back() {
    let mut inventory = inventory();
    let before = inventory.size();
    for round in 0..3 {
        for number in 2..100 {
            changed(&mut inventory, machine(number, "host-1", 5901 + round));
        }
    }
    assert!(inventory.size() > before + 98 * 1024, "{}", inventory.size());
    for number in 2..100 {
        let id = format!("vm-{number}");
        changed(&mut inventory, update(UpdateKind::Leave, "VirtualMachine", &id, &[]));
    }
    assert_eq!(inventory.size(), before);
}

#[test]
fn ten_thousand_changes_at_once_are_one_look_at_everything() {
    let mut inventory = inventory();
    let mut changes = Changes::Nothing;
    let started = Clock::now();
    for number in 1..=10_000 {
        let host = format!("host-{}", number / 100);
        inventory.apply(machine(number, &host, 5901), &mut changes);
    }
    assert_eq!(changes, Changes::Everything);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let names: Vec<_> = inventory.in_order().map(|machine| machine.name.clone()).collect();
    assert!(names.len() == 10_000 && names.is_sorted());
}

/// A page would cost as much as the inventory is large.
#[test]
fn a_step_of_a_walk_looks_at_as_many_machines_as_it_may() {
    let mut inventory = inventory();
    let mut changes = Changes::Nothing;
    for number in 2..=1_000 {
        inventory.apply(machine(number, "host-1", 5901), &mut changes);
    }
    let names = |by: SortedBy, descending: bool| {
        let from = inventory.machine(Uuid::from_u128(500), None).unwrap();
        let walk = Walk { by, descending, by_instance: true, from: Some(from) };
        let (mut names, mut after, mut steps) = (Vec::new(), None, 0);
        loop {
            let step = inventory.step(&walk, after.as_deref(), None);
            assert!(step.machines.len() <= 256, "{}", step.machines.len());
            steps += 1;
            names.extend(step.machines.iter().map(|machine| machine.name.clone()));
            after = step.last;
            if after.is_none() {
                return (names, steps);
            }
        }
    };
    let name = |number| format!("web-{number:05}");
    // vCenter 6.5 has no time of creation, so that all are alike in it.
    for by in [SortedBy::Name, SortedBy::Created] {
        assert_eq!(names(by, false), ((500..=1_000).map(name).collect(), 2));
        assert_eq!(names(by, true), ((1..=500).rev().map(name).collect(), 2));
    }
}

#[test]
fn what_vcenter_withholds_is_no_answer() {
    let mut inventory = inventory();
    let folder = container("group-v4");
    let part_of = |inventory: &Inventory, number| {
        inventory.part_of(&reference(number), [("project", &folder)].into_iter())
    };
    assert_eq!(part_of(&inventory, 1), Some(Some("project")));
    assert_eq!(part_of(&inventory, 2), None, "a machine that is not known yet");
    let moved = update(UpdateKind::Modify, "VirtualMachine", "vm-1", &[("parent", "group-v9")]);
    changed(&mut inventory, moved);
    assert_eq!(part_of(&inventory, 1), None, "a folder that is not known yet");
    let moved = update(UpdateKind::Modify, "VirtualMachine", "vm-1", &[("parent", "group-v5")]);
    changed(&mut inventory, moved);
    assert_eq!(part_of(&inventory, 1), Some(None));

    let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(9));
    assert!(inventory.may_have(own) && !inventory.may_have(other));
    changed(&mut inventory, enter("VirtualMachine", "vm-9", &[("runtime.host", "host-1")]));
    assert!(inventory.may_have(other), "it may be the one without a UUID");
    changed(&mut inventory, update(UpdateKind::Leave, "VirtualMachine", "vm-9", &[]));
    assert!(!inventory.may_have(other));
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_current_while_vcenter_answers() {
    let watch = |validation| Watch::new("vcenter-a", validation, Arc::default());
    let max_age = Duration::from_secs(60);
    for validation in [Validation::Live, Validation::Watched { max_age }] {
        let watch = watch(validation);
        let (instance, known) = (Uuid::from_u128(1), reference(1));
        let of_age =
            |watch: &Watch| watch.machine(max_age, instance, &known, Detail::None).is_some();
        assert_eq!((watch.list(None), watch.status()), (None, WatchStatus::Filling));
        watch.filled(inventory());
        assert_eq!(watch.changes().await, Changes::Everything);
        assert!(watch.list(None).is_some() && of_age(&watch));
        assert_eq!(watch.machine_now(Uuid::from_u128(9), &known), Some(None));
        tokio::time::advance(CURRENT_MAX_AGE + Duration::from_secs(1)).await;
        assert!(watch.list(None).is_none() && watch.machine_now(instance, &known).is_none());
        assert!(of_age(&watch), "{validation:?}");
        watch.exchanged();
        assert!(watch.list(None).is_some());

        assert!(watch.failed(&VcenterError::Endless), "it was current");
        assert!(!watch.failed(&VcenterError::Endless), "it was not");
        assert!(matches!(watch.status(), WatchStatus::Failed(_)));
        assert!(watch.list(None).is_none() && watch.machine_now(instance, &known).is_none());
        // A check may use what vCenter said a moment ago, if the configuration allows.
        assert_eq!(of_age(&watch), validation != Validation::Live);
        tokio::time::advance(max_age + Duration::from_secs(1)).await;
        assert!(!of_age(&watch));
    }
}
