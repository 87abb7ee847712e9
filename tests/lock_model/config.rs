//! What a run of the checker looks at: who takes part, which faults happen, and what is left out of the
//! protocol to see that it is missed.

use std::time::Duration;

use tokenward::lock::protocol::{Durations, Mode};

/// One tick of true time.
pub const TICK: Duration = Duration::from_secs(1);

/// How far a tick goes on a slow clock, on a true and on a fast one, in milliseconds.
pub const SLOW: u64 = 950;
pub const FAST: u64 = 1050;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderSpec {
    /// How far one tick goes on its clock, in milliseconds.
    pub rate: u64,
    /// How often it comes for the token.
    pub lives: u8,
    /// How often it may try to get in, each time.
    pub tries: u8,
    /// Whether it lets go.
    pub releases: bool,
    /// Whether it reads the target together with its second look at the gate, as `lock::hold` does, and
    /// remembers the gate from one time to the next.
    pub hurries: bool,
}

/// How closely requests are looked at. An exchange is never less than [`Grain::Prompt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A request is carried out and answered as soon as it is sent. One whose answer is lost may still be
    /// carried out at any time.
    Atomic,
    /// A write is carried out at any time after it was sent, and then answered at once.
    Prompt,
    /// And the answer, to a write or a read, arrives at any time later.
    Full,
}

#[derive(Clone, Debug)]
pub struct OperatorSpec {
    pub rate: u64,
    pub mode: Mode,
}

/// How often each fault may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// The answer to a request is lost; the request may still be carried out at any time later.
    pub lost: u8,
    pub reader_crash: u8,
    pub operator_crash: u8,
    /// An attempt ends, and its process goes on.
    pub attempt_crash: u8,
    /// SIGTERM.
    pub interrupt: u8,
    /// A process is stopped for a while; its clocks go on.
    pub reader_stop: u8,
    pub operator_stop: u8,
    /// A machine is paused for a while; of its clocks only the wall clock shows it.
    pub reader_pause: u8,
    pub operator_pause: u8,
    /// The wall clock is set a day ahead.
    pub reader_jump: u8,
    pub operator_jump: u8,
    /// Somebody deletes a hold.
    pub vanish: u8,
    pub gate_deleted: u8,
    /// Somebody writes the grant: with a new authorization, or with the refresh token that it has.
    pub new_authorization: u8,
    pub grant_edited: u8,
    /// Somebody touches the grant, and changes nothing that counts.
    pub grant_touched: u8,
    /// The token comes near its expiry.
    pub aged: u8,
}

/// A way in which the protocol, or what surrounds it, is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Sentence 1: a writer does not renew its gate.
    GateNotRenewed,
    /// Sentence 2: something else than holder and operator deletes holds, as garbage collection would.
    HoldsCollected,
    /// Sentence 2: the operator deletes a hold whatever version it has.
    HoldDeletedInAnyVersion,
    /// Sentence 2: the operator deletes a hold that it has not timed.
    HoldNotTimed,
    /// The operator's time for a hold leaves out the drift of clocks.
    HoldTimedWithoutDrift,
    /// The operator times holds by the wall clock.
    HoldTimedByWallClock,
    /// Sentence 3: holds are listed before the gate is closed.
    ListedBeforeClosed,
    /// Sentence 3: a reader looks at the gate only before it creates its hold.
    GateReadBeforeHold,
    /// A reader's second look at the gate is answered from a cache.
    GateReadFromCache,
    /// The operator's list of holds is answered from a cache.
    HoldsListedFromCache,
    /// A watch tells that there is no hold before it has shown the gate as it was closed.
    GateNotShown,
    /// A watch tells that there is no hold when it has shown the gate closed, in whatever version.
    GateShownInAnyVersion,
    /// A watch tells that there is no hold while it begins anew, and has shown the gate, but not all holds yet.
    ToldByHalfAList,
    /// A gate that a watch has shown open is closed whatever it has become.
    ClosedWithoutVersion,
    /// An open gate that a watch shows late counts as a look at the gate: how long it has been closed is counted anew.
    LateSightTimed,
    /// Sentence 4: a holder waits for the answer to a renewal before it counts the time.
    LateAnswerCounts,
    /// A holder counts its time without the drift of clocks.
    HoldValidWithoutDrift,
    /// A renewal whose answer is lost counts as done.
    LostRenewalCounts,
    /// A renewal counts from its answer, not from when it was sent.
    ValidFromAnswer,
    /// Each try to hold has the same nonce.
    NonceReused,
    /// A holder that has been stopped does not look at its clock before it goes on.
    StopUnnoticed,
    /// A holder whose machine was paused looks at the clock that stood still with it.
    PauseUnnoticed,
    /// A reader takes a target that is behind the gate.
    OldTargetTaken,
    /// A release deletes whatever hold has the name.
    ReleasedByName,
    /// Sentence 5: a request for a refresh is a hold.
    WantIsHold,
    /// Sentence 6: a takeover from Refreshing is like one from Draining.
    PlainTakeover,
    /// Sentence 6: a held gate that reads Open is taken for free.
    HeldOpenGateIsFree,
    /// Sentence 6: what is unresolved is forgotten when the gate opens.
    UnresolvedForgotten,
    /// Sentence 7: a missing gate is created open, as for a new credential.
    MissingGateIsOpen,
    /// Sentence 7: nothing is unresolved behind a gate that was missing.
    MissingGateIsResolved,
    /// Sentence 7: who creates a missing gate closed waits for nobody.
    MissingGateWithoutWait,
    /// Sentence 8: the target is written before the grant.
    TargetFirst,
    /// Sentence 8: the grant is written whatever it has become.
    GrantWithoutVersion,
    /// Sentence 8: the target is written whatever it has become.
    TargetWithoutVersion,
    /// Sentence 9: at its deadline a writer overrides the gate of another.
    DeadlineOverridesWriter,
    /// A takeover from Refreshing waits only for the lease.
    NoTakeoverDelay,
    /// The delay of a takeover covers the exchange, and not the time to store what it brought.
    DelayCoversExchangeOnly,
    /// The gate is opened although an exchange whose answer was lost may still be carried out.
    ExchangeNotOutlasted,
    /// A writer's lease counts from the answer to its write.
    LeaseFromAnswer,
    /// A writer that is silent is never taken over.
    NoTakeover,
    /// A hold that is not renewed is never deleted.
    DeadHoldsKept,
    /// The lease is not checked before the exchange.
    LeaseNotChecked,
    /// The gate is opened whatever it has become.
    OpenedWithoutVersion,
    /// A writer whose lease has lapsed discards what the exchange brought.
    LapsedTokenDiscarded,
    /// A way out of an attempt that leaves the gate closed.
    AbortLeavesClosed,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub name: &'static str,
    pub readers: Vec<ReaderSpec>,
    pub operators: Vec<OperatorSpec>,
    pub durations: Durations,
    pub mode: Mode,
    /// For how long a writer waits for holders.
    pub patience: Duration,
    /// Whether the old access token lives on after an exchange, so that nobody needs to be drained.
    pub survives: bool,
    /// How often a refresh is asked for.
    pub refreshes: u8,
    pub faults: Faults,
    /// Whether a reader that uses the token may be told at any time that the gate has changed.
    pub hints: bool,
    /// Whether operators see holds by a watch, too.
    pub observes: bool,
    /// Whether an attempt may begin with the gate as a watch shows it that is late.
    pub watched_gates: bool,
    /// How closely the requests of readers and of operators are looked at.
    pub readers_grain: Grain,
    pub operators_grain: Grain,
    /// Whether time passes only when operators, or readers, have nothing to do. Without that anybody may
    /// be late at any step.
    pub operators_urgent: bool,
    pub readers_urgent: bool,
    /// Whether it is counted how long everybody waits.
    pub counts: bool,
    pub mutant: Option<Mutant>,
}

impl Config {
    pub fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}
