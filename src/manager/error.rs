//! What can go wrong for a program that uses credentials, as types that it can match.

use std::time::Duration;

use crate::{api::GROUP, explain::resume, request::RequestError};

/// Why a call of [`CredentialManager`](super::CredentialManager) failed. No message holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such credential.
    #[error(
        "there is no IntegrationCredential {namespace}/{name}; see: kubectl -n {namespace} get icred"
    )]
    NotFound {
        /// The namespace.
        namespace: String,
        /// The name that was asked for.
        name: String,
    },
    /// It, or its seed, exists already and is left as it is.
    #[error("{kind} {namespace}/{name} exists already and is left as it is")]
    AlreadyExists {
        /// The kind of the object.
        kind: &'static str,
        /// The namespace.
        namespace: String,
        /// The object's name.
        name: String,
    },
    /// The credential's provider object does not exist.
    #[error("{0}")]
    UnknownProvider(String),
    /// The credential's provider object lacks something.
    #[error("{0}")]
    ProviderNotConfigured(String),
    /// Nothing goes on until somebody acts; the message holds the command that repairs it.
    #[error("{namespace}/{name} is stalled ({reason}): {message}")]
    Stalled {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
        /// The reason of its condition Stalled.
        reason: String,
        /// The condition's message.
        message: String,
    },
    /// It is suspended, and has no token that will do.
    #[error("{namespace}/{name} is suspended, so nothing is refreshed. To resume: {}", resume(.namespace, .name))]
    Suspended {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
    },
    /// The new authorization was not accepted; the old one goes on.
    #[error("{0}")]
    SeedRejected(String),
    /// A refresh that was asked for was tried and failed, and is not tried again in time.
    #[error("{namespace}/{name} was not refreshed ({reason}): {message}")]
    RefreshFailed {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
        /// The reason of the failure.
        reason: String,
        /// What happened, and when it is tried again or what to do.
        message: String,
    },
    /// It took longer than the caller wanted to wait.
    #[error("{namespace}/{name}: {what} within {waited:?}; {hint}")]
    Timeout {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
        /// What did not happen.
        what: &'static str,
        /// How long was waited.
        waited: Duration,
        /// Who holds the gate closed, where somebody does.
        gate_holder: Option<String>,
        /// Whether the gate was closed to consumers, or missing.
        closed: bool,
        /// What was in the way, as far as could be seen, and where to look: for people.
        hint: Box<str>,
    },
    /// The hold is lost: the token may be replaced at any time, and is not to be used.
    #[error(
        "the hold on {namespace}/{name} is lost: it could not be renewed in time, or was deleted; acquire the credential again"
    )]
    Lost {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
    },
    /// The credential is of a kind that has no token, or its template writes other keys.
    #[error(
        "{namespace}/{name} has no token: it is of another kind than oauth2, or its template writes other keys in the place of the token"
    )]
    NoToken {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
    },
    /// The credential's mode is another one than the caller wants.
    #[error(
        "{namespace}/{name} has mode {has}, and {wanted} was asked for; change spec.lock.mode, or ask for {has}"
    )]
    WrongMode {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
        /// The mode of its gate.
        has: &'static str,
        /// The mode that was asked for.
        wanted: &'static str,
    },
    /// The caller lacks a right.
    #[error("{message}. Add this rule to a Role of the caller: {rule}")]
    Forbidden {
        /// The API server's words.
        message: String,
        /// The RBAC rule that is missing, as one line of YAML.
        rule: String,
    },
    /// The API server did not accept an object.
    #[error("the API server refused: {0}")]
    Refused(String),
    /// The API server did not answer, or not in a way that tells.
    #[error("no answer of the API server when asked to {0}; try again")]
    Unavailable(String),
}

/// Why there was no answer, where that is known. What an authentication plugin printed is not repeated: it
/// may be a token.
fn cause(error: &kube::Error) -> String {
    if let kube::Error::Auth(auth) = error {
        let printed = matches!(auth, kube::client::AuthError::AuthExecRun { .. });
        return if printed {
            "the authentication plugin of the kubeconfig failed".to_owned()
        } else {
            auth.to_string()
        };
    }
    if let kube::Error::Api(status) = error {
        return match status.code {
            401 => "it does not accept the credentials of this user (401): log in again".to_owned(),
            code => format!("{} ({code})", status.message),
        };
    }
    // The first says only that something failed, the last what.
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What a request was for: the rule that it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Right<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) name: Option<&'a str>,
    /// The credential that it is about, where the object is another.
    pub(crate) credential: Option<&'a str>,
}

impl Right<'_> {
    fn rule(&self) -> String {
        let name = self
            .name
            .map(|name| format!(", resourceNames: [\"{name}\"]"))
            .unwrap_or_default();
        format!(
            "{{apiGroups: [\"{}\"], resources: [\"{}\"]{name}, verbs: [\"{}\"]}}",
            self.group, self.resource, self.verb
        )
    }

    fn what(&self) -> String {
        let name = self.name.map(|n| format!(" {n}")).unwrap_or_default();
        format!("{} {}{name}", self.verb, self.resource)
    }

    /// The error that an answer to such a request means, where there is nothing better to say.
    pub(crate) fn error(&self, error: RequestError) -> Error {
        match error {
            RequestError::Refused(kube::Error::Api(status)) if status.code == 403 => {
                // The admission policy asks for the right to hold, RBAC for that to write.
                let rule = match self.credential {
                    Some(credential) if status.message.contains(r#"the verb "hold""#) => Right {
                        verb: "hold",
                        group: GROUP,
                        resource: "integrationcredentials",
                        name: Some(credential),
                        credential: None,
                    }
                    .rule(),
                    _ => self.rule(),
                };
                Error::Forbidden {
                    message: status.message.clone(),
                    rule,
                }
            }
            RequestError::Refused(kube::Error::Api(status)) => {
                Error::Refused(status.message.clone())
            }
            RequestError::Refused(error) | RequestError::Unclear(Some(error)) => {
                Error::Unavailable(format!("{}: {}", self.what(), cause(&error)))
            }
            RequestError::Unclear(None) => Error::Unavailable(self.what()),
            RequestError::NotFound => Error::Refused(format!("nothing found to {}", self.what())),
            RequestError::Conflict => {
                Error::Refused(format!("it changed when asked to {}", self.what()))
            }
        }
    }
}
