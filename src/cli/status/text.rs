//! A credential on one screen.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    look::{Claim, Found, Gate, Provider, Seen, state},
    next,
};
use crate::{
    api::{IntegrationCredential, Kind, PlainMount},
    cli::providers::table::{aligned, wrapped},
    lock::protocol::{Mode, Phase},
    status::{READY, condition},
    words,
};

/// How many holders are named.
const SHOWN: usize = 5;

/// How wide a message is.
const WIDTH: usize = 96;

/// The text for people.
pub(super) fn of(seen: &Seen, now: Timestamp) -> String {
    let credential = &seen.credential;
    let mut lines = vec![format!(
        "{}/{}: {}",
        credential.namespace().unwrap_or_default(),
        credential.name_any(),
        state(credential)
    )];
    let ready = credential.status.as_ref().and_then(|s| condition(s, READY));
    if let Some(ready) = ready {
        lines.extend(indented(&ready.message));
    }
    lines.push(String::new());
    lines.extend(aligned(&facts(seen, now)));
    lines.extend(section("Conditions", conditions(credential, now)));
    lines.extend(section("Events", events(seen, now)));
    let steps = next::step(credential, now);
    // A command is to be copied: it is not broken into lines.
    let steps = steps.iter().flat_map(|step| {
        if step.starts_with("kubectl ") {
            vec![format!("    {step}")]
        } else {
            indented(step)
        }
    });
    lines.extend(section("Next step", steps.collect()));
    lines.join("\n")
}

fn section(title: &str, lines: Vec<String>) -> Vec<String> {
    let mut section = vec![String::new(), title.to_owned()];
    section.extend(lines);
    section
}

fn indented(text: &str) -> Vec<String> {
    let lines = wrapped(text, WIDTH).into_iter();
    lines.map(|line| format!("  {line}")).collect()
}

fn facts(seen: &Seen, now: Timestamp) -> Vec<[String; 2]> {
    let credential = &seen.credential;
    let mut rows = Vec::new();
    let mut row = |name: &str, what: String| rows.push([name.to_owned(), what]);
    row("Kind", kind(credential));
    if let Some(title) = &credential.spec.title {
        row("Title", title.clone());
    }
    if let Some(user) = &credential.spec.user {
        row("User", user.clone());
    }
    if let Some(found) = &seen.provider {
        row("Provider", provider(credential, found));
    }
    let status = credential.status.clone().unwrap_or_default();
    if let Some(token) = &status.token {
        let mut parts = vec![format!("generation {}", token.generation)];
        parts.push(match &token.expiration_time {
            Some(at) if at.0 > now => format!("expires {}", words::time(at.0, now)),
            Some(at) => format!("expired {}", words::time(at.0, now)),
            None => "nobody says when it expires".to_owned(),
        });
        if let Some(at) = &token.last_refresh_time {
            parts.push(format!("obtained {}", words::time(at.0, now)));
        }
        row("Token", parts.join(", "));
        if !token.scopes.is_empty() {
            row("Scopes", token.scopes.join(" "));
        }
    }
    let refresh = status.refresh.unwrap_or_default();
    if credential.spec.oauth2.is_some() {
        row("Refresh", {
            let next = refresh
                .next_time
                .as_ref()
                .filter(|_| !credential.spec.suspend);
            match (refresh.failures, next, &refresh.next_attempt_time) {
                (0, Some(at), _) => format!("due {}", words::time(at.0, now)),
                (0, None, _) => "not by itself".to_owned(),
                (failures, _, Some(at)) => {
                    format!("failed {failures}×, again {}", words::time(at.0, now))
                }
                (failures, _, None) => format!("failed {failures}×, not tried again by itself"),
            }
        });
    }
    if let Some(grant) = &status.grant {
        let end = grant.final_expiration_time.as_ref();
        let end = end.map(|at| format!("ends {}, whatever is refreshed", words::time(at.0, now)));
        let expiry = grant.expiration_time.as_ref();
        let expiry =
            expiry.map(|at| format!("expires {} unless refreshed", words::time(at.0, now)));
        if let Some(text) = end.or(expiry) {
            row("Authorization", text);
        }
    }
    row("Target", target(credential, &seen.target));
    let plain_mount = status.target.and_then(|t| t.plain_mount);
    if let Some(plain_mount) = plain_mount {
        row("Mounting", mounting(plain_mount).to_owned());
    }
    row("Gate", gate(&seen.gate, now));
    row("Holders", claims(&seen.holds, now));
    row("Wants", claims(&seen.wants, now));
    rows
}

fn kind(credential: &IntegrationCredential) -> String {
    match credential.spec.kind() {
        Some(Kind::OAuth2(oauth2)) => format!("OAuth token, grant {}", oauth2.grant_type.as_str()),
        Some(Kind::ApiKey(key)) => {
            let from = &key.secret_key_ref;
            format!("API key, from key {} of Secret {}", from.key, from.name)
        }
        Some(Kind::UserPassword(both)) => {
            format!(
                "user name and password, from Secret {}",
                both.secret_ref.name
            )
        }
        Some(Kind::HostScoped(headers)) => format!(
            "headers for {}, from Secret {}",
            headers.host, headers.headers_secret_ref.name
        ),
        None => "none: spec says nothing".to_owned(),
    }
}

fn provider(credential: &IntegrationCredential, found: &Found<Option<Provider>>) -> String {
    let reference = &credential.oauth2().provider_ref;
    match found {
        Ok(Some(provider)) => {
            let at = provider.at.as_ref().map(|at| format!(" ({at})"));
            let trouble = provider.trouble.as_ref();
            let trouble =
                trouble.map(|(reason, message)| format!(", not ready ({reason}): {message}"));
            format!(
                "{reference}{}{}",
                at.unwrap_or_default(),
                trouble.unwrap_or_default()
            )
        }
        Ok(None) => format!("{reference}, which does not exist"),
        Err(why) => format!("{reference} ({why})"),
    }
}

fn target(credential: &IntegrationCredential, found: &Found<Option<Vec<String>>>) -> String {
    let name = credential.target_name();
    match found {
        Ok(Some(keys)) => format!("Secret {name}: {}", keys.join(", ")),
        Ok(None) => format!("Secret {name}, which does not exist"),
        Err(why) => format!("Secret {name} ({why})"),
    }
}

fn mounting(plain_mount: PlainMount) -> &'static str {
    match plain_mount {
        PlainMount::Safe => "safe: the old token lives until its expiry",
        PlainMount::Unsafe => {
            "unsafe: at a refresh the old token may end before the file is new; use tokenward lock"
        }
    }
}

fn gate(found: &Found<Option<Gate>>, now: Timestamp) -> String {
    let gate = match found {
        Ok(Some(gate)) => gate,
        Ok(None) => return "none".to_owned(),
        Err(why) => return why.clone(),
    };
    let state = &gate.state;
    let exclusive = match state.mode {
        Mode::Exclusive => ", one holder at a time",
        Mode::Shared => "",
    };
    let unresolved = if state.unresolved.is_some() {
        ", and the outcome of a refresh is unknown"
    } else {
        ""
    };
    if state.phase == Phase::Open {
        return format!("open{exclusive}{unresolved}");
    }
    let why = match state.phase {
        Phase::Draining => "waiting for holders",
        _ => "at work",
    };
    let by = state.holder.as_ref();
    let by = by.map_or("nobody", |h| h.incarnation.as_str());
    let since = state.closed_at.map(|at| format!(" since {}", ago(at, now)));
    format!(
        "closed by {by}, {why}{}{exclusive}{unresolved}",
        since.unwrap_or_default()
    )
}

fn claims(found: &Found<Vec<Claim>>, now: Timestamp) -> String {
    let claims = match found {
        Ok(claims) if claims.is_empty() => return "none".to_owned(),
        Ok(claims) => claims,
        Err(why) => return why.clone(),
    };
    let one = |claim: &Claim| {
        let exclusive = if claim.is_exclusive {
            ", exclusive"
        } else {
            ""
        };
        let since = claim.since.map(|at| format!(" since {}", ago(at, now)));
        format!("{}{exclusive}{}", claim.who, since.unwrap_or_default())
    };
    let mut said: Vec<_> = claims.iter().take(SHOWN).map(one).collect();
    if claims.len() > SHOWN {
        said.push(format!("and {} more", claims.len() - SHOWN));
    }
    said.join("; ")
}

fn conditions(credential: &IntegrationCredential, now: Timestamp) -> Vec<String> {
    let conditions = credential.status.as_ref().map(|s| s.conditions.as_slice());
    let rows = conditions.unwrap_or_default().iter().map(|condition| {
        [
            format!("  {}", condition.type_),
            condition.status.clone(),
            condition.reason.clone(),
            format!("since {}", ago(condition.last_transition_time.0, now)),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return vec!["  none".to_owned()];
    }
    aligned(&rows)
}

fn events(seen: &Seen, now: Timestamp) -> Vec<String> {
    let events = match &seen.events {
        Ok(events) if events.is_empty() => return vec!["  none of late".to_owned()],
        Ok(events) => events,
        Err(why) => return vec![format!("  {why}")],
    };
    let mut lines = Vec::new();
    for event in events {
        let when = event
            .time
            .map_or_else(|| "some time".to_owned(), |at| ago(at, now));
        lines.push(format!("  {when} ago  {} ({})", event.reason, event.type_));
        let message = wrapped(&event.message, WIDTH - 2).into_iter();
        lines.extend(message.map(|line| format!("    {line}")));
    }
    lines
}

/// How long it is since then.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let since = std::time::Duration::try_from(now.duration_since(at));
    words::duration(std::time::Duration::from_secs(
        since.unwrap_or_default().as_secs(),
    ))
}
