//! `tokenward cleanup`.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};
use clap::Args;
use k8s_openapi::{NamespaceResourceScope, api::coordination::v1::Lease, api::core::v1::Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use serde::de::DeserializeOwned;

use super::{
    complain,
    connect::Connect,
    exit::{self, Usage},
};
use crate::{
    api::{GROUP, IntegrationCredential, REVOKE, ROLE_LABEL},
    finalizer::{Beside, is_on, strip},
    lock::wire::GATE,
    manager::Right,
    request::{RequestError, bounded},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward cleanup -A --dry-run   what carries the finalizer, in all namespaces
  tokenward cleanup -A             asks, and takes it off
  tokenward cleanup -n team --yes  in one namespace, without asking";

/// How many objects are listed at a time.
const PAGE: u32 = 500;

#[derive(Args)]
pub(super) struct Arguments {
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Change nothing; say what would be done.
    #[arg(long)]
    dry_run: bool,

    /// Do it without asking.
    #[arg(short, long)]
    yes: bool,
}

/// An object that carries the finalizer. The order is that of the work: a credential goes last, so that what is
/// interrupted can be found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Beside(Beside),
    Credential,
}

/// What it is, its namespace and its name.
type Found = (What, String, String);

impl What {
    fn resource(&self) -> (&'static str, &'static str) {
        match self {
            Self::Credential => (GROUP, "integrationcredentials"),
            Self::Beside(Beside::Grant) => ("", "secrets"),
            Self::Beside(Beside::Gate) => ("coordination.k8s.io", "leases"),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Credential => "IntegrationCredential",
            Self::Beside(beside) => beside.kind(),
        }
    }
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    let connection = connect.connect().await?;
    let client = &connection.client;
    let namespace = (!arguments.all_namespaces).then(|| connect.namespace(&connection));
    let scope = namespace.as_deref();
    let mut found = of::<Secret>(client, scope, What::Beside(Beside::Grant), Some("grant")).await?;
    found.extend(of::<Lease>(client, scope, What::Beside(Beside::Gate), Some(GATE)).await?);
    found.extend(of::<IntegrationCredential>(client, scope, What::Credential, None).await?);
    found.sort();
    let place = scope.map_or_else(|| "any namespace".to_owned(), |n| format!("namespace {n}"));
    if found.is_empty() {
        say(&format!(
            "nothing in {place} carries the finalizer {REVOKE}"
        ))?;
        return Ok(exit::SUCCESS);
    }
    if !arguments.dry_run && !arguments.yes && !agreed(&found)? {
        complain("nothing was changed");
        return Ok(exit::FAILURE);
    }
    let mut codes = Vec::new();
    for (what, namespace, name) in &found {
        let line = format!("{namespace}/{name}: {}: finalizer", what.kind());
        if arguments.dry_run {
            say(&format!("{line} would be removed"))?;
            continue;
        }
        match remove(client, what, namespace, name).await {
            Ok(true) => say(&format!("{line} removed"))?,
            Ok(false) => say(&format!("{line} was removed by another"))?,
            Err(error) => {
                let (group, resource) = what.resource();
                let right = right("patch", group, resource);
                let error = right.error(error);
                codes.push(exit::of(&error));
                complain(&format!("{line} not removed: {error}"));
            }
        }
    }
    say(
        "nothing was revoked; what is not deleted yet goes on as it is. An operator that runs puts the finalizer back where spec.revocationPolicy is OnDelete",
    )?;
    codes.sort_unstable();
    codes.dedup();
    Ok(match codes[..] {
        [] => exit::SUCCESS,
        [code] => code,
        _ => exit::FAILURE,
    })
}

/// What carries the finalizer, by metadata alone: an object that cannot be read is to go all the same.
async fn of<K>(
    client: &Client,
    scope: Option<&str>,
    what: What,
    role: Option<&str>,
) -> Result<Vec<Found>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<PartialObjectMeta<K>> = match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector = role.map(|role| format!("{ROLE_LABEL}={role}"));
    let mut found = Vec::new();
    loop {
        let page = match bounded(api.list_metadata(&params)).await {
            Ok(page) => page,
            // The definitions are gone already.
            Err(RequestError::NotFound) => return Ok(found),
            Err(error) => {
                let (group, resource) = what.resource();
                return Err(right("list", group, resource).error(error).into());
            }
        };
        let carriers = page.items.iter().filter(|object| is_on(&object.metadata));
        let key = |object: &PartialObjectMeta<_>| {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            (what.clone(), namespace, object.name_any())
        };
        found.extend(carriers.map(key));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

async fn remove(
    client: &Client,
    what: &What,
    namespace: &str,
    name: &str,
) -> Result<bool, RequestError> {
    let client = client.clone();
    match what {
        What::Credential => {
            let api: Api<IntegrationCredential> = Api::namespaced(client, namespace);
            strip(&api, name).await
        }
        What::Beside(Beside::Grant) => {
            let api: Api<Secret> = Api::namespaced(client, namespace);
            strip(&api, name).await
        }
        What::Beside(Beside::Gate) => {
            let api: Api<Lease> = Api::namespaced(client, namespace);
            strip(&api, name).await
        }
    }
}

/// Asks the person at the terminal.
fn agreed(found: &[Found]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let text = "there is nobody to ask: use --yes, or --dry-run to see what would be done";
        return Err(Usage(text.to_owned()).into());
    }
    for (what, namespace, name) in found {
        say(&format!("{namespace}/{name}: {}", what.kind()))?;
    }
    let mut err = std::io::stderr();
    let credentials = found.iter().filter(|(what, ..)| *what == What::Credential);
    write!(
        err,
        "Take the finalizer {REVOKE} off all of these? The tokens of {} credentials will not be revoked when they are deleted. [y/N] ",
        credentials.count()
    )
    .and_then(|()| err.flush())
    .context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("no answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

fn right(verb: &'static str, group: &'static str, resource: &'static str) -> Right<'static> {
    Right {
        verb,
        group,
        resource,
        name: None,
        credential: None,
    }
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}
