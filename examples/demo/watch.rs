//! What happens, as it happens: the operator's refreshes, the Secrets, and what clients get.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::operator::Line;
use crate::output::{Look, Output};
use crate::place::NAMESPACE;
use crate::stage::{CREDENTIALS, Stage};
use crate::usage::{Call, expires_at, generation, use_token};

/// How often the operator's log is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// A refresh is logged before the status is written, and the table shows the status.
const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// When to stop watching.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Each credential was refreshed so often, or a call was refused.
    Refreshed(u64),
    /// Somebody else ends it. Only what is out of the ordinary is shown.
    Stopped,
}

/// What was seen of a credential.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    /// Tokens after the first.
    pub(crate) refreshes: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// The shortest time that a token had still to live when it was used.
    pub(crate) least_left: SignedDuration,
    generation: u64,
    expires_at: Option<Timestamp>,
    /// Calls that were refused since the last one that was accepted.
    refused_in_a_row: u64,
    /// There was a token once, and there is none now, or nobody can tell.
    is_gone: bool,
    /// Something was out of the ordinary since the last refresh.
    troubled: bool,
}

/// Watches. What it has started ends with it.
pub(crate) struct Watch {
    pub(crate) seen: [Seen; 2],
    output: Output,
    since: (Instant, Timestamp),
    calls: UnboundedReceiver<(&'static str, Call)>,
    _clients: JoinSet<()>,
    /// How many tokens each credential has had at least.
    round: u64,
    table_at: Option<Instant>,
}

impl Watch {
    /// Begins to use the tokens.
    pub(crate) fn start(stage: &Stage, output: Output) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let (sender, calls) = unbounded_channel();
        let mut clients = JoinSet::new();
        for name in CREDENTIALS {
            let resource = stage.oauth.resource_url();
            let (http, sender) = (http.clone(), sender.clone());
            clients.spawn(use_token(name, stage.secrets(), resource, http, sender));
        }
        output.say(&format!(
            "\nA client of each credential calls {} five times a second,\n\
             always with the token that is in the Secret right then.\n",
            stage.oauth.resource_url()
        ));
        Ok(Self {
            seen: CREDENTIALS.map(Seen::new),
            output,
            since: (Instant::now(), Timestamp::now()),
            calls,
            _clients: clients,
            round: 0,
            table_at: None,
        })
    }

    /// How long this has been watching.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.0.elapsed()
    }

    /// Shows what happens.
    pub(crate) async fn run(&mut self, stage: &mut Stage, until: Until) -> Result<()> {
        let mut ticks = interval(PERIOD);
        loop {
            tokio::select! {
                Some((name, call)) = self.calls.recv() => self.called(name, call),
                _ = ticks.tick() => {
                    let operator = stage.operator.as_mut().context("there is no operator")?;
                    let (news, ended) = (operator.news()?, operator.ended()?);
                    for line in news {
                        self.told(&line, stage, until).await;
                    }
                    if let Some(status) = ended {
                        bail!("the operator ended ({status})\n{}", stage.state_of_things().await);
                    }
                    if let Until::Refreshed(times) = until {
                        self.show_table(stage).await?;
                        if self.is_over(times) {
                            if self.was_refused() {
                                self.output.say("");
                            }
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    fn is_over(&self, times: u64) -> bool {
        self.was_refused() || (self.round > times && self.table_at.is_none())
    }

    fn was_refused(&self) -> bool {
        self.seen.iter().any(|seen| seen.refused > 0)
    }

    /// The columns of kubectl, soon after each credential has a new token.
    async fn show_table(&mut self, stage: &Stage) -> Result<()> {
        let tokens = |seen: &Seen| seen.refreshes + seen.generation.min(1);
        let round = self.seen.iter().map(tokens).min().unwrap_or(0);
        if round > self.round {
            self.round = round;
            self.table_at = Some(Instant::now() + STATUS_WITHIN);
        }
        if self.table_at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        self.table_at = None;
        let get = ["-n", NAMESPACE, "get", "icred"];
        let table = stage.place.kubectl(&get, "").await?;
        self.output.say("");
        let command = format!("kubectl {}", get.join(" "));
        self.output.command(&command, &table);
        self.output.say("");
        Ok(())
    }

    /// A line of the operator's log.
    async fn told(&mut self, line: &Line, stage: &Stage, until: Until) {
        let seconds = line.at.duration_since(self.since.1).as_secs_f64();
        let credential = line.credential.as_deref().unwrap_or_default();
        let name = credential.rsplit('/').next().unwrap_or_default();
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.name == name) else {
            if line.is_warning() {
                let text = line.text();
                let look = Some(Look::Warning);
                self.output.happened(seconds, "operator", look, &text);
            }
            return;
        };
        if let (true, Some(generation)) = (line.is_refresh(), line.generation) {
            let text = seen.refreshed(generation, line.at, stage).await;
            if matches!(until, Until::Refreshed(_)) || seen.troubled {
                let name = seen.name;
                self.output.happened(seconds, name, Some(Look::Good), &text);
            }
            seen.troubled = false;
        } else {
            let look = line.is_warning().then_some(Look::Warning);
            seen.troubled |= line.is_warning();
            self.output.happened(seconds, seen.name, look, &line.text());
        }
    }

    /// What came of a call.
    fn called(&mut self, name: &'static str, call: Call) {
        let seconds = self.since.0.elapsed().as_secs_f64();
        let Some(seen) = self.seen.iter_mut().find(|seen| seen.name == name) else {
            return;
        };
        let had_token = seen.accepted + seen.refused > 0;
        let (look, text) = match call {
            Call::Accepted { left } => {
                seen.accepted += 1;
                let left = left.unwrap_or(SignedDuration::MAX);
                seen.least_left = seen.least_left.min(left);
                let refused = std::mem::take(&mut seen.refused_in_a_row);
                let was_gone = std::mem::take(&mut seen.is_gone);
                match (refused, was_gone) {
                    (0, false) => return,
                    (0, true) => (Look::Good, format!("the Secret {name} holds a token again")),
                    (refused, _) => (
                        Look::Good,
                        format!("accepted, after {refused} refused calls"),
                    ),
                }
            }
            Call::Refused(why) => {
                seen.refused += 1;
                seen.refused_in_a_row += 1;
                seen.troubled = true;
                if seen.refused_in_a_row > 1 {
                    return;
                }
                (Look::Bad, format!("REFUSED: {why}"))
            }
            Call::NoToken if had_token && !seen.is_gone => {
                seen.is_gone = true;
                seen.troubled = true;
                (
                    Look::Warning,
                    format!("there is no token in the Secret {name}"),
                )
            }
            Call::Unread(error) if !seen.is_gone => {
                seen.is_gone = true;
                (
                    Look::Warning,
                    format!("the Secret {name} cannot be read: {error}"),
                )
            }
            Call::NoToken | Call::Unread(_) => return,
        };
        self.output.happened(seconds, name, Some(look), &text);
    }
}

impl Seen {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            refreshes: 0,
            accepted: 0,
            refused: 0,
            least_left: SignedDuration::MAX,
            generation: 0,
            expires_at: None,
            refused_in_a_row: 0,
            is_gone: false,
            troubled: false,
        }
    }

    /// There is a new token: what became of the Secret.
    async fn refreshed(&mut self, generation_: u64, at: Timestamp, stage: &Stage) -> String {
        let what = if self.generation == 0 {
            "first token"
        } else {
            self.refreshes += 1;
            "refreshed"
        };
        self.generation = generation_;
        let secret = stage.secrets().get_opt(self.name).await.ok().flatten();
        let secret = secret.filter(|secret| generation(secret) >= Some(generation_));
        let Some(expires) = secret.as_ref().and_then(expires_at) else {
            return format!("{what}: generation {generation_}; the Secret is not written yet");
        };
        let lives = expires.duration_since(at).as_secs_f64();
        let clock = |time: Timestamp| time.strftime("%H:%M:%S").to_string();
        let moved = match self.expires_at.replace(expires) {
            Some(was) => format!("moved {} -> {}", clock(was), clock(expires)),
            None => format!("made, {} UTC", clock(expires)),
        };
        let name = self.name;
        format!("{what}: generation {generation_}, expires in {lives:.0} s (Secret {name} {moved})")
    }
}

impl Line {
    /// For people.
    fn text(&self) -> String {
        if self.why.is_empty() {
            return self.message.clone();
        }
        format!("{} ({})", self.message, self.why.join(", "))
    }
}
