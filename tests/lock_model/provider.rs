//! The token endpoint: refresh tokens rotate, and a spent one that is presented again revokes its family.

use std::collections::BTreeMap;

/// A refresh token, and the access token that was issued with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// The authorization that it comes from.
    pub family: u8,
    /// Counts the rotations.
    pub serial: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Family {
    /// The serial number of the refresh token that works.
    pub newest: u8,
    pub revoked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Provider {
    pub families: Vec<Family>,
    /// How often each refresh token was sent.
    pub presented: BTreeMap<Token, u8>,
    /// Whether old access tokens live on when new ones are issued.
    survives: bool,
}

impl Provider {
    pub fn new(survives: bool) -> Self {
        Self {
            families: vec![Family {
                newest: 1,
                revoked: false,
            }],
            presented: BTreeMap::new(),
            survives,
        }
    }

    /// Somebody logs in anew.
    pub fn authorize(&mut self) -> Token {
        self.families.push(Family {
            newest: 1,
            revoked: false,
        });
        Token {
            family: u8::try_from(self.families.len() - 1).expect("few families"),
            serial: 1,
        }
    }

    /// A request with this refresh token arrives.
    pub fn exchange(&mut self, token: Token) -> Option<Token> {
        let family = &mut self.families[usize::from(token.family)];
        if family.revoked {
            return None;
        }
        if token.serial != family.newest {
            family.revoked = true;
            return None;
        }
        family.newest += 1;
        Some(Token {
            serial: family.newest,
            ..token
        })
    }

    pub fn is_newest(&self, token: Token) -> bool {
        self.families[usize::from(token.family)].newest == token.serial
    }

    pub fn is_revoked(&self, family: u8) -> bool {
        self.families[usize::from(family)].revoked
    }

    /// Whether a resource server accepts the access token.
    pub fn accepts(&self, token: Token) -> bool {
        !self.is_revoked(token.family) && (self.survives || self.is_newest(token))
    }
}
