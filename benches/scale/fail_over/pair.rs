//! Two operators of which one leads, and what becomes of that one.

use jiff::{SignedDuration, Timestamp};

use crate::support::{Fixture, Operator, Proxy};

/// What a process may have under way when it is killed: it works on so many credentials at a time.
const AT_A_TIME: usize = 64;

/// The leader's name in gates.
pub const LEADER: &str = "first";

/// How a leader is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// By SIGKILL.
    Killed,
    /// By SIGSTOP; it goes on when another has done the rest.
    Stopped,
    /// The API server is out of its reach, and the provider is not.
    Partitioned,
}

impl Loss {
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Partitioned => "without API server",
        }
    }

    /// What follows a crash in an exchange waits for as long as that may take. A process that stood still for longer
    /// does not read the answers that have come meanwhile.
    fn times(self) -> &'static [&'static str] {
        match self {
            Self::Killed => &["--request-timeout", "5s"],
            Self::Stopped | Self::Partitioned => &[],
        }
    }

    /// How many new refresh tokens go with it: the answers that a killed process was waiting for, or had not stored yet.
    pub fn loses_at_most(self) -> usize {
        match self {
            Self::Killed => AT_A_TIME,
            Self::Stopped | Self::Partitioned => 0,
        }
    }
}

/// Two operators of which the first leads.
pub struct Pair {
    leader: Operator,
    pub other: Operator,
    proxy: Option<Proxy>,
    ahead: i64,
}

impl Pair {
    /// With a clock that is ahead by so many seconds, and the leader in a place where it can be lost like this.
    pub async fn start(fixture: &Fixture, ahead: i64, loss: Loss) -> Self {
        let arguments = |name: &'static str| {
            let common = ["--leader-elect", "--log-level", "info"];
            let place = ["--operator-namespace", fixture.namespace.as_str()];
            [&common[..], loss.times(), &place, &["--identity", name]].concat()
        };
        let (leader, proxy) = if loss == Loss::Partitioned {
            let proxy = fixture.proxy().await;
            let leader = fixture.operator_ahead_through(ahead, &proxy, &arguments(LEADER));
            (leader, Some(proxy))
        } else {
            (fixture.operator_ahead(ahead, &arguments(LEADER)), None)
        };
        leader.logged("leading").await;
        let other = fixture.operator_ahead(ahead, &arguments("other"));
        other.logged("another leads; standing by").await;
        Self {
            leader,
            other,
            proxy,
            ahead,
        }
    }

    /// Loses the leader.
    pub async fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.leader.kill(),
            Loss::Stopped => self.leader.signal("STOP"),
            Loss::Partitioned => self.proxy.as_mut().unwrap().away().await,
        }
    }

    /// Lets the leader that was lost go on, where it can. It finds that it may not lead any more, stores what it had
    /// under way, and ends.
    pub async fn go_on(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => return,
            Loss::Stopped => self.leader.signal("CONT"),
            Loss::Partitioned => self.proxy.as_mut().unwrap().back(),
        }
        assert_eq!(self.leader.end().await.code(), Some(1));
    }

    /// Since when the other one leads.
    pub async fn other_leads_since(&self) -> Timestamp {
        let line = self.other.logged("leading").await;
        let by_its_clock: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        by_its_clock - SignedDuration::from_secs(self.ahead)
    }
}
