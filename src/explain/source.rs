//! What people are told of a credential that is copied, and of the Secret that it is copied from.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{IntegrationCredential, Kind},
    failure::{Failure, Reason},
    secret::source::{Wrong, reason},
};

/// What it is, for people.
#[must_use]
pub fn what(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::OAuth2(_) => "token",
        Kind::ApiKey(_) => "API key",
        Kind::UserPassword(_) => "password",
        Kind::HostScoped(_) => "headers",
    }
}

fn place(credential: &IntegrationCredential, kind: Kind<'_>) -> String {
    let namespace = credential.namespace().unwrap_or_default();
    format!("Secret {namespace}/{}", kind.source().unwrap_or_default())
}

/// The keys that it is read from; a header has the name that its user gives it.
fn keys(kind: Kind<'_>) -> Vec<&str> {
    match kind {
        Kind::OAuth2(_) => Vec::new(),
        Kind::ApiKey(kind) => vec![&kind.secret_key_ref.key],
        Kind::UserPassword(kind) => vec![&kind.username_key, &kind.password_key],
        Kind::HostScoped(_) => vec!["Authorization"],
    }
}

/// The command that writes these keys into the source.
fn rewrite(credential: &IntegrationCredential, kind: Kind<'_>, keys: &[&str]) -> String {
    let pairs: Vec<_> = keys.iter().map(|key| format!("\"{key}\":\"…\"")).collect();
    format!(
        "kubectl -n {} patch secret {} -p '{{\"stringData\":{{{}}}}}'",
        credential.namespace().unwrap_or_default(),
        kind.source().unwrap_or_default(),
        pairs.join(",")
    )
}

/// The command that changes a field of the credential.
fn respecify(credential: &IntegrationCredential, kind: Kind<'_>, field: &str) -> String {
    format!(
        "kubectl -n {} patch icred {} --type merge -p '{{\"spec\":{{\"{}\":{{\"{field}\":\"…\"}}}}}}'",
        credential.namespace().unwrap_or_default(),
        credential.name_any(),
        kind.field()
    )
}

/// The source does not exist.
pub(crate) fn missing(credential: &IntegrationCredential, kind: Kind<'_>) -> Failure {
    let literals: Vec<_> = keys(kind)
        .iter()
        .map(|key| format!("--from-literal={key}=…"))
        .collect();
    let (namespace, name) = (
        credential.namespace().unwrap_or_default(),
        kind.source().unwrap_or_default(),
    );
    Failure::new(
        Reason::SourceNotFound,
        format!(
            "{} does not exist; create it: kubectl -n {namespace} create secret generic {name} {}; and label it, so that a change of it acts at once: kubectl -n {namespace} label secret {name} tokenward.dev/watch=true",
            place(credential, kind),
            literals.join(" ")
        ),
    )
}

/// Something is wrong with the source.
pub(crate) fn wrong(credential: &IntegrationCredential, kind: Kind<'_>, wrong: &Wrong) -> Failure {
    let known = keys(kind);
    let key = wrong.key.as_str();
    let mended = if key.is_empty() { known } else { vec![key] };
    // What is wrong with a header may be that it is there.
    let is_extra = matches!(kind, Kind::HostScoped(_)) && !key.is_empty();
    let or_remove = if is_extra {
        format!(
            "; or take it away: kubectl -n {} patch secret {} -p '{{\"data\":{{\"{key}\":null}}}}'",
            credential.namespace().unwrap_or_default(),
            kind.source().unwrap_or_default()
        )
    } else {
        String::new()
    };
    Failure::new(
        reason(wrong),
        format!(
            "{} {}; write it anew: {}{or_remove}",
            place(credential, kind),
            wrong.why,
            rewrite(credential, kind, &mended)
        ),
    )
}

/// The source holds a refresh token.
pub(crate) fn is_grant(credential: &IntegrationCredential, kind: Kind<'_>) -> Failure {
    Failure::new(
        Reason::SourceInvalid,
        format!(
            "{} holds the refresh token of a credential, which is for nobody else; name another Secret in spec.{}: kubectl -n {} edit icred {}",
            place(credential, kind),
            kind.field(),
            credential.namespace().unwrap_or_default(),
            credential.name_any()
        ),
    )
}

/// The source is the target.
pub(crate) fn is_target(credential: &IntegrationCredential, kind: Kind<'_>) -> Failure {
    Failure::new(
        Reason::SourceInvalid,
        format!(
            "{} is to be copied and to receive the copy, which has the credential's name unless spec.target.name gives another; name another Secret in spec.{}: kubectl -n {} edit icred {}",
            place(credential, kind),
            kind.field(),
            credential.namespace().unwrap_or_default(),
            credential.name_any()
        ),
    )
}

/// The host is none.
pub(crate) fn host(credential: &IntegrationCredential, host: &str, why: &str) -> Failure {
    let host: String = host.chars().take(80).collect();
    Failure::new(
        Reason::HostInvalid,
        format!(
            "spec.hostScoped.host {host:?} {why}; change it: kubectl -n {} patch icred {} --type merge -p '{{\"spec\":{{\"hostScoped\":{{\"host\":\"…\"}}}}}}'",
            credential.namespace().unwrap_or_default(),
            credential.name_any(),
        ),
    )
}

/// It is copied, and good as far as anybody knows.
#[must_use]
pub fn valid(credential: &IntegrationCredential, kind: Kind<'_>) -> String {
    let verb = if matches!(kind, Kind::HostScoped(_)) {
        "are"
    } else {
        "is"
    };
    format!(
        "the {} of {} {verb} copied",
        what(kind),
        place(credential, kind)
    )
}

/// It has expired.
#[must_use]
pub fn expired(credential: &IntegrationCredential, kind: Kind<'_>, at: Timestamp) -> String {
    format!(
        "the {} of {} expired at {at:.0}, as spec.{}.expirationTime says. Write what is new: {}; and its expirationTime: {}",
        what(kind),
        place(credential, kind),
        kind.field(),
        rewrite(credential, kind, &keys(kind)),
        respecify(credential, kind, "expirationTime"),
    )
}

/// It was copied.
#[must_use]
pub fn copied(kind: Kind<'_>, generation: i64, again: bool) -> String {
    let again = if again { " again after failures" } else { "" };
    let source = kind.source().unwrap_or_default();
    format!("Secret {source} was copied{again}; the copy has generation {generation}")
}

/// The copy could not be written.
pub(crate) fn not_published(credential: &IntegrationCredential, why: &str) -> Failure {
    Failure::new(
        Reason::TargetNotPublished,
        format!(
            "the copy could not be written to Secret {}/{}: {why}",
            credential.namespace().unwrap_or_default(),
            credential.target_name()
        ),
    )
}
