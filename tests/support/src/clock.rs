//! A clock of a test's own for a program that it starts, by libfaketime. Timers and timeouts go by the monotonic clock,
//! which stays as it is.

use crate::process::Run;
use std::path::{Path, PathBuf};

/// A clock that can be set while programs run by it.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right.
    ///
    /// # Panics
    ///
    /// Without Debian's package `faketime`.
    pub fn new(run: &Run) -> Self {
        let library =
            format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        let library = Path::new(&library).to_owned();
        assert!(library.exists(), "{} is missing: `./justw _debian faketime`", library.display());
        let clock = Self { file: run.path("clock"), library };
        clock.set(0);
        clock
    }

    /// From now on it is so many seconds ahead of the machine's.
    pub fn set(&self, ahead: i64) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{ahead:+}\n")).expect("write the clock's file");
        // It is read at each look at the clock.
        std::fs::rename(next, &self.file).expect("put it in its place");
    }

    /// What a program that is to run by it finds in its environment.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}
