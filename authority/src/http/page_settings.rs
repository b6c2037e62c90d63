//! What the operator has set for the console page.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The buttons of the page that an operator may leave out, by the ids of `console.html` with `_` for `-`.
pub const BUTTONS: [&str; 10] = [
    "ctrl_alt_del",
    "keys",
    "paste",
    "copy",
    "fit",
    "drag",
    "view_only",
    "picture",
    "full_screen",
    "settings",
];

/// `others`: what a person learns of others who have the same machine's console open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownOthers {
    /// Nothing.
    None,
    /// How many they are.
    #[default]
    Count,
    /// And the names of those who are Keystone users.
    Names,
}

/// `[page]`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageSettings {
    /// Stands before the machine's name.
    pub title: Option<String>,
    /// The page asks for it at a path of its own.
    #[serde(serialize_with = "is_some")]
    pub logo: Option<Logo>,
    /// The buttons of [`BUTTONS`] that the page has; all if absent.
    pub buttons: Option<Vec<String>>,
    /// Settings of the page, by the names of `settings.js`, until the person chooses others.
    pub defaults: BTreeMap<&'static str, String>,
    /// Those that the person cannot change.
    pub locked: Vec<String>,
    /// What the page shows of others, which it asks [`super::others`] for.
    #[serde(skip)]
    pub others: ShownOthers,
}

/// A picture that was read with the configuration.
#[derive(Clone, Debug)]
pub struct Logo {
    /// Its media type.
    pub content_type: &'static str,
    /// The file's content.
    pub bytes: Arc<[u8]>,
}

fn is_some<S: serde::Serializer>(logo: &Option<Logo>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(logo.is_some())
}
