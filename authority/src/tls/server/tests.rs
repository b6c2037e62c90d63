use super::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::fs;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.issue("server", 2101);
        folder.issue("other", 2102);
        folder
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    fn issue(&self, name: &str, year_of_expiry: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year_of_expiry, 1, 1);
        self.write(&format!("{name}.crt"), &params.self_signed(&key).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    fn files(&self) -> ServerTlsFiles {
        ServerTlsFiles {
            certificate: self.path("server.crt"),
            key: self.path("server.key"),
            clients: Some(ClientFiles {
                ca: self.path("other.crt"),
                names: Vec::new(),
                known_as: "client_names",
            }),
            tls13_only: false,
        }
    }

    /// The keys of the files that cannot be used.
    fn faults(&self, change: impl FnOnce(&mut ServerTlsFiles)) -> Vec<&'static str> {
        let mut files = self.files();
        change(&mut files);
        let errors = ServerTls::read(files).map(|_| ()).unwrap_err();
        assert!(
            errors.iter().all(|error| error.reason.contains('/')),
            "names the file: {errors:?}"
        );
        errors.into_iter().map(|error| error.key).collect()
    }
}

#[test]
fn each_file_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    folder.write("empty", "");
    assert!(ServerTls::read(folder.files()).is_ok());
    let of = |file: &str| folder.path(file);
    assert_eq!(folder.faults(|files| files.key = of("other.key")), ["key_file"], "another one's");
    for wrong in ["absent", "empty"] {
        assert_eq!(folder.faults(|files| files.key = of(wrong)), ["key_file"]);
        assert_eq!(folder.faults(|files| files.certificate = of(wrong)), ["certificate_file"]);
    }
    assert_eq!(folder.faults(|files| files.certificate = of("server.key")), ["certificate_file"]);
    let ca = |file| Some(ClientFiles { ca: of(file), names: Vec::new(), known_as: "client_names" });
    assert_eq!(folder.faults(|files| files.clients = ca("server.key")), ["client_ca_file"]);
    let all = folder.faults(|files| {
        let clients = ca("absent");
        *files = ServerTlsFiles {
            certificate: of("absent"),
            key: of("absent"),
            clients,
            tls13_only: false,
        };
    });
    assert_eq!(all, ["certificate_file", "key_file", "client_ca_file"]);
}

/// `date --utc --date 2101-01-01 +%s`
const FIRST_OF_2101: u64 = 4_133_980_800;

#[test]
fn a_changed_certificate_is_read_and_a_wrong_one_leaves_the_old_one() {
    let folder = Folder::new();
    let metrics = Arc::new(Metrics::new());
    let tls = ServerTls::read(folder.files()).unwrap();
    let acceptor = ServerAcceptor::new("internal", tls, usize::MAX, &metrics);
    let current = || Arc::as_ptr(&acceptor.0.tls.read().unwrap().config);
    let reads = |outcome: &str| {
        let name = "vncgate_tls_certificate_reads_total";
        let metric = format!("{name}{{listener=\"internal\",outcome=\"{outcome}\"}} ");
        let text = metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(metric.as_str()));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let assert_expires_at = |seconds: u64| {
        let name = "vncgate_certificate_expiry_timestamp_seconds";
        let sample = format!("{name}{{of=\"listener\",name=\"internal\"}} {seconds}\n");
        let text = metrics.encode().unwrap();
        assert!(text.contains(&sample), "{text}");
    };
    let first = current();
    assert_expires_at(FIRST_OF_2101);
    acceptor.look();
    assert_eq!((current(), reads("ok"), reads("failed")), (first, 0, 0), "nothing has changed");

    // Half of a rotation: the certificate without its key. It is read once and not each second.
    folder.write("server.crt", &fs::read_to_string(folder.path("other.crt")).unwrap());
    acceptor.look();
    acceptor.look();
    assert_eq!((current(), reads("ok"), reads("failed")), (first, 0, 1));
    folder.write("server.key", &fs::read_to_string(folder.path("other.key")).unwrap());
    acceptor.look();
    let second = current();
    assert_ne!(second, first);
    assert_eq!((reads("ok"), reads("failed")), (1, 1));
    assert_expires_at(FIRST_OF_2101 + 365 * 24 * 60 * 60);

    // A file that is gone, and back with the same content.
    let ca = folder.path("other.crt");
    fs::rename(&ca, folder.path("moved")).unwrap();
    acceptor.look();
    assert_eq!((current(), reads("failed")), (second, 2));
    fs::rename(folder.path("moved"), &ca).unwrap();
    acceptor.look();
    assert_ne!(current(), second);
    assert_eq!((reads("ok"), reads("failed")), (2, 2));
}
