//! Children that cannot outlive the tests, with their output in files that a failure shows.

use crate::wait::POLL_INTERVAL;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// How long any part may take to start. Envoy compiles the filter meanwhile, on a machine that may be
/// busy with a build.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// How much of a log a failing test shows, in bytes from its end.
const SHOWN_LOG: usize = 8 * 1024;

/// The directory below `.run/` that holds the files of one run: configurations, keys, logs.
///
/// It is removed when its last user is dropped. After a failure it is kept, with its path printed, until
/// the next run.
#[derive(Clone, Debug)]
pub struct Run(Arc<RunDirectory>);

#[derive(Debug)]
struct RunDirectory {
    directory: TempDir,
    /// Held as long as the directory is in use. Unlike a process id it says so in other PID namespaces, too.
    _lock: File,
}

impl Run {
    /// Makes a directory whose name starts with `name`.
    pub fn new(name: &str) -> Self {
        let runs = crate::workspace::checkout().join(".run");
        fs::create_dir_all(&runs).expect("make .run/ in the checkout");
        // Between being made and being locked a directory looks like one of a run that has ended.
        let _lock_of_all = locked(&runs);
        remove_ended(&runs);
        let prefix = format!("{name}-{}-", std::process::id());
        let directory = TempDir::with_prefix_in(prefix, runs).expect("make a run directory");
        let lock = locked(directory.path());
        Self(Arc::new(RunDirectory { directory, _lock: lock }))
    }

    /// The path of `name` in this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.directory.path().join(name)
    }

    /// Writes a file of this run and returns its path.
    ///
    /// A part that reads it meanwhile reads all of what was there before or all of what is there now. The mode of a file
    /// that is there stays as it is.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        self.replace(&path, content.as_ref())
            .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        path
    }

    fn replace(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        let mode = fs::metadata(path).map_or(0o644, |there| there.permissions().mode());
        // In the run's own folder: some parts take every file of a folder below it for theirs.
        let mut file = NamedTempFile::new_in(self.0.directory.path())?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok(())
    }
}

/// Removes the directories `NAME-PID-RANDOM` of processes that are gone: of failures, and of parts that
/// all tests of a process share and that are never dropped.
fn remove_ended(runs: &Path) {
    for entry in fs::read_dir(runs).expect("list .run/").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.rsplit('-').nth(1).is_none_or(|id| id.parse::<u32>().is_err()) {
            continue;
        }
        // It may be gone by now: a run that ends removes its own.
        let Ok(directory) = File::open(entry.path()) else { continue };
        if directory.try_lock().is_ok() {
            // What containers have mounted or made immutable stays for a person to look at.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens a directory and waits until no other process has it locked.
fn locked(directory: &Path) -> File {
    let opened = File::open(directory).and_then(|file| file.lock().map(|()| file));
    opened.unwrap_or_else(|error| panic!("lock {}: {error}", directory.display()))
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for inspection: {}", self.directory.path().display());
            self.directory.disable_cleanup(true);
        }
    }
}

/// A running child. Killed when dropped, and by the kernel when this process ends in any other way.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    /// Keeps the log files as long as the child may write to them.
    _run: Run,
}

impl Process {
    /// Starts `command` with its output in `NAME.stdout` and `NAME.stderr` of the run.
    pub fn start(run: &Run, name: &str, command: &Command) -> Self {
        let stdout = run.path(&format!("{name}.stdout"));
        let stderr = run.path(&format!("{name}.stderr"));
        let mut command = dying_with_parent(command);
        command.stdin(Stdio::null()).stdout(appending(&stdout)).stderr(appending(&stderr));
        let child = spawn(command).unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), child, stdout, stderr, _run: run.clone() }
    }

    /// Waits until `ready` answers something.
    ///
    /// # Panics
    ///
    /// With the child's log when it ends first, or when [`START_LIMIT`] is over.
    pub async fn ready<T>(&mut self, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(answer) = ready().await {
                return answer;
            }
            if let Some(status) = self.child.try_wait().expect("ask for the child's status") {
                panic!("{} ended while starting: {status}", self.name);
            }
            assert!(Instant::now() < deadline, "{} is not ready after {START_LIMIT:?}", self.name);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The lines that the child has written to standard output.
    pub fn stdout(&self) -> String {
        read_lines(&self.stdout)
    }

    /// The lines that the child has written to standard error.
    pub fn stderr(&self) -> String {
        read_lines(&self.stderr)
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops the child, and returns when all of its threads have stopped: a signal is taken when a thread is
    /// next scheduled, and until then it may answer.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let is_stopped = |thread: &Path| {
            // proc(5): the state follows the name, which may hold anything up to the last parenthesis. A thread
            // that has ended meanwhile has stopped, too.
            let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        };
        let all_stopped = || {
            let threads = fs::read_dir(&threads).expect("list the child's threads");
            threads.flatten().all(|thread| is_stopped(&thread.path()))
        };
        while !all_stopped() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the child go on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids fit");
        signal::kill(Pid::from_raw(id), signal)
            .unwrap_or_else(|error| panic!("send {signal} to {}: {error}", self.name));
    }

    /// Whether the child has ended, and how.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask for the child's status")
    }

    /// Ends the child at once and waits for it.
    pub fn kill(&mut self) {
        // Fails only when the child has been waited for already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            for log in [&self.stdout, &self.stderr] {
                eprintln!("--- end of {}\n{}", log.display(), tail(&read_log(log)));
            }
        }
    }
}

/// Runs a command to its end and returns its standard output.
///
/// # Panics
///
/// With its standard error when it fails.
pub fn run_to_end(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("its output is text")
}

/// The same command under util-linux's `setpriv`, which has the kernel kill it with its parent: a test
/// runner that is itself killed leaves nothing behind.
fn dying_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

/// Starts children from a thread that lives as long as this process. To the kernel a child's parent is
/// the thread that started it, and the thread of a test ends before the parts that tests share.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The caller waits for the reply; were it gone, dropping the child would not end it.
                reply.send(command.spawn()).expect("the caller waits");
            }
        });
        orders
    });
    let (reply, child) = mpsc::channel();
    SPAWNER.send((command, reply)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers every order")
}

fn appending(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
}

/// The whole lines of a log. What comes after the last one's end is a line that is being written.
fn read_lines(path: &Path) -> String {
    let mut log = read_log(path);
    log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
    log
}

fn read_log(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(SHOWN_LOG);
    let start = (start..=log.len()).find(|&index| log.is_char_boundary(index)).unwrap_or(0);
    &log[start..]
}
