//! How a trial ended, counted.

use std::fmt;

/// When the refresh token was presented again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    AtOnce,
    /// When the margin before the expiry of the access token began, and not before.
    InTheMargin,
    /// When a program had said that the access token is dead, and not before.
    OnceSaidToBeDead,
}

/// What came of an exchange to which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub again: When,
    /// How often the refresh token arrived at the provider.
    pub presented: usize,
    /// The provider has replaced it, and nobody has the new one.
    pub is_lost: bool,
    /// The authorization has ended for it.
    pub is_revoked: bool,
    /// How often an access token was dead while a program held it that had come before the exchange.
    pub dead_in_use: usize,
    /// The reasons that people were told, one after the other.
    pub told: &'static str,
}

/// All is well at the second time.
pub const AGAIN: Outcome = Outcome {
    again: When::AtOnce,
    presented: 2,
    is_lost: false,
    is_revoked: false,
    dead_in_use: 0,
    told: "RefreshOutcomeUnknown, healthy",
};

/// Nobody lives who could tell of the first time.
pub const AGAIN_AFTER_A_CRASH: Outcome = Outcome { told: "", ..AGAIN };

/// It was presented again before the gate was opened, and nobody needs to know.
pub const SPARED: Outcome = AGAIN_AFTER_A_CRASH;

/// It never arrived before.
pub const UNSENT: Outcome = Outcome {
    presented: 1,
    ..AGAIN_AFTER_A_CRASH
};

/// What cannot be spent makes nobody worry.
pub const AGAIN_FAILED: Outcome = Outcome {
    told: "ProviderError, healthy",
    ..AGAIN
};

pub const AGAIN_UNREADABLE: Outcome = Outcome {
    told: "UnreadableResponse, healthy",
    ..AGAIN
};

pub const PAUSED: Outcome = Outcome {
    told: "RateLimited, healthy",
    ..AGAIN
};

/// It is not presented for as long as that could cost the old access token, and turns out to be well.
pub const HELD: Outcome = Outcome {
    again: When::InTheMargin,
    ..AGAIN
};

pub const HELD_UNSENT: Outcome = Outcome {
    presented: 1,
    ..HELD
};

/// It was replaced, and that is found out at once: nothing can be lost any more.
pub const LOST: Outcome = Outcome {
    is_lost: true,
    told: "RefreshOutcomeUnknown, RotationLost",
    ..AGAIN
};

pub const LOST_AFTER_A_CRASH: Outcome = Outcome {
    told: "RotationLost",
    ..LOST
};

/// People have had the access token's life to log in again.
pub const LOST_HELD: Outcome = Outcome {
    again: When::InTheMargin,
    ..LOST.revoked()
};

pub const LOST_SAID: Outcome = Outcome {
    again: When::OnceSaidToBeDead,
    ..LOST.revoked()
};

impl Outcome {
    /// The columns of [`fmt::Display`].
    pub const TITLE: &'static str = "again         times  lost   revoked  dead in use  told";

    /// The same, and the authorization has ended.
    pub const fn revoked(self) -> Self {
        Self {
            is_revoked: true,
            ..self
        }
    }

    /// What there is to count.
    pub fn counts(&self) -> [(&'static str, usize); 6] {
        let is = |when| usize::from(self.again == when);
        [
            ("presented again at once", is(When::AtOnce)),
            ("in the margin", is(When::InTheMargin)),
            ("when said to be dead", is(When::OnceSaidToBeDead)),
            ("lost", usize::from(self.is_lost)),
            ("revoked", usize::from(self.is_revoked)),
            ("dead in use", self.dead_in_use),
        ]
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            again,
            presented,
            is_lost,
            is_revoked,
            dead_in_use,
            told,
        } = self;
        let again = format!("{again:?}");
        write!(
            f,
            "{again:14}{presented:5}  {is_lost:5}  {is_revoked:7}  {dead_in_use:11}  {told}"
        )
    }
}
