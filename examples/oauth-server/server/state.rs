//! Tokens and the rules by which they live and die.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::fault::{Fault, Reply};
use super::log::{Outcome, ResourceCall, TokenRequest};
use super::request::{Credentials, Presented, Refusal};

/// A client of the server.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// Every secret that is accepted; none makes it a public client.
    pub secrets: Vec<String>,
}

impl Client {
    /// A client with these secrets.
    pub fn new(id: &str, secrets: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            secrets: secrets.iter().map(|&secret| secret.to_owned()).collect(),
        }
    }
}

/// What becomes of the access token when a new one is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldToken {
    /// It dies with the commit of the new one.
    Dies,
    /// It lives until it expires.
    Survives,
}

/// What a spent refresh token brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// `invalid_grant`, and every token of the same authorization dies.
    RevokesFamily,
    /// `invalid_grant`, and nothing else.
    RejectOnly,
}

/// What the server does; all of it may change at run time.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long an access token lives.
    pub lifetime: Duration,
    /// How long an answer is withheld after its commit.
    pub latency: Duration,
    /// Whether a refresh token can be redeemed once only. Otherwise it stays, and answers name none.
    pub rotation: bool,
    /// For how long a spent refresh token yields the tokens that it was redeemed for once more, as
    /// long as their refresh token is not spent itself.
    pub grace: Duration,
    /// What a spent refresh token brings about outside the grace period.
    pub reuse: Reuse,
    /// The previous access token of an authorization when it is refreshed.
    pub on_refresh: OldToken,
    /// The previous access tokens of a client when it gets one by `client_credentials`.
    pub on_client_credentials: OldToken,
    /// Basic credentials come as they are, and not form-encoded as RFC 6749 wants it.
    pub basic_raw: bool,
    /// JSON bodies are accepted beside forms.
    pub accept_json: bool,
}

impl Default for Behaviour {
    /// The strictest server: rotation without grace, reuse kills the family, the old access token
    /// dies on refresh. Access tokens live for an hour.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(3600),
            latency: Duration::ZERO,
            rotation: true,
            grace: Duration::ZERO,
            reuse: Reuse::RevokesFamily,
            on_refresh: OldToken::Dies,
            on_client_credentials: OldToken::Survives,
            basic_raw: false,
            accept_json: false,
        }
    }
}

/// An authorization: every token that descends from it dies with it.
#[derive(Debug)]
struct Family {
    client: String,
    scope: String,
    revoked: bool,
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
struct Grant {
    access_token: String,
    refresh_token: Option<String>,
    scope: String,
    expires: Duration,
}

/// Everything the server knows; whoever holds it decides alone.
#[derive(Debug)]
pub struct State {
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
    families: Vec<Family>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    /// The authorization of each client for itself.
    machine: HashMap<String, usize>,
    started: Instant,
    ahead: Duration,
}

impl State {
    pub fn new(clients: Vec<Client>, behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            clients,
            faults: VecDeque::new(),
            standing_fault: None,
            requests: Vec::new(),
            decided: 0,
            presented: HashMap::new(),
            resource_calls: Vec::new(),
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
                let mut reply = Reply::new(true, 200);
                reply.set("access_token", grant.access_token.as_str());
                reply.set("token_type", "Bearer");
                // Whole seconds, rounded down: no token dies before its time.
                reply.set("expires_in", grant.expires.saturating_sub(now).as_secs());
                if let Some(token) = &grant.refresh_token {
                    reply.set("refresh_token", token.as_str());
                }
                if !grant.scope.is_empty() {
                    reply.set("scope", grant.scope.as_str());
                }
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

    fn grant(&mut self, request: &Presented, now: Duration) -> Result<Grant, Refusal> {
        request.check(self.behaviour.accept_json)?;
        let credentials = request.credentials(self.behaviour.basic_raw)?;
        self.authenticate(&credentials)?;
        let missing = |text| Refusal::new("invalid_request", text);
        let scope = request.param("scope");
        match request.param("grant_type") {
            Some("refresh_token") => {
                let token = request.param("refresh_token");
                let token = token.ok_or_else(|| missing("refresh_token is missing"))?;
                self.redeem(token, &credentials.id, scope, now)
            }
            Some("client_credentials") if credentials.secret.is_none() => Err(Refusal::new(
                "unauthorized_client",
                "a public client gets no token by client_credentials",
            )),
            Some("client_credentials") => {
                Ok(self.machine_token(&credentials.id, scope.unwrap_or_default(), now))
            }
            Some(_) => Err(Refusal::new("unsupported_grant_type", "not known here")),
            None => Err(missing("grant_type is missing")),
        }
    }

    fn authenticate(&self, credentials: &Credentials) -> Result<(), Refusal> {
        let client = self.clients.iter().find(|known| known.id == credentials.id);
        let accepted = match (client, &credentials.secret) {
            (None, _) => false,
            (Some(client), None) => client.secrets.is_empty(),
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
        if self.behaviour.rotation {
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

    fn new_family(&mut self, client: &str, scope: &str) -> usize {
        self.families.push(Family {
            client: client.to_owned(),
            scope: scope.to_owned(),
            revoked: false,
            access: Vec::new(),
        });
        self.families.len() - 1
    }

    fn new_refresh_token(&mut self, family: usize) -> String {
        let token = format!("rt-{}", Uuid::new_v4());
        let record = Refresh {
            family,
            spent: None,
        };
        self.refresh.insert(token.clone(), record);
        token
    }

    fn new_grant(&mut self, family: usize, scope: String, now: Duration) -> Grant {
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

    /// Ends the authorization that a token of either kind belongs to; false if there is none.
    pub fn revoke_family_of(&mut self, token: &str) -> bool {
        let of_access = self.access.get(token).map(|record| record.family);
        let of_refresh = || self.refresh.get(token).map(|record| record.family);
        let family = of_access.or_else(of_refresh);
        family.is_some_and(|index| {
            self.families[index].revoked = true;
            true
        })
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
