//! Tokens that were obtained and are in no Secret yet, where no grant holds them: asking for another one each time that
//! the target cannot be written would be asking without end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Token;

/// Memory of one process. When it is lost, one more token is asked for.
#[derive(Clone, Default)]
pub struct Unpublished {
    tokens: Arc<Mutex<HashMap<String, (Token, String)>>>,
}

impl Unpublished {
    fn tokens(&self) -> MutexGuard<'_, HashMap<String, (Token, String)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the token of the credential with this UID, which was asked for as `request_hash` says.
    pub fn keep(&self, credential_uid: &str, token: &Token, request_hash: &str) {
        let kept = (token.clone(), request_hash.to_owned());
        self.tokens().insert(credential_uid.to_owned(), kept);
    }

    /// The token of the credential with this UID, where it was asked for in this way.
    #[must_use]
    pub fn find(&self, credential_uid: &str, request_hash: &str) -> Option<Token> {
        let tokens = self.tokens();
        let (token, hash) = tokens.get(credential_uid)?;
        (hash == request_hash).then(|| token.clone())
    }

    /// It is published, or its credential is gone.
    pub fn forget(&self, credential_uid: &str) {
        self.tokens().remove(credential_uid);
    }
}
