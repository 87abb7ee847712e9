//! Grants that store nothing which could be lost, behind the gate: the target is the store.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{Opening, Subject, Tools, exchange, kept, known_generation, new_token, publish};
use crate::{
    explain,
    lock::gate::Gate,
    oauth::{error::Spends, grant::Presented},
    plan,
    secret::{is_owned, target},
};

/// Grants that store nothing that could be lost: the target is the store. `None`: begin again.
pub(super) async fn without_grant(
    tools: &Tools,
    subject: &Subject,
    gate: &mut Gate,
) -> Option<Opening> {
    let Subject {
        credential,
        resolved,
        ..
    } = subject;
    let namespace = credential.namespace().unwrap_or_default();
    let found = match tools
        .secrets
        .get(&namespace, &credential.target_name())
        .await
    {
        Ok(found) => found,
        Err(failure) => return Some(kept(gate, failure)),
    };
    let uid = credential.uid().unwrap_or_default();
    if found.as_ref().is_some_and(|found| !is_owned(found, &uid)) {
        let conflict = tools.secrets.check_target(credential).await;
        return conflict.err().map(|failure| kept(gate, failure));
    }
    let stored = found.as_ref().and_then(target::read);
    let hash = found
        .as_ref()
        .and_then(|f| f.annotations().get(target::REQUEST_HASH));
    let known = known_generation(credential, gate);
    let now = Timestamp::now();
    if let Some(token) = &stored
        && hash == Some(&resolved.request_hash)
        && token.generation >= known
        && !plan::is_due(credential, &resolved.provider, token, now)
    {
        let report = publish(tools, subject, token).await;
        return Some(Opening {
            generation: Some(token.generation),
            report,
            unresolved: None,
        });
    }
    if !gate.is_valid() || tools.shutdown.is_cancelled() {
        return None;
    }
    let stored_generation = stored.as_ref().map_or(0, |t| t.generation);
    let generation = stored_generation.max(known).saturating_add(1);
    let timeout = gate.exchange_timeout();
    let scopes = &credential.spec.oauth2.scopes;
    let result = gate
        .renewed_while(async {
            let presented = Presented::Client { scopes };
            let (sent, answer) =
                exchange(tools, resolved, &presented, Spends::Nothing, timeout).await;
            let tokens = answer?;
            let remark = explain::remark(&tokens, credential, &resolved.provider);
            let token = new_token(subject, generation, sent, tokens, scopes);
            let mut report = publish(tools, subject, &token).await;
            report.remark = remark;
            report.refreshed = true;
            Ok(report)
        })
        .await;
    Some(match result {
        Ok(report) => {
            let stored = report.token.is_some();
            if stored {
                tracing::info!(generation, "token obtained");
            }
            Opening {
                report,
                generation: stored.then_some(generation),
                unresolved: None,
            }
        }
        Err(answer) => {
            let failure = explain::failure(&answer, Spends::Nothing, credential, &resolved.origin);
            tracing::warn!(
                reason = failure.reason.as_str(),
                code = failure.code,
                "token not obtained"
            );
            kept(gate, failure)
        }
    })
}
