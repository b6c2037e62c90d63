//! `[page]`: the console page as the operator wants it.

use super::section::Section;
use crate::http::page_settings::{BUTTONS, Logo, PageSettings, ShownOthers};
use crate::http::pages::{has_language, has_layout};
use std::fs;
use std::path::Path;

/// Largest logo, in bytes: it is loaded by each browser.
const LOGO_LIMIT: usize = 256 * 1024;

/// The settings of the page with an operator's default, which can be locked.
const SETTINGS: [&str; 4] = ["language", "keyboard", "layout", "resize"];

pub(super) fn read_page(mut section: Section<'_>) -> PageSettings {
    let mut page = PageSettings { title: section.string("title"), ..PageSettings::default() };
    if let Some(path) = section.file("logo") {
        page.logo = section.ok("logo", read_logo(&path));
    }
    if section.has("buttons") {
        page.buttons = section.strings("buttons");
        for unknown in page.buttons.iter().flatten().filter(|name| !BUTTONS.contains(&&***name)) {
            section.problem("buttons", format!("{unknown:?} is none of {}", BUTTONS.join(", ")));
        }
    }
    let defaults = [
        ("language", section.string("language")),
        ("keyboard", section.string("keyboard")),
        ("layout", section.string("layout")),
        ("resize", section.string("resize")),
    ];
    for (name, value) in defaults {
        let Some(value) = value else { continue };
        match check_setting(name, &value) {
            Ok(()) => {
                page.defaults.insert(name, value);
            }
            Err(reason) => section.problem(name, reason),
        }
    }
    page.locked = section.strings("locked").unwrap_or_default();
    for unknown in page.locked.iter().filter(|name| !SETTINGS.contains(&&***name)) {
        section.problem("locked", format!("{unknown:?} is none of {}", SETTINGS.join(", ")));
    }
    if let Some(others) = section.string("others") {
        page.others = match &*others {
            "none" => ShownOthers::None,
            "count" => ShownOthers::Count,
            "names" => ShownOthers::Names,
            _ => {
                let reason = format!("must be one of none, count, names, not {others:?}");
                section.problem("others", reason);
                ShownOthers::None
            }
        };
    }
    section.end();
    page
}

fn check_setting(name: &str, value: &str) -> Result<(), String> {
    let one_of = |allowed: &[&str]| match allowed.contains(&value) {
        true => Ok(()),
        false => Err(format!("must be one of {}, not {value:?}", allowed.join(", "))),
    };
    match name {
        "language" if has_language(value) => Ok(()),
        "language" => Err(format!("the page does not speak {value:?}")),
        "layout" if has_layout(value) => Ok(()),
        "layout" => Err(format!("the page has no table of the layout {value:?}")),
        "keyboard" => one_of(&["keysyms", "positions"]),
        _ => one_of(&["scale", "off", "remote"]),
    }
}

fn read_logo(path: &Path) -> Result<Logo, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let content_type = match extension {
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        _ => return Err("must be a file whose name ends with .svg, .png, .jpg or .webp".to_owned()),
    };
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() > LOGO_LIMIT {
        return Err(format!("is larger than {} KiB", LOGO_LIMIT / 1024));
    }
    Ok(Logo { content_type, bytes: bytes.into() })
}
