//! Where records are written: a file, a pipe or standard output.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may read a new file: its owner and group. It has people's names and addresses.
const MODE: u32 = 0o640;

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output, which nothing else of the process is written to.
    Stdout,
    /// A file or a named pipe.
    File(PathBuf),
}

/// An open target.
pub(super) struct Output {
    file: File,
    /// Whether it is a file on a disk, which can be removed and has to be synchronized.
    is_regular: bool,
    /// The rest of a line that was written in part. It has to follow before anything else.
    rest: Vec<u8>,
}

impl Output {
    /// Opens it without waiting: a named pipe without a reader is an error.
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        let file = match target {
            Target::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            Target::File(path) => {
                // A terminal is not to become the process's own.
                let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(MODE)
                    .custom_flags(flags.bits().cast_signed())
                    .open(path)?
            }
        };
        let is_regular = file.metadata()?.is_file();
        let mut output = Self { file, is_regular, rest: Vec::new() };
        if let Target::File(path) = target
            && is_regular
            && ends_within_a_line(path)
        {
            output.rest = b"\n".to_vec();
        }
        Ok(output)
    }

    /// Whether the file was removed, so that what is written to it is lost.
    pub(super) fn is_removed(&self) -> bool {
        self.is_regular && self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Writes what is left of the last line.
    pub(super) fn finish_line(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.file.write(&self.rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.rest.drain(..written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a whole line, or returns the error and whether it was begun. [`Self::finish_line`] goes on with one that was
    /// begun.
    pub(super) fn write_line(&mut self, line: &[u8]) -> Result<(), (io::Error, bool)> {
        self.finish_line().map_err(|error| (error, false))?;
        self.rest.extend_from_slice(line);
        self.finish_line().map_err(|error| {
            let begun = self.rest.len() < line.len();
            if !begun {
                self.rest.clear();
            }
            (error, begun)
        })
    }

    /// Waits until the disk has what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
    }
}

/// Whether the last line of a file has no end, because a process was killed or a disk was full in the middle of it.
fn ends_within_a_line(path: &Path) -> bool {
    let last = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte).map(|()| byte)
    };
    // An empty file has no last byte. One that may not be read can have got nothing but whole lines, as far as is known.
    last().is_ok_and(|byte: [u8; 1]| byte != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mkfifoat};
    use std::fs;

    #[test]
    fn a_file_that_ends_within_a_line_gets_its_end_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for (before, after) in [("", "{}\n"), ("{\"a\"", "{\"a\"\n{}\n"), ("{}\n", "{}\n{}\n")] {
            fs::write(&path, before).unwrap();
            Output::open(&Target::File(path.clone())).unwrap().write_line(b"{}\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after, "{before}");
        }
    }

    #[test]
    fn a_pipe_is_neither_waited_for_nor_blocked_by() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        let target = Target::File(path.clone());
        assert!(Output::open(&target).is_err(), "without a reader");
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let mut output = Output::open(&target).unwrap();
        // Longer than what the kernel writes at once or not at all (pipe(7), PIPE_BUF).
        let line = [&b"x".repeat(5000)[..], b"\n"].concat();
        let mut begun = 0;
        let failure = loop {
            match output.write_line(&line) {
                Ok(()) => begun += 1,
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.0.kind(), io::ErrorKind::WouldBlock);
        begun += usize::from(failure.1);
        let mut read = Vec::new();
        for _ in 0..2 {
            let mut part = vec![0; 1 << 20];
            let length = reader.read(&mut part).unwrap();
            read.extend_from_slice(&part[..length]);
            output.finish_line().unwrap();
        }
        assert_eq!(read, line.repeat(begun), "a line that was begun is finished, once");
        output.sync().unwrap();
    }

    #[test]
    fn a_file_that_was_removed_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let output = Output::open(&Target::File(path.clone())).unwrap();
        assert!(!output.is_removed());
        fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
        assert!(!output.is_removed(), "logrotate has renamed it");
        fs::remove_file(folder.path().join("audit.jsonl.1")).unwrap();
        assert!(output.is_removed());
    }
}
