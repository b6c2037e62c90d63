//! Flavors: vCenter has none, so they are the shapes that machines have, a number of processors and memory.

use super::call::Call;
use super::microversion::Microversion;
use super::parameters::{Paging, Parameters, invalid};
use super::schema::python;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::identity::policy::Right;
use crate::vcenter::machine::VirtualMachine;
use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// From this version on flavors have a description.
const DESCRIPTION: Microversion = Microversion::new(55);
/// From this version on flavors show their extra specs.
const EXTRA_SPECS: Microversion = Microversion::new(61);
/// From this version on the swap of a flavor without any is a number.
const NUMERIC_SWAP: Microversion = Microversion::new(75);
/// From this version on unknown parameters of lists are refused.
const STRICT_LISTS: Microversion = Microversion::new(75);
/// From this version on two outdated properties are gone, lists have a filter by name, and unknown parameters are refused.
const CLEANED_UP: Microversion = Microversion::new(102);

/// nova's sort keys of flavors, and whether `CLEANED_UP` has them.
const SORT_KEYS: [(&str, bool); 14] = [
    ("created_at", true),
    ("description", true),
    ("disabled", true),
    ("ephemeral_gb", true),
    ("flavorid", true),
    ("id", true),
    ("is_public", true),
    ("memory_mb", true),
    ("name", true),
    ("root_gb", true),
    ("rxtx_factor", false),
    ("swap", true),
    ("updated_at", true),
    ("vcpus", true),
];

/// What a machine's flavor is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    vcpus: u32,
    memory_mib: u32,
}

impl Shape {
    /// The shape of this machine.
    pub(super) fn of(machine: &VirtualMachine) -> Self {
        Self { vcpus: machine.vcpus, memory_mib: machine.memory_mib }
    }

    /// The flavor's identifier, `vcenter-2-4096`.
    pub(super) fn id(self) -> String {
        format!("vcenter-{}-{}", self.vcpus, self.memory_mib)
    }

    /// Reads the identifier. `None` for one that [`Self::id`] does not write.
    fn parse(id: &str) -> Option<Self> {
        let (vcpus, memory_mib) = id.strip_prefix("vcenter-")?.split_once('-')?;
        let shape = Self { vcpus: vcpus.parse().ok()?, memory_mib: memory_mib.parse().ok()? };
        (shape.id() == id).then_some(shape)
    }

    /// Identifier and links, as servers show their flavor before version 2.47.
    pub(super) fn reference(self, call: &Call) -> Value {
        json!({"id": self.id(), "links": [{"rel": "bookmark", "href": call.bookmark(&self.path())}]})
    }

    /// What the flavor gave a server, as servers show it since version 2.47.
    pub(super) fn embedded(self) -> Value {
        json!({
            "original_name": self.to_string(),
            "vcpus": self.vcpus,
            "ram": self.memory_mib,
            "disk": 0,
            "ephemeral": 0,
            "swap": 0,
            "extra_specs": {},
        })
    }

    fn brief(self, call: &Call) -> Value {
        let path = self.path();
        let links = json!([
            {"rel": "self", "href": call.link(&path)},
            {"rel": "bookmark", "href": call.bookmark(&path)},
        ]);
        let mut document = json!({"id": self.id(), "name": self.to_string(), "links": links});
        if call.version >= DESCRIPTION {
            document["description"] = Value::Null;
        }
        document
    }

    fn detailed(self, call: &Call) -> Value {
        let mut document = self.brief(call);
        document["vcpus"] = json!(self.vcpus);
        document["ram"] = json!(self.memory_mib);
        document["disk"] = json!(0);
        document["OS-FLV-EXT-DATA:ephemeral"] = json!(0);
        document["swap"] = if call.version >= NUMERIC_SWAP { json!(0) } else { json!("") };
        document["os-flavor-access:is_public"] = json!(true);
        if call.version < CLEANED_UP {
            document["OS-FLV-DISABLED:disabled"] = json!(false);
            document["rxtx_factor"] = json!(1.0);
        }
        if call.version >= EXTRA_SPECS {
            document["extra_specs"] = json!({});
        }
        document
    }

    fn path(self) -> String {
        format!("/flavors/{}", self.id())
    }
}

impl fmt::Display for Shape {
    /// The flavor's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPU, {} MiB", self.vcpus, self.memory_mib)
    }
}

#[derive(Deserialize)]
pub(super) struct FlavorPath {
    id: String,
}

/// `GET /flavors`.
pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    list(&app, &call, query, "/flavors", Shape::brief).await
}

/// `GET /flavors/detail`.
pub(super) async fn detail(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    list(&app, &call, query, "/flavors/detail", Shape::detailed).await
}

/// `GET /flavors/{id}`: of any shape, since the shape is all that a flavor is.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(FlavorPath { id }): Path<FlavorPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    app.authorize(&call.caller, Right::ViewConsole, "os_compute_api:flavors")?;
    Parameters::parse(query.as_deref())?.only(|_| false, call.version, CLEANED_UP)?;
    Ok(Json(json!({"flavor": known(&id)?.detailed(&call)})))
}

/// `GET /flavors/{id}/os-extra_specs`.
pub(super) async fn extra_specs(
    State(app): State<Arc<App>>,
    Extension(call): Extension<Call>,
    Path(FlavorPath { id }): Path<FlavorPath>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let rule = "os_compute_api:os-flavor-extra-specs:index";
    app.authorize(&call.caller, Right::ViewConsole, rule)?;
    Parameters::parse(query.as_deref())?.only(|_| false, call.version, CLEANED_UP)?;
    known(&id)?;
    Ok(Json(json!({"extra_specs": {}})))
}

fn known(id: &str) -> Result<Shape, ApiError> {
    Shape::parse(id)
        .ok_or_else(|| ApiError::item_not_found(format!("Flavor {id} could not be found.")))
}

async fn list(
    app: &App,
    call: &Call,
    query: Option<String>,
    path: &str,
    show: impl Fn(Shape, &Call) -> Value,
) -> Result<Json<Value>, ApiError> {
    let scope = app.authorize(&call.caller, Right::ViewConsole, "os_compute_api:flavors")?;
    let parameters = Parameters::parse(query.as_deref())?;
    let wanted = Wanted::parse(&parameters, call.version)?;
    let paging = parameters.paging()?;
    let shapes = Arc::<Mutex<BTreeSet<Shape>>>::default();
    let seen = Arc::clone(&shapes);
    // One machine of each shape is enough.
    let is_new = move |machine: &VirtualMachine| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(Shape::of(machine))
    };
    let (located, failed) = app.consoles.vcenters().list(scope, is_new).await;
    if let ([], [(_, error), ..]) = (&located[..], &failed[..]) {
        return Err(ApiError::of_vcenter(error));
    }
    let mut shapes: Vec<Shape> =
        shapes.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    wanted.sort(&mut shapes);
    if let Some(marker) = &paging.marker {
        // A shape that the last machine of it has lost still has its place.
        let marker = Shape::parse(marker).ok_or_else(|| Paging::unknown(marker))?;
        shapes.retain(|shape| wanted.compare(*shape, marker).is_gt());
    }
    shapes.retain(|shape| wanted.has(*shape));
    let next = paging.cut(&mut shapes, |shape| shape.id(), call, path);
    let shown: Vec<Value> = shapes.into_iter().map(|shape| show(shape, call)).collect();
    let mut document = json!({"flavors": shown});
    if let Some(href) = next {
        document["flavors_links"] = json!([{"rel": "next", "href": href}]);
    }
    Ok(Json(document))
}

/// Which flavors are asked for, and in which order.
struct Wanted {
    least_memory: u32,
    /// Whether a flavor without a disk is one of them.
    without_disk: bool,
    public: bool,
    name: Option<String>,
    by_memory: bool,
    descending: bool,
}

impl Wanted {
    fn parse(parameters: &Parameters, version: Microversion) -> Result<Self, ApiError> {
        const KNOWN: [&str; 7] =
            ["limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"];
        let cleaned_up = version >= CLEANED_UP;
        let known = |name: &str| KNOWN.contains(&name) || (cleaned_up && name == "name");
        parameters.only(known, version, STRICT_LISTS)?;
        let number = |name: &str| match parameters.last(name) {
            None => Ok(0),
            Some(text) => text
                .parse::<u32>()
                .map_err(|_| ApiError::bad_request(format!("Invalid {name} filter [{text}]"))),
        };
        let sort_keys = SORT_KEYS.iter().filter(|(_, stays)| *stays || !cleaned_up);
        let sort_keys: Vec<&str> = sort_keys.map(|(key, _)| *key).collect();
        for (name, choices) in [("sort_key", &sort_keys[..]), ("sort_dir", &["asc", "desc"])] {
            if let Some(value) = parameters.all(name).find(|value| !choices.contains(value)) {
                let choices = python(&Value::from(choices.to_vec()));
                return Err(invalid(name, value, &format!("is not one of {choices}")));
            }
        }
        let sort_key = parameters.all("sort_key").next();
        Ok(Self {
            least_memory: number("minRam")?,
            without_disk: number("minDisk")? == 0,
            public: is_public(parameters.last("is_public"))?,
            name: parameters.last("name").filter(|_| cleaned_up).map(str::to_owned),
            by_memory: sort_key == Some("memory_mb"),
            descending: parameters.all("sort_dir").next() == Some("desc"),
        })
    }

    fn has(&self, shape: Shape) -> bool {
        self.public
            && self.without_disk
            && shape.memory_mib >= self.least_memory
            && self.name.as_ref().is_none_or(|name| shape.to_string().contains(name))
    }

    fn sort(&self, shapes: &mut [Shape]) {
        shapes.sort_by(|a, b| self.compare(*a, *b));
    }

    fn compare(&self, a: Shape, b: Shape) -> std::cmp::Ordering {
        // By number of processors and memory, which is also the order of names as people read them.
        let by_memory = || (a.memory_mib, a.vcpus).cmp(&(b.memory_mib, b.vcpus));
        let ordering = if self.by_memory { by_memory() } else { a.cmp(&b) };
        if self.descending { ordering.reverse() } else { ordering }
    }
}

/// Whether flavors that everybody may use are asked for: all of them are.
fn is_public(text: Option<&str>) -> Result<bool, ApiError> {
    let Some(text) = text else { return Ok(true) };
    match text.to_ascii_lowercase().as_str() {
        "none" | "t" | "true" | "on" | "y" | "yes" | "1" => Ok(true),
        "f" | "false" | "off" | "n" | "no" | "0" => Ok(false),
        _ => Err(ApiError::bad_request(format!("Invalid is_public filter [{text}]"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavor_is_known_by_the_identifier_that_it_is_shown_with() {
        let shape = Shape { vcpus: 2, memory_mib: 4096 };
        assert_eq!(
            (shape.id(), shape.to_string()),
            ("vcenter-2-4096".into(), "2 vCPU, 4096 MiB".into())
        );
        assert_eq!(Shape::parse("vcenter-2-4096"), Some(shape));
        for other in [
            "",
            "1",
            "vcenter-2",
            "vcenter-02-4096",
            "vcenter--2-4096",
            "vcenter-2-4096 ",
            "vcenter-+2-1",
        ] {
            assert_eq!(Shape::parse(other), None, "{other}");
        }
    }
}
