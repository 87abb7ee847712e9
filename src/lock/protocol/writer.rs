//! The writer's side: close the gate, let holders go, work behind it, open it.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Answer, Durations, Elapsed, Entry, GateState, Holder, Mode, Phase, Priority, SeenHold,
    Stopwatches, Unresolved, Version, enter, observed_expiry, own_validity,
};

/// How often a compare-and-swap that lost is tried again before the credential is queued anew.
const TRIES: u32 = 5;

/// One attempt to write behind a gate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Whose it is.
    pub holder: Holder,
    /// Why.
    pub priority: Priority,
    /// The durations to publish.
    pub durations: Durations,
    /// The mode to publish.
    pub mode: Mode,
    /// Whether holders must have stopped before the work begins.
    pub drains: Drains,
    /// For how long holders are waited for, from the close on; then their holds are deleted, however
    /// alive.
    pub patience: Duration,
    /// For how long this process knows the gate to be open, where the attempt has time.
    pub open_for: Option<Duration>,
    /// When the attempt begins; for people, and for a provider's grace period.
    pub now: Timestamp,
}

/// Whether holders must have stopped before the work behind a gate begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drains {
    /// In any case: the work ends their token.
    Always,
    /// Not for this work, under which the old token lives on; but where another writer may have done something else, or
    /// who may hold changes.
    WhereUnsure,
    /// Nothing is done but that the gate is opened, with all that it says.
    Never,
}

/// What a writer asks for next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriterAsk {
    /// Read the gate, from the quorum.
    ReadGate,
    /// Replace this version of the gate, or create it.
    WriteGate {
        /// What it replaces; `None`: there must be none.
        over: Option<Version>,
        /// What it says then.
        state: Box<GateState>,
    },
    /// List the holds of the credential, from the quorum.
    ListHolds,
    /// Delete a hold, if it still is of this version.
    DeleteHold(SeenHold),
    /// Nothing for this long, or until a hold changes. Where [`Writer::is_behind`], the work behind the
    /// gate goes on meanwhile.
    Wait(Duration),
    /// Nothing any more.
    End(End),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Somebody else holds the gate: begin again after this.
    Busy(Duration),
    /// The gate is open.
    Open,
    /// Somebody deleted the gate meanwhile.
    Missing,
    /// Another writer holds the gate.
    Superseded,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Looking at the gate.
    Entering,
    /// Writing the close. After an answer that does not tell, the gate is read to find out.
    Closing {
        confirm: bool,
    },
    /// The gate was missing: another writer may be at work for this much longer.
    Settling {
        left: Duration,
    },
    /// Looking for holds, for the first time.
    Looking,
    /// Waiting for the holds that were found.
    Draining,
    /// The work goes on.
    Behind,
    /// Writing the open gate.
    Opening,
    Ended(End),
}

/// One attempt as a state machine. Ask [`Writer::ask`], call [`Writer::sent`] when the request goes out,
/// and hand its answer to the method for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    attempt: Attempt,
    stage: Stage,
    tries: u32,
    /// The gate as it was stored last, while it is ours.
    stored: Option<(Version, GateState)>,
    /// What it is to say.
    wanted: GateState,
    /// Whether the gate must be read before it is written again.
    confirm: bool,
    /// Whether the gate is another's, or gone.
    lost: bool,
    /// For how long the lease still entitles to begin an exchange.
    valid_for: Duration,
    /// Until the next renewal.
    renew_in: Duration,
    /// Since the close was sent first, until it is known to be stored: one whose answer was lost counts
    /// from then.
    since_close: Option<Duration>,
    /// Since the write whose answer is awaited was sent.
    since_write: Duration,
    /// What that write says; `None`: no answer is awaited.
    writing: Option<GateState>,
    /// Until holds are deleted, however alive.
    patience: Duration,
    /// The holds that were there when the gate had been closed, and still are.
    holds: Vec<SeenHold>,
    /// Whether the holds must be listed again.
    look_again: bool,
    /// The holds that were deleted alive.
    forced: Vec<SeenHold>,
}

impl Writer {
    /// A writer that has done nothing yet.
    #[must_use]
    pub fn new(attempt: Attempt) -> Self {
        Self {
            stage: Stage::Entering,
            tries: 0,
            stored: None,
            wanted: GateState::open(0, attempt.mode, &attempt.durations),
            confirm: false,
            lost: false,
            valid_for: Duration::ZERO,
            renew_in: Duration::ZERO,
            since_close: None,
            since_write: Duration::ZERO,
            writing: None,
            patience: attempt.patience,
            holds: Vec::new(),
            look_again: false,
            forced: Vec::new(),
            attempt,
        }
    }

    /// What is to be done next.
    #[must_use]
    pub fn ask(&self, watches: &Stopwatches) -> WriterAsk {
        let write = |over: Option<&(Version, GateState)>| WriterAsk::WriteGate {
            over: over.map(|(version, _)| version.clone()),
            state: Box::new(self.wanted.clone()),
        };
        match &self.stage {
            Stage::Ended(end) => return WriterAsk::End(*end),
            Stage::Entering | Stage::Closing { confirm: true } => return WriterAsk::ReadGate,
            Stage::Closing { confirm: false } => return write(self.stored.as_ref()),
            _ => {}
        }
        if self.lost {
            // The work goes on: what was exchanged is stored whoever holds the gate.
            return WriterAsk::Wait(self.lease() / 3);
        }
        if self.confirm {
            return WriterAsk::ReadGate;
        }
        let is_stored = |(_, state): &(Version, GateState)| *state == self.wanted;
        if self.renew_in.is_zero() || !self.stored.as_ref().is_some_and(is_stored) {
            return write(self.stored.as_ref());
        }
        match &self.stage {
            Stage::Settling { left } => WriterAsk::Wait(self.renew_in.min(*left)),
            Stage::Looking => WriterAsk::ListHolds,
            Stage::Draining if self.look_again => WriterAsk::ListHolds,
            Stage::Draining => self.drain(watches),
            _ => WriterAsk::Wait(self.renew_in),
        }
    }

    fn drain(&self, watches: &Stopwatches) -> WriterAsk {
        let forces = self.patience.is_zero();
        let mut next = self
            .renew_in
            .min(self.patience.max(Duration::from_millis(1)));
        for hold in &self.holds {
            let left = watches.time_left(hold);
            if forces || left.is_zero() {
                return WriterAsk::DeleteHold(hold.clone());
            }
            next = next.min(left);
        }
        WriterAsk::Wait(next)
    }

    /// Time passes.
    pub fn advance(&mut self, elapsed: Elapsed) {
        let others = elapsed.of_others();
        let mine = elapsed.of_mine();
        if self.writing.is_some() {
            self.since_write = self.since_write.saturating_add(mine);
        }
        self.since_close = self.since_close.map(|since| since.saturating_add(mine));
        self.valid_for = self.valid_for.saturating_sub(mine);
        self.renew_in = self.renew_in.saturating_sub(mine);
        if self.since_close.is_some() || self.is_closed() {
            self.patience = self.patience.saturating_sub(others);
        }
        if let Stage::Settling { left } = &mut self.stage {
            *left = left.saturating_sub(others);
            if left.is_zero() && !self.confirm {
                self.look();
            }
        }
        // Beyond this nothing is told apart; it keeps the states of a model few.
        let longest = self.lease() * 2;
        self.since_write = self.since_write.min(longest);
        self.since_close = self.since_close.map(|since| since.min(longest));
    }

    /// The request [`WriterAsk::WriteGate`] goes out now.
    pub fn sent(&mut self) {
        self.since_write = Duration::ZERO;
        self.writing = Some(self.wanted.clone());
        if matches!(self.stage, Stage::Closing { confirm: false }) {
            self.since_close.get_or_insert(Duration::ZERO);
        }
    }

    /// A hold may have changed.
    pub fn hint(&mut self) {
        self.look_again = self.stage == Stage::Draining;
    }

    /// The answer to [`WriterAsk::ReadGate`]. `unchanged_for`: how long this version has been seen;
    /// `running`: whether an attempt of this process is under way.
    pub fn on_gate(
        &mut self,
        answer: Answer<(Version, GateState)>,
        unchanged_for: Duration,
        running: impl Fn(&str) -> bool,
    ) {
        let found = match answer {
            Answer::Done(found) => Some(found),
            Answer::NotFound => None,
            Answer::Conflict | Answer::Unclear => return,
        };
        let is_mine = found
            .as_ref()
            .is_some_and(|(_, gate)| gate.holder.as_ref() == Some(&self.attempt.holder));
        match self.stage {
            // Also a close that was answered too late, or not at all.
            Stage::Entering | Stage::Closing { .. } if is_mine => self.closed(found),
            Stage::Entering | Stage::Closing { .. } => self.enter(found, unchanged_for, running),
            _ if is_mine => {
                // A look never prolongs a lease.
                self.stored = found;
                self.confirm = false;
            }
            Stage::Opening => {
                let is_open = found.as_ref().is_some_and(|(_, gate)| *gate == self.wanted);
                self.stage = Stage::Ended(match found {
                    None => End::Missing,
                    Some(_) if is_open => End::Open,
                    Some(_) => End::Superseded,
                });
            }
            _ => self.lose(),
        }
    }

    fn enter(
        &mut self,
        found: Option<(Version, GateState)>,
        unchanged_for: Duration,
        running: impl Fn(&str) -> bool,
    ) {
        self.tries += 1;
        let pause = self.lease() / 3;
        if self.tries > TRIES {
            self.stage = Stage::Ended(End::Busy(pause));
            return;
        }
        let Attempt {
            holder,
            priority,
            durations,
            mode,
            now,
            ..
        } = self.attempt.clone();
        let (generation, unresolved, is_unsure, known_mode) = match &found {
            Some((_, gate)) => {
                let incarnation = &holder.incarnation;
                let open_for = self.attempt.open_for;
                match enter(gate, unchanged_for, incarnation, running, open_for) {
                    Entry::Close {
                        unresolved,
                        takes_over_an_exchange,
                    } => {
                        // Who may hold changes only while nobody does.
                        let same_mode = gate.mode == mode;
                        // And what may be spent already may cost the old token when it is presented.
                        let is_unsure =
                            takes_over_an_exchange || unresolved.is_some() || !same_mode;
                        (gate.generation, unresolved, is_unsure, gate.mode)
                    }
                    Entry::Wait(left) => {
                        let pause = left.min(gate.writer_lease / 3);
                        self.stage = Stage::Ended(End::Busy(pause));
                        return;
                    }
                    Entry::Running => {
                        self.stage = Stage::Ended(End::Busy(pause));
                        return;
                    }
                }
            }
            // A gate that existed and is gone counts as Refreshing by an unknown attempt.
            None => (Some(0), Some(Unresolved::unknown()), true, mode),
        };
        let drains = match self.attempt.drains {
            Drains::Always => true,
            Drains::WhereUnsure => is_unsure,
            Drains::Never => false,
        };
        self.wanted = GateState {
            holder: Some(holder),
            phase: if drains {
                Phase::Refreshing
            } else {
                Phase::Open
            },
            priority,
            generation,
            closed_at: Some(now),
            unresolved,
            // Whoever holds it does so by the mode that stands there.
            ..GateState::open(0, known_mode, &durations)
        };
        self.stored = found;
        self.stage = Stage::Closing { confirm: false };
    }

    /// The answer to [`WriterAsk::WriteGate`].
    pub fn on_written(&mut self, answer: Answer<Version>) {
        let Some(state) = self.writing.take() else {
            return;
        };
        let since_sent = std::mem::take(&mut self.since_write);
        match (answer, &mut self.stage) {
            (_, Stage::Ended(_)) => {}
            (Answer::Done(version), Stage::Closing { .. }) => {
                self.closed(Some((version, state)));
            }
            (Answer::Done(_), Stage::Opening) if state == self.wanted => {
                self.stage = Stage::Ended(End::Open);
            }
            (Answer::Done(version), _) => {
                self.stored = Some((version, state));
                self.renewed(since_sent);
            }
            // Lost to another writer, or stored by an earlier try of ours: the gate tells.
            (_, Stage::Closing { confirm }) => *confirm = true,
            // Not this time, and maybe later all the same: the gate tells.
            (_, _) => self.confirm = true,
        }
    }

    /// The gate is closed, by us.
    fn closed(&mut self, found: Option<(Version, GateState)>) {
        let was_missing = self.stored.is_none();
        self.stored = found;
        self.tries = 0;
        let since_sent = self.since_close.take().unwrap_or_default();
        self.renewed(since_sent);
        if was_missing {
            let durations = &self.attempt.durations;
            let longest = durations.writer_lease + durations.takeover_delay();
            let left = observed_expiry(longest);
            self.stage = Stage::Settling { left };
        } else {
            self.look();
        }
    }

    fn renewed(&mut self, since_sent: Duration) {
        self.valid_for = own_validity(self.lease()).saturating_sub(since_sent);
        self.renew_in = self.lease() / 3;
        // Whatever else tells of holds may have failed.
        self.hint();
    }

    fn look(&mut self) {
        self.stage = if self.wanted.phase == Phase::Open {
            Stage::Behind
        } else {
            Stage::Looking
        };
    }

    fn lose(&mut self) {
        self.lost = true;
        self.confirm = false;
        if !matches!(self.stage, Stage::Behind) {
            self.stage = Stage::Ended(End::Superseded);
        }
    }

    /// The answer to [`WriterAsk::ListHolds`], with `None` where there was none.
    pub fn on_holds(&mut self, listed: Option<Vec<SeenHold>>, watches: &mut Stopwatches) {
        let Some(mut listed) = listed else {
            return;
        };
        for hold in &listed {
            watches.see_hold(hold);
        }
        self.look_again = false;
        match self.stage {
            Stage::Looking => {}
            // What came later found the gate closed, and goes by itself.
            Stage::Draining => listed.retain(|hold| self.holds.iter().any(|old| same(old, hold))),
            _ => return,
        }
        self.holds = listed;
        if self.holds.is_empty() {
            self.stage = Stage::Behind;
            self.patience = Duration::ZERO;
            self.wanted.phase = Phase::Refreshing;
            self.wanted.mode = self.attempt.mode;
        } else {
            self.stage = Stage::Draining;
            self.wanted.phase = Phase::Draining;
        }
    }

    /// The answer to [`WriterAsk::DeleteHold`].
    pub fn on_hold_deleted(
        &mut self,
        hold: &SeenHold,
        answer: &Answer<()>,
        watches: &mut Stopwatches,
    ) {
        let may_be_done = matches!(answer, Answer::Done(()) | Answer::Unclear);
        if may_be_done && self.patience.is_zero() && !watches.time_left(hold).is_zero() {
            self.wanted.forced = true;
            if !self.forced.iter().any(|other| same(other, hold)) {
                self.forced.push(hold.clone());
            }
        }
        match answer {
            Answer::Done(()) | Answer::NotFound => {
                watches.forget(&hold.name);
                self.holds.retain(|other| !same(other, hold));
                self.look_again |= self.holds.is_empty();
            }
            // Renewed, or nobody knows: look.
            Answer::Conflict | Answer::Unclear => self.look_again = true,
        }
    }

    /// Whether the gate is closed and nobody who must be gone is there: the work behind it may go on.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let is_stored = |(_, gate): &(Version, GateState)| gate.phase == self.wanted.phase;
        matches!(self.stage, Stage::Behind)
            && (self.lost || self.stored.as_ref().is_some_and(is_stored))
    }

    /// Whether an exchange may be begun now. Nothing else entitles to it.
    #[must_use]
    pub fn may_exchange(&self) -> bool {
        self.is_behind() && !self.lost && !self.valid_for.is_zero()
    }

    /// The attempt's identifier.
    #[must_use]
    pub fn attempt(&self) -> &str {
        &self.attempt.holder.attempt
    }

    /// Whether the gate was closed by this attempt.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Entering | Stage::Closing { .. } | Stage::Ended(_)
        )
    }

    /// Whether a close was sent whose outcome is not known.
    #[must_use]
    pub fn may_have_closed(&self) -> bool {
        self.since_close.is_some() && !self.is_closed()
    }

    /// Whether another writer may be at work behind a gate that was missing.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling { .. })
    }

    /// How the attempt ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        match self.stage {
            Stage::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Notes that the token of the unresolved attempt is presented once more, before that is done.
    pub fn note_retried(&mut self) {
        if let Some(unresolved) = &mut self.wanted.unresolved {
            unresolved.retried = true;
        }
    }

    /// Whether what the gate is to say is stored.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        let is_wanted = |(_, state): &(Version, GateState)| *state == self.wanted;
        !self.lost && !self.confirm && self.stored.as_ref().is_some_and(is_wanted)
    }

    /// Whether the gate is another's, or gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Opens the gate at `generation`, with what is still `unresolved`, and for holds of the token that
    /// stands behind it. Every way out of an attempt that has closed its gate leads here.
    pub fn open(
        &mut self,
        generation: Option<u64>,
        unresolved: Option<Unresolved>,
        holds: &Durations,
    ) {
        if self.lost {
            // Once more, to tell a gate that is gone from one that is another's.
            self.confirm = true;
            self.lost = false;
        }
        if self.ended().is_some() {
            return;
        }
        self.wanted.holder = None;
        self.wanted.phase = Phase::Open;
        self.wanted.closed_at = None;
        // Never below what it has said before.
        self.wanted.generation = self.wanted.generation.max(generation);
        self.wanted.unresolved = unresolved;
        self.wanted.hold = holds.hold;
        self.wanted.drain_grace = holds.drain_grace;
        self.stage = Stage::Opening;
        // It entitles to nothing any more.
        self.valid_for = Duration::ZERO;
        self.renew_in = Duration::ZERO;
        self.patience = Duration::ZERO;
        self.holds.clear();
        self.look_again = false;
    }

    /// What the gate says, as far as this attempt has it in hand.
    #[must_use]
    pub fn gate(&self) -> &GateState {
        &self.wanted
    }

    /// The holds that were deleted alive, because the deadline had come.
    #[must_use]
    pub fn forced(&self) -> &[SeenHold] {
        &self.forced
    }

    /// The holds that are waited for.
    #[must_use]
    pub fn waits_for(&self) -> &[SeenHold] {
        match self.stage {
            Stage::Draining => &self.holds,
            _ => &[],
        }
    }

    fn lease(&self) -> Duration {
        self.attempt.durations.writer_lease
    }
}

/// Whether two sightings are of one hold, whatever its version.
fn same(one: &SeenHold, other: &SeenHold) -> bool {
    one.name == other.name && one.version.uid == other.version.uid
}

#[cfg(test)]
mod tests;
