//! `tokenward refresh`.

mod progress;

use std::{collections::HashMap, io::Write, time::Duration};

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, ValueEnum, builder::NonEmptyStringValueParser};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PartialObjectMeta},
};
use serde_json::json;

use self::progress::Progress;
use super::{
    complain,
    connect::Connect,
    credential,
    exit::{self, Usage},
    timeout,
};
use crate::{
    api::{GROUP, IntegrationCredential},
    manager::{CredentialManager, Error, Right},
    request::bounded,
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward refresh alice                      one, and wait for its new token
  tokenward refresh -l provider=example -n a   those with a label
  tokenward refresh --all -A --timeout 5m      every one there is
  tokenward refresh alice --wait=false         only ask for it";

/// How many credentials are refreshed at a time: providers limit their rates.
const AT_A_TIME: usize = 32;

/// How many credentials are listed at a time.
const PAGE: u32 = 500;

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).args(["names", "selector", "all"]))]
pub(super) struct Arguments {
    /// The IntegrationCredentials.
    #[arg(value_name = "NAME", value_parser = credential)]
    names: Vec<String>,

    /// Those with these labels, as kubectl selects them.
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = NonEmptyStringValueParser::new())]
    selector: Option<String>,

    /// All of the namespace.
    #[arg(long)]
    all: bool,

    /// In all namespaces (with --all or --selector).
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// How long to wait for each new token.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = timeout)]
    timeout: Duration,

    /// Wait for the new tokens; false: return when they are asked for.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    wait: bool,

    /// What to print on standard output when all is done; nothing by default.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// A list of objects with namespace, name, result, generation, expires_at and error.
    Json,
    /// The names of those that were refreshed, as kubectl writes them.
    Name,
}

/// A credential, by namespace and name.
type Key = (String, String);

/// What became of one credential.
enum Outcome {
    /// It was asked for.
    Requested,
    /// It has a token of this generation.
    Refreshed {
        /// The generation.
        generation: u64,
        /// When it expires.
        expires_at: Option<Timestamp>,
    },
    /// It is copied, and its source, which was read again, holds the same.
    Unchanged {
        /// The generation that it has.
        generation: u64,
        /// When it expires.
        expires_at: Option<Timestamp>,
    },
    /// It failed.
    Failed(Error),
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    if arguments.all_namespaces && !arguments.names.is_empty() {
        let text = "a credential of a name is in one namespace: use -n, or --all with -A";
        return Err(Usage(text.to_owned()).into());
    }
    let connection = connect.connect().await?;
    let namespace = connect.namespace(&connection);
    let which = which(&arguments, &connection.client, &namespace).await?;
    if which.is_empty() {
        let of = arguments.selector.as_ref();
        let of = of.map_or_else(String::new, |selector| format!(" with labels {selector}"));
        let place = if arguments.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {namespace}")
        };
        complain(&format!("there is no IntegrationCredential{of} in {place}"));
        return Ok(exit::NOT_FOUND);
    }
    let outcomes = refresh(&connection.client, which, &arguments).await;
    if let Some(output) = arguments.output {
        print(&outcomes, output).context("cannot write to standard output")?;
    }
    Ok(code(&outcomes))
}

/// The credentials that the arguments name.
async fn which(arguments: &Arguments, client: &Client, namespace: &str) -> Result<Vec<Key>> {
    if !arguments.names.is_empty() {
        let mut names = arguments.names.clone();
        names.sort();
        names.dedup();
        let key = |name| (namespace.to_owned(), name);
        return Ok(names.into_iter().map(key).collect());
    }
    let api: Api<PartialObjectMeta<IntegrationCredential>> = if arguments.all_namespaces {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), namespace)
    };
    let mut params = ListParams::default().limit(PAGE);
    params.label_selector.clone_from(&arguments.selector);
    let mut found = Vec::new();
    loop {
        let right = Right {
            verb: "list",
            group: GROUP,
            resource: "integrationcredentials",
            name: None,
            credential: None,
        };
        let page = bounded(api.list(&params)).await;
        let page = page.map_err(|error| right.error(error))?;
        let key = |c: &PartialObjectMeta<_>| (c.namespace().unwrap_or_default(), c.name_any());
        found.extend(page.items.iter().map(key));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    found.sort();
    Ok(found)
}

/// Refreshes them, and tells of each as it is done.
async fn refresh(client: &Client, which: Vec<Key>, arguments: &Arguments) -> Vec<(Key, Outcome)> {
    let mut managers: HashMap<String, CredentialManager> = HashMap::new();
    let mut work = Vec::new();
    for (namespace, name) in which {
        let manager = managers.entry(namespace.clone());
        let manager =
            manager.or_insert_with(|| CredentialManager::new(client.clone(), namespace.clone()));
        let manager = manager.clone();
        work.push(async move {
            let outcome = one(&manager, &name, arguments).await;
            ((namespace, name), outcome)
        });
    }
    let mut progress = Progress::start(work.len());
    let mut outcomes = Vec::with_capacity(work.len());
    let mut done = Box::pin(stream::iter(work).buffer_unordered(AT_A_TIME));
    while let Some(((namespace, name), outcome)) = done.next().await {
        let place = format!("{namespace}/{name}");
        match &outcome {
            Outcome::Requested => progress.well(&format!("{place}: requested")),
            Outcome::Refreshed {
                generation,
                expires_at,
            } => {
                let until = expires_at.map(|at| format!(", valid until {at}"));
                let until = until.unwrap_or_default();
                progress.well(&format!(
                    "{place}: refreshed, generation {generation}{until}"
                ));
            }
            Outcome::Unchanged { generation, .. } => progress.well(&format!(
                "{place}: unchanged, generation {generation}: its source holds nothing newer"
            )),
            Outcome::Failed(error) => progress.ill(&format!("tokenward: {error}")),
        }
        outcomes.push(((namespace, name), outcome));
    }
    progress.end(if arguments.wait {
        "refreshed"
    } else {
        "requested"
    });
    for manager in managers.values() {
        manager.release_all_locks().await;
    }
    outcomes.sort_by(|(a, _), (b, _)| a.cmp(b));
    outcomes
}

async fn one(manager: &CredentialManager, name: &str, arguments: &Arguments) -> Outcome {
    let request = match manager.request_refresh(name).await {
        Ok(request) => request,
        Err(error) => return Outcome::Failed(error),
    };
    if !arguments.wait {
        return Outcome::Requested;
    }
    let before = request.generation();
    match request.done(arguments.timeout).await {
        Ok(refreshed) if refreshed.generation == before => Outcome::Unchanged {
            generation: refreshed.generation,
            expires_at: refreshed.expires_at,
        },
        Ok(refreshed) => Outcome::Refreshed {
            generation: refreshed.generation,
            expires_at: refreshed.expires_at,
        },
        Err(error) => Outcome::Failed(error),
    }
}

fn print(outcomes: &[(Key, Outcome)], output: Output) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Name => {
            for ((_, name), outcome) in outcomes {
                if !matches!(outcome, Outcome::Failed(_)) {
                    writeln!(out, "integrationcredential.{GROUP}/{name}")?;
                }
            }
        }
        Output::Json => {
            let list: Vec<_> = outcomes.iter().map(object).collect();
            writeln!(out, "{:#}", json!(list))?;
        }
    }
    out.flush()
}

fn object(((namespace, name), outcome): &(Key, Outcome)) -> serde_json::Value {
    let mut object = json!({"namespace": namespace, "name": name});
    match outcome {
        Outcome::Requested => object["result"] = json!("requested"),
        Outcome::Refreshed {
            generation,
            expires_at,
        }
        | Outcome::Unchanged {
            generation,
            expires_at,
        } => {
            let is_new = matches!(outcome, Outcome::Refreshed { .. });
            object["result"] = json!(if is_new { "refreshed" } else { "unchanged" });
            object["generation"] = json!(generation);
            object["expires_at"] = json!(expires_at);
        }
        Outcome::Failed(error) => {
            let is_late = matches!(error, Error::Timeout { .. });
            object["result"] = json!(if is_late { "timeout" } else { "failed" });
            object["error"] = json!(error.to_string());
        }
    }
    object
}

/// What the failures have in common, else 1.
fn code(outcomes: &[(Key, Outcome)]) -> u8 {
    let mut failures = outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Failed(error) => Some(exit::of(error)),
        _ => None,
    });
    let Some(first) = failures.next() else {
        return exit::SUCCESS;
    };
    if failures.all(|code| code == first) {
        first
    } else {
        exit::FAILURE
    }
}
