//! The next step: what a person should do now, if anything.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{CredentialStatus, IntegrationCredential},
    explain::resume,
    status::{
        AUTHORIZATION_EXPIRING, READY, RECONCILING, SCOPES_MISSING, SEED_REJECTED, STALLED,
        SUSPENDED, TOKEN_REJECTED, condition,
    },
    words,
};

/// What to do, in lines; a command has a line of its own.
pub(super) fn step(credential: &IntegrationCredential, now: Timestamp) -> Vec<String> {
    let (namespace, name) = (
        credential.namespace().unwrap_or_default(),
        credential.name_any(),
    );
    let Some(status) = &credential.status else {
        return vec![format!(
            "see whether an operator serves namespace {namespace}: none has looked at {name} yet"
        )];
    };
    if credential.spec.suspend && condition(status, SUSPENDED).is_some() {
        return vec!["resume it:".to_owned(), resume(&namespace, &name)];
    }
    if status.observed_generation != credential.metadata.generation {
        return vec![format!(
            "wait: the operator has not acted upon the last change yet. If this lasts, see whether one serves namespace {namespace}"
        )];
    }
    let is_true = |type_| condition(status, type_).filter(|c| c.status == "True");
    if let Some(stalled) = is_true(STALLED) {
        return repaired_by(&stalled.message);
    }
    if let Some(waits) = is_true(RECONCILING) {
        return vec![waiting(status, &waits.reason, now)];
    }
    if condition(status, READY).is_none_or(|c| c.status != "True") {
        return vec!["wait".to_owned()];
    }
    let told = [
        AUTHORIZATION_EXPIRING,
        SEED_REJECTED,
        SCOPES_MISSING,
        TOKEN_REJECTED,
    ];
    match told.into_iter().find_map(is_true) {
        Some(told) => repaired_by(&told.message),
        None => vec!["nothing to do".to_owned()],
    }
}

fn waiting(status: &CredentialStatus, reason: &str, now: Timestamp) -> String {
    let next = status
        .refresh
        .as_ref()
        .and_then(|r| r.next_attempt_time.as_ref());
    match (reason, next) {
        ("Draining", _) => "wait: a refresh waits for those who hold it, as above".to_owned(),
        ("WaitingForTurn", _) => "wait: it has its turn later".to_owned(),
        (_, Some(at)) if at.0 > now => {
            format!("wait: it is tried again {}", words::time(at.0, now))
        }
        _ => "wait: it is being worked on".to_owned(),
    }
}

/// The commands of a message, each after its words; or the message, where it has none.
fn repaired_by(message: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = message;
    while let Some(start) = rest.find("kubectl ") {
        let (words, from) = rest.split_at(start);
        // So ends a command of our messages; in a command there is none of these.
        let end = ["; ", ". ", " (or ", ")"]
            .iter()
            .filter_map(|end| from.find(end))
            .min();
        let (command, after) = from.split_at(end.unwrap_or(from.len()));
        // What to do comes last in a sentence.
        let words = words.trim_start_matches(['.', ';', ' ', ')']);
        // What is between two commands is all about what to do.
        let words = if lines.is_empty() {
            let words = words.rsplit(". ").next().unwrap_or(words).trim();
            words.rsplit("; ").next().unwrap_or(words)
        } else {
            words.trim()
        };
        if !words.is_empty() {
            lines.push(words.to_owned());
        }
        lines.push(command.trim_end().to_owned());
        rest = after;
    }
    if lines.is_empty() {
        lines.push(message.to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_message_stand_alone() {
        let reseed = r#"kubectl -n a patch secret s -p '{"stringData":{"refresh_token":"…"}}'"#;
        let message = format!(
            "https://x (OAuthProvider p) refused the refresh token (invalid_grant): it has expired or was revoked. Now authorize again and put the new refresh token into the seed: {reseed}"
        );
        assert_eq!(
            repaired_by(&message),
            [
                "Now authorize again and put the new refresh token into the seed:",
                reseed
            ]
        );
        let message = format!(
            "p was at x and is at y now; its refresh token is not sent there. Undo the change; or, if the token belongs there: kubectl -n a annotate icred c tokenward.dev/confirm-origin=y; or authorize again: {reseed}"
        );
        assert_eq!(
            repaired_by(&message),
            [
                "or, if the token belongs there:",
                "kubectl -n a annotate icred c tokenward.dev/confirm-origin=y",
                "or authorize again:",
                reseed
            ]
        );
        let adopt = "kubectl -n a annotate --overwrite secret s tokenward.dev/adopt=c";
        let message = format!(
            "Secret a/s exists; it is left as it is. Have it adopted: {adopt}; or create another one; or delete it: kubectl -n a delete secret s"
        );
        assert_eq!(
            repaired_by(&message),
            [
                "Have it adopted:",
                adopt,
                "or create another one; or delete it:",
                "kubectl -n a delete secret s"
            ]
        );
        assert_eq!(repaired_by("check spec.tokenUrl"), ["check spec.tokenUrl"]);
    }
}
