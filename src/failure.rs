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
    /// A Secret that is named must not be read for this.
    SecretNotAllowed,
    /// The seed Secret or its key does not exist.
    SeedNotFound,
    /// The seed's value cannot be a refresh token.
    SeedInvalid,
    /// The seed's refresh token belongs to another credential.
    SeedInUse,
    /// The Secret to copy from, or its key, does not exist.
    SourceNotFound,
    /// What the Secret to copy from holds cannot be what the credential's kind is.
    SourceInvalid,
    /// The host of a credential of kind hostScoped is none.
    HostInvalid,
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
    /// The endpoint's address is one that the operator does not connect to.
    EndpointNotAllowed,
    /// The target's name is taken by a Secret that is not ours.
    TargetConflict,
    /// The target Secret could not be written.
    TargetNotPublished,
    /// What `spec.target` says of the target cannot be written.
    TemplateInvalid,
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
    /// The class as a label of metrics.
    pub label: &'static str,
}

/// What is said of a [`Reason`], and the class that decides the rest.
struct Row {
    name: &'static str,
    class: Class,
    event: &'static str,
    advice: &'static str,
}

/// The event of reasons that have none of their own.
const REFRESH_FAILED: &str = "RefreshFailed";

const fn row(name: &'static str, class: Class, event: &'static str, advice: &'static str) -> Row {
    Row {
        name,
        class,
        event,
        advice,
    }
}

impl Reason {
    pub(crate) const ALL: [Self; 31] = [
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
        Self::SecretNotAllowed,
        Self::SeedNotFound,
        Self::SeedInvalid,
        Self::SeedInUse,
        Self::SourceNotFound,
        Self::SourceInvalid,
        Self::HostInvalid,
        Self::InvalidClient,
        Self::InvalidScope,
        Self::RequestRefused,
        Self::EndpointNotFound,
        Self::CertificateNotTrusted,
        Self::EndpointNotAllowed,
        Self::TargetConflict,
        Self::TargetNotPublished,
        Self::TemplateInvalid,
    ];

    /// The table: each reason's name in the API, its class, the event that tells people, and what is said where the
    /// provider's answer is the reason. In that, `{origin}` is where the request went, `{provider}` the provider
    /// object, `{answered}` the code of the answer, and `{reseed}` the command that hands over a new authorization.
    #[expect(clippy::too_many_lines, reason = "one table")]
    const fn row(self) -> Row {
        use Class::{
            Ambiguous, GrantUnusable, Misconfiguration, NeedsReauthorization, RateLimited,
            Transient,
        };
        match self {
            Self::ProviderUnreachable => row(
                "ProviderUnreachable",
                Transient,
                REFRESH_FAILED,
                "no connection to {origin} ({provider}); trying again. If this lasts, check spec.tokenUrl, DNS and network policies",
            ),
            Self::ProviderError => row(
                "ProviderError",
                Transient,
                REFRESH_FAILED,
                "{origin} ({provider}) cannot serve now ({answered}); trying again",
            ),
            Self::UnreadableResponse => row(
                "UnreadableResponse",
                Transient,
                REFRESH_FAILED,
                "{origin} ({provider}) answered something that is no token response ({answered}); check that spec.tokenUrl is the token endpoint, and spec.response",
            ),
            Self::APIServerError => row("APIServerError", Transient, REFRESH_FAILED, ""),
            Self::TargetNotPublished => row("TargetNotPublished", Transient, REFRESH_FAILED, ""),
            Self::RateLimited => row(
                "RateLimited",
                RateLimited,
                "RateLimited",
                "{origin} ({provider}) asked for a pause ({answered}); trying again after it",
            ),
            Self::RefreshOutcomeUnknown => row(
                "RefreshOutcomeUnknown",
                Ambiguous,
                REFRESH_FAILED,
                "a refresh was sent to {provider} and its outcome is not known; the refresh token may be spent. It is presented again only when that costs least. If that fails, {reseed}",
            ),
            Self::ReauthorizationRequired => row(
                "ReauthorizationRequired",
                NeedsReauthorization,
                "ReauthorizationRequired",
                "{origin} ({provider}) refused the refresh token ({answered}): it has expired or was revoked. Now {reseed}",
            ),
            Self::RotationLost => row(
                "RotationLost",
                NeedsReauthorization,
                "RotationLost",
                "an earlier refresh was sent and its answer never arrived; the provider had replaced the refresh token, and the new one is lost. Now {reseed}",
            ),
            Self::GrantLost => row("GrantLost", GrantUnusable, "GrantLost", ""),
            Self::GrantUnreadable => row("GrantUnreadable", GrantUnusable, REFRESH_FAILED, ""),
            Self::GrantRestored => row("GrantRestored", GrantUnusable, "GrantRestored", ""),
            Self::ProviderChanged => row("ProviderChanged", GrantUnusable, "ProviderChanged", ""),
            Self::UnknownProvider => {
                row("UnknownProvider", Misconfiguration, "UnknownProvider", "")
            }
            Self::ProviderNotConfigured => row(
                "ProviderNotConfigured",
                Misconfiguration,
                "ProviderNotConfigured",
                "",
            ),
            Self::ProviderNotAllowed => {
                row("ProviderNotAllowed", Misconfiguration, REFRESH_FAILED, "")
            }
            Self::SecretNotAllowed => row("SecretNotAllowed", Misconfiguration, REFRESH_FAILED, ""),
            Self::SeedNotFound => row("SeedNotFound", Misconfiguration, REFRESH_FAILED, ""),
            Self::SeedInvalid => row("SeedInvalid", Misconfiguration, REFRESH_FAILED, ""),
            Self::SeedInUse => row("SeedInUse", Misconfiguration, "SeedInUse", ""),
            Self::SourceNotFound => row("SourceNotFound", Misconfiguration, "SourceNotFound", ""),
            Self::SourceInvalid => row("SourceInvalid", Misconfiguration, "SourceInvalid", ""),
            Self::HostInvalid => row("HostInvalid", Misconfiguration, "HostInvalid", ""),
            Self::InvalidClient => row(
                "InvalidClient",
                Misconfiguration,
                REFRESH_FAILED,
                "{origin} refused the client of {provider} ({answered}); check spec.client, its Secret and spec.clientAuth",
            ),
            Self::InvalidScope => row(
                "InvalidScope",
                Misconfiguration,
                REFRESH_FAILED,
                "{origin} ({provider}) refused the scopes ({answered}); change spec.oauth2.scopes",
            ),
            Self::RequestRefused => row(
                "RequestRefused",
                Misconfiguration,
                REFRESH_FAILED,
                "{origin} ({provider}) refused the request ({answered}); check the provider object against the provider's documentation",
            ),
            Self::EndpointNotFound => row(
                "EndpointNotFound",
                Misconfiguration,
                REFRESH_FAILED,
                "{origin} ({provider}) has no token endpoint at spec.tokenUrl ({answered}); redirects are not followed",
            ),
            Self::CertificateNotTrusted => row(
                "CertificateNotTrusted",
                Misconfiguration,
                REFRESH_FAILED,
                "the certificate of {origin} ({provider}) is not trusted; check spec.tokenUrl, and name its authority in spec.caBundle where it is not a public one",
            ),
            Self::EndpointNotAllowed => {
                row("EndpointNotAllowed", Misconfiguration, REFRESH_FAILED, "")
            }
            Self::TargetConflict => row("TargetConflict", Misconfiguration, "TargetConflict", ""),
            Self::TemplateInvalid => {
                row("TemplateInvalid", Misconfiguration, "TemplateInvalid", "")
            }
        }
    }

    /// The reason's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The class, which decides what follows.
    #[must_use]
    pub const fn class(self) -> Class {
        self.row().class
    }

    /// The reason of the event that tells people.
    #[must_use]
    pub const fn event(self) -> &'static str {
        self.row().event
    }

    /// What people are told where a provider's answer, or none, is the reason; with places for what it is about.
    #[must_use]
    pub(crate) const fn advice(self) -> &'static str {
        self.row().advice
    }

    /// Whether `reason`, read back from a status, is about the credential's own Secrets.
    #[must_use]
    pub fn concerns_secrets(reason: &str) -> bool {
        const SECRETS: [Reason; 6] = [
            Reason::APIServerError,
            Reason::GrantLost,
            Reason::GrantUnreadable,
            Reason::TargetConflict,
            Reason::TargetNotPublished,
            Reason::TemplateInvalid,
        ];
        SECRETS.iter().any(|r| r.as_str() == reason)
    }

    /// Whether `reason`, read back from a status, is that an exchange came to nothing and is to be made
    /// again, whoever asked for it.
    #[must_use]
    pub fn repeats_the_exchange(reason: &str) -> bool {
        let class = Self::from_name(reason).map(Self::class);
        matches!(
            class,
            Some(Class::Transient | Class::RateLimited | Class::Ambiguous)
        ) && !Self::concerns_secrets(reason)
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

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl Class {
    pub(crate) const ALL: [Self; 6] = [
        Self::Transient,
        Self::RateLimited,
        Self::Ambiguous,
        Self::NeedsReauthorization,
        Self::GrantUnusable,
        Self::Misconfiguration,
    ];

    /// The table from class to consequence.
    #[must_use]
    pub const fn consequence(self) -> Consequence {
        const fn seconds(first: u64, longest: u64) -> (Duration, Duration) {
            (Duration::from_secs(first), Duration::from_secs(longest))
        }
        let (stalled, retry, label) = match self {
            Self::Transient => (false, Some(seconds(1, 300)), "transient"),
            Self::RateLimited => (false, Some(seconds(5, 900)), "rate_limited"),
            Self::Ambiguous => (false, Some(seconds(1, 60)), "ambiguous"),
            Self::NeedsReauthorization => (true, None, "needs_reauthorization"),
            Self::GrantUnusable => (true, Some(seconds(5, 600)), "grant_unusable"),
            Self::Misconfiguration => (true, Some(seconds(5, 600)), "misconfiguration"),
        };
        Consequence {
            stalled,
            retry,
            label,
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
        let document = include_str!("../docs/troubleshooting.md");
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
                document.contains(&entry),
                "docs/troubleshooting.md lacks {entry:?}"
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
