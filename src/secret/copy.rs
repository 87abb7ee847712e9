//! The target of a credential that is copied, as it is to be.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{
    EXPIRES_AT, TOKEN_GENERATION, bytes,
    source::Source,
    target::{self, DIGEST, ISSUED_AT, assemble},
};
use crate::{
    api::{IntegrationCredential, Kind},
    failure::Failure,
};

/// What is known of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Counts the copies of the credential that were not the same.
    pub generation: u64,
    /// When it was made.
    pub copied_at: Timestamp,
    /// When its user says that it expires.
    pub expires_at: Option<Timestamp>,
}

/// A target as it is to be.
pub struct Wanted {
    /// What is known of it.
    pub copy: Copy,
    /// To be stored.
    pub secret: Secret,
    /// Whether other data is in it than in the one that it replaces.
    pub is_new: bool,
    /// Whether storing it changes nothing.
    pub is_there: bool,
}

impl Wanted {
    /// The target of `credential` for `source`, in the place of `found`; `known` is the highest generation that anybody
    /// knows of. What has other data is another generation, so that whoever read what was there learns of it.
    ///
    /// # Errors
    /// `TemplateInvalid`.
    pub fn new(
        credential: &IntegrationCredential,
        source: &Source,
        found: Option<&Secret>,
        known: u64,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let expires_at = credential.copied().and_then(Kind::expires_at);
        let stored = found.map_or(0, target::generation);
        let noted = found.and_then(|found| found.annotations().get(ISSUED_AT)?.parse().ok());
        let same = Copy {
            generation: stored,
            copied_at: noted.unwrap_or(now),
            expires_at,
        };
        let secret = render(source, &same, credential, found)?;
        if let Some(found) = found
            && stored >= known.max(1)
            && secret.data == found.data
        {
            return Ok(Self {
                copy: same,
                is_new: false,
                is_there: target::is_same(&secret, found),
                secret,
            });
        }
        let copy = Copy {
            generation: stored.max(known).saturating_add(1),
            copied_at: now,
            expires_at,
        };
        Ok(Self {
            copy,
            secret: render(source, &copy, credential, found)?,
            is_new: true,
            is_there: false,
        })
    }
}

fn render(
    source: &Source,
    copy: &Copy,
    credential: &IntegrationCredential,
    replaces: Option<&Secret>,
) -> Result<Secret, Failure> {
    let mut data = source.keys();
    let generation = bytes(&copy.generation.to_string());
    data.insert(TOKEN_GENERATION.to_owned(), generation);
    if let Some(at) = copy.expires_at {
        data.insert(EXPIRES_AT.to_owned(), bytes(&format!("{at:.0}")));
    }
    let notes = [(ISSUED_AT, copy.copied_at.to_string())];
    let mut secret = assemble(credential, data, notes, replaces)?;
    // The source tells whether it was edited, and a hash of a password helps to guess it.
    secret.annotations_mut().remove(DIGEST);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn credential(expires_at: Option<&str>) -> IntegrationCredential {
        let spec = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"},
            "expirationTime": expires_at}});
        let mut credential =
            IntegrationCredential::new("shop", serde_json::from_value(spec).unwrap());
        credential.metadata.uid = Some("uid-1".to_owned());
        credential
    }

    fn source(value: &str) -> Source {
        let mut found = Secret::default();
        let data = [("k".to_owned(), ByteString(value.as_bytes().to_vec()))];
        found.data = Some(data.into());
        let credential = credential(None);
        let read = Source::read(&credential, credential.spec.kind().unwrap(), Some(&found));
        read.ok().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn wanted(value: &str, found: Option<&Secret>, known: u64, now: i64) -> Wanted {
        let (credential, source) = (credential(None), source(value));
        Wanted::new(&credential, &source, found, known, at(now)).unwrap()
    }

    #[test]
    fn the_same_value_is_the_same_generation_and_another_the_next() {
        let first = wanted("a", None, 0, 0);
        assert_eq!((first.copy.generation, first.is_new), (1, true));
        let same = wanted("a", Some(&first.secret), 1, 50);
        assert!(same.is_there && !same.is_new);
        assert_eq!(same.copy, first.copy);
        let second = wanted("b", Some(&first.secret), 1, 60);
        assert_eq!((second.copy.generation, second.copy.copied_at), (2, at(60)));
        // It never goes back, whatever was put there or is gone.
        assert_eq!(wanted("a", Some(&first.secret), 7, 70).copy.generation, 8);
        assert_eq!(wanted("a", None, 7, 70).copy.generation, 8);
    }

    #[test]
    fn an_edit_of_the_target_is_another_generation_and_one_beside_the_data_is_not() {
        let first = wanted("a", None, 0, 0);
        let mut edited = first.secret.clone();
        edited
            .data
            .as_mut()
            .unwrap()
            .insert("api_key".to_owned(), bytes("x"));
        let mended = wanted("a", Some(&edited), 1, 50);
        assert_eq!((mended.copy.generation, mended.is_new), (2, true));
        let mut unlabelled = first.secret.clone();
        unlabelled.labels_mut().clear();
        let mended = wanted("a", Some(&unlabelled), 1, 50);
        assert!(!mended.is_there && !mended.is_new);
        assert_eq!(mended.copy, first.copy);
    }

    #[test]
    fn an_expiry_that_changes_is_published() {
        let first = wanted("a", None, 0, 0);
        let later = credential(Some("2030-01-01T00:00:00Z"));
        let second = Wanted::new(&later, &source("a"), Some(&first.secret), 1, at(50)).unwrap();
        let data = second.secret.data.unwrap();
        assert_eq!(data["expires_at"].0, b"2030-01-01T00:00:00Z");
        assert_eq!(data["token_generation"].0, b"2");
    }

    #[test]
    fn no_hash_of_what_can_be_guessed_is_shown() {
        let first = wanted("a", None, 0, 0);
        assert!(!first.secret.annotations().contains_key(DIGEST));
    }
}
