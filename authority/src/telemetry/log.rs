//! Logs on standard error.

use prometheus_client::metrics::counter::Counter;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::filter::{Filtered, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// What to log, `info` or `info,vncgate_authority=debug`.
    pub level: Targets,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What takes spans and events.
pub type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The running log.
pub struct Log {
    handle: Handle<Filtered<BoxedLayer, Targets, Registry>, Registry>,
    lost_lines: Counter,
}

/// Starts logging to standard error. Lines that cannot be written are counted in `lost_lines` and dropped. `traces` gets the
/// same spans and events. Fails if something else in the process already logs.
pub fn start_logging(
    config: &LogConfig,
    lost_lines: Counter,
    traces: Option<BoxedLayer>,
) -> Result<Log, TryInitError> {
    let layer = layer(config.format, &lost_lines).with_filter(config.level.clone());
    let (layer, handle) = reload::Layer::new(layer);
    let mut layers = vec![layer.boxed()];
    layers.extend(traces);
    tracing_subscriber::registry().with(layers).try_init()?;
    Ok(Log { handle, lost_lines })
}

impl Log {
    /// Logs by another configuration from now on.
    pub fn configure(&self, config: &LogConfig) {
        let layer = layer(config.format, &self.lost_lines);
        let changed = self.handle.modify(|filtered| {
            *filtered.inner_mut() = layer;
            *filtered.filter_mut() = config.level.clone();
        });
        changed.expect("the log lives as long as the process, and no change of it panics");
    }
}

fn layer(format: LogFormat, lost_lines: &Counter) -> BoxedLayer {
    let lines = Lines { lost: lost_lines.clone() };
    // Its own message about an error would go to standard error as well, and panic there.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(lines);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Whether the last line on standard error has no end, because the disk was full in the middle of it.
static TORN: AtomicBool = AtomicBool::new(false);

/// Writes lines to standard error, and counts those that it cannot write.
struct Lines {
    lost: Counter,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Writes a whole line or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if write_line(&mut io::stderr().lock(), &TORN, line).is_err() {
            self.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line. After one that was cut off begins a new one, so that a reader of lines loses no other.
fn write_line(output: &mut impl Write, torn: &AtomicBool, line: &[u8]) -> io::Result<()> {
    if torn.load(Ordering::Relaxed) {
        output.write_all(b"\n")?;
        torn.store(false, Ordering::Relaxed);
    }
    let mut rest = line;
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                torn.store(rest.len() < line.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.written.len());
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend(&bytes[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let mut disk = Disk { written: Vec::new(), room: 8 };
        let torn = AtomicBool::new(false);
        write_line(&mut disk, &torn, b"one\n").unwrap();
        for _ in 0..2 {
            let error = write_line(&mut disk, &torn, b"second\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
        disk.room = 100;
        write_line(&mut disk, &torn, b"three\n").unwrap();
        write_line(&mut disk, &torn, b"four\n").unwrap();
        assert_eq!(disk.written, b"one\nseco\nthree\nfour\n");
    }
}
