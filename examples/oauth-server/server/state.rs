//! Tokens and the rules by which they live and die.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::assertion::PublicKey;
use super::behaviour::{Behaviour, Client, OldToken, Reuse};
use super::code::Code;
use super::fault::{Fault, Reply};
use super::log::{Outcome, ResourceCall, Revocation, TokenRequest};
use super::request::{ClientAuth, Credentials, Presented, Refusal};

/// `grant_type` of RFC 7523, section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// An authorization: every token that descends from it dies with it.
#[derive(Debug)]
struct Family {
    client: String,
    scope: String,
    revoked: bool,
    /// How often it was refreshed.
    refreshes: usize,
    /// Access tokens that were neither replaced nor revoked.
    access: Vec<String>,
}

#[derive(Debug)]
struct Access {
    family: usize,
    scope: String,
    expires: Duration,
    revoked: bool,
}

#[derive(Debug)]
struct Refresh {
    family: usize,
    spent: Option<(Duration, Grant)>,
}

/// Tokens that were issued together.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    access_token: String,
    pub(super) refresh_token: Option<String>,
    scope: String,
    expires: Duration,
}

impl Grant {
    /// RFC 6749, section 5.1.
    fn reply(&self, now: Duration) -> Reply {
        let mut reply = Reply::new(true, 200);
        reply.set("access_token", self.access_token.as_str());
        reply.set("token_type", "Bearer");
        // Whole seconds, rounded down: no token dies before its time.
        reply.set("expires_in", self.expires.saturating_sub(now).as_secs());
        if let Some(token) = &self.refresh_token {
            reply.set("refresh_token", token.as_str());
        }
        if !self.scope.is_empty() {
            reply.set("scope", self.scope.as_str());
        }
        reply
    }

    /// As GitHub answers an app that asks for a token of an installation.
    fn installation_reply(&self, now: Duration) -> Reply {
        let mut reply = Reply::new(true, 201);
        let left = self.expires.saturating_sub(now);
        let expires_at = jiff::Timestamp::now().saturating_add(left);
        reply.set("token", self.access_token.as_str());
        reply.set(
            "expires_at",
            expires_at.map_or(String::new(), |at| format!("{at:.0}")),
        );
        reply.set("permissions", serde_json::json!({"contents": "read"}));
        reply.set("repository_selection", "all");
        reply
    }
}

/// Everything the server knows; whoever holds it decides alone.
#[derive(Debug)]
pub struct State {
    /// `http://address:port`.
    pub url: String,
    pub behaviour: Behaviour,
    pub clients: Vec<Client>,
    /// Faults for the next requests, each for one.
    pub faults: VecDeque<Fault>,
    /// The fault for every request that finds no other.
    pub standing_fault: Option<Fault>,
    pub requests: Vec<TokenRequest>,
    /// How many of them are no longer pending.
    pub decided: usize,
    /// How often each refresh token was presented.
    pub presented: HashMap<String, usize>,
    pub resource_calls: Vec<ResourceCall>,
    pub(super) codes: HashMap<String, Code>,
    /// Whose assertions are grants, and the keys that they sign with.
    pub issuers: HashMap<String, Vec<PublicKey>>,
    /// The identifiers of assertions that were taken.
    pub(super) assertions: HashSet<String>,
    /// Faults for the next requests for revocation, and for those after them.
    pub revocation_faults: VecDeque<Fault>,
    pub standing_revocation_fault: Option<Fault>,
    pub revocations: Vec<Revocation>,
    families: Vec<Family>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    /// The authorization of each client for itself.
    machine: HashMap<String, usize>,
    started: Instant,
    ahead: Duration,
}

impl State {
    pub fn new(url: String, clients: Vec<Client>, behaviour: Behaviour) -> Self {
        Self {
            url,
            behaviour,
            clients,
            faults: VecDeque::new(),
            standing_fault: None,
            requests: Vec::new(),
            decided: 0,
            presented: HashMap::new(),
            resource_calls: Vec::new(),
            codes: HashMap::new(),
            issuers: HashMap::new(),
            assertions: HashSet::new(),
            revocation_faults: VecDeque::new(),
            standing_revocation_fault: None,
            revocations: Vec::new(),
            families: Vec::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            machine: HashMap::new(),
            started: Instant::now(),
            ahead: Duration::ZERO,
        }
    }

    /// The server's clock, by which tokens expire and grace ends.
    fn now(&self) -> Duration {
        self.started.elapsed().saturating_add(self.ahead)
    }

    /// Moves the clock on.
    pub fn advance(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(by);
    }

    /// The fault that a request which arrives now meets.
    pub fn next_fault(&mut self) -> Option<Fault> {
        let queued = self.faults.pop_front();
        queued.or_else(|| self.standing_fault.clone())
    }

    /// A new authorization and its first refresh token.
    pub fn issue(&mut self, client: &str, scope: &str) -> String {
        let family = self.new_family(client, scope);
        self.new_refresh_token(family)
    }

    /// Decides a token request. This is the commit: tokens are issued and spent here only.
    pub fn decide(&mut self, request: &Presented) -> (Outcome, Reply) {
        let now = self.now();
        match self.grant(request, now) {
            Ok(grant) => {
                let reply = if request.is_for_installation() {
                    grant.installation_reply(now)
                } else {
                    grant.reply(now)
                };
                let outcome = Outcome::Granted {
                    access_token: grant.access_token,
                    refresh_token: grant.refresh_token,
                };
                (outcome, reply)
            }
            Err(refusal) => {
                let outcome = Outcome::Refused {
                    error: refusal.error.to_owned(),
                };
                (outcome, refusal.reply())
            }
        }
    }

    /// Revokes the token of a request (RFC 7009): a refresh token with all of its authorization, an access token alone.
    /// Whether there was something to revoke; a token that is not known is no error.
    pub fn revoke(&mut self, request: &Presented) -> Result<bool, Refusal> {
        request.check(self.behaviour.accept_json)?;
        let credentials = request.credentials(self.behaviour.basic_raw)?;
        self.authenticate(&credentials, request)?;
        let missing = || Refusal::new("invalid_request", "token is missing");
        let token = request.param("token").ok_or_else(missing)?;
        let Some(index) = self.family_of(token) else {
            return Ok(false);
        };
        if self.families[index].client != credentials.id {
            let text = "the token belongs to another client";
            return Err(Refusal::new("invalid_grant", text));
        }
        if self.refresh.contains_key(token) {
            self.revoke_family(index);
        } else {
            self.revoke_access_token(token);
        }
        Ok(true)
    }

    fn grant(&mut self, request: &Presented, now: Duration) -> Result<Grant, Refusal> {
        request.check(self.behaviour.accept_json)?;
        if request.is_for_installation() {
            let app = self.check_app(request)?;
            return Ok(self.machine_token(&app, "", now));
        }
        let named = request.param("grant_type");
        let names = self.behaviour.grant_names.clone();
        let grant_type = named.map(|named| names.get(named).map_or(named, String::as_str));
        let scope = request.param("scope");
        if grant_type == Some(JWT_BEARER) {
            if !request.is_anonymous() {
                let credentials = request.credentials(self.behaviour.basic_raw)?;
                self.authenticate(&credentials, request)?;
            }
            let (subject, claimed) = self.check_grant_assertion(request)?;
            let scope = claimed.as_deref().or(scope).unwrap_or_default();
            return Ok(self.machine_token(&subject, scope, now));
        }
        let credentials = request.credentials(self.behaviour.basic_raw)?;
        self.authenticate(&credentials, request)?;
        let missing = |text| Refusal::new("invalid_request", text);
        match grant_type {
            Some("authorization_code") => self.redeem_code(&credentials.id, request, now),
            Some("refresh_token") => {
                let token = request.param("refresh_token");
                let token = token.ok_or_else(|| missing("refresh_token is missing"))?;
                self.redeem(token, &credentials.id, scope, now)
            }
            Some("client_credentials") if credentials.method == ClientAuth::Public => {
                Err(Refusal::new(
                    "unauthorized_client",
                    "a public client gets no token by client_credentials",
                ))
            }
            Some("client_credentials") => {
                Ok(self.machine_token(&credentials.id, scope.unwrap_or_default(), now))
            }
            Some(_) => Err(Refusal::new("unsupported_grant_type", "not known here")),
            None => Err(missing("grant_type is missing")),
        }
    }

    fn authenticate(
        &mut self,
        credentials: &Credentials,
        request: &Presented,
    ) -> Result<(), Refusal> {
        if credentials.method == ClientAuth::Assertion {
            return self.check_client_assertion(&credentials.id, request);
        }
        let client = self.clients.iter().find(|known| known.id == credentials.id);
        let accepted = match (client, &credentials.secret) {
            (None, _) => false,
            (Some(client), None) => client.secrets.is_empty() && client.keys.is_empty(),
            (Some(client), Some(secret)) => client.secrets.contains(secret),
        };
        if accepted {
            return Ok(());
        }
        Err(Refusal::new("invalid_client", "unknown client or secret"))
    }

    fn redeem(
        &mut self,
        token: &str,
        client: &str,
        scope: Option<&str>,
        now: Duration,
    ) -> Result<Grant, Refusal> {
        let refused = |text| Err(Refusal::new("invalid_grant", text));
        let Some(record) = self.refresh.get(token) else {
            return refused("unknown refresh token");
        };
        let index = record.family;
        let family = &self.families[index];
        if family.client != client {
            return refused("the refresh token belongs to another client");
        }
        if family.revoked {
            return refused("the authorization was revoked");
        }
        if let Some((at, grant)) = &record.spent {
            let successor = grant.refresh_token.as_ref();
            let successor_unspent = successor.is_some_and(|token| self.is_unspent(token));
            if now < at.saturating_add(self.behaviour.grace) && successor_unspent {
                return Ok(grant.clone());
            }
            if self.behaviour.reuse == Reuse::RevokesFamily {
                self.families[index].revoked = true;
            }
            return refused("the refresh token was redeemed before");
        }
        let scope = narrowed(&family.scope, scope)?;
        if self.behaviour.on_refresh == OldToken::Dies {
            self.retire_access_tokens(index);
        }
        let mut grant = self.new_grant(index, scope, now);
        self.families[index].refreshes += 1;
        let refreshes = self.families[index].refreshes;
        if self.behaviour.rotation && refreshes.is_multiple_of(self.behaviour.rotates_every) {
            grant.refresh_token = Some(self.new_refresh_token(index));
            if let Some(record) = self.refresh.get_mut(token) {
                record.spent = Some((now, grant.clone()));
            }
        }
        Ok(grant)
    }

    fn machine_token(&mut self, client: &str, scope: &str, now: Duration) -> Grant {
        let known = self.machine.get(client).copied();
        let family = match known.filter(|&index| !self.families[index].revoked) {
            Some(index) => index,
            None => self.new_family(client, scope),
        };
        self.machine.insert(client.to_owned(), family);
        if self.behaviour.on_client_credentials == OldToken::Dies {
            self.retire_access_tokens(family);
        }
        self.new_grant(family, scope.to_owned(), now)
    }

    pub(super) fn new_family(&mut self, client: &str, scope: &str) -> usize {
        self.families.push(Family {
            client: client.to_owned(),
            scope: scope.to_owned(),
            revoked: false,
            refreshes: 0,
            access: Vec::new(),
        });
        self.families.len() - 1
    }

    pub(super) fn new_refresh_token(&mut self, family: usize) -> String {
        let token = format!("rt-{}", Uuid::new_v4());
        let record = Refresh {
            family,
            spent: None,
        };
        self.refresh.insert(token.clone(), record);
        token
    }

    pub(super) fn new_grant(&mut self, family: usize, scope: String, now: Duration) -> Grant {
        let token = format!("at-{}", Uuid::new_v4());
        let expires = now.saturating_add(self.behaviour.lifetime);
        let record = Access {
            family,
            scope: scope.clone(),
            expires,
            revoked: false,
        };
        self.access.insert(token.clone(), record);
        self.families[family].access.push(token.clone());
        Grant {
            access_token: token,
            refresh_token: None,
            scope,
            expires,
        }
    }

    /// Ends an authorization.
    pub(super) fn revoke_family(&mut self, family: usize) {
        self.families[family].revoked = true;
    }

    fn retire_access_tokens(&mut self, family: usize) {
        for token in std::mem::take(&mut self.families[family].access) {
            self.revoke_access_token(&token);
        }
    }

    /// Ends one access token and nothing else; false if there is none such.
    pub fn revoke_access_token(&mut self, token: &str) -> bool {
        let record = self.access.get_mut(token);
        record.is_some_and(|record| {
            record.revoked = true;
            true
        })
    }

    /// The authorization that a token of either kind belongs to.
    fn family_of(&self, token: &str) -> Option<usize> {
        let of_access = self.access.get(token).map(|record| record.family);
        let of_refresh = || self.refresh.get(token).map(|record| record.family);
        of_access.or_else(of_refresh)
    }

    /// Ends the authorization that a token of either kind belongs to; false if there is none.
    pub fn revoke_family_of(&mut self, token: &str) -> bool {
        self.family_of(token).is_some_and(|index| {
            self.families[index].revoked = true;
            true
        })
    }

    /// Whether the authorization that a token of either kind belongs to has ended.
    pub fn is_family_revoked(&self, token: &str) -> bool {
        let family = self.family_of(token);
        family.is_some_and(|index| self.families[index].revoked)
    }

    fn is_unspent(&self, refresh_token: &str) -> bool {
        let record = self.refresh.get(refresh_token);
        record.is_some_and(|record| record.spent.is_none())
    }

    /// Whether redeeming this refresh token would yield tokens for the first time.
    pub fn is_redeemable(&self, refresh_token: &str) -> bool {
        let record = self.refresh.get(refresh_token);
        record.is_some_and(|record| record.spent.is_none() && !self.families[record.family].revoked)
    }

    /// Whether the resource accepts this token now, and if so its scope.
    pub fn live_scope(&self, access_token: &str) -> Option<&str> {
        let record = self.access.get(access_token)?;
        let dead = record.revoked || self.families[record.family].revoked;
        (!dead && self.now() < record.expires).then_some(record.scope.as_str())
    }

    /// How many access tokens the resource accepts now.
    pub fn live_access_tokens(&self) -> usize {
        let live = |token: &&String| self.live_scope(token).is_some();
        self.access.keys().filter(live).count()
    }
}

/// The scope that a refresh asks for: nothing that was not granted (RFC 6749, section 6).
fn narrowed(granted: &str, asked: Option<&str>) -> Result<String, Refusal> {
    let asked = asked.unwrap_or(granted);
    let known: Vec<&str> = granted.split_whitespace().collect();
    if asked.split_whitespace().all(|scope| known.contains(&scope)) {
        return Ok(asked.to_owned());
    }
    Err(Refusal::new("invalid_scope", "more than was granted"))
}
