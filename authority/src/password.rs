//! Passwords of the accounts that the authority logs in with, each in a file of its own.
//!
//! A file is read again at each login, so that a rotated password takes effect without a restart. A file that cannot be
//! used makes that one login fail; the next one reads it again.

use crate::text::{is_invisible, is_placeholder};
use rustix::fs::OFlags;
use secrecy::{ExposeSecret, SecretString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Largest password file, in bytes.
const FILE_LIMIT: u64 = 64 * 1024;

/// A file that holds a password and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordFile(PathBuf);

/// Why there is no password in a file. The reason names the file and shows nothing of its content.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct PasswordFileError(String);

impl PasswordFile {
    /// Names the file. It is not read yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the file, off the threads that answer requests.
    pub async fn read(&self) -> Result<SecretString, PasswordFileError> {
        let file = self.clone();
        let read = spawn_blocking(move || file.read_blocking()).await;
        read.unwrap_or_else(|error| Err(self.unreadable(&io::Error::other(error))))
    }

    /// Reads the file and refuses what nobody has as a password.
    pub fn read_blocking(&self) -> Result<SecretString, PasswordFileError> {
        let text = read_regular_file(&self.0).map_err(|error| self.unreadable(&error))?;
        // Editors end a file with a line break; no password does.
        let password = text.trim_end_matches(['\r', '\n']);
        // XML 1.0 cannot express most control characters.
        let reason = if password.is_empty() {
            "is empty"
        } else if password.contains(is_invisible) {
            "has a control character or another invisible character in the password"
        } else if password.trim() != password {
            "begins or ends with white space, which is taken as a part of the password"
        } else if is_placeholder(password) {
            "has a placeholder in it"
        } else {
            return Ok(password.into());
        };
        Err(PasswordFileError(format!("{} {reason}", self.0.display())))
    }

    /// A file that every Linux has, with one word in it.
    #[cfg(test)]
    pub(crate) fn any() -> Self {
        Self("/proc/sys/kernel/ostype".into())
    }

    fn unreadable(&self, error: &io::Error) -> PasswordFileError {
        PasswordFileError(format!("cannot read {}: {error}", self.0.display()))
    }
}

/// Refuses pipes and devices: they cannot be read a second time, and may never end or never begin.
fn read_regular_file(path: &Path) -> io::Result<String> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file, which every login reads again"));
    }
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("it is larger than {FILE_LIMIT} bytes")));
    }
    Ok(text)
}

/// A password that a server has refused. It is not shown again for a while, because servers lock accounts after a few
/// failures; another password is.
pub struct RefusedPassword {
    password: SecretString,
    until: Instant,
}

impl RefusedPassword {
    /// Refused just now, and not to be shown again within `pause`.
    pub fn new(password: SecretString, pause: Duration) -> Self {
        Self { password, until: Instant::now() + pause }
    }

    /// How long this password has to wait, if it is the one that was refused.
    pub fn pause_of(&self, password: &SecretString) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        let refused = self.password.expose_secret() == password.expose_secret();
        (refused && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_file_is_read_each_time_and_a_bad_one_is_told_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let file = PasswordFile::new(path.clone());
        assert!(file.read_blocking().unwrap_err().to_string().starts_with("cannot read "));
        for (content, expected) in [
            ("one", Ok("one")),
            ("", Err("is empty")),
            ("\n", Err("is empty")),
            ("p&ss<w>\r\n", Ok("p&ss<w>")),
            ("two\nlines", Err("has a control character")),
            (" three", Err("begins or ends with white space")),
            ("<your password>", Err("has a placeholder")),
            ("four", Ok("four")),
        ] {
            fs::write(&path, content).unwrap();
            match (file.read_blocking(), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read.expose_secret(), expected),
                (Err(error), Err(expected)) => {
                    let told = format!("{} {expected}", path.display());
                    assert!(error.to_string().starts_with(&told), "{error}");
                    assert!(content.trim().is_empty() || !error.to_string().contains(content));
                }
                (read, _) => panic!("{content:?}: {}", read.is_ok()),
            }
        }
        fs::write(&path, "x".repeat(70_000)).unwrap();
        let told = file.read_blocking().unwrap_err().to_string();
        assert!(told.ends_with("it is larger than 65536 bytes"), "{told}");
    }

    #[tokio::test]
    async fn what_cannot_be_read_twice_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let told = PasswordFile::new(path.to_owned()).read().await.unwrap_err().to_string();
            assert!(told.contains("it is not a regular file"), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_password_waits_and_another_one_does_not() {
        let refused = RefusedPassword::new("old".into(), Duration::from_secs(60));
        assert_eq!(refused.pause_of(&"old".into()), Some(Duration::from_secs(60)));
        assert_eq!(refused.pause_of(&"new".into()), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(refused.pause_of(&"old".into()), None);
    }
}
