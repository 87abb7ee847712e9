//! The grant: the current refresh token, in a Secret of ours that is written before anything else and
//! only ever by compare-and-swap.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    TOKEN_GENERATION, Token, ValueError, bytes, is_owned, parsed, parsed_optional, stored,
    stored_optional, text,
};
use crate::{
    api::{CREDENTIAL_LABEL, IntegrationCredential, ROLE_LABEL, WATCH_LABEL},
    finalizer,
    lock::protocol::{self, Merge, Rival},
};

/// The type of grant Secrets.
pub const TYPE: &str = "tokenward.dev/grant";

const REFRESH_EXPIRES_AT: &str = "refresh_expires_at";

/// How many authorizations are remembered.
const HISTORY: usize = 16;

/// An authorization as it stands: the unit of truth of a credential with grant `RefreshToken`.
#[derive(Clone)]
pub struct Grant {
    /// The current access token.
    pub token: Token,
    /// The refresh token to present next.
    pub refresh_token: SecretString,
    /// The authorizations that were adopted or refused, the latest last.
    pub seeds: Vec<SeedRecord>,
    /// Where the refresh token may be presented: scheme, host and port of the token endpoint.
    pub origin: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// The attempt that obtained the current tokens.
    pub attempt: String,
    /// When the authorization that is in use was adopted.
    pub authorized_at: Timestamp,
    /// When the refresh token expires, where the provider says so.
    pub refresh_expires_at: Option<Timestamp>,
}

/// An authorization that was presented to the provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SeedRecord {
    /// [`super::seed::fingerprint`].
    pub fingerprint: String,
    /// Whether the provider took it.
    pub adopted: bool,
}

/// What a seed is to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The authorization that the grant came from.
    Current,
    /// One that was never presented.
    New,
    /// One that the provider refused.
    Refused,
    /// One that was adopted and has been replaced: its refresh token is spent.
    Superseded,
}

/// Why a grant Secret cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It was made for another object.
    #[error("it was not made for this credential")]
    Foreign,
    /// A value was edited.
    #[error("it {1} {0}")]
    Value(&'static str, ValueError),
}

impl Grant {
    /// Reads a grant Secret, if it was made for this credential.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(secret: &Secret, credential_uid: &str) -> Result<Self, GrantError> {
        if !is_owned(secret, credential_uid) {
            return Err(GrantError::Foreign);
        }
        Self::read_stored(secret)
    }

    /// Reads a grant Secret whose owner was looked at already.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read_stored(secret: &Secret) -> Result<Self, GrantError> {
        let at = |key: &'static str| move |error| GrantError::Value(key, error);
        let string = |key: &'static str| text(secret, key).map(str::to_owned).map_err(at(key));
        Ok(Self {
            token: Token {
                generation: parsed(secret, TOKEN_GENERATION).map_err(at(TOKEN_GENERATION))?,
                access_token: stored(secret, "access_token").map_err(at("access_token"))?,
                token_type: string("token_type")?,
                scopes: scopes(text(secret, "scope").unwrap_or_default()),
                issued_at: parsed(secret, "issued_at").map_err(at("issued_at"))?,
                expires_at: parsed_optional(secret, "expires_at").map_err(at("expires_at"))?,
                id_token: stored_optional(secret, "id_token").map_err(at("id_token"))?,
                metadata: json(secret, "metadata")?.unwrap_or_default(),
            },
            refresh_token: stored(secret, "refresh_token").map_err(at("refresh_token"))?,
            seeds: json(secret, "seeds")?.ok_or(GrantError::Value("seeds", ValueError::Missing))?,
            origin: string("origin")?,
            client_id: string("client_id")?,
            attempt: string("attempt")?,
            authorized_at: parsed(secret, "authorized_at").map_err(at("authorized_at"))?,
            refresh_expires_at: parsed_optional(secret, REFRESH_EXPIRES_AT)
                .map_err(at(REFRESH_EXPIRES_AT))?,
        })
    }

    /// The Secret to store, with the metadata of the one that it replaces.
    #[must_use]
    pub fn render(&self, credential: &IntegrationCredential, replaces: Option<&Secret>) -> Secret {
        let token = &self.token;
        let mut data = [
            (TOKEN_GENERATION, bytes(&token.generation.to_string())),
            ("access_token", bytes(token.access_token.expose_secret())),
            ("token_type", bytes(&token.token_type)),
            ("scope", bytes(&token.scopes.join(" "))),
            ("issued_at", bytes(&token.issued_at.to_string())),
            ("refresh_token", bytes(self.refresh_token.expose_secret())),
            ("seeds", bytes(&written(&self.seeds))),
            ("origin", bytes(&self.origin)),
            ("client_id", bytes(&self.client_id)),
            ("attempt", bytes(&self.attempt)),
            ("authorized_at", bytes(&self.authorized_at.to_string())),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        if let Some(expires_at) = token.expires_at {
            data.push(("expires_at".to_owned(), bytes(&expires_at.to_string())));
        }
        if let Some(id_token) = &token.id_token {
            data.push(("id_token".to_owned(), bytes(id_token.expose_secret())));
        }
        if !token.metadata.is_empty() {
            data.push(("metadata".to_owned(), bytes(&written(&token.metadata))));
        }
        if let Some(at) = self.refresh_expires_at {
            data.push((REFRESH_EXPIRES_AT.to_owned(), bytes(&at.to_string())));
        }
        let mut secret = Secret {
            metadata: replaces.map(|r| r.metadata.clone()).unwrap_or_default(),
            type_: Some(TYPE.to_owned()),
            data: Some(data.into_iter().collect()),
            ..Secret::default()
        };
        own(&mut secret, credential, &credential.grant_name(), "grant");
        finalizer::guard(&mut secret.metadata, credential);
        secret
    }

    /// What the seed with this fingerprint is to this grant.
    #[must_use]
    pub fn verdict(&self, fingerprint: &str) -> Verdict {
        let Some(record) = self.seeds.iter().rfind(|s| s.fingerprint == fingerprint) else {
            return Verdict::New;
        };
        if !record.adopted {
            return Verdict::Refused;
        }
        let latest = self.seeds.iter().rfind(|s| s.adopted);
        if latest.is_some_and(|latest| latest.fingerprint == fingerprint) {
            Verdict::Current
        } else {
            Verdict::Superseded
        }
    }

    /// What an unusable grant still tells of the authorizations that were presented.
    #[must_use]
    pub fn salvage_seeds(secret: &Secret) -> Vec<SeedRecord> {
        let seeds = text(secret, "seeds").unwrap_or_default();
        serde_json::from_str(seeds).unwrap_or_default()
    }

    /// Takes over what another grant remembers and this one does not, as older.
    pub fn remember_also(&mut self, seeds: &[SeedRecord]) {
        let known = |s: &&SeedRecord| self.seeds.iter().all(|k| k.fingerprint != s.fingerprint);
        let mut all: Vec<_> = seeds.iter().filter(known).cloned().collect();
        all.append(&mut self.seeds);
        self.seeds = all;
        self.forget();
    }

    /// Remembers that a seed was presented.
    pub fn remember(&mut self, fingerprint: &str, adopted: bool) {
        self.seeds.retain(|s| s.fingerprint != fingerprint);
        self.seeds.push(SeedRecord {
            fingerprint: fingerprint.to_owned(),
            adopted,
        });
        self.forget();
    }

    fn forget(&mut self) {
        // The authorization that is in use is never forgotten, however many were refused after it.
        while self.seeds.len() > HISTORY {
            let latest = self.seeds.iter().rposition(|s| s.adopted);
            self.seeds.remove(usize::from(latest == Some(0)));
        }
    }
}

/// Gives a Secret its name, owner and labels, and keeps whatever other metadata it has.
pub(super) fn own(secret: &mut Secret, credential: &IntegrationCredential, name: &str, role: &str) {
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = credential.namespace();
    secret.metadata.managed_fields = None;
    if secret.owner_references().is_empty() {
        secret.metadata.owner_references = credential.controller_owner_ref(&()).map(|o| vec![o]);
    }
    let labels = secret.labels_mut();
    labels.insert(CREDENTIAL_LABEL.to_owned(), credential.name_any());
    labels.insert(ROLE_LABEL.to_owned(), role.to_owned());
    labels.insert(WATCH_LABEL.to_owned(), "true".to_owned());
}

pub(super) fn scopes(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What stands at a key as JSON; nothing where there is no such key.
fn json<T: DeserializeOwned>(secret: &Secret, key: &'static str) -> Result<Option<T>, GrantError> {
    let text = match text(secret, key) {
        Err(ValueError::Missing) => return Ok(None),
        found => found.map_err(|error| GrantError::Value(key, error))?,
    };
    let read = serde_json::from_str(text);
    read.map(Some)
        .map_err(|_| GrantError::Value(key, ValueError::Malformed))
}

fn written<T: Serialize + ?Sized>(value: &T) -> String {
    // Lists and maps of strings always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// Whose refresh token an exchange presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The grant's.
    Grant,
    /// A seed's.
    Seed,
    /// A seed's, where the provider had refused the grant before.
    SeedOverADead,
}

/// Decides what becomes of `ours` in the face of `stored`. `base` is the generation that was read
/// before the exchange; `spent` is the refresh token that was presented.
#[must_use]
pub fn merge(ours: &Grant, spent: &SecretString, whose: Whose, base: u64, stored: &Grant) -> Merge {
    let spent = spent.expose_secret();
    let is_ours = stored.attempt == ours.attempt;
    let adopting = whose != Whose::Grant;
    let seed = ours.seeds.last().filter(|_| adopting && !is_ours);
    // Another attempt may have presented the same seed meanwhile: what came of that counts, and this one's tokens may have
    // ended with it. They are worth a try only where there is nothing else.
    let is_over = seed.is_some_and(|seed| match stored.verdict(&seed.fingerprint) {
        Verdict::New => false,
        Verdict::Refused => whose != Whose::SeedOverADead,
        Verdict::Current | Verdict::Superseded => true,
    });
    if is_over {
        return Merge::Drop;
    }
    protocol::merge(Rival {
        is_ours,
        generation: stored.token.generation,
        has_moved: stored.token.generation > base,
        holds_the_spent_token: stored.refresh_token.expose_secret() == spent,
        exchange_rotated: ours.refresh_token.expose_secret() != spent,
        exchange_adopted: adopting,
    })
}

/// A grant for tests.
#[cfg(test)]
pub(crate) fn sample(generation: u64, refresh_token: &str, issued_at: Timestamp) -> Grant {
    Grant {
        token: Token {
            generation,
            access_token: format!("at-{generation}").into(),
            token_type: "Bearer".to_owned(),
            scopes: vec!["a".to_owned()],
            issued_at,
            expires_at: Some(issued_at + std::time::Duration::from_secs(3600)),
            id_token: None,
            metadata: std::collections::BTreeMap::new(),
        },
        refresh_token: refresh_token.into(),
        seeds: Vec::new(),
        origin: "https://login.example.com".to_owned(),
        client_id: "client".to_owned(),
        attempt: format!("attempt-{generation}"),
        authorized_at: issued_at,
        refresh_expires_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::IntegrationCredentialSpec;

    fn credential() -> IntegrationCredential {
        let spec: IntegrationCredentialSpec = serde_json::from_value(serde_json::json!({
            "oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken", "seedSecretRef": {"name": "s"}}
        }))
        .unwrap();
        let mut credential = IntegrationCredential::new("alice", spec);
        credential.metadata.uid = Some("uid-1".to_owned());
        credential.metadata.namespace = Some("ns".to_owned());
        credential
    }

    #[test]
    fn a_grant_survives_being_stored_and_read() {
        let mut grant = sample(7, "rt-7", "2026-01-01T00:00:00.5Z".parse().unwrap());
        grant.remember("f1", true);
        let secret = grant.render(&credential(), None);
        let read = Grant::read(&secret, "uid-1").ok().unwrap();
        assert_eq!(read.token.generation, 7);
        assert_eq!(read.refresh_token.expose_secret(), "rt-7");
        assert_eq!(read.token.issued_at, grant.token.issued_at);
        assert_eq!(read.token.expires_at, grant.token.expires_at);
        assert_eq!(read.seeds, grant.seeds);
        assert_eq!(read.attempt, grant.attempt);
        assert_eq!(
            Grant::read(&secret, "uid-2").err(),
            Some(GrantError::Foreign)
        );
    }

    #[test]
    fn an_edited_grant_is_refused_key_by_key() {
        let now = Timestamp::UNIX_EPOCH;
        let whole = sample(1, "rt", now).render(&credential(), None);
        for key in [
            "token_generation",
            "access_token",
            "issued_at",
            "refresh_token",
            "seeds",
            "expires_at",
        ] {
            let mut secret = whole.clone();
            let data = secret.data.as_mut().unwrap();
            data.insert(key.to_owned(), bytes(""));
            assert!(Grant::read(&secret, "uid-1").is_err(), "{key}");
        }
        for key in [
            "token_generation",
            "refresh_token",
            "seeds",
            "origin",
            "attempt",
        ] {
            let mut secret = whole.clone();
            secret.data.as_mut().unwrap().remove(key);
            assert!(
                matches!(Grant::read(&secret, "uid-1"), Err(GrantError::Value(k, ValueError::Missing)) if k == key),
                "{key}"
            );
        }
    }

    #[test]
    fn the_history_tells_what_a_seed_is() {
        let mut grant = sample(1, "rt", Timestamp::UNIX_EPOCH);
        assert_eq!(grant.verdict("a"), Verdict::New);
        grant.remember("a", true);
        assert_eq!(grant.verdict("a"), Verdict::Current);
        grant.remember("b", false);
        assert_eq!(grant.verdict("b"), Verdict::Refused);
        assert_eq!(grant.verdict("a"), Verdict::Current);
        grant.remember("c", true);
        assert_eq!(grant.verdict("a"), Verdict::Superseded);
        for n in 0..40 {
            grant.remember(&format!("x{n}"), false);
        }
        assert_eq!(grant.seeds.len(), 16);
        assert_eq!(grant.verdict("c"), Verdict::Current);
    }

    #[test]
    fn the_merge_never_drops_a_rotated_token_and_never_resurrects_an_old_one() {
        let now = Timestamp::UNIX_EPOCH;
        let base = sample(4, "rt-4", now);
        let spent = base.refresh_token.clone();
        let ours = sample(5, "rt-5", now);
        let merge = |ours: &Grant, stored: &Grant, adopting| {
            let whose = if adopting { Whose::Seed } else { Whose::Grant };
            merge(ours, &spent, whose, 4, stored)
        };

        // Nothing happened, or only an edit that kept the generation.
        assert_eq!(merge(&ours, &base, false), Merge::Write(4));
        // Our own write whose answer was lost.
        assert_eq!(merge(&ours, &ours.clone(), false), Merge::Stored);
        // Somebody raised the generation but the spent token is still there: ours is the only good one.
        let mut raised = sample(9, "rt-4", now);
        assert_eq!(merge(&ours, &raised, false), Merge::Write(9));
        // Without a new refresh token ours is just another access token.
        let mut unrotated = ours.clone();
        unrotated.refresh_token = spent.clone();
        assert_eq!(merge(&unrotated, &raised, false), Merge::Drop);
        // Somebody stored another authorization meanwhile.
        raised.refresh_token = "other".into();
        assert_eq!(merge(&ours, &raised, false), Merge::Drop);
        // A backup that was put back meanwhile is older than both.
        assert_eq!(
            merge(&ours, &sample(3, "rt-3", now), false),
            Merge::Write(3)
        );
        // A new authorization that the provider took is kept.
        assert_eq!(merge(&ours, &raised, true), Merge::Write(9));
        // Unless another attempt has presented it again, and that was refused: it may have ended with that.
        let mut adopted = ours.clone();
        adopted.remember("seed", true);
        assert_eq!(merge(&adopted, &base, true), Merge::Write(4));
        let mut refused = base.clone();
        refused.remember("seed", false);
        assert_eq!(merge(&adopted, &refused, true), Merge::Drop);
        // Where the grant is dead there is nothing to lose.
        let over_a_dead = super::merge(&adopted, &spent, Whose::SeedOverADead, 4, &refused);
        assert_eq!(over_a_dead, Merge::Write(4));
        let mut again = raised.clone();
        again.remember("seed", true);
        assert_eq!(merge(&adopted, &again, true), Merge::Drop);
        assert_eq!(merge(&adopted, &adopted.clone(), true), Merge::Stored);
    }
}
