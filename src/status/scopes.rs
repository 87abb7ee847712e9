//! Scopes that a credential asks for and its token does not have. The token is stored and used all the same: whoever
//! refuses it has lost the one before.

use jiff::Timestamp;

use super::{SCOPES_MISSING, Setter};
use crate::{
    api::{CredentialStatus, GrantType, IntegrationCredential},
    explain,
};

/// Scopes that ask for a refresh token, and that many servers do not repeat among the granted ones.
const NOT_REPEATED: [&str; 2] = ["offline_access", "offline.access"];

/// Sets the condition, or takes it away.
pub(super) fn set_condition(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    now: Timestamp,
) {
    let missing = missing(status, credential);
    let mut set = Setter::new(status, now);
    if missing.is_empty() {
        set.remove(SCOPES_MISSING);
    } else {
        let user = credential.oauth2().grant_type == GrantType::RefreshToken;
        let message = explain::scopes_missing(credential, &missing, user);
        set.set(SCOPES_MISSING, "True", "ScopeNarrowed", &message);
    }
}

fn missing(status: &CredentialStatus, credential: &IntegrationCredential) -> Vec<String> {
    let Some(token) = &status.token else {
        return Vec::new();
    };
    let asked = credential.oauth2().scopes.iter();
    asked
        .filter(|scope| !token.scopes.contains(scope) && !NOT_REPEATED.contains(&scope.as_str()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::status::condition;

    fn told(asked: &[&str], granted: &[&str]) -> Option<String> {
        let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken",
            "seedSecretRef": {"name": "s"}, "scopes": asked}});
        let credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
        let status = json!({"conditions": [], "token": {"generation": 1, "scopes": granted}});
        let mut status = serde_json::from_value(status).unwrap();
        set_condition(&mut status, &credential, Timestamp::UNIX_EPOCH);
        condition(&status, SCOPES_MISSING).map(|c| c.message.clone())
    }

    #[test]
    fn what_was_asked_for_and_not_granted_is_named() {
        let message = told(&["read", "write"], &["read"]).unwrap();
        assert!(
            message.contains("write") && !message.contains("read,"),
            "{message}"
        );
        assert_eq!(told(&["read"], &["read", "more"]), None);
        assert_eq!(told(&[], &["read"]), None);
        assert_eq!(told(&["read", "offline_access"], &["read"]), None);
    }
}
