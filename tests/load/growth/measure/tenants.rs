//! More tenants.

use crate::calls::Calls;
use crate::course::Course;
use crate::site::{Measured, Site, Validate, check, issue, list, sha256, token};
use anyhow::Result;
use std::fmt::Write;
use vncgate_load::caller::Caller;
use vncgate_test_support::console_api::API_TOKEN;

/// Hosts, and machines of each.
const HOSTS: usize = 10;
const ON_A_HOST: usize = 20;

/// Machines of the tenant that asks.
const OWN: usize = 10;

/// Measures.
/// Fails when a part refuses what it should grant, or is not ready in time.
pub(crate) async fn measure(steps: &[u32], course: &mut Course) -> Result<()> {
    let mut site = Site::start().await;
    let mut machines = Vec::new();
    for _ in 0..HOSTS {
        machines.extend(site.add_host(ON_A_HOST).await);
    }
    let own = &machines[..OWN];
    let mut tenants = 0;
    for &step in steps {
        let paths: Vec<_> = (tenants..step).map(folder).collect();
        let mut create = vec!["folder.create"];
        create.extend(paths.iter().map(String::as_str));
        site.vcenter.govc(&create);
        if tenants == 0 {
            let moved: Vec<_> = own.iter().map(|vm| format!("/DC0/vm/{}", vm.name)).collect();
            let mut r#move = vec!["object.mv"];
            r#move.extend(moved.iter().map(String::as_str));
            r#move.push(&paths[0]);
            site.vcenter.govc(&r#move);
        }
        tenants = step;
        for validate in [Validate::Live, Validate::Watched] {
            let (run, config) = site.config(validate);
            let config = config
                .with("#open_console = [\"admin\"]", "open_console = [\"admin\", \"member\"]")
                .with("\n[log]\n", &format!("\n{}\n[log]\n", blocks(step)?));
            let measured = Measured::start((run, config), machines.len()).await?;
            let caller = api_token(step - 1);
            let issues: Vec<_> = own.iter().map(|vm| issue(vm, &caller)).collect();
            let mut checks = Vec::new();
            let mut connection = Caller::connect(measured.public()).await?;
            for issue in &issues {
                checks.push(check(&token(connection.call(issue).await?)?));
            }
            let (public, internal) = ([measured.public()], [measured.internal()]);
            let lists = [list("limit=1000", &caller)];
            let all = [list("limit=1000&all_tenants=1", API_TOKEN)];
            let live = validate == Validate::Live;
            let watched = !live;
            for (heading, addresses, requests, count, connections, part, is_wanted) in [
                ("issue, CPU µs", &public, &issues[..], 60, 1, 1, live),
                ("check, live, CPU µs", &internal, &checks[..], 60, 1, 1, live),
                ("check, watched, CPU µs", &internal, &checks[..], 3_000, 16, 1, watched),
                ("a tenant's list of ten, CPU µs a machine", &public, &lists[..], 40, 1, OWN, live),
                ("an administrator's list, CPU µs a machine", &public, &all, 20, 1, 200, live),
            ] {
                if is_wanted {
                    let calls = Calls { addresses, requests, count, connections };
                    let cost = calls.cost(&[measured.id]).await?;
                    course.cost(step, heading, cost.cpu_us[0] / part as f64);
                }
            }
            if live {
                course.total(step, "memory, MiB", measured.mib()?);
            }
        }
    }
    Ok(())
}

/// The folder of a tenant. The first one's machines are those of every step's last tenant, whose block is the last.
fn folder(tenant: u32) -> String {
    format!("/DC0/vm/tenant-{tenant}")
}

fn api_token(tenant: u32) -> String {
    format!("growth-tenant-api-token-{tenant:012}")
}

/// What a configuration has of the tenants. The last of them has the folder with the machines, so that all others come
/// before it.
fn blocks(tenants: u32) -> Result<String> {
    let mut blocks = String::new();
    for tenant in 0..tenants {
        let folder = folder(tenants - 1 - tenant);
        write!(
            blocks,
            "[[auth.api_token]]\nname = \"tenant-{tenant}\"\nsha256 = \"{}\"\nroles = [\"member\"]\nproject = \
             \"project-{tenant}\"\n\n[[auth.project]]\nid = \"project-{tenant}\"\nvcenter = \"vcenter-a\"\nfolders = \
             [{folder:?}]\n\n",
            sha256(api_token(tenant).as_bytes()),
        )?;
    }
    Ok(blocks)
}
