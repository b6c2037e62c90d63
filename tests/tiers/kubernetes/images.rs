//! The images themselves: what is in them, for which machines, and that the same files make the same image.

use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use vncgate_test_support::authority::{Authority, Config, NO_GATEWAY};
use vncgate_test_support::certificate::Ca;
use vncgate_test_support::process::{Run, run_to_end};
use vncgate_test_support::vcsim::Vcsim;
use vncgate_test_support::workspace::{checkout, filter, image};

/// A blob of an OCI layout, by its digest.
fn blob(layout: &Path, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().expect("a digest").replace(':', "/");
    std::fs::read(layout.join("blobs").join(digest)).expect("a blob")
}

fn json(layout: &Path, digest: &Value) -> Value {
    serde_json::from_slice(&blob(layout, digest)).expect("JSON")
}

/// The manifests of a layout, those of an index in it.
fn manifests(layout: &Path) -> Vec<Value> {
    let index = std::fs::read(layout.join("index.json")).expect("an OCI layout");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let [entry] = &index["manifests"].as_array().expect("manifests")[..] else {
        panic!("one image: {index}");
    };
    let manifest = json(layout, &entry["digest"]);
    match manifest["manifests"].as_array() {
        Some(platforms) => platforms.iter().map(|it| json(layout, &it["digest"])).collect(),
        None => vec![manifest],
    }
}

/// The files in the one layer of an image.
fn files(layout: &Path, manifest: &Value) -> Vec<String> {
    let [layer] = &manifest["layers"].as_array().expect("layers")[..] else {
        panic!("one layer: {manifest}");
    };
    let run = Run::new("layer");
    let layer = run.write("layer.tar.gz", blob(layout, &layer["digest"]));
    let names = run_to_end(Command::new("tar").arg("-tzf").arg(layer));
    names.lines().filter(|name| !name.ends_with('/')).map(str::to_owned).collect()
}

#[test]
fn the_authority_s_image_has_one_program_and_does_not_run_as_root() {
    let layout = image("authority");
    let manifests = manifests(&layout);
    let mut platforms = Vec::new();
    for manifest in &manifests {
        assert_eq!(files(&layout, manifest), ["./usr/bin/vncgate-authority"]);
        let image = json(&layout, &manifest["config"]["digest"]);
        let config = &image["config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/vncgate-authority"]));
        assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        platforms.push(format!("{}/{}", image["os"], image["architecture"]).replace('"', ""));
    }
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
}

#[test]
fn the_filter_s_image_has_the_module_where_gateways_look_for_it() {
    let layout = image("filter");
    let manifests = manifests(&layout);
    let [manifest] = &manifests[..] else { panic!("one for all machines") };
    assert_eq!(files(&layout, manifest), ["./plugin.wasm"]);
    assert_eq!(manifest["annotations"]["module.wasm.image/variant"], "compat");
    let run = Run::new("filter");
    let layer = run.write("layer.tar.gz", blob(&layout, &manifest["layers"][0]["digest"]));
    let mut unpack = Command::new("tar");
    unpack.arg("-xzf").arg(layer).arg("-C").arg(run.path(".")).arg("./plugin.wasm");
    run_to_end(&mut unpack);
    let shipped = std::fs::read(run.path("plugin.wasm")).expect("the module");
    assert!(shipped == std::fs::read(filter()).expect("the built filter"), "another module");
}

/// That two builds make the same files is what `./justw reproducible` shows.
#[test]
fn the_same_files_make_the_same_images() {
    let run = Run::new("images");
    let mut build = Command::new("deploy/images/build");
    run_to_end(build.arg(run.path("again")).current_dir(checkout()));
    for name in ["authority", "filter"] {
        let index =
            |layout: &Path| std::fs::read_to_string(layout.join("index.json")).expect("an index");
        assert_eq!(index(&run.path("again").join(name)), index(&image(name)), "{name}");
    }
}

#[test]
fn nothing_in_the_images_names_the_machine_that_built_them() {
    let folder = checkout().display().to_string();
    for arch in ["x86_64", "aarch64"] {
        let program =
            checkout().join(format!("target/{arch}-unknown-linux-musl/release/vncgate-authority"));
        let program = std::fs::read(program).expect("./justw images");
        assert!(!contains(&program, folder.as_bytes()), "{arch} has {folder}");
        assert!(!contains(&program, b"/.cargo/"), "{arch} has the folder of crates");
    }
    let module = std::fs::read(filter()).expect("the built filter");
    assert!(!contains(&module, folder.as_bytes()) && !contains(&module, b"/.cargo/"));
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn the_program_for_arm64_grants_a_console() {
    let run = Run::new("arm64");
    let ca = Ca::new(&run);
    let vcenter = Vcsim::start(&run, &ca).await;
    let host = IpAddr::from([127, 0, 0, 2]);
    vcenter.add_host(host);
    let vm = vcenter.create_vm("machine", host, 5901);
    let program = checkout().join("target/aarch64-unknown-linux-musl/release/vncgate-authority");
    let config =
        Config::new(&run, &vcenter, NO_GATEWAY).with_program("qemu-aarch64-static", &program);
    let authority = Authority::start(&run, config).await;
    let token = authority.issue(&vm).await;
    authority.check(&token).await.assert_granted(host, 5901);
}
