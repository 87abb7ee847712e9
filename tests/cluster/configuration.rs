//! The files that the control plane's programs read.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use data_encoding::{BASE64, HEXLOWER};

/// Every request once, when it has been answered, without bodies.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
rules:
  - level: Metadata
";

/// Where the files of one control plane are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) audit_log: PathBuf,
    pub(crate) audit_policy: PathBuf,
    pub(crate) certificates: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Of the folder: no two control planes have the same.
    pub(crate) name: String,
    pub(crate) signing_key: PathBuf,
    pub(crate) tokens: PathBuf,
    pub(crate) verifying_key: PathBuf,
    token: String,
}

impl Files {
    /// Writes all but the kubeconfig, into a folder that nobody else can enter.
    pub(crate) fn write(folder: &Path) -> Result<Self> {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).context("no random bytes")?;
        let files = Self {
            audit_log: folder.join("audit.log"),
            audit_policy: folder.join("audit-policy.yaml"),
            certificates: folder.join("certificates"),
            kubeconfig: folder.join("kubeconfig"),
            name: folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .context("a folder without a name")?,
            signing_key: folder.join("service-accounts.key"),
            tokens: folder.join("tokens.csv"),
            verifying_key: folder.join("service-accounts.pub"),
            token: HEXLOWER.encode(&random),
        };
        write_private(&files.audit_policy, AUDIT_POLICY)?;
        let (private, public) = key_pair()?;
        write_private(&files.signing_key, &private)?;
        write_private(&files.verifying_key, &public)?;
        // Without any rule of RBAC, this group may do everything.
        let administrator = format!(
            "{},administrator,administrator,\"system:masters\"\n",
            files.token
        );
        write_private(&files.tokens, &administrator)?;
        // Tests count its lines, maybe before there are any.
        write_private(&files.audit_log, "")?;
        Ok(files)
    }

    /// Writes the administrator's kubeconfig, once kube-apiserver has made its certificate. It
    /// holds all it needs, so it can be copied elsewhere.
    pub(crate) fn write_kubeconfig(&self, address: &str, port: u16) -> Result<()> {
        let path = self.certificates.join("apiserver.crt");
        let certificate =
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let content = format!(
            "\
apiVersion: v1
kind: Config
current-context: tokenward-test
contexts:
  - name: tokenward-test
    context: {{cluster: tokenward-test, user: administrator}}
clusters:
  - name: tokenward-test
    cluster:
      server: https://{address}:{port}
      certificate-authority-data: {}
users:
  - name: administrator
    user: {{token: {}}}
",
            BASE64.encode(&certificate),
            self.token
        );
        write_private(&self.kubeconfig, &content)
    }
}

/// A key pair for the tokens of service accounts, as PEM: the private half, the public half.
fn key_pair() -> Result<(String, String)> {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .context("cannot make a signing key")?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())
        .context("cannot read a key of our own")?;
    let public: PublicKeyX509Der<'_> = pair
        .public_key()
        .as_der()
        .context("cannot encode a public key")?;
    Ok((
        pem("PRIVATE KEY", document.as_ref()),
        pem("PUBLIC KEY", public.as_ref()),
    ))
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in BASE64.encode(der).as_bytes().chunks(64) {
        text.extend([&*String::from_utf8_lossy(line), "\n"]);
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// Writes a file that only its owner can read, from the start.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
