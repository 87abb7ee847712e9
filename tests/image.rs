//! The container image, as `make image` builds it: what is in it, and whether it works with nothing around it.
//!
//! `make test` builds it first and says where it is by `TOKENWARD_IMAGE_ARCHIVE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking, and its name says what it is about"
)]

use std::{
    collections::BTreeSet,
    env, fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// Bytes.
const MOST: u64 = 15 * 1024 * 1024;
const PROGRAM: &str = "tokenward";
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// An image that is unpacked.
struct Image {
    folder: TempDir,
    digest: String,
    config: Value,
    /// Without compression, in bytes.
    size: u64,
}

impl Image {
    fn built() -> Self {
        let archive = archive();
        assert!(
            archive.is_file(),
            "{} is not there; run: make image",
            archive.display()
        );
        Self::unpack(&archive)
    }

    fn unpack(archive: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layers = folder.path().join("archive");
        untar(archive, &layers);
        let manifest = json(&layers.join("manifest.json"));
        let [image] = manifest.as_array().unwrap().as_slice() else {
            panic!("one image is expected: {manifest}");
        };
        let config = image["Config"].as_str().unwrap();
        let root = folder.path().join("root");
        let mut size = 0;
        for layer in image["Layers"].as_array().unwrap() {
            let layer = layers.join(layer.as_str().unwrap());
            size += fs::metadata(&layer).unwrap().len();
            untar(&layer, &root);
        }
        Self {
            digest: format!("sha256:{}", config.trim_end_matches(".json")),
            config: json(&layers.join(config)),
            size,
            folder,
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn program(&self) -> PathBuf {
        self.root().join(PROGRAM)
    }

    fn label(&self, name: &str) -> &str {
        let label = &self.config["config"]["Labels"][format!("org.opencontainers.image.{name}")];
        label.as_str().unwrap_or_else(|| panic!("no label {name}"))
    }

    /// Runs the program with the image as its root, as the image's user, with /proc as in every container.
    fn command(&self, arguments: &[&str]) -> Command {
        fs::create_dir_all(self.root().join("proc")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--kill-child", "--mount-proc=/proc"]);
        if succeeds(Command::new("test").args(["-w", "/root"])) {
            command.args(["--setuid", "65532", "--setgid", "65532"]);
        } else {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .arg(format!("--root={}", self.root().display()))
            .arg("/tokenward")
            .args(arguments)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap());
        command
    }
}

fn archive() -> PathBuf {
    env::var_os("TOKENWARD_IMAGE_ARCHIVE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image/tokenward.tar"),
        PathBuf::from,
    )
}

/// What lies beside the archive.
fn beside(name: &str) -> PathBuf {
    archive().with_file_name(name)
}

fn untar(archive: &Path, into: &Path) {
    fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--no-same-owner", "-xpf"])
        .arg(archive)
        .arg("-C")
        .arg(into);
    assert!(succeeds(&mut tar), "{}", archive.display());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn succeeds(command: &mut Command) -> bool {
    command.status().unwrap().success()
}

fn out(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

fn readelf(option: &str, program: &Path) -> String {
    out(&Command::new("readelf")
        .arg(option)
        .arg(program)
        .output()
        .unwrap())
}

/// All files and folders below, by their path.
fn paths(folder: &Path) -> BTreeSet<String> {
    let listed = Command::new("find")
        .arg(folder)
        .args(["-mindepth", "1", "-printf", "%y %P\n"])
        .output()
        .unwrap();
    out(&listed).lines().map(str::to_owned).collect()
}

#[test]
fn it_is_small() {
    let size = Image::built().size;
    assert!(size <= MOST, "{size} bytes");
}

#[test]
fn it_holds_the_program_and_the_authorities_and_nothing_else() {
    let image = Image::built();
    let expected = [
        "d etc",
        "d etc/ssl",
        "d etc/ssl/certs",
        "f etc/ssl/certs/ca-certificates.crt",
        "f tokenward",
    ];
    assert_eq!(
        paths(&image.root()),
        expected.map(str::to_owned).into_iter().collect()
    );
    let mode = |name| {
        fs::metadata(image.root().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode(PROGRAM), mode(AUTHORITIES)), (0o755, 0o644));
}

#[test]
fn it_says_what_it_is_and_runs_as_nobody_in_particular() {
    let image = Image::built();
    let config = &image.config["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/tokenward"]));
    assert!(config["Cmd"].is_null(), "{config}");
    let variables = config["Env"].to_string();
    for allocator in ["MIMALLOC_ARENA_EAGER_COMMIT=0", "MIMALLOC_PURGE_DELAY=0"] {
        assert!(variables.contains(allocator), "{variables}");
    }
    assert_eq!(image.label("title"), "tokenward");
    assert_eq!(image.label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert_eq!(image.label("version"), env!("CARGO_PKG_VERSION"));
    assert!(image.label("description").contains("OAuth"));
    assert!(!image.label("revision").is_empty());
    image.label("source");
    assert_eq!(image.config["os"], "linux");
}

#[test]
fn the_program_is_static_and_says_its_version_with_nothing_around_it() {
    let image = Image::built();
    let segments = readelf("-lW", &image.program());
    assert!(segments.contains("LOAD"), "{segments}");
    assert!(!segments.contains("INTERP"), "{segments}");
    let version = out(&image.command(&["--version"]).output().unwrap());
    assert_eq!(version, concat!("tokenward ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_program_says_which_crates_it_is_made_of() {
    let image = Image::built();
    let sections = readelf("-SW", &image.program());
    assert!(sections.contains(".dep-v0"), "{sections}");

    let bill = json(&beside("tokenward.cdx.json"));
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let listed: BTreeSet<(String, String)> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| {
            let text = |key: &str| component[key].as_str().unwrap().to_owned();
            (text("name"), text("version"))
        })
        .collect();
    let lock = include_str!("../Cargo.lock");
    for (name, version) in &listed {
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(
            lock.contains(&entry),
            "{name} {version} is not in Cargo.lock"
        );
    }
    for name in ["aws-lc-sys", "kube", "rustls", "tokio"] {
        assert!(listed.iter().any(|(listed, _)| listed == name), "{name}");
    }
}

#[test]
fn nothing_in_it_says_where_it_was_built() {
    let program = fs::read(Image::built().program()).unwrap();
    let home = env::var("CARGO_HOME").unwrap_or_else(|_| env::var("HOME").unwrap() + "/.cargo");
    for folder in [env!("CARGO_MANIFEST_DIR"), &home, "/registry/src/"] {
        let found = program
            .windows(folder.len())
            .position(|window| window == folder.as_bytes());
        let shown = found.map(|at| {
            String::from_utf8_lossy(&program[at..(at + 200).min(program.len())]).into_owned()
        });
        assert_eq!(shown, None, "{folder}");
    }
}

#[test]
fn the_same_input_has_the_same_digest_wherever_it_is_put_together() {
    let image = Image::built();
    assert_eq!(
        fs::read_to_string(beside("digest")).unwrap().trim_end(),
        image.digest
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let copied = |from: &Path, to: &str| {
        let mut copy = Command::new("cp");
        copy.args(["-r"]).arg(from).arg(elsewhere.path().join(to));
        assert!(succeeds(&mut copy), "{}", from.display());
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    copied(&sources.join("Dockerfile"), "Dockerfile");
    copied(&sources.join("image"), "image");
    fs::create_dir_all(elsewhere.path().join("again/build/image")).unwrap();
    copied(&image.root().join("etc"), "again/build/image/etc");
    copied(&image.program(), "again/build/image/tokenward");
    let created: jiff::Timestamp = image.config["created"].as_str().unwrap().parse().unwrap();
    let architecture = image.config["architecture"].as_str().unwrap();
    let packed = Command::new(elsewhere.path().join("image/pack.sh"))
        .args([architecture, "again"])
        .current_dir(elsewhere.path())
        .env("SOURCE_DATE_EPOCH", created.as_second().to_string())
        .env(
            "IMAGE_NAME",
            format!("tokenward:{}", image.label("version")),
        )
        .env("VERSION", image.label("version"))
        .env("REVISION", image.label("revision"))
        .env("SOURCE", image.label("source"))
        .output()
        .unwrap();
    out(&packed);
    let again = Image::unpack(&elsewhere.path().join("again/tokenward.tar"));
    assert_eq!(again.digest, image.digest);
}

#[test]
fn an_init_container_can_copy_the_program_for_others() {
    let image = Image::built();
    let shared = image.root().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    for _ in ["the first time", "after a restart of the pod"] {
        let said = out(&image.command(&["install", "/shared"]).output().unwrap());
        assert_eq!(said, "/shared/tokenward");
    }
    let copy = shared.join(PROGRAM);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(image.program()).unwrap());
    let version = out(&Command::new(&copy).arg("--version").output().unwrap());
    assert_eq!(version, concat!("tokenward ", env!("CARGO_PKG_VERSION")));
    assert_eq!(paths(&shared), BTreeSet::from(["f tokenward".to_owned()]));
}

/// Whether the program, with nothing but the image around it, trusts the server of `acceptor`.
async fn trusts(image: &Image, acceptor: &TlsAcceptor) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {}}],
    });
    fs::write(image.root().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let arguments = ["--kubeconfig", "/kubeconfig", "-n", "it", "status", "alice"];
    let mut child = image.command(&arguments).spawn().unwrap();
    let accepted = tokio::time::timeout(Duration::from_secs(60), async {
        let (connection, _) = listener.accept().await.unwrap();
        acceptor.accept(connection).await.is_ok()
    })
    .await;
    drop(listener);
    let _ = child.kill();
    child.wait().unwrap();
    accepted.expect("it connects")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_trusts_the_authorities_of_the_image_and_no_others() {
    let image = Image::built();
    let bundle = image.root().join(AUTHORITIES);
    let authorities: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&bundle).unwrap().collect();
    let count = authorities.unwrap().len();
    assert!(count > 100, "{count}");

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));

    assert!(!trusts(&image, &acceptor).await);
    let shipped = fs::read_to_string(&bundle).unwrap();
    fs::write(&bundle, shipped + &authority.pem()).unwrap();
    assert!(trusts(&image, &acceptor).await);
}
