//! A day as Markdown.

use crate::day::{Day, Phase};
use crate::fleet::ON_A_HOST;
use std::fmt::{self, Write};
use vncgate_load::results::Environment;

/// Everything: what ran on what, and what each phase took.
pub(crate) fn markdown(day: &Day) -> String {
    let mut text = String::new();
    write(&mut text, day).expect("a String takes every text");
    text
}

fn write(text: &mut String, day: &Day) -> fmt::Result {
    let Environment { machine, versions, .. } = &day.environment;
    let arguments = day.arguments;
    writeln!(text, "# A day of a fleet\n")?;
    writeln!(
        text,
        "Measured on {}, {machine}; vncgate {}.\n",
        day.environment.day(),
        versions.get("vncgate").map_or("", String::as_str),
    )?;
    writeln!(
        text,
        "One authority (`validate = \"{}\"`) and one Redis; {} vCenters (vcsim) with {} machines each; {} gateway workers, \
         simulated by the filter's own code; {} consoles. All of them and the load share the machine's cores, so a phase \
         takes longer than on machines of their own; the CPU seconds are each part's own. `just fleet` makes this file anew.\n",
        arguments.validate.as_str(),
        arguments.vcenters,
        usize::from(arguments.hosts) * ON_A_HOST,
        arguments.workers,
        arguments.sessions,
    )?;
    writeln!(
        text,
        "| phase | seconds | authority, CPU s | per event | Redis, CPU s | vCenters, CPU s | calls of vCenter | reports (failed) \
         | authority, MiB | Redis, MiB | consoles at the end |"
    )?;
    writeln!(text, "|---|{}", "---|".repeat(10))?;
    for phase in &day.phases {
        write_phase(text, phase)?;
    }
    writeln!(text)?;
    for phase in day.phases.iter().filter(|phase| !phase.notes.is_empty()) {
        writeln!(text, "- {}: {}.", phase.title, phase.notes)?;
    }
    Ok(())
}

fn write_phase(text: &mut String, phase: &Phase) -> fmt::Result {
    let spent = &phase.spent;
    let per_event = phase.events.map_or_else(String::new, |(count, unit)| {
        format!("{:.0} µs a {unit}", spent.authority * 1e6 / count as f64)
    });
    let events =
        phase.events.map_or_else(String::new, |(count, unit)| format!(" ({count} × {unit})"));
    writeln!(
        text,
        "| {}{events} | {:.1} | {:.2} | {per_event} | {:.2} | {:.1} | {:.0} | {} ({}) | {:.0} | {:.0} | {} |",
        phase.title,
        spent.seconds,
        spent.authority,
        spent.redis,
        spent.vcenters,
        spent.vcenter_calls,
        spent.reports,
        spent.failed_reports,
        spent.authority_mib,
        spent.redis_mib,
        spent.sessions,
    )
}
