//! `tokenward providers show`.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};

use super::{
    comments::comments,
    conduct, find,
    manifest::{Given, Manifest, manifest, secret_key, secret_name},
    object,
    table::{aligned, wrapped},
};
use crate::{
    api::{BodyFormat, Description, GrantType},
    cli::{complain, exit::Usage},
    oauth::{
        catalog::Entry,
        template::{self, TemplateError},
    },
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward providers show github-app-user             for people
  tokenward providers show google -o yaml              with the document that each fact is from
  tokenward providers show keycloak -o object          the object, to fill in and apply
  tokenward providers show microsoft-entra -o object \\
    --variable tenant=example.com --client-id 1234 | kubectl apply -f -";

/// The width of lines.
const WIDTH: usize = 100;

#[derive(Args)]
pub(super) struct Arguments {
    /// The provider, as list names it.
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: String,

    /// What to print; by default a text for people.
    #[arg(short, long, value_enum)]
    output: Option<Output>,

    /// In the object: its name. By default that of the provider.
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    object_name: Option<String>,

    /// In the object: the client's identifier.
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client_id: Option<String>,

    /// In the object: the value of a variable (repeatable).
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = assignment)]
    variables: Vec<(String, String)>,

    /// In the object: the issuer, for a server that you run.
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    issuer: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// The file of the catalogue, with the documents that its facts are from.
    Yaml,
    /// The same as an object.
    Json,
    /// The OAuthProvider to apply.
    Object,
}

/// The name of an object, of which the name of its client's Secret is made.
fn object_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.len() <= 63 && text.bytes().all(fits) && ends(bytes.first()) && ends(bytes.last()) {
        Ok(text.to_owned())
    } else {
        Err("a name is lower case letters, digits and '-', at most 63".to_owned())
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "it must be of the form NAME=VALUE".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<String> {
    let name = arguments.name.as_str();
    let (entry, source) = find(name)?;
    let given = Given {
        name: arguments.object_name.as_deref(),
        client_id: arguments.client_id.as_deref(),
        issuer: arguments.issuer.as_deref(),
        variables: checked(name, entry, &arguments.variables)?,
    };
    Ok(match arguments.output {
        Some(Output::Yaml) => source.to_owned(),
        Some(Output::Json) => format!("{:#}", object(name)),
        Some(Output::Object) => {
            let Manifest { yaml, to_fill } = manifest(name, entry, &given);
            if !to_fill.is_empty() {
                let fields = to_fill.join(", ");
                complain(&format!("fill in, before it is applied: {fields}"));
            }
            yaml
        }
        None => text(name, entry, source, &given),
    })
}

/// The variables, which must be the entry's, with values that it allows.
fn checked(
    name: &str,
    entry: &Entry,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>> {
    let parameters = &entry.description.parameters;
    let given: BTreeMap<_, _> = given.iter().cloned().collect();
    template::variables(parameters, &given, &BTreeMap::new(), &[]).map_err(|error| {
        let text = match error {
            TemplateError::Undefined(variable) if parameters.is_empty() => {
                format!("{name} has no variable {variable}; it has none at all")
            }
            TemplateError::Undefined(variable) => {
                let all: Vec<_> = parameters.keys().map(String::as_str).collect();
                format!(
                    "{name} has no variable {variable}; it has {}",
                    all.join(", ")
                )
            }
            other => other.to_string(),
        };
        anyhow!(Usage(text))
    })?;
    Ok(given)
}

/// Everything, for people.
fn text(name: &str, entry: &Entry, source: &str, given: &Given<'_>) -> String {
    let description = &entry.description;
    let comments = comments(source);
    let mut text = Text(format!("{name}: {}\n\n", entry.title));
    let _ = writeln!(text.0, "To register a client: {}", entry.documentation);
    text.table("Endpoints", &endpoints(description));
    text.list("Requests", &requests(description));
    text.table("Variables", &variables(description));
    text.list("At a refresh", &conduct::on_refresh(description, source));
    text.list(
        "In the target Secret, besides the token",
        &metadata(description),
    );
    let errors = description.error_map.iter();
    let errors = errors.map(|(code, means)| [code.clone(), conduct::meaning(*means).to_owned()]);
    text.table("Error codes of its own", &errors.collect::<Vec<_>>());
    text.list("To know", &comments.notes);
    text.list("When a credential is revoked", &revocation(description));
    text.verbatim("Known from", &comments.sources);
    text.verbatim("To use it", &instructions(name, entry, given));
    text.0
}

/// Grows by sections; those without content are left out.
struct Text(String);

impl Text {
    fn table(&mut self, heading: &str, rows: &[[String; 2]]) {
        self.verbatim(heading, &aligned(rows));
    }

    fn list(&mut self, heading: &str, points: &[String]) {
        let lines = points.iter().flat_map(|point| {
            let lines = wrapped(point, WIDTH - 4);
            lines.into_iter().enumerate().map(|(n, line)| match n {
                0 => format!("- {line}"),
                _ => format!("  {line}"),
            })
        });
        self.verbatim(heading, &lines.collect::<Vec<_>>());
    }

    fn verbatim(&mut self, heading: &str, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let _ = writeln!(self.0, "\n{heading}:");
        for line in lines {
            self.0 += format!("  {line}").trim_end();
            self.0.push('\n');
        }
    }
}

fn endpoints(description: &Description) -> Vec<[String; 2]> {
    let all = [
        ("issuer", &description.issuer),
        ("token", &description.token_url),
        ("refresh", &description.refresh_url),
        ("authorization", &description.authorize_url),
        ("device", &description.device_url),
        ("revocation", &description.revoke_url),
        ("introspection", &description.introspect_url),
        ("userinfo", &description.userinfo_url),
    ];
    let known = all.into_iter();
    known
        .filter_map(|(name, url)| Some([name.to_owned(), url.clone()?]))
        .collect()
}

fn requests(description: &Description) -> Vec<String> {
    let grants = conduct::grants(description);
    let mut told = vec![
        match grants {
            Some(grants) => format!("Grants: {}.", grants.join(", ")),
            None => "Grants: not stated, so that any may be used.".to_owned(),
        },
        format!(
            "Client authentication: {}.",
            conduct::authentication(description)
        ),
    ];
    if description.body_format == Some(BodyFormat::Json) {
        told.push("The body is JSON.".to_owned());
    }
    for (name, value) in &description.headers {
        told.push(format!("With the header {name}: {value}"));
    }
    for (name, value) in &description.params {
        told.push(format!("With the parameter {name}={value}"));
    }
    let scope = description.scope.as_ref();
    if let Some(separator) = scope.and_then(|s| s.separator.as_deref()) {
        told.push(format!("Scopes are separated by \"{separator}\"."));
    }
    if scope.and_then(|s| s.send_on_refresh) == Some(true) {
        told.push("A refresh names the scopes again.".to_owned());
    }
    if let Some(success) = &description.success {
        let (pointer, equals) = (&success.pointer, &success.equals);
        told.push(format!(
            "The status does not tell a success: {pointer} is {equals} then."
        ));
    }
    told
}

fn variables(description: &Description) -> Vec<[String; 2]> {
    let one = |(name, parameter): (&String, &crate::api::Parameter)| {
        let mut told = match &parameter.default_value {
            Some(default) => vec![format!("Default: {default}.")],
            None => vec!["Must be given.".to_owned()],
        };
        let full_stop = |text: &String| format!("{}.", text.trim_end_matches('.'));
        told.extend(parameter.description.as_ref().map(full_stop));
        if !parameter.allowed.is_empty() {
            told.push(format!("One of: {}.", parameter.allowed.join(", ")));
        }
        told.extend(
            parameter
                .pattern
                .as_ref()
                .map(|p| format!("It matches {p}")),
        );
        [name.clone(), told.join(" ")]
    };
    description.parameters.iter().map(one).collect()
}

fn metadata(description: &Description) -> Vec<String> {
    let response = description.response.as_ref();
    let all = response.into_iter().flat_map(|response| &response.metadata);
    all.map(|(key, pointer)| format!("{key}, from {pointer} of the answer."))
        .collect()
}

fn revocation(description: &Description) -> Vec<String> {
    let ends_all = description.revocation.as_ref().and_then(|r| r.ends_consent);
    let told = (ends_all == Some(true)).then(|| {
        "All that the user gave the client ends: other credentials of the two as well.".to_owned()
    });
    told.into_iter().collect()
}

fn instructions(name: &str, entry: &Entry, given: &Given<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(key) = secret_key(entry) {
        let secret = secret_name(name, given);
        let (what, from) = match key {
            "private_key" => ("The private key of the client, from a file", "key.pem"),
            _ => (
                "The secret of the client; end the input with Ctrl-D",
                "/dev/stdin",
            ),
        };
        lines.push(format!("# {what}."));
        lines.push(format!(
            "kubectl create secret generic {secret} --from-file={key}={from}"
        ));
        lines.push(format!(
            "kubectl label secret {secret} tokenward.dev/watch=true"
        ));
        lines.push(String::new());
    }
    let Manifest { yaml, to_fill } = manifest(name, entry, given);
    let fill = if to_fill.is_empty() {
        ""
    } else {
        " Fill in what is empty."
    };
    lines.push(format!(
        "# The object, as `tokenward providers show {name} -o object` prints it.{fill}"
    ));
    lines.extend(yaml.lines().map(str::to_owned));
    lines.push(String::new());
    lines.push("# Then the credentials, in spec.oauth2 of IntegrationCredentials.".to_owned());
    let grants = entry.description.grants.as_deref();
    for grant in grants.unwrap_or(&[GrantType::RefreshToken, GrantType::ClientCredentials]) {
        lines.push(credential(*grant).to_owned());
        lines.extend(seed(*grant).iter().map(|&line| line.to_owned()));
    }
    lines
}

/// What a credential says.
fn credential(grant: GrantType) -> &'static str {
    match grant {
        GrantType::RefreshToken => {
            "# grantType: RefreshToken, with seedSecretRef: {name: alice-seed}"
        }
        GrantType::ClientCredentials => "# grantType: ClientCredentials, with scopes",
        GrantType::JwtBearer => "# grantType: JwtBearer, with seedSecretRef: {name: robot-key}",
        GrantType::GitHubAppInstallation => "# grantType: GitHubAppInstallation",
    }
}

/// How its seed is made.
fn seed(grant: GrantType) -> &'static [&'static str] {
    match grant {
        GrantType::RefreshToken => {
            &["kubectl create secret generic alice-seed --from-file=refresh_token=/dev/stdin"]
        }
        GrantType::JwtBearer => &[
            "kubectl create secret generic robot-key --from-file=private_key=key.pem --from-literal=issuer=…",
            "# or, with the key file of a Google service account:",
            "kubectl create secret generic robot-key --from-file=service_account.json=key.json",
        ],
        GrantType::ClientCredentials | GrantType::GitHubAppInstallation => &[],
    }
}
