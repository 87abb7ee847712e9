//! `tokenward providers list`.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{closest, conduct, object, table::aligned};
use crate::{
    api::Description,
    cli::exit::Missing,
    oauth::catalog::{self, Entry},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward providers list                                all of them
  tokenward providers list git                            with this word in name or title
  tokenward providers list -o wide                        with token URL and documentation
  tokenward providers list -o json | jq '.[].title'       for programs";

/// What stands where there is nothing, as kubectl has it.
const NONE: &str = "<none>";

#[derive(Args)]
pub(super) struct Arguments {
    /// Only those with this word in their name or title; of several words, with all.
    #[arg(value_name = "WORD")]
    words: Vec<String>,

    /// What to print.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// The names.
    Name,
    /// More columns.
    Wide,
    /// Everything that is known, as a list of objects.
    Json,
    /// As json, in YAML.
    Yaml,
}

pub(super) fn run(arguments: &Arguments) -> Result<String> {
    let words: Vec<_> = arguments.words.iter().map(|w| w.to_lowercase()).collect();
    let fits = |name: &str, entry: &Entry| {
        let title = entry.title.to_lowercase();
        words.iter().all(|w| name.contains(w) || title.contains(w))
    };
    let found: Vec<_> = catalog::entries()
        .iter()
        .map(|(&name, entry)| (name, entry))
        .filter(|(name, entry)| fits(name, entry))
        .collect();
    if found.is_empty() {
        let word = arguments.words.join(" ");
        let similar = closest::sentence(&word, catalog::entries().keys().copied());
        let text = format!(
            "no provider of the catalogue has {word} in its name or title{similar}; see: tokenward providers list"
        );
        return Err(Missing(text).into());
    }
    let objects = || {
        found
            .iter()
            .map(|(name, _)| object(name))
            .collect::<Vec<_>>()
    };
    Ok(match arguments.output {
        None => lines(&found, narrow),
        Some(Output::Wide) => lines(&found, wide),
        Some(Output::Name) => {
            let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
            names.join("\n")
        }
        Some(Output::Json) => format!("{:#}", serde_json::Value::from(objects())),
        Some(Output::Yaml) => {
            serde_saphyr::to_string(&objects()).context("the catalogue does not serialize")?
        }
    })
}

fn lines<const N: usize>(
    found: &[(&str, &Entry)],
    row: fn(Option<(&str, &Entry)>) -> [String; N],
) -> String {
    let rows = found.iter().map(|&entry| row(Some(entry)));
    let rows: Vec<_> = std::iter::once(row(None)).chain(rows).collect();
    aligned(&rows).join("\n")
}

/// The row of an entry; without one, the headings.
fn narrow(entry: Option<(&str, &Entry)>) -> [String; 5] {
    let Some((name, entry)) = entry else {
        return ["NAME", "TITLE", "GRANTS", "ROTATION", "PARAMETERS"].map(str::to_owned);
    };
    let description = &entry.description;
    let grants = conduct::grants(description);
    [
        name.to_owned(),
        entry.title.clone(),
        grants.map_or_else(|| "<any>".to_owned(), |grants| grants.join(",")),
        if conduct::has_refresh_tokens(description) {
            format!("{:?}", description.rotation())
        } else {
            NONE.to_owned()
        },
        parameters(description),
    ]
}

fn wide(entry: Option<(&str, &Entry)>) -> [String; 9] {
    let narrow = narrow(entry);
    let more = match entry {
        None => ["OLD TOKEN", "CLIENT AUTH", "TOKEN URL", "DOCUMENTATION"].map(str::to_owned),
        Some((_, entry)) => {
            let description = &entry.description;
            let url = description
                .token_url
                .as_ref()
                .or(description.issuer.as_ref());
            [
                format!("{:?}", description.access_token_on_refresh()),
                format!("{:?}", description.client_auth()),
                url.map_or(NONE, String::as_str).to_owned(),
                entry.documentation.clone(),
            ]
        }
    };
    let mut all = narrow.into_iter().chain(more);
    // Five and four.
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// The variables: what must be given, and the defaults of the others.
fn parameters(description: &Description) -> String {
    let one = |(name, parameter): (&String, &crate::api::Parameter)| {
        let value = parameter.default_value.as_deref().unwrap_or("…");
        format!("{name}={value}")
    };
    let all: Vec<_> = description.parameters.iter().map(one).collect();
    if all.is_empty() {
        NONE.to_owned()
    } else {
        all.join(",")
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    const BEGIN: &str = "<!-- presets: begin (make generate) -->\n";
    const END: &str = "<!-- presets: end -->";

    /// The table of `docs/providers.md`.
    fn documented() -> String {
        let mut table =
            "| preset | provider | grants | rotation | give |\n|---|---|---|---|---|\n".to_owned();
        for (&name, entry) in catalog::entries() {
            let [name, title, grants, rotation, parameters] = narrow(Some((name, entry)));
            let plain = |cell: &str| {
                cell.replace(',', ", ")
                    .replace(NONE, "")
                    .replace("<any>", "any")
            };
            let _ = writeln!(
                table,
                "| `{name}` | [{title}]({}) | {} | {} | {} |",
                entry.documentation,
                plain(&grants),
                plain(&rotation),
                plain(&parameters),
            );
        }
        table
    }

    #[test]
    fn the_document_lists_every_preset() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        let wanted = documented();
        if std::env::var_os("TOKENWARD_GENERATE").is_some() {
            std::fs::write(path, [before, BEGIN, &wanted, END, after].concat()).unwrap();
            return;
        }
        assert!(
            table == wanted,
            "docs/providers.md is not up to date; run: make generate"
        );
    }
}
