//! A line for each credential.

use jiff::Timestamp;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::Value;

use super::{look::state, object::brief};
use crate::{
    api::{GROUP, IntegrationCredential},
    cli::providers::table::aligned,
    manager::{Error, Right},
    request::bounded,
    status::{STALLED, condition},
    words,
};

/// How many are listed at a time.
const PAGE: u32 = 500;

/// Those of a namespace, or of all.
pub(super) async fn find(
    client: &Client,
    namespace: Option<&str>,
) -> Result<Vec<IntegrationCredential>, Error> {
    let api: Api<IntegrationCredential> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = bounded(api.list(&params)).await.map_err(|error| {
            Right {
                verb: "list",
                group: GROUP,
                resource: "integrationcredentials",
                name: None,
                credential: None,
            }
            .error(error)
        })?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    found.sort_by_key(|c| (c.namespace(), c.name_any()));
    Ok(found)
}

/// The lines.
pub(super) fn lines(
    found: &[IntegrationCredential],
    with_namespace: bool,
    now: Timestamp,
) -> String {
    let heading = ["NAME", "STATE", "TOKEN", "NEXT REFRESH", "REMARK"].map(str::to_owned);
    let rows = found.iter().map(|credential| {
        let status = credential.status.clone().unwrap_or_default();
        let name = if with_namespace {
            format!(
                "{}/{}",
                credential.namespace().unwrap_or_default(),
                credential.name_any()
            )
        } else {
            credential.name_any()
        };
        let left = |at: Timestamp| {
            let left = std::time::Duration::try_from(at.duration_since(now));
            left.map(words::duration)
        };
        let token = status.token.as_ref().map_or_else(
            || "-".to_owned(),
            |token| match &token.expiration_time {
                None => "no expiry".to_owned(),
                Some(at) => left(at.0).unwrap_or_else(|_| "expired".to_owned()),
            },
        );
        let refresh = status.refresh.as_ref();
        let next = refresh.and_then(|r| r.next_time.as_ref());
        let next = next.filter(|_| !credential.spec.suspend);
        let next = next.map_or_else(
            || "-".to_owned(),
            |at| left(at.0).unwrap_or_else(|_| "now".to_owned()),
        );
        let stalled = condition(&status, STALLED).filter(|c| c.status == "True");
        let remark = match stalled {
            _ if credential.spec.suspend => "suspended".to_owned(),
            Some(stalled) => stalled.reason.clone(),
            None => String::new(),
        };
        [name, state(credential).to_owned(), token, next, remark]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    aligned(&rows).join("\n")
}

/// The objects.
pub(super) fn objects(found: &[IntegrationCredential]) -> Value {
    found.iter().map(brief).collect()
}
