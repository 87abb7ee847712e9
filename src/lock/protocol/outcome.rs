//! What is known of an exchange whose writer is gone, and of tokens that could not be stored at once.

use super::Unresolved;

/// Whether a stored grant shows that an unresolved attempt stored its tokens: they are its own, or later
/// ones. Of an attempt whose identity is lost, or beside a gate that has lost its generation, that cannot
/// be said.
#[must_use]
pub fn is_settled(
    unresolved: &Unresolved,
    grant_attempt: &str,
    grant_generation: u64,
    gate_generation: Option<u64>,
) -> bool {
    let is_ahead = gate_generation.is_some_and(|g| grant_generation > g);
    !unresolved.is_unknown() && (is_ahead || unresolved.attempt == grant_attempt)
}

/// What to do with tokens that could not be stored because the grant had changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// They are stored: an earlier answer was lost.
    Stored,
    /// Store them over this generation.
    Write(u64),
    /// What is stored is newer and valid; ours came from a token that is no longer the grant's.
    Drop,
}

/// A grant that stands where an exchange is to be recorded, compared with that exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Rival {
    /// Whether it was stored by the same attempt.
    pub is_ours: bool,
    /// Its generation.
    pub generation: u64,
    /// Whether its generation is above the one that was read before the exchange.
    pub has_moved: bool,
    /// Whether its refresh token is the one that the exchange spent.
    pub holds_the_spent_token: bool,
    /// Whether the exchange gave a new refresh token.
    pub exchange_rotated: bool,
    /// Whether the exchange redeemed a seed's token: a new authorization.
    pub exchange_adopted: bool,
}

/// Decides what becomes of the tokens of an exchange in the face of what is stored.
#[must_use]
pub fn merge(rival: Rival) -> Merge {
    if rival.is_ours {
        return Merge::Stored;
    }
    // One that has not moved is as it was read, or older: somebody put a backup back.
    let ours_is_the_only_good_one = rival.exchange_rotated && rival.holds_the_spent_token;
    if !rival.has_moved || rival.exchange_adopted || ours_is_the_only_good_one {
        Merge::Write(rival.generation)
    } else {
        Merge::Drop
    }
}
