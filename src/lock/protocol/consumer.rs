//! The consumer's side: pass the gate, hold the credential, renew, let go.

use std::time::Duration;

use super::{Answer, Elapsed, GateState, Mode, Phase, Version, own_validity};

/// What a consumer wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The mode that the gate must have; `None`: whichever it has.
    pub mode: Option<Mode>,
    /// How much of the hold's time must be left when it is handed over: for the first use.
    pub min_use: Duration,
    /// Tells this consumer's holds from all others; no two consumers ever have the same.
    pub nonce: String,
}

/// The identity of one try to hold. Each try has its own, because a late answer, or a late commit, to one
/// try must not be taken for the other's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HoldIdentity {
    /// Which place is taken.
    pub seat: Seat,
    /// The nonce of the try.
    pub nonce: String,
}

/// The place that a hold takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    /// One of any number, under the nonce's name.
    Shared,
    /// The only one, under a fixed name.
    Exclusive,
}

/// What a consumer asks for next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConsumerAsk {
    /// Read the gate, from the quorum.
    ReadGate,
    /// Nothing, until the gate (or another's exclusive hold) may have changed, or for a while.
    WaitForGate,
    /// Create the hold.
    CreateHold {
        /// Its identity.
        identity: HoldIdentity,
        /// Its duration.
        duration: Duration,
        /// The generation on the gate.
        generation: u64,
    },
    /// Read the hold: what became of a request is not known.
    ReadHold(HoldIdentity),
    /// Renew the hold, if it still is of this version.
    RenewHold {
        /// Its identity.
        identity: HoldIdentity,
        /// The version.
        version: Version,
    },
    /// Read the generation in the target. A read that was made since the hold was created will do.
    ReadTarget,
    /// Nothing, until the target may have changed, or for this long.
    WaitForTarget(Duration),
    /// Nothing for this long, or until the gate may have changed: the token may be used.
    Use(Duration),
    /// Delete the hold.
    DeleteHold {
        /// Its identity.
        identity: HoldIdentity,
        /// The UID that it must have; `None`: it is not known, and the name is this try's own.
        uid: Option<String>,
    },
    /// Nothing any more: the hold is gone, by one's own will or not.
    End {
        /// Whether it was lost.
        lost: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Looking whether the gate is open.
    Approaching,
    /// It was not: somebody says when it may be.
    Waiting,
    /// Creating the hold. After an answer that does not tell, or 409, the hold is read.
    Creating { confirm: bool },
    /// The hold is there; looking at the gate again.
    Checking,
    /// The gate was open; is the target as new as the gate says? Waiting for it, once it was not.
    Reading { waits: bool },
    /// The token may be used.
    Using,
    /// Deleting the hold, and then?
    Leaving { then: Then },
    /// The end.
    Ended { lost: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    /// Begin again.
    Again,
    /// End.
    End,
}

/// One consumer's way to a hold and back as a state machine. Ask [`Consumer::ask`], call
/// [`Consumer::sent`] when the request goes out, and hand its answer to the method for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Consumer {
    terms: Terms,
    stage: Stage,
    /// Counts the tries.
    round: u32,
    seat: Seat,
    /// The gate's generation when it was passed.
    generation: u64,
    /// The highest one that it has shown since.
    newest: u64,
    /// The hold's duration.
    duration: Duration,
    /// The gate's grace for holders.
    grace: Duration,
    /// The hold as it was stored last.
    version: Option<Version>,
    /// For how long the hold is valid by one's own clock.
    valid_for: Duration,
    /// Until the next renewal.
    renew_in: Duration,
    /// Since the write whose answer is awaited was sent first.
    since_write: Option<Duration>,
    /// What is left of the grace since the gate was first seen closed; `None`: it is open.
    draining: Option<Duration>,
    /// Whether the gate is to be read before the hold is renewed.
    look: bool,
    /// Whether the hold must be read before it is renewed.
    confirm: bool,
    /// Whether the clocks disagree: the hold is not used before a renewal sent since has succeeded.
    suspended: bool,
    /// Whether the write whose answer is awaited was sent after that.
    sent_suspended: bool,
    /// Whether changes of the gate are told by a watch that is alive.
    watched: bool,
}

impl Consumer {
    /// A consumer that has done nothing yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            stage: Stage::Approaching,
            round: 0,
            seat: Seat::Shared,
            generation: 0,
            newest: 0,
            duration: Duration::ZERO,
            grace: Duration::ZERO,
            version: None,
            valid_for: Duration::ZERO,
            renew_in: Duration::ZERO,
            since_write: None,
            draining: None,
            look: false,
            confirm: false,
            suspended: false,
            sent_suspended: false,
            watched: false,
        }
    }

    /// A consumer that has passed this gate before, and found it open: it creates its hold at once. Whether
    /// the gate is open is looked at after that in any case.
    #[must_use]
    pub fn with_memory(terms: Terms, gate: &GateState) -> Self {
        let mut consumer = Self::new(terms);
        consumer.create(gate);
        consumer
    }

    fn identity(&self) -> HoldIdentity {
        HoldIdentity {
            seat: self.seat,
            nonce: format!("{}{:x}", self.terms.nonce, self.round),
        }
    }

    /// What is to be done next.
    #[must_use]
    pub fn ask(&self) -> ConsumerAsk {
        let identity = self.identity();
        match &self.stage {
            Stage::Approaching => ConsumerAsk::ReadGate,
            Stage::Waiting => ConsumerAsk::WaitForGate,
            Stage::Creating { confirm: true } => ConsumerAsk::ReadHold(identity),
            Stage::Creating { confirm: false } => ConsumerAsk::CreateHold {
                identity,
                duration: self.duration,
                generation: self.generation,
            },
            Stage::Leaving { .. } => match (&self.version, self.seat) {
                (None, Seat::Exclusive) => ConsumerAsk::ReadHold(identity),
                (version, _) => ConsumerAsk::DeleteHold {
                    identity,
                    uid: version.as_ref().map(|v| v.uid.clone()),
                },
            },
            Stage::Ended { lost } => ConsumerAsk::End { lost: *lost },
            Stage::Checking | Stage::Reading { .. } | Stage::Using => self.hold(identity),
        }
    }

    fn hold(&self, identity: HoldIdentity) -> ConsumerAsk {
        let grace_is_over = self.draining.is_some_and(|left| left.is_zero());
        if self.confirm {
            return ConsumerAsk::ReadHold(identity);
        }
        if self.stage == Stage::Checking || self.look {
            return ConsumerAsk::ReadGate;
        }
        if self.renew_in.is_zero()
            && !grace_is_over
            && let Some(version) = &self.version
        {
            return ConsumerAsk::RenewHold {
                identity,
                version: version.clone(),
            };
        }
        let next = if grace_is_over {
            self.valid_for
        } else {
            self.renew_in.min(self.valid_for)
        };
        match self.stage {
            Stage::Reading { waits: false } => ConsumerAsk::ReadTarget,
            Stage::Reading { waits: true } => ConsumerAsk::WaitForTarget(next),
            _ => ConsumerAsk::Use(next),
        }
    }

    /// Time passes.
    pub fn advance(&mut self, elapsed: Elapsed) {
        let hides_a_pause = elapsed.may_hide_a_pause();
        let mine = if hides_a_pause {
            // The wall clock was set, or the machine stood still: only a renewal can tell.
            elapsed.boot
        } else {
            elapsed.of_mine()
        };
        let longest = self.duration * 2;
        self.since_write = self
            .since_write
            .map(|since| since.saturating_add(elapsed.of_mine()).min(longest));
        if !self.has_hold() {
            return;
        }
        self.valid_for = self.valid_for.saturating_sub(mine);
        let was_due = self.renew_in.is_zero();
        self.renew_in = self.renew_in.saturating_sub(mine);
        self.draining = self.draining.map(|left| left.saturating_sub(mine));
        if hides_a_pause {
            self.suspended = true;
            self.renew_in = Duration::ZERO;
        }
        if self.renew_in.is_zero() && !was_due && !self.watched {
            self.look = true;
        }
        if self.valid_for.is_zero() {
            self.lapse();
        }
    }

    fn has_hold(&self) -> bool {
        matches!(
            self.stage,
            Stage::Checking | Stage::Reading { .. } | Stage::Using
        )
    }

    /// The hold's own deadline has passed. One that was never handed over can be tried for again.
    fn lapse(&mut self) {
        self.stage = match self.stage {
            Stage::Using => Stage::Ended { lost: true },
            _ => Stage::Leaving { then: Then::Again },
        };
        self.stop_timing();
    }

    /// The hold is used no more, and its time is of no account.
    fn stop_timing(&mut self) {
        self.valid_for = Duration::ZERO;
        self.renew_in = Duration::ZERO;
        self.since_write = None;
        self.look = false;
        self.confirm = false;
        self.suspended = false;
    }

    /// Whether a watch tells of changes of the gate: then it need not be read before each renewal.
    pub fn watched(&mut self, is_alive: bool) {
        self.watched = is_alive;
    }

    /// The request [`ConsumerAsk::CreateHold`] or [`ConsumerAsk::RenewHold`] goes out now.
    pub fn sent(&mut self) {
        self.sent_suspended = self.suspended;
        match self.stage {
            // A hold whose creation was not answered counts from the first time it was sent.
            Stage::Creating { .. } => {
                self.since_write.get_or_insert(Duration::ZERO);
            }
            _ => self.since_write = Some(Duration::ZERO),
        }
    }

    /// The gate, another's hold or the target may have changed.
    pub fn hint(&mut self) {
        match self.stage {
            Stage::Waiting => self.stage = Stage::Approaching,
            Stage::Reading { .. } => {
                self.look = true;
                self.stage = Stage::Reading { waits: false };
            }
            Stage::Using => self.look = true,
            _ => {}
        }
    }

    /// The answer to [`ConsumerAsk::ReadGate`].
    pub fn on_gate(&mut self, answer: Answer<GateState>) {
        let gate = match answer {
            Answer::Done(gate) => Some(gate),
            Answer::NotFound => None,
            Answer::Conflict | Answer::Unclear => return,
        };
        let open = gate.filter(|gate| gate.phase == Phase::Open);
        match (&self.stage, open) {
            (Stage::Approaching, Some(gate)) => self.create(&gate),
            (Stage::Approaching, None) => self.stage = Stage::Waiting,
            (Stage::Checking, Some(gate)) if seat(gate.mode) == self.seat => {
                self.generation = gate.generation.unwrap_or(0);
                self.newest = self.generation;
                self.look = false;
                self.stage = Stage::Reading { waits: false };
            }
            (Stage::Checking | Stage::Reading { .. }, None) | (Stage::Checking, Some(_)) => {
                self.stage = Stage::Leaving { then: Then::Again };
                self.stop_timing();
            }
            (Stage::Reading { .. }, Some(_)) => self.look = false,
            (Stage::Using, Some(gate)) => {
                self.look = false;
                // Opened again: whoever closed it went away, or waits for this hold no more.
                self.draining = None;
                let generation = gate.generation.unwrap_or(0);
                if generation > self.newest {
                    // There is a newer token. Was the hold deleted for it, unnoticed?
                    self.newest = generation;
                    self.confirm = true;
                }
            }
            (Stage::Using, None) => {
                self.look = false;
                self.draining.get_or_insert(self.grace);
            }
            _ => {}
        }
    }

    fn create(&mut self, gate: &GateState) {
        if self.terms.mode.is_some_and(|mode| mode != gate.mode) {
            self.stage = Stage::Waiting;
            return;
        }
        self.round += 1;
        self.seat = seat(gate.mode);
        self.duration = gate.hold;
        self.grace = gate.drain_grace;
        self.generation = gate.generation.unwrap_or(0);
        self.version = None;
        self.valid_for = Duration::ZERO;
        self.since_write = None;
        self.draining = None;
        self.look = false;
        self.confirm = false;
        self.suspended = false;
        self.stage = Stage::Creating { confirm: false };
    }

    /// The answer to [`ConsumerAsk::CreateHold`].
    pub fn on_created(&mut self, answer: Answer<Version>) {
        if !matches!(self.stage, Stage::Creating { .. }) {
            return;
        }
        match answer {
            Answer::Done(version) => self.created(version),
            // There already: one's own, of a try that was not answered, or another's.
            Answer::Conflict => self.stage = Stage::Creating { confirm: true },
            // Again, under the same name.
            Answer::Unclear | Answer::NotFound => {}
        }
    }

    fn created(&mut self, version: Version) {
        self.version = Some(version);
        self.renewed();
        self.stage = Stage::Checking;
        if self.valid_for.is_zero() {
            self.lapse();
        }
    }

    fn renewed(&mut self) {
        let since = self.since_write.take().unwrap_or_default();
        let valid_for = own_validity(self.duration).saturating_sub(since);
        // One that was overtaken by a later renewal takes nothing away.
        self.valid_for = self.valid_for.max(valid_for);
        self.renew_in = (self.duration / 3).saturating_sub(since);
        // One that was sent before the pause says nothing of the time since.
        self.suspended &= !self.sent_suspended;
        if self.suspended {
            self.renew_in = Duration::ZERO;
        }
    }

    /// The answer to [`ConsumerAsk::ReadHold`]; `is_mine`: whether it carries the identity of this try.
    pub fn on_hold(&mut self, answer: Answer<Version>, is_mine: bool) {
        let found = match answer {
            Answer::Done(version) => is_mine.then_some(version),
            Answer::NotFound => None,
            Answer::Conflict | Answer::Unclear => return,
        };
        let same = |known: &Option<Version>, found: &Version| {
            known.as_ref().is_none_or(|known| known.uid == found.uid)
        };
        match (&self.stage, found) {
            (Stage::Creating { .. }, Some(version)) => self.created(version),
            // Another's: wait until that is gone.
            (Stage::Creating { .. }, None) => {
                self.stage = Stage::Waiting;
                self.stop_timing();
            }
            (Stage::Leaving { then }, None) => self.leave(*then),
            (Stage::Leaving { .. }, Some(version)) => self.version = Some(version),
            (_, Some(version)) if self.has_hold() && same(&self.version, &version) => {
                // A look never prolongs a hold.
                self.version = Some(version);
                self.confirm = false;
            }
            // Deleted, or another one of its name.
            _ if self.has_hold() => {
                self.stage = match self.stage {
                    Stage::Using => Stage::Ended { lost: true },
                    _ => Stage::Waiting,
                };
                self.version = None;
                self.stop_timing();
            }
            _ => {}
        }
    }

    /// The answer to [`ConsumerAsk::RenewHold`].
    pub fn on_renewed(&mut self, answer: Answer<Version>) {
        if !self.has_hold() {
            return;
        }
        match answer {
            Answer::Done(version) => {
                self.version = Some(version);
                self.renewed();
                if self.valid_for.is_zero() {
                    self.lapse();
                }
            }
            Answer::NotFound | Answer::Conflict | Answer::Unclear => {
                self.since_write = None;
                self.confirm = true;
            }
        }
    }

    /// The answer to [`ConsumerAsk::ReadTarget`]: the generation of the token that was read with it.
    pub fn on_target(&mut self, generation: Option<u64>) {
        if !matches!(self.stage, Stage::Reading { .. }) {
            return;
        }
        if generation.is_none_or(|read| read < self.generation) {
            self.stage = Stage::Reading { waits: true };
        } else if self.look || self.suspended {
            // Something happened meanwhile: look at that first.
            self.stage = Stage::Reading { waits: false };
        } else if self.valid_for > self.terms.min_use {
            self.stage = Stage::Using;
        } else {
            self.stage = Stage::Leaving { then: Then::Again };
            self.stop_timing();
        }
    }

    /// The answer to [`ConsumerAsk::DeleteHold`]: gone, or another's by now, or not yet.
    pub fn on_deleted(&mut self, answer: &Answer<()>) {
        let Stage::Leaving { then } = self.stage else {
            return;
        };
        match answer {
            Answer::Done(()) | Answer::NotFound | Answer::Conflict => self.leave(then),
            Answer::Unclear => {}
        }
    }

    fn leave(&mut self, then: Then) {
        self.version = None;
        self.stage = match then {
            Then::Again => Stage::Waiting,
            Then::End => Stage::Ended { lost: false },
        };
    }

    /// Whether the hold is being created.
    #[must_use]
    pub fn is_creating(&self) -> bool {
        matches!(self.stage, Stage::Creating { .. })
    }

    /// Whether the hold is there and the gate is looked at once more: the target may be read meanwhile.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        self.stage == Stage::Checking
    }

    /// Lets go, at any time. The token is not used from now on.
    pub fn release(&mut self) {
        self.stage = match self.stage {
            Stage::Approaching | Stage::Waiting => Stage::Ended { lost: false },
            Stage::Ended { lost } => Stage::Ended { lost },
            _ => Stage::Leaving { then: Then::End },
        };
        self.stop_timing();
    }

    /// Whether the token may be used now: the hold is there, and valid by one's own clock.
    #[must_use]
    pub fn may_use(&self) -> bool {
        self.stage == Stage::Using && !self.valid_for.is_zero() && !self.suspended
    }

    /// Whether the hold was handed over and is not gone.
    #[must_use]
    pub fn is_using(&self) -> bool {
        self.stage == Stage::Using
    }

    /// Whether the hold was handed over and is gone without having been released.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.stage == (Stage::Ended { lost: true })
    }

    /// Whether the gate was seen closed: the hold should be released soon.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// The generation that the gate said when the consumer passed it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The duration of the hold, as the gate said.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// For how long the hold is valid by one's own clock.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.valid_for
    }
}

/// The place that a hold takes in this mode.
fn seat(mode: Mode) -> Seat {
    match mode {
        Mode::Shared => Seat::Shared,
        Mode::Exclusive => Seat::Exclusive,
    }
}

#[cfg(test)]
mod tests;
