//! Authorization codes (RFC 6749, section 4.1.3) with their proof keys (RFC 7636).

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use uuid::Uuid;

use super::request::{Presented, Refusal};
use super::state::{Grant, State};

/// What a code was issued for.
#[derive(Debug, Clone, Default)]
pub struct CodeTerms {
    /// `scope` of the authorization request.
    pub scope: String,
    /// `redirect_uri` of the authorization request.
    pub redirect_uri: Option<String>,
    /// `code_challenge` of the authorization request, by the method S256.
    pub challenge: Option<String>,
}

/// A code that was issued.
#[derive(Debug)]
pub(super) struct Code {
    client: String,
    terms: CodeTerms,
    /// The authorization that it was redeemed for.
    family: Option<usize>,
}

/// The challenge of a verifier (RFC 7636, section 4.2).
pub fn challenge(verifier: &str) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref())
}

impl State {
    /// A code for a client.
    pub(super) fn issue_code(&mut self, client: &str, terms: CodeTerms) -> String {
        let code = format!("code-{}", Uuid::new_v4());
        let record = Code {
            client: client.to_owned(),
            terms,
            family: None,
        };
        self.codes.insert(code.clone(), record);
        code
    }

    /// Redeems a code once. Whoever presents it again ends what it was redeemed for.
    pub(super) fn redeem_code(
        &mut self,
        client: &str,
        request: &Presented,
        now: Duration,
    ) -> Result<Grant, Refusal> {
        let refused = |text| Err(Refusal::new("invalid_grant", text));
        let code = request.param("code").unwrap_or_default();
        let Some(record) = self.codes.get(code) else {
            return refused("unknown code");
        };
        if record.client != client {
            return refused("the code belongs to another client");
        }
        if record.terms.redirect_uri.as_deref() != request.param("redirect_uri") {
            return refused("redirect_uri is not that of the authorization request");
        }
        if record.terms.challenge != request.param("code_verifier").map(challenge) {
            return refused("code_verifier is not that of the authorization request");
        }
        if let Some(family) = record.family {
            self.revoke_family(family);
            return refused("the code was redeemed before");
        }
        let scope = record.terms.scope.clone();
        let family = self.new_family(client, &scope);
        if let Some(record) = self.codes.get_mut(code) {
            record.family = Some(family);
        }
        let mut grant = self.new_grant(family, scope, now);
        grant.refresh_token = Some(self.new_refresh_token(family));
        Ok(grant)
    }
}
