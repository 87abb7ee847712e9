//! `tokenward status`.

mod list;
mod look;
mod next;
mod object;
mod text;

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use kube::Api;

use self::look::{Seen, look};
use super::{
    complain,
    connect::Connect,
    credential,
    exit::{self, Usage},
};
use crate::{
    api::{GROUP, IntegrationCredential},
    clock,
    manager::{Error, Right},
    request::{RequestError, bounded},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward status alice             how it is, who holds it, what happened, and what to do
  tokenward status -A                a line for each credential
  tokenward status alice -o json     for programs";

#[derive(Args)]
pub(super) struct Arguments {
    /// The IntegrationCredential; without one, a line for each that there is.
    #[arg(value_name = "NAME", value_parser = credential)]
    name: Option<String>,

    /// Of all namespaces (without NAME).
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// An object, or a list of them.
    Json,
    /// The same as YAML.
    Yaml,
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    if arguments.all_namespaces && arguments.name.is_some() {
        let text = "a credential of a name is in one namespace: use -n, or -A without a name";
        return Err(Usage(text.to_owned()).into());
    }
    let connection = connect.connect().await?;
    let namespace = connect.namespace(&connection);
    let now = clock::now();
    let Some(name) = &arguments.name else {
        let place = (!arguments.all_namespaces).then_some(namespace.as_str());
        let found = list::find(&connection.client, place).await?;
        if found.is_empty() {
            let place = place.map_or_else(
                || "any namespace".to_owned(),
                |namespace| format!("namespace {namespace}"),
            );
            complain(&format!("there is no IntegrationCredential in {place}"));
            return Ok(exit::NOT_FOUND);
        }
        let text = match arguments.output {
            Output::Text => list::lines(&found, arguments.all_namespaces, now),
            Output::Json => format!("{:#}", list::objects(&found)),
            Output::Yaml => yaml(&list::objects(&found))?,
        };
        print(&text)?;
        let ill = found.iter().filter(|c| !look::is_ready(c)).count();
        if ill > 0 {
            complain(&format!("{ill} of {} are not ready", found.len()));
            return Ok(exit::FAILURE);
        }
        return Ok(exit::SUCCESS);
    };
    let found = find(&connection.client, &namespace, name).await?;
    let seen: Seen = look(&connection.client, found).await;
    let text = match arguments.output {
        Output::Text => text::of(&seen, now),
        Output::Json => format!("{:#}", object::of(&seen, now)),
        Output::Yaml => yaml(&object::of(&seen, now))?,
    };
    print(&text)?;
    if look::is_ready(&seen.credential) {
        return Ok(exit::SUCCESS);
    }
    let state = look::state(&seen.credential);
    complain(&format!("{namespace}/{name} is not ready ({state})"));
    Ok(exit::FAILURE)
}

async fn find(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<IntegrationCredential, Error> {
    let api: Api<IntegrationCredential> = Api::namespaced(client.clone(), namespace);
    bounded(api.get(name)).await.map_err(|error| match error {
        RequestError::NotFound => Error::NotFound {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        error => Right {
            verb: "get",
            group: GROUP,
            resource: "integrationcredentials",
            name: Some(name),
            credential: None,
        }
        .error(error),
    })
}

fn yaml(value: &serde_json::Value) -> Result<String> {
    serde_saphyr::to_string(value).context("the status does not serialize")
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
