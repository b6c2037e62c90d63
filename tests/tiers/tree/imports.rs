//! Which file of a crate imports from which, read by `syn` from every path in it.
//!
//! Tests are left out, and so are re-exports (`pub use`), which give a name to the outside and use nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree, Visibility};

/// A module by its path below the crate, `["vcenter", "soap"]`; the crate itself is empty.
type Module = Vec<String>;

/// The files of one crate and what each imports from the others.
pub(crate) struct Imports(BTreeMap<Module, BTreeSet<Module>>);

impl Imports {
    /// Reads all sources below this `src` folder, but for `main.rs`, which is a crate of its own.
    ///
    /// # Panics
    /// When a file cannot be read or is not Rust.
    pub(crate) fn of(sources: &Path) -> Self {
        let mut files = Vec::new();
        collect(sources, &mut files);
        let modules: BTreeMap<Module, PathBuf> =
            files.into_iter().map(|file| (module_of(sources, &file), file)).collect();
        let imports = modules.iter().map(|(module, file)| {
            let text = std::fs::read_to_string(file).expect("a source file");
            let syntax = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let mut reader = Reader { module, modules: &modules, imported: BTreeSet::new() };
            reader.visit_file(&syntax);
            reader.imported.remove(module);
            (module.clone(), reader.imported)
        });
        Self(imports.collect())
    }

    /// Groups of files each of which imports, by way of the others, itself.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> =
            self.0.keys().map(|module| (module, self.reached_from(module))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in &reach {
            if reached.contains(module) {
                let mutual = reached.iter().filter(|other| reach[**other].contains(module));
                circles.insert(mutual.map(|other| other.join("::")).collect::<Vec<_>>());
            }
        }
        circles.into_iter().collect()
    }

    /// Whether a file of the top-level module `from` imports from one of `to`.
    pub(crate) fn has(&self, from: &str, to: &str) -> bool {
        self.imported(from).iter().any(|name| name == to)
    }

    /// The other top-level modules that import from this one.
    pub(crate) fn importers(&self, of: &str) -> Vec<String> {
        let tops: BTreeSet<&String> = self.0.keys().filter_map(|module| module.first()).collect();
        tops.into_iter().filter(|top| *top != of && self.has(top, of)).cloned().collect()
    }

    /// The other top-level modules that this one imports from.
    pub(crate) fn imported(&self, by: &str) -> Vec<String> {
        let own = self.0.iter().filter(|(module, _)| module.first().is_some_and(|top| top == by));
        let tops = own.flat_map(|(_, imported)| imported).filter_map(|module| module.first());
        tops.filter(|top| *top != by).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    fn reached_from<'a>(&'a self, module: &'a Module) -> BTreeSet<&'a Module> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&Module> = self.0[module].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(&self.0[module]);
            }
        }
        reached
    }
}

/// Collects the module that each path in a file leads to.
struct Reader<'a> {
    module: &'a Module,
    modules: &'a BTreeMap<Module, PathBuf>,
    imported: BTreeSet<Module>,
}

impl Reader<'_> {
    /// The file that a path leads into, if it is one of this crate.
    fn add(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let mut module = self.module.clone();
        let rest = match first.as_str() {
            "crate" => {
                module.clear();
                &path[1..]
            }
            "self" => &path[1..],
            "super" => {
                let levels = path.iter().take_while(|segment| *segment == "super").count();
                module.truncate(module.len().saturating_sub(levels));
                &path[levels..]
            }
            _ => {
                module.push(first.clone());
                if !self.modules.contains_key(&module) {
                    return;
                }
                &path[1..]
            }
        };
        for segment in rest {
            module.push(segment.clone());
            if !self.modules.contains_key(&module) {
                module.pop();
                break;
            }
        }
        self.imported.insert(module);
    }

    fn add_tree(&mut self, prefix: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.add_tree(prefix, tree));
            }
            UseTree::Name(name) if name.ident == "self" => self.add(prefix),
            UseTree::Name(name) => self.add(&with(&name.ident)),
            UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            UseTree::Glob(_) => self.add(prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if matches!(item.vis, Visibility::Inherited) && !is_for_tests(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    /// `pub(in PATH)` says who may import, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A path of one segment names what is imported or here already.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string());
            self.add(&segments.collect::<Vec<_>>());
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// All `.rs` files below a folder that are not tests.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["main", "tests", "testing"].contains(&name)
        {
            files.push(path);
        }
    }
}

/// `vcenter/soap/mod.rs` and `vcenter/soap.rs` are both `["vcenter", "soap"]`.
fn module_of(sources: &Path, file: &Path) -> Module {
    let below = file.strip_prefix(sources).expect("a file below the sources").with_extension("");
    let mut module: Module =
        below.iter().map(|part| part.to_str().expect("a name in UTF-8").to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    module
}
