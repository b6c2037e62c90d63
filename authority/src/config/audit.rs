//! `[audit]`: where a record of each console goes.

use super::section::Section;
use crate::audit::{AuditConfig, Target};
use rustix::fs::{Access, access};
use std::path::Path;

/// The value of `file` that is no path.
const STDOUT: &str = "stdout";

pub(super) fn read_audit(mut section: Section<'_>) -> Option<AuditConfig> {
    let is_set = section.has("file");
    let target = read_target(&mut section);
    let required = section.boolean_or("required", false);
    if required == Some(true) && !is_set {
        section.problem("required", "has no use without file");
    }
    let vcenter_events = section.boolean_or("vcenter_events", false);
    section.end();
    if is_set && target.is_none() {
        return None;
    }
    Some(AuditConfig { target, required: required?, vcenter_events: vcenter_events? })
}

fn read_target(section: &mut Section<'_>) -> Option<Target> {
    if section.is_text("file", STDOUT) {
        section.string("file")?;
        return Some(Target::Stdout);
    }
    let file = section.file("file")?;
    section.ok("file", check_file(&file))?;
    Some(Target::File(file))
}

/// Whether the file can be written to, or made. It is not made here: another user may be checking the configuration.
fn check_file(file: &Path) -> Result<(), String> {
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err("is a folder".to_owned()),
        Ok(_) => {
            return access(file, Access::WRITE_OK)
                .map_err(|error| format!("cannot be written to: {error}"));
        }
        Err(_) => {}
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("cannot be made in {}: {error}", folder.display()))
}
