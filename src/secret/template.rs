//! Templates of `spec.target.template.data`: what may stand in them, how they are rendered, and what bounds that.
//!
//! A template comes from whoever may write a credential, and the values from a provider. So a template reaches
//! nothing but the values, costs a bounded amount of time and memory whatever it says, and an error tells where it is
//! and never what a value was.

mod check;
mod functions;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

use k8s_openapi::ByteString;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
};

use self::functions::Budget;

/// The longest result of one template, and the longest value that a template can use, in bytes.
pub const LONGEST: usize = 256 * 1024;

/// How many steps one template may take.
const FUEL: u64 = 10_000;

/// How deep a rendering may nest.
const DEPTH: usize = 32;

/// The name under which templates find all values by their keys: `data["X-Api-Key"]`.
const ALL: &str = "data";

/// Why a template gives nothing. Never says what a value was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {key:?}{}: {what}", .place.map(|(line, column)| format!(", line {line}, column {column}")).unwrap_or_default())]
pub struct TemplateError {
    /// The key of `template.data`.
    pub key: String,
    /// The line and the column, from 1 on, where they are known.
    pub place: Option<(usize, usize)>,
    /// What is wrong there.
    pub what: String,
}

/// Renders `templates` with `values`, by the keys of the Secret. Each template is read once.
///
/// # Errors
/// The first that is found, in the order of the keys.
pub fn render(
    templates: &BTreeMap<String, String>,
    values: &BTreeMap<String, ByteString>,
) -> Result<BTreeMap<String, ByteString>, TemplateError> {
    let context = context(values);
    let rendered = templates.iter().map(|(key, source)| {
        let text = render_one(key, source, &context)?;
        Ok((key.clone(), ByteString(text)))
    });
    rendered.collect()
}

/// Whether `templates` can be rendered, as far as that does not depend on values.
///
/// # Errors
/// The first that is found, in the order of the keys.
pub fn check(templates: &BTreeMap<String, String>) -> Result<(), TemplateError> {
    for (key, source) in templates {
        check::check(source).map_err(|error| error.at(key, source))?;
        let environment = environment(&Arc::default());
        let compiled = environment.template_from_named_str(key, source);
        compiled.map_err(|error| at(key, source, &error))?;
    }
    Ok(())
}

/// Whether what stands at a key is JSON, so that values are escaped there.
#[must_use]
pub fn is_json(key: &str) -> bool {
    const ENDS: [&str; 2] = [".json", ".dockerconfigjson"];
    ENDS.iter().any(|end| key.ends_with(end))
}

/// The names of all that templates can use.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let tests = functions::TESTS.into_iter().chain([functions::FUNCTION]);
    functions::FILTERS.into_iter().chain(tests)
}

fn render_one(key: &str, source: &str, context: &Value) -> Result<Vec<u8>, TemplateError> {
    // Before it is compiled: the compiler works out constants, however large they are.
    check::check(source).map_err(|error| error.at(key, source))?;
    let environment = environment(&Arc::default());
    let template = environment
        .template_from_named_str(key, source)
        .map_err(|error| at(key, source, &error))?;
    let mut out = Bounded(Vec::new());
    let rendered = template.render_captured_to(context, &mut out);
    if let Err(error) = rendered {
        return Err(at(key, source, &error));
    }
    let Bounded(out) = out;
    if is_json(key)
        && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&out)
    {
        // Where in the result; its own words may quote it.
        return Err(TemplateError {
            key: key.to_owned(),
            place: None,
            what: format!(
                "what it renders is no JSON document from line {}, column {} of the result on; a key that ends in .json or .dockerconfigjson must hold one",
                error.line(),
                error.column()
            ),
        });
    }
    Ok(out)
}

/// The values as templates see them: text, or bytes where it is none.
fn context(values: &BTreeMap<String, ByteString>) -> Value {
    let usable = values.iter().filter(|(_, value)| value.0.len() <= LONGEST);
    let mut seen: BTreeMap<String, Value> = usable
        .map(|(key, ByteString(value))| {
            let value = match std::str::from_utf8(value) {
                Ok(text) => Value::from(text),
                Err(_) => Value::from_bytes(value.clone()),
            };
            (key.clone(), value)
        })
        .collect();
    let all = Value::from_iter(seen.clone());
    seen.insert(ALL.to_owned(), all);
    Value::from_iter(seen)
}

fn environment<'a>(budget: &Arc<Budget>) -> Environment<'a> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_keep_trailing_newline(true);
    // With it, errors carry the values of variables.
    environment.set_debug(false);
    environment.set_auto_escape_callback(|key| {
        if is_json(key) {
            AutoEscape::Custom("json")
        } else {
            AutoEscape::None
        }
    });
    environment.set_formatter(write);
    functions::add(&mut environment, budget);
    environment
}

/// Writes a value where a template has it written.
fn write(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let Some(text) = value.as_str() else {
        if value.as_bytes().is_some() {
            return Err(functions::refused(functions::NOT_UTF8));
        }
        let json = functions::to_json(value)?;
        return out.write_str(&json).map_err(Error::from);
    };
    let escaped = if state.auto_escape() == AutoEscape::None || value.is_safe() {
        None
    } else {
        let json = serde_json::to_string(text).ok();
        // Only what stands between the quotes: those are the template's.
        json.and_then(|json| json.get(1..json.len() - 1).map(str::to_owned))
    };
    out.write_str(escaped.as_deref().unwrap_or(text))
        .map_err(Error::from)
}

/// What is written, up to [`LONGEST`].
struct Bounded(Vec<u8>);

impl Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The library's error in our words: its own may quote values.
fn at(key: &str, source: &str, error: &Error) -> TemplateError {
    let range = error.range();
    let place = range
        .as_ref()
        .map(|range| place(source, range.start))
        .or(error.line().map(|line| (line, 1)));
    let excerpt = range.and_then(|range| source.get(range)).map(excerpt);
    let here = excerpt.unwrap_or_else(|| "this".to_owned());
    let what = match error.kind() {
        // Known before there are values.
        ErrorKind::SyntaxError | ErrorKind::BadEscape => {
            error.detail().unwrap_or("it cannot be read").to_owned()
        }
        ErrorKind::UndefinedError => format!(
            "{here} has no value here. The default keys of the target are the variables; see docs/templates.md"
        ),
        ErrorKind::OutOfFuel => format!("it takes more than {FUEL} steps"),
        ErrorKind::WriteFailure => format!("its result is longer than {} KiB", LONGEST / 1024),
        ErrorKind::TooManyArguments => format!("{here} has too many arguments"),
        ErrorKind::MissingArgument => format!("{here} lacks an argument"),
        _ => match functions::reason(error) {
            Some(reason) => format!("{here}: {reason}"),
            None => format!("{here} cannot be done with these values"),
        },
    };
    TemplateError {
        key: key.to_owned(),
        place,
        what,
    }
}

/// A piece of a template, short enough for a message.
fn excerpt(source: &str) -> String {
    const LONGEST: usize = 60;
    let mut text: String = source.chars().take(LONGEST).collect();
    if text.len() < source.len() {
        text.push('…');
    }
    format!("`{text}`")
}

/// Line and column of a place, from 1 on.
fn place(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
