//! What a running process keeps from its start: its sockets, the store with the tokens that it has issued, and the
//! collector of its traces.

use std::collections::BTreeSet;
use toml::{Table, Value};

const TABLES: [&str; 3] = ["listen", "tokens", "traces"];

/// `[listen]`, `[tokens]` and `[traces]` as they are written.
#[derive(Clone, Debug)]
pub struct FixedTables([Table; 3]);

impl FixedTables {
    pub(super) fn of(root: &Table) -> Self {
        let table = |name| root.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
        Self(TABLES.map(table))
    }

    /// A problem for each key whose value is not that of the `running` configuration.
    pub fn problems(&self, running: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, (new, running)) in TABLES.into_iter().zip(self.0.iter().zip(&running.0)) {
            let keys: BTreeSet<&String> = new.keys().chain(running.keys()).collect();
            for key in keys.into_iter().filter(|&key| new.get(key) != running.get(key)) {
                problems.push(format!("{name}.{key}: needs a restart to change"));
            }
        }
        problems
    }
}
