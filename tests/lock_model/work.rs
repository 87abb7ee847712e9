//! What is done behind the gate: steps 5 to 8, as `refresh::with_grant` and `secret::store` do them. The
//! decisions are the real ones; the requests between them are repeated here, because those modules need
//! a client.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokenward::{
    api::{Description, IntegrationCredential},
    asked::Asked,
    failure::{Failure, Reason},
    lock::protocol::{Answer, Merge, Phase, Unresolved, Version},
    plan::{self, Behind},
    secret::{
        self,
        grant::{Whose, merge},
        seed::Seed,
    },
};

use crate::{
    cluster::{Call, GRANT, Grant, Reply, Request, TARGET, Target},
    config::{Config, Mutant},
    operator::Operator,
    provider::Token,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The gate is not closed yet.
    Entering,
    /// Until nobody who must be gone is there.
    Draining,
    /// The grant is read.
    Reading,
    /// It is noted on the gate that the token is presented once more.
    Noting { base: Base },
    /// The exchange is next.
    Presenting { base: Base },
    /// It is under way.
    Exchanging { base: Base, age: Duration },
    /// The refresh token was refused: is another one stored?
    Refused { base: Base },
    /// What it gave is stored.
    Persisting {
        base: Base,
        ours: Grant,
        over: Version,
        /// Whether the grant must be read before the next try.
        looks: bool,
        age: Duration,
    },
    /// The target is written.
    Publishing {
        target: Target,
        unresolved: Option<Unresolved>,
        /// The target as it was read, once it was.
        over: Option<Version>,
        /// For a mutant: the grant is written after it.
        then: Option<Box<(Base, Grant, Version)>>,
    },
    /// The gate is opened.
    Opening,
    /// For a mutant: the attempt is given up without a word.
    Abandoned,
}

/// The grant as it was read behind the gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Base {
    version: Version,
    generation: u64,
    token: Token,
    known: u64,
}

impl Step {
    /// Whether the work goes on whoever has the gate.
    pub fn goes_on_without_gate(&self) -> bool {
        matches!(
            self,
            Self::Exchanging { .. } | Self::Persisting { .. } | Self::Publishing { .. }
        )
    }

    /// Time passes for a request that must be answered in time.
    pub fn age(&mut self, by: Duration) {
        if let Self::Exchanging { age, .. } | Self::Persisting { age, .. } = self {
            *age = (*age + by).min(Duration::from_secs(5));
        }
    }

    /// How much longer the exchange, or what comes of it, may take.
    pub fn left(&self, config: &Config) -> Option<Duration> {
        let left = |all: Duration, age: &Duration| all.saturating_sub(*age);
        match self {
            Self::Exchanging { age, .. } => Some(left(config.durations.exchange, age)),
            Self::Persisting { age, .. } => Some(left(config.durations.persist, age)),
            _ => None,
        }
    }

    pub fn versions(&self, see: &mut impl FnMut(&str, &Version)) {
        match self {
            Self::Noting { base }
            | Self::Presenting { base }
            | Self::Exchanging { base, .. }
            | Self::Refused { base } => see(GRANT, &base.version),
            Self::Persisting { base, over, .. } => {
                see(GRANT, &base.version);
                see(GRANT, over);
            }
            Self::Publishing { over, then, .. } => {
                if let Some(over) = over {
                    see(TARGET, over);
                }
                if let Some(then) = then {
                    see(GRANT, &then.2);
                }
            }
            _ => {}
        }
    }

    pub fn attempts<'a>(&'a self, see: &mut impl FnMut(&'a str)) {
        match self {
            Self::Persisting { ours, .. } => see(&ours.attempt),
            Self::Publishing {
                unresolved: Some(unresolved),
                ..
            } => see(&unresolved.attempt),
            _ => {}
        }
    }
}

impl Operator {
    /// Whether the work behind the gate has something to do.
    pub fn may_work(&self) -> bool {
        let Some(attempt) = self.attempt.as_ref().filter(|_| self.runs()) else {
            return false;
        };
        if attempt.work.is_some() {
            return false;
        }
        let no_call = attempt.call.is_none();
        match &attempt.step {
            Step::Draining => no_call && attempt.writer.is_behind(),
            Step::Noting { .. } => {
                use tokenward::lock::protocol::WriterAsk::{End, Wait};
                no_call && matches!(attempt.writer.ask(&self.watches), Wait(_) | End(_))
            }
            Step::Presenting { .. }
            | Step::Refused { .. }
            | Step::Publishing { .. }
            | Step::Abandoned => no_call,
            Step::Persisting { .. } => true,
            Step::Entering | Step::Reading | Step::Exchanging { .. } | Step::Opening => false,
        }
    }

    /// Does the next step; it may be a request.
    pub fn work(&mut self, config: &Config) -> Option<Request> {
        let attempt = self.attempt.as_mut()?;
        match attempt.step.clone() {
            Step::Draining => {
                attempt.step = Step::Reading;
                Some(Request::GetGrant)
            }
            Step::Noting { base } => {
                if attempt.writer.is_stored() {
                    self.present(base, config)
                } else {
                    attempt.reopen(config);
                    self.settle(config);
                    None
                }
            }
            Step::Presenting { base } => self.present(base, config),
            Step::Refused { .. } => Some(Request::GetGrant),
            Step::Persisting { looks: true, .. } => Some(Request::GetGrant),
            Step::Persisting { ours, over, .. } => Some(Request::PutGrant { over, grant: ours }),
            Step::Publishing { over: None, .. } => Some(Request::GetTarget),
            Step::Publishing {
                target,
                over: Some(over),
                ..
            } => Some(Request::PutTarget { over, target }),
            Step::Abandoned => {
                self.attempt = None;
                None
            }
            Step::Entering | Step::Reading | Step::Exchanging { .. } | Step::Opening => None,
        }
    }

    /// Sends the refresh token, if the lease still holds.
    fn present(&mut self, base: Base, config: &Config) -> Option<Request> {
        let attempt = self.attempt.as_mut()?;
        let may = attempt.writer.may_exchange()
            || (config.is(Mutant::LeaseNotChecked) && attempt.writer.is_behind());
        if !may {
            attempt.reopen(config);
            self.settle(config);
            return None;
        }
        let token = base.token;
        attempt.step = Step::Exchanging {
            base,
            age: Duration::ZERO,
        };
        Some(Request::Exchange {
            token,
            drained: attempt.writer.gate().phase == Phase::Refreshing,
        })
    }

    /// Takes in the answer to the request that the work made.
    pub fn deliver_work(
        &mut self,
        request: &Request,
        reply: &Reply,
        aged: Option<u64>,
        config: &Config,
    ) -> Worked {
        let Some(attempt) = &mut self.attempt else {
            return Worked::On;
        };
        let step = attempt.step.clone();
        let mut worked = Worked::On;
        match (step, request, reply) {
            (Step::Reading, _, Reply::Grant(version, grant)) => {
                self.decide(version, grant, aged, config);
            }
            // Not read: kept as it is.
            (Step::Reading, ..) => attempt.reopen(config),
            (Step::Exchanging { base, .. }, _, Reply::Tokens(Some(token))) => {
                let discards = config.is(Mutant::LapsedTokenDiscarded);
                if discards && !attempt.writer.may_exchange() {
                    attempt.reopen(config);
                } else {
                    let ours = Grant {
                        generation: base.generation.max(base.known) + 1,
                        token: *token,
                        attempt: attempt.writer.attempt().to_owned(),
                    };
                    let over = base.version.clone();
                    attempt.step = if config.is(Mutant::TargetFirst) {
                        publishing(&ours, None, Some(Box::new((base, ours.clone(), over))))
                    } else {
                        Step::Persisting {
                            base,
                            ours,
                            over,
                            looks: false,
                            age: Duration::ZERO,
                        }
                    };
                }
            }
            (Step::Exchanging { base, .. }, _, Reply::Tokens(None)) => {
                attempt.step = Step::Refused { base };
            }
            // Ambiguous.
            (Step::Exchanging { base, .. }, ..) => {
                let now = Unresolved {
                    attempt: attempt.writer.attempt().to_owned(),
                    since: Timestamp::UNIX_EPOCH,
                    retried: false,
                };
                let unresolved = attempt.writer.gate().unresolved.clone().unwrap_or(now);
                attempt.open(Some(base.generation), Some(unresolved), config);
            }
            (Step::Refused { base }, _, Reply::Grant(_, grant)) => {
                if grant.token == base.token {
                    attempt.open(Some(base.generation), None, config);
                    worked = Worked::Dead;
                } else {
                    attempt.reopen(config);
                }
            }
            (Step::Refused { .. }, ..) => attempt.reopen(config),
            (Step::Persisting { .. }, _, Reply::Written(Answer::Done(_))) => self.persisted(),
            (
                Step::Persisting {
                    base,
                    mut ours,
                    age,
                    ..
                },
                _,
                Reply::Grant(version, stored),
            ) => match merged(&ours, &base, stored) {
                Merge::Stored | Merge::Drop => {
                    let Step::Persisting { ours, .. } = &mut attempt.step else {
                        return worked;
                    };
                    *ours = stored.clone();
                    self.persisted();
                }
                Merge::Write(over) => {
                    ours.generation = over.max(base.known) + 1;
                    attempt.step = Step::Persisting {
                        base,
                        ours,
                        over: version.clone(),
                        looks: false,
                        age,
                    };
                }
            },
            (Step::Persisting { .. }, ..) => {
                if let Step::Persisting { looks, .. } = &mut attempt.step {
                    *looks = true;
                }
            }
            (Step::Publishing { target, .. }, _, Reply::Target(version, found)) => {
                if found.generation > target.generation || *found == target {
                    self.published(config);
                } else if let Step::Publishing { over, .. } = &mut attempt.step {
                    *over = Some(version.clone());
                }
            }
            (Step::Publishing { .. }, _, Reply::Written(Answer::Done(_))) => self.published(config),
            (Step::Publishing { .. }, ..) => {
                if let Step::Publishing { over, .. } = &mut attempt.step {
                    *over = None;
                }
            }
            _ => {}
        }
        self.settle(config);
        worked
    }

    fn persisted(&mut self) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if let Step::Persisting { ours, .. } = &attempt.step {
            attempt.stored = Some(ours.generation);
            attempt.step = publishing(&ours.clone(), None, None);
        }
    }

    fn published(&mut self, config: &Config) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if let Step::Publishing {
            target,
            unresolved,
            then,
            ..
        } = attempt.step.clone()
        {
            if let Some(then) = then {
                let (base, ours, over) = *then;
                attempt.step = Step::Persisting {
                    base,
                    ours,
                    over,
                    looks: false,
                    age: Duration::ZERO,
                };
                return;
            }
            attempt.open(Some(target.generation), unresolved, config);
        }
    }

    /// The real decision behind the gate, on the grant as it was read.
    fn decide(&mut self, version: &Version, grant: &Grant, aged: Option<u64>, config: &Config) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let gate = attempt.writer.gate();
        let (generation, unresolved) = (gate.generation, gate.unresolved.clone());
        match decided(
            grant,
            generation,
            unresolved.as_ref(),
            attempt.asked,
            aged,
            config,
        ) {
            plan::Step::Publish { unresolved } => {
                attempt.stored = Some(grant.generation);
                attempt.step = publishing(grant, unresolved, None);
            }
            plan::Step::Refresh => {
                let base = Base {
                    version: version.clone(),
                    generation: grant.generation,
                    token: grant.token,
                    known: generation.unwrap_or(0),
                };
                attempt.step = if unresolved.is_some() {
                    attempt.writer.note_retried();
                    Step::Noting { base }
                } else {
                    Step::Presenting { base }
                };
            }
            plan::Step::Hold(_) | plan::Step::Fail(_) | plan::Step::Adopt => {
                attempt.reopen(config);
            }
        }
    }
}

/// What the world learns from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    On,
    /// The authorization is dead; nobody tries again before somebody logs in anew.
    Dead,
}

fn publishing(
    grant: &Grant,
    unresolved: Option<Unresolved>,
    then: Option<Box<(Base, Grant, Version)>>,
) -> Step {
    Step::Publishing {
        target: Target {
            generation: grant.generation,
            token: grant.token,
        },
        unresolved,
        over: None,
        then,
    }
}

/// When the token of this generation was issued. Each lives for an hour.
fn issued_at(generation: u64) -> Timestamp {
    let hour = i64::try_from(generation).expect("few generations");
    Timestamp::from_second(1_700_000_000 + hour * 3600).expect("a time")
}

fn token_text(token: Token) -> String {
    format!("{}.{}", token.family, token.serial)
}

/// The real thing, from what the model keeps of it.
fn real(grant: &Grant) -> secret::grant::Grant {
    let issued_at = issued_at(grant.generation);
    secret::grant::Grant {
        token: secret::Token {
            generation: grant.generation,
            access_token: token_text(grant.token).into(),
            token_type: "Bearer".to_owned(),
            scopes: Vec::new(),
            issued_at,
            expires_at: Some(issued_at + Duration::from_secs(3600)),
            id_token: None,
            metadata: BTreeMap::new(),
        },
        refresh_token: token_text(grant.token).into(),
        seeds: Vec::new(),
        origin: "https://login.example.com".to_owned(),
        client_id: "client".to_owned(),
        attempt: grant.attempt.clone(),
        authorized_at: issued_at,
        refresh_expires_at: None,
    }
}

fn merged(ours: &Grant, base: &Base, stored: &Grant) -> Merge {
    let spent = token_text(base.token).into();
    merge(
        &real(ours),
        &spent,
        Whose::Grant,
        base.generation,
        &real(stored),
    )
}

struct Fixed {
    credential: IntegrationCredential,
    provider: Description,
    surviving: Description,
    seed: Result<Seed, Failure>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let provider = |on_refresh: &str| {
        serde_json::from_value(json!({
            "tokenUrl": "https://login.example.com/token",
            "rotation": "Always", "reuseDetection": "RevokesFamily",
            "accessTokenOnRefresh": on_refresh,
        }))
        .expect("a provider")
    };
    let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken",
        "seedSecretRef": {"name": "s"}}});
    let mut credential =
        IntegrationCredential::new("c", serde_json::from_value(spec).expect("a spec"));
    credential.metadata.uid = Some("uid".to_owned());
    Fixed {
        credential,
        provider: provider("Invalidated"),
        surviving: provider("Survives"),
        seed: Err(Failure::new(Reason::SeedNotFound, "")),
    }
});

fn decided(
    grant: &Grant,
    gate_generation: Option<u64>,
    unresolved: Option<&Unresolved>,
    asked: Option<u64>,
    aged: Option<u64>,
    config: &Config,
) -> plan::Step {
    let minutes = if aged == Some(grant.generation) {
        59
    } else {
        10
    };
    let grant = real(grant);
    plan::under_gate(&Behind {
        credential: &FIXED.credential,
        provider: if config.survives {
            &FIXED.surviving
        } else {
            &FIXED.provider
        },
        origin: "https://login.example.com",
        client_id: "client",
        grant: Some(&grant),
        seed: &FIXED.seed,
        gate_generation,
        unresolved,
        asked: &Asked {
            wants: asked.into_iter().collect(),
            only_open: asked.is_none(),
            ..Asked::default()
        },
        now: grant.token.issued_at + Duration::from_secs(60 * minutes),
    })
}

/// Whether an exchange may still be carried out: it is under way.
pub fn under_way(call: &Call) -> Option<(Token, bool)> {
    match call {
        Call::Sent(Request::Exchange { token, drained }) => Some((*token, *drained)),
        _ => None,
    }
}
