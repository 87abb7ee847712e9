//! What can go wrong, in fixed words, and what follows from each: one table from a reason to its
//! class, and one from a class to the action, the condition and the retry schedule.

use std::time::Duration;

use jiff::Timestamp;

/// Why a credential is not refreshed or not published. The name is the reason in conditions, events
/// and logs, and is part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The provider could not be reached: no request was sent.
    ProviderUnreachable,
    /// The provider answered that it cannot serve now.
    ProviderError,
    /// The provider answered something that is no token response.
    UnreadableResponse,
    /// The API server did not do what was asked.
    APIServerError,
    /// A request that spends a refresh token was sent, and its outcome is not known.
    RefreshOutcomeUnknown,
    /// The provider asked for a pause.
    RateLimited,
    /// The provider refused the refresh token.
    ReauthorizationRequired,
    /// The refresh token was replaced by the provider, and the new one never arrived.
    RotationLost,
    /// The Secret with the refresh token is gone.
    GrantLost,
    /// The Secret with the refresh token was edited and makes no sense.
    GrantUnreadable,
    /// The Secret with the refresh token is an older one, put back: its refresh token is spent.
    GrantRestored,
    /// The grant was authorized at another origin or for another client.
    ProviderChanged,
    /// The provider object does not exist.
    UnknownProvider,
    /// The provider object lacks something: a Secret, a key, a valid URL.
    ProviderNotConfigured,
    /// The cluster provider does not admit this credential.
    ProviderNotAllowed,
    /// The seed Secret or its key does not exist.
    SeedNotFound,
    /// The seed's value cannot be a refresh token.
    SeedInvalid,
    /// The provider refused the client's authentication.
    InvalidClient,
    /// The provider refused the requested scopes.
    InvalidScope,
    /// The provider refused the request itself.
    RequestRefused,
    /// There is no token endpoint at the URL.
    EndpointNotFound,
    /// The endpoint's certificate is not trusted.
    CertificateNotTrusted,
    /// The target's name is taken by a Secret that is not ours.
    TargetConflict,
    /// The target Secret could not be written.
    TargetNotPublished,
}

/// What kind of failure it is; decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself.
    Transient,
    /// Passes at a time the provider chose.
    RateLimited,
    /// A refresh token may have been spent: the Ambiguous rule decides when to go on.
    Ambiguous,
    /// The authorization is gone; only a new one helps.
    NeedsReauthorization,
    /// The grant cannot be used as it is; nothing is presented until it is mended or replaced.
    GrantUnusable,
    /// Somebody must change an object; the grant is not dead.
    Misconfiguration,
}

/// What follows from a [`Class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// Whether the condition Stalled is set: nothing goes on by itself.
    pub stalled: bool,
    /// The delay before the first retry and the longest delay; `None`: only a change of the inputs
    /// starts another attempt.
    pub retry: Option<(Duration, Duration)>,
}

impl Reason {
    const ALL: [Self; 24] = [
        Self::ProviderUnreachable,
        Self::ProviderError,
        Self::UnreadableResponse,
        Self::APIServerError,
        Self::RefreshOutcomeUnknown,
        Self::RateLimited,
        Self::ReauthorizationRequired,
        Self::RotationLost,
        Self::GrantLost,
        Self::GrantUnreadable,
        Self::GrantRestored,
        Self::ProviderChanged,
        Self::UnknownProvider,
        Self::ProviderNotConfigured,
        Self::ProviderNotAllowed,
        Self::SeedNotFound,
        Self::SeedInvalid,
        Self::InvalidClient,
        Self::InvalidScope,
        Self::RequestRefused,
        Self::EndpointNotFound,
        Self::CertificateNotTrusted,
        Self::TargetConflict,
        Self::TargetNotPublished,
    ];

    /// The table from reason to class.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::ProviderUnreachable
            | Self::ProviderError
            | Self::UnreadableResponse
            | Self::APIServerError
            | Self::TargetNotPublished => Class::Transient,
            Self::RefreshOutcomeUnknown => Class::Ambiguous,
            Self::RateLimited => Class::RateLimited,
            Self::ReauthorizationRequired | Self::RotationLost => Class::NeedsReauthorization,
            Self::GrantLost
            | Self::GrantUnreadable
            | Self::GrantRestored
            | Self::ProviderChanged => Class::GrantUnusable,
            Self::UnknownProvider
            | Self::ProviderNotConfigured
            | Self::ProviderNotAllowed
            | Self::SeedNotFound
            | Self::SeedInvalid
            | Self::InvalidClient
            | Self::InvalidScope
            | Self::RequestRefused
            | Self::EndpointNotFound
            | Self::CertificateNotTrusted
            | Self::TargetConflict => Class::Misconfiguration,
        }
    }

    /// The reason's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProviderUnreachable => "ProviderUnreachable",
            Self::ProviderError => "ProviderError",
            Self::UnreadableResponse => "UnreadableResponse",
            Self::APIServerError => "APIServerError",
            Self::RefreshOutcomeUnknown => "RefreshOutcomeUnknown",
            Self::RateLimited => "RateLimited",
            Self::ReauthorizationRequired => "ReauthorizationRequired",
            Self::RotationLost => "RotationLost",
            Self::GrantLost => "GrantLost",
            Self::GrantUnreadable => "GrantUnreadable",
            Self::GrantRestored => "GrantRestored",
            Self::ProviderChanged => "ProviderChanged",
            Self::UnknownProvider => "UnknownProvider",
            Self::ProviderNotConfigured => "ProviderNotConfigured",
            Self::ProviderNotAllowed => "ProviderNotAllowed",
            Self::SeedNotFound => "SeedNotFound",
            Self::SeedInvalid => "SeedInvalid",
            Self::InvalidClient => "InvalidClient",
            Self::InvalidScope => "InvalidScope",
            Self::RequestRefused => "RequestRefused",
            Self::EndpointNotFound => "EndpointNotFound",
            Self::CertificateNotTrusted => "CertificateNotTrusted",
            Self::TargetConflict => "TargetConflict",
            Self::TargetNotPublished => "TargetNotPublished",
        }
    }

    /// The reason of the event that tells people.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::RateLimited
            | Self::ReauthorizationRequired
            | Self::RotationLost
            | Self::GrantLost
            | Self::GrantRestored
            | Self::ProviderChanged
            | Self::UnknownProvider
            | Self::ProviderNotConfigured
            | Self::TargetConflict => self.as_str(),
            _ => "RefreshFailed",
        }
    }

    /// Whether `reason`, read back from a status, is about the credential's own Secrets.
    #[must_use]
    pub fn concerns_secrets(reason: &str) -> bool {
        const SECRETS: [Reason; 5] = [
            Reason::APIServerError,
            Reason::GrantLost,
            Reason::GrantUnreadable,
            Reason::TargetConflict,
            Reason::TargetNotPublished,
        ];
        SECRETS.iter().any(|r| r.as_str() == reason)
    }

    /// Whether `reason`, read back from a status, says that the grant is gone or cannot be used.
    #[must_use]
    pub fn ends_the_grant(reason: &str) -> bool {
        let class = Self::from_name(reason).map(Self::class);
        matches!(
            class,
            Some(Class::NeedsReauthorization | Class::GrantUnusable)
        )
    }

    /// Whether `reason`, read back from a status, is one that only a new authorization ends.
    #[must_use]
    pub fn is_terminal(reason: &str) -> bool {
        let class = Self::from_name(reason).map(Self::class);
        class == Some(Class::NeedsReauthorization)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl Class {
    /// The table from class to consequence.
    #[must_use]
    pub fn consequence(self) -> Consequence {
        const fn s(seconds: u64) -> Duration {
            Duration::from_secs(seconds)
        }
        match self {
            Self::Transient => Consequence {
                stalled: false,
                retry: Some((s(1), s(300))),
            },
            Self::RateLimited => Consequence {
                stalled: false,
                retry: Some((s(5), s(900))),
            },
            Self::Ambiguous => Consequence {
                stalled: false,
                retry: Some((s(1), s(60))),
            },
            Self::NeedsReauthorization => Consequence {
                stalled: true,
                retry: None,
            },
            Self::GrantUnusable | Self::Misconfiguration => Consequence {
                stalled: true,
                retry: Some((s(5), s(600))),
            },
        }
    }
}

/// One failure: why, for whom, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .reason.as_str())]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// One or two sentences that name the object, the cause and what to do. No provider's words.
    pub message: String,
    /// The OAuth error code or the HTTP status, if there was one.
    pub code: Option<String>,
    /// The pause that the provider asked for.
    pub retry_after: Option<Duration>,
    /// Not before this time, where a rule gives one (the Ambiguous rule).
    pub not_before: Option<Timestamp>,
}

impl Failure {
    /// A failure without a code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            code: None,
            retry_after: None,
            not_before: None,
        }
    }

    /// With the OAuth error code or HTTP status that the provider answered.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// A request to the API server that failed; `what` says what was being done.
    #[must_use]
    pub fn api_server(what: &str, error: &kube::Error) -> Self {
        let message = match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "the API server forbids to {what}: {}. Grant the operator's ServiceAccount this right",
                status.message
            ),
            // Only the status's own words: kube's other errors may quote a body.
            kube::Error::Api(status) => format!(
                "the API server refused to {what}: {} ({})",
                status.reason, status.code
            ),
            _ => format!("the API server gave no answer when asked to {what}; trying again"),
        };
        Self::new(Reason::APIServerError, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_in_the_documentation() {
        let concepts = include_str!("../docs/concepts.md");
        for reason in Reason::ALL {
            let class = match reason.class() {
                Class::Transient => "passes by itself",
                Class::RateLimited | Class::Ambiguous => "waits",
                Class::NeedsReauthorization | Class::GrantUnusable | Class::Misconfiguration => {
                    "needs you"
                }
            };
            let entry = format!("| {} | {class} |", reason.as_str());
            assert!(
                concepts.contains(&entry),
                "docs/concepts.md lacks {entry:?}"
            );
        }
    }

    #[test]
    fn only_a_new_authorization_ends_a_terminal_reason() {
        for reason in Reason::ALL {
            let terminal = reason.class() == Class::NeedsReauthorization;
            assert_eq!(Reason::is_terminal(reason.as_str()), terminal, "{reason:?}");
            assert_eq!(reason.class().consequence().retry.is_none(), terminal);
        }
    }
}
