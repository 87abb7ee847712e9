//! What tests, and the HTTP interface, do to a server.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::assertion::PublicKey;
use super::behaviour::{Behaviour, Client};
use super::code::CodeTerms;
use super::connection::Connection;
use super::fault::{Fault, Reply};
use super::log::{Outcome, ResourceCall, Revocation, TokenRequest, short};
use super::request::{ClientAuth, Presented};
use super::state::State;

/// Where requests are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// They have arrived, and nothing was issued or spent.
    BeforeCommit,
    /// Tokens were issued and spent, and the answer is withheld.
    AfterCommit,
}

#[derive(Debug, Default)]
struct Gate {
    held: Option<Held>,
    /// Counts releases: a request held earlier goes on even if the gate closed again at once.
    releases: u64,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    state: Mutex<State>,
    arrived: watch::Sender<usize>,
    decided: watch::Sender<usize>,
    gate: watch::Sender<Gate>,
}

/// Controls a server and reads its log; clones are the same server.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(address: SocketAddr, clients: Vec<Client>, behaviour: Behaviour) -> Self {
        Self(Arc::new(Shared {
            address,
            state: Mutex::new(State::new(format!("http://{address}"), clients, behaviour)),
            arrived: watch::Sender::new(0),
            decided: watch::Sender::new(0),
            gate: watch::Sender::default(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let state = &self.0.state;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `http://address:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// Where tokens are asked for.
    pub fn token_url(&self) -> String {
        self.url() + "/token"
    }

    /// Where tokens are revoked (RFC 7009).
    pub fn revoke_url(&self) -> String {
        self.url() + "/revoke"
    }

    /// Lets the next requests for revocation meet these faults, one each.
    pub fn fail_revocations(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().revocation_faults.extend(faults);
    }

    /// Lets every request for revocation meet a fault, once none is queued.
    pub fn fail_every_revocation(&self, fault: Option<Fault>) {
        self.state().standing_revocation_fault = fault;
    }

    /// Every request for revocation, in the order of arrival.
    pub fn revocations(&self) -> Vec<Revocation> {
        self.state().revocations.clone()
    }

    /// Notes a request for revocation that has arrived: its number, and the fault that it meets.
    pub(super) fn arrive_to_revoke(&self, request: &Presented) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let credentials = request.credentials(state.behaviour.basic_raw).ok();
        let number = state.revocations.len();
        state.revocations.push(Revocation {
            at: jiff::Timestamp::now(),
            client_id: credentials.map(|credentials| credentials.id),
            token: request.param("token").map(str::to_owned),
            hint: request.param("token_type_hint").map(str::to_owned),
            revoked: false,
        });
        let queued = state.revocation_faults.pop_front();
        let fault = queued.or_else(|| state.standing_revocation_fault.clone());
        (number, fault)
    }

    /// Serves a request for revocation.
    pub(super) fn revoke(&self, number: usize, request: &Presented) -> Response<Body> {
        let mut state = self.state();
        match state.revoke(request) {
            Ok(known) => {
                state.revocations[number].revoked = known;
                Response::new(Body::empty())
            }
            Err(refusal) => refusal.reply().into_response(),
        }
    }

    /// Where tokens are tried.
    pub fn resource_url(&self) -> String {
        self.url() + "/resource"
    }

    /// How the server behaves now.
    pub fn behaviour(&self) -> Behaviour {
        self.state().behaviour.clone()
    }

    /// Changes how it behaves, from the next commit on.
    pub fn configure(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state().behaviour);
    }

    /// Adds a client, or replaces the secrets of one.
    pub fn set_client(&self, client: Client) {
        let clients = &mut self.state().clients;
        match clients.iter_mut().find(|known| known.id == client.id) {
            Some(known) => *known = client,
            None => clients.push(client),
        }
    }

    /// Lets time pass for tokens and grace periods. Latency and hanging take real time.
    pub fn advance(&self, by: Duration) {
        self.state().advance(by);
    }

    /// A new authorization of the first client, and its first refresh token.
    pub fn issue_refresh_token(&self, scope: &str) -> String {
        let mut state = self.state();
        let client = state.clients.first().map(|client| client.id.clone());
        state.issue(&client.unwrap_or_default(), scope)
    }

    /// A new authorization of this client, and its first refresh token.
    pub fn issue_refresh_token_to(&self, client_id: &str, scope: &str) -> String {
        self.state().issue(client_id, scope)
    }

    /// An authorization code of the first client, as its user's browser would bring it back.
    pub fn issue_code(&self, terms: CodeTerms) -> String {
        let mut state = self.state();
        let client = state.clients.first().map(|client| client.id.clone());
        state.issue_code(&client.unwrap_or_default(), terms)
    }

    /// Takes assertions of this issuer as grants (RFC 7523) that one of these keys has signed.
    pub fn trust(&self, issuer: &str, keys: &[PublicKey]) {
        let mut state = self.state();
        state.issuers.insert(issuer.to_owned(), keys.to_vec());
    }

    /// Ends the authorization that an access or refresh token belongs to, as a person does who
    /// withdraws consent. False if the token is unknown.
    pub fn revoke_family_of(&self, token: &str) -> bool {
        self.state().revoke_family_of(token)
    }

    /// Whether the authorization that an access or refresh token belongs to has ended.
    pub fn is_family_revoked(&self, token: &str) -> bool {
        self.state().is_family_revoked(token)
    }

    /// Ends one access token and nothing else. False if it is unknown.
    pub fn revoke_access_token(&self, token: &str) -> bool {
        self.state().revoke_access_token(token)
    }

    /// Whether the resource would accept this access token now.
    pub fn is_live(&self, access_token: &str) -> bool {
        self.state().live_scope(access_token).is_some()
    }

    /// Whether this refresh token is unspent and its authorization alive.
    pub fn is_redeemable(&self, refresh_token: &str) -> bool {
        self.state().is_redeemable(refresh_token)
    }

    /// How many access tokens the resource would accept now.
    pub fn live_access_tokens(&self) -> usize {
        self.state().live_access_tokens()
    }

    /// Lets the next token request meet a fault, behind those that wait already.
    pub fn fail_next(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// Lets so many of the next token requests meet a fault.
    pub fn fail_times(&self, times: usize, fault: &Fault) {
        let faults = std::iter::repeat_n(fault.clone(), times);
        self.state().faults.extend(faults);
    }

    /// Lets every token request meet a fault, once none is queued, until [`Handle::clear_faults`].
    pub fn fail_always(&self, fault: Fault) {
        self.state().standing_fault = Some(fault);
    }

    /// Lets token requests go through again.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.standing_fault = None;
    }

    /// How many queued faults were not met yet.
    pub fn queued_faults(&self) -> usize {
        self.state().faults.len()
    }

    /// From now on token requests are committed and their answers withheld.
    pub fn hold_exchanges(&self) {
        self.hold(Held::AfterCommit);
    }

    /// From now on token requests are held before anything is issued or spent.
    pub fn hold_before_commit(&self) {
        self.hold(Held::BeforeCommit);
    }

    pub(super) fn hold(&self, at: Held) {
        self.0.gate.send_modify(|gate| gate.held = Some(at));
    }

    /// Lets go of everything held, and holds nothing any more.
    pub fn release_exchanges(&self) {
        self.0.gate.send_modify(|gate| {
            gate.held = None;
            gate.releases += 1;
        });
    }

    /// Waits until this many token requests have arrived since the server was made.
    pub async fn wait_for_requests(&self, count: usize) {
        wait_for(&self.0.arrived, count).await;
    }

    /// Waits until this many token requests have been granted, refused or replaced by a fault.
    /// With [`Handle::hold_exchanges`] their answers are still withheld then.
    pub async fn wait_for_outcomes(&self, count: usize) {
        wait_for(&self.0.decided, count).await;
    }

    /// The number of token requests so far, to watch.
    pub fn arrivals(&self) -> watch::Receiver<usize> {
        self.0.arrived.subscribe()
    }

    /// Every token request, in the order of arrival.
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.state().requests.clone()
    }

    /// How many token requests arrived.
    pub fn request_count(&self) -> usize {
        self.state().requests.len()
    }

    /// How often this refresh token or code was presented, whatever came of it.
    pub fn redemptions(&self, token: &str) -> usize {
        let state = self.state();
        state.presented.get(token).copied().unwrap_or(0)
    }

    /// How often the refresh token or code that was presented most was presented.
    pub fn max_presentations(&self) -> usize {
        let state = self.state();
        state.presented.values().copied().max().unwrap_or(0)
    }

    /// How many token requests were granted, delivered or not.
    pub fn granted(&self) -> usize {
        let granted = |entry: &&TokenRequest| matches!(entry.outcome, Outcome::Granted { .. });
        self.state().requests.iter().filter(granted).count()
    }

    /// How many calls of the resource were accepted, and how many refused.
    pub fn resource_calls(&self) -> (usize, usize) {
        let state = self.state();
        let accepted = |call: &&ResourceCall| call.accepted;
        let count = state.resource_calls.iter().filter(accepted).count();
        (count, state.resource_calls.len() - count)
    }

    /// Every call of the resource, in the order of arrival.
    pub fn resource_log(&self) -> Vec<ResourceCall> {
        self.state().resource_calls.clone()
    }

    /// Ends a server's connections. Under the lock, so that nothing is committed afterwards.
    pub(super) fn halt(&self, stop: &CancellationToken) {
        let _state = self.state();
        stop.cancel();
    }

    /// Notes a token request that has arrived: its number, and the fault that it meets.
    pub(super) fn arrive(
        &self,
        connection: &Connection,
        headers: HeaderMap,
        request: &Presented,
    ) -> Option<(usize, Option<Fault>)> {
        let mut state = self.state();
        if connection.is_broken() {
            return None;
        }
        let credentials = request.credentials(state.behaviour.basic_raw).ok();
        let single = request.param("refresh_token").or(request.param("code"));
        if let Some(token) = single {
            *state.presented.entry(token.to_owned()).or_default() += 1;
        }
        let fault = state.next_fault();
        let number = state.requests.len();
        state.requests.push(TokenRequest {
            at: jiff::Timestamp::now(),
            connection: connection.number,
            path: request.path.clone(),
            grant_type: request.param("grant_type").map(str::to_owned),
            client_auth: credentials
                .as_ref()
                .map_or(ClientAuth::None, |credentials| credentials.method),
            client_id: credentials.map(|credentials| credentials.id),
            refresh_token: request.param("refresh_token").map(str::to_owned),
            scope: request.param("scope").map(str::to_owned),
            json: request.json,
            params: request.params.clone(),
            resources: request.resources.clone(),
            headers,
            fault: fault.as_ref().map(Fault::name),
            outcome: Outcome::Pending,
        });
        self.0.arrived.send_replace(number + 1);
        Some((number, fault))
    }

    /// Commits a token request and notes its outcome. None if the server stopped.
    pub(super) fn commit(
        &self,
        number: usize,
        connection: &Connection,
        request: &Presented,
    ) -> Option<Reply> {
        let mut state = self.state();
        if connection.is_broken() {
            return None;
        }
        let (outcome, reply) = state.decide(request);
        self.settle(&mut state, number, outcome);
        Some(reply)
    }

    /// Notes that a fault took the place of a token request.
    pub(super) fn fault_instead(&self, number: usize) {
        self.settle(&mut self.state(), number, Outcome::Fault);
    }

    fn settle(&self, state: &mut State, number: usize, outcome: Outcome) {
        let Some(entry) = state.requests.get_mut(number) else {
            return;
        };
        entry.outcome = outcome;
        tracing::info!(
            number = number + 1,
            grant = entry.grant_type.as_deref(),
            presented = entry.refresh_token.as_deref().map(short),
            fault = entry.fault,
            outcome = entry.outcome.name(),
            "token request"
        );
        state.decided += 1;
        self.0.decided.send_replace(state.decided);
    }

    /// Passes the gate, or waits before it until it is released.
    pub(super) async fn pass(&self, place: Held) {
        let mut gate = self.0.gate.subscribe();
        let before = {
            let gate = gate.borrow();
            if gate.held != Some(place) {
                return;
            }
            gate.releases
        };
        // The sender lives as long as this handle.
        let _ = gate.wait_for(|gate| gate.releases != before).await;
    }

    /// Tries an access token at the resource; its scope if it is accepted.
    pub(super) fn use_token(&self, access_token: Option<&str>) -> Option<String> {
        let mut state = self.state();
        let scope = access_token
            .and_then(|token| state.live_scope(token))
            .map(str::to_owned);
        state.resource_calls.push(ResourceCall {
            at: jiff::Timestamp::now(),
            access_token: access_token.map(str::to_owned),
            accepted: scope.is_some(),
        });
        let token = access_token.map(short);
        tracing::info!(token, accepted = scope.is_some(), "resource call");
        scope
    }
}

async fn wait_for(count: &watch::Sender<usize>, wanted: usize) {
    // The sender is borrowed for as long as this waits, so it cannot close.
    let _ = count.subscribe().wait_for(|&seen| seen >= wanted).await;
}
