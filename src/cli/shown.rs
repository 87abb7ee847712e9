//! What a credential gives, as commands print it and hand it on.

use data_encoding::BASE64;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::exit::Usage;
use crate::manager::{Credentials, Form, Values};

/// The variable that holds the token.
pub(super) const ACCESS_TOKEN: &str = "TOKENWARD_ACCESS_TOKEN";
/// The variable that holds the generation.
pub(super) const TOKEN_GENERATION: &str = "TOKENWARD_TOKEN_GENERATION";
/// The variable that holds the expiry; empty where nobody says.
pub(super) const EXPIRES_AT: &str = "TOKENWARD_EXPIRES_AT";

/// A variable, and whether its value is secret.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: SecretString,
    pub(super) is_secret: bool,
}

/// The one value of a credential: the token, the key, the password; headers line by line, as in a request.
///
/// # Errors
/// Where a template decides what there is.
pub(super) fn main(given: &Credentials) -> Result<SecretString, Usage> {
    match given {
        Credentials::Token(token) => Ok(token.secret().clone()),
        Credentials::Values(values) => one_of(values).ok_or_else(|| {
            let text = "what the template of this credential writes is not one value: use -o json or -o env of get, or its variables in lock; or keep the default keys beside it, by spec.target.templateMode: Merge";
            Usage(text.to_owned())
        }),
    }
}

fn one_of(values: &Values) -> Option<SecretString> {
    match values.form() {
        Form::ApiKey => values.api_key().cloned(),
        Form::UserPassword => values.user_password().map(|(_, password)| password.clone()),
        Form::Headers => Some(lines(values)),
        Form::Token | Form::Template => None,
    }
}

fn lines(values: &Values) -> SecretString {
    let line = |(name, value): (&str, &SecretString)| format!("{name}: {}", value.expose_secret());
    let lines: Vec<_> = values.headers().map(line).collect();
    lines.join("\n").into()
}

/// The headers of an HTTP request.
///
/// # Errors
/// Where no header is known for it.
pub(super) fn header(given: &Credentials) -> Result<SecretString, Usage> {
    let values = match given {
        Credentials::Token(token) => {
            let value = token.authorization();
            return Ok(format!("Authorization: {}", value.expose_secret()).into());
        }
        Credentials::Values(values) => values,
    };
    let refused = |text: &str| Err(Usage(text.to_owned()));
    match (values.form(), values.user_password()) {
        (Form::Headers, _) => Ok(lines(values)),
        // RFC 7617 section 2: the first colon ends the user name.
        (_, Some((username, _))) if username.expose_secret().contains(':') => {
            refused("a user name with a colon has no header (RFC 7617)")
        }
        (_, Some((username, password))) => {
            let both = format!("{}:{}", username.expose_secret(), password.expose_secret());
            Ok(format!("Authorization: Basic {}", BASE64.encode(both.as_bytes())).into())
        }
        (Form::ApiKey, _) => refused(
            "which header takes an API key is a matter of the API: use -o token, or keep the header itself in a credential of kind hostScoped",
        ),
        _ => refused("no header is known for what the template of this credential writes"),
    }
}

/// An object with everything.
pub(super) fn object(given: &Credentials) -> SecretString {
    let mut object = json!({"generation": given.generation(), "expires_at": given.expires_at()});
    match given {
        Credentials::Token(token) => {
            object["token_type"] = json!(token.token_type());
            object["scopes"] = json!(token.scopes());
            object["access_token"] = json!(token.secret().expose_secret());
        }
        Credentials::Values(values) if values.form() == Form::Headers => {
            object["host"] = json!(values.host().map(ExposeSecret::expose_secret));
            object["headers"] = map(values.headers());
        }
        Credentials::Values(values) if values.form() == Form::Template => {
            object["data"] = map(values.iter());
        }
        Credentials::Values(values) => {
            for (key, value) in values.iter() {
                object[key] = json!(value.expose_secret());
            }
        }
    }
    object.to_string().into()
}

fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a SecretString)>) -> Value {
    let pairs = pairs.map(|(key, value)| (key.to_owned(), json!(value.expose_secret())));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// As variables; `main` names the one that holds the one value.
pub(super) fn variables(given: &Credentials, main: Option<&str>) -> Vec<Variable> {
    let variable = |name: &str, value: &SecretString, is_secret| Variable {
        name: name.to_owned(),
        value: value.clone(),
        is_secret,
    };
    let named = |default| main.unwrap_or(default);
    let mut all = Vec::new();
    match given {
        Credentials::Token(token) => {
            all.push(variable(named(ACCESS_TOKEN), token.secret(), true));
        }
        Credentials::Values(values) => match (values.api_key(), values.user_password()) {
            (Some(key), _) => all.push(variable(named("TOKENWARD_API_KEY"), key, true)),
            (_, Some((username, password))) => {
                all.push(variable("TOKENWARD_USERNAME", username, false));
                all.push(variable(named("TOKENWARD_PASSWORD"), password, true));
            }
            _ if values.form() == Form::Headers => {
                let host = values.host().into_iter();
                all.extend(host.map(|host| variable("TOKENWARD_HOST", host, false)));
                let headers = values.headers();
                all.extend(headers.map(|(name, v)| variable(&derived("HEADER_", name), v, true)));
                all.extend(main.map(|main| variable(main, &lines(values), true)));
            }
            _ => all.extend(
                values
                    .iter()
                    .map(|(key, v)| variable(&derived("", key), v, true)),
            ),
        },
    }
    let generation = given.generation().to_string().into();
    all.push(variable(TOKEN_GENERATION, &generation, false));
    all.push(variable(
        EXPIRES_AT,
        &expiry(given.expires_at()).into(),
        false,
    ));
    all
}

/// The name of a variable for a key of a Secret.
fn derived(prefix: &str, key: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let key: String = key.chars().map(fits).collect();
    format!("TOKENWARD_{prefix}{key}")
}

/// An expiry as a variable has it.
fn expiry(expires_at: Option<Timestamp>) -> String {
    expires_at.map_or_else(String::new, |at| at.to_string())
}
