//! What templates can do with values. Nothing here reads anything but its arguments, and every result is bounded.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use data_encoding::BASE64;
use minijinja::{Environment, Error, ErrorKind, Value, filters, tests};

use super::LONGEST;

/// How many bytes one template may have functions work on.
const WORK: usize = 16 * 1024 * 1024;

/// The filters that there are.
pub(super) const FILTERS: [&str; 13] = [
    "trim",
    "upper",
    "lower",
    "urlencode",
    "b64encode",
    "b64decode",
    "json",
    "split",
    "join",
    "replace",
    "default",
    "items",
    "length",
];

/// The tests that there are.
pub(super) const TESTS: [&str; 2] = ["defined", "undefined"];

/// The function that there is.
pub(super) const FUNCTION: &str = "basicAuth";

/// What a template has left to spend.
#[derive(Default)]
pub(super) struct Budget {
    spent: AtomicUsize,
}

impl Budget {
    /// Takes account of one function's work, and refuses results that nobody could use.
    fn spend(&self, bytes: usize) -> Result<(), Error> {
        if bytes > 8 * LONGEST {
            return Err(refused(TOO_LONG));
        }
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > WORK {
            return Err(refused(TOO_MUCH));
        }
        Ok(())
    }
}

const TOO_LONG: &str = "the value is too long";
const NOT_TEXT: &str = "the value is not text";
const COLON: &str = "a user name must not have a colon (RFC 7617 section 2)";
const NOT_BASE64: &str = "the value is not base64";
const NOT_JSON: &str = "the value cannot be JSON";
pub(super) const NOT_UTF8: &str = "this value is not UTF-8 text; use b64encode";
const TOO_MUCH: &str = "the template works on more than 16 MiB in all";
const NOT_A_LIST: &str = "the value is not a list";

/// Everything that is said of a failure here: fixed words, so that no value gets into a message.
const REASONS: [&str; 8] = [
    TOO_LONG, NOT_TEXT, COLON, NOT_BASE64, NOT_JSON, NOT_UTF8, TOO_MUCH, NOT_A_LIST,
];

/// A failure in one of the fixed words.
pub(super) fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Why a function failed, if it was one of these.
pub(super) fn reason(error: &Error) -> Option<&'static str> {
    let detail = error.detail()?;
    REASONS.into_iter().find(|reason| *reason == detail)
}

/// Adds all that there is.
pub(super) fn add(environment: &mut Environment<'_>, budget: &Arc<Budget>) {
    let text_filter = |work: fn(&str) -> Result<Value, Error>| {
        let budget = Arc::clone(budget);
        move |value: &Value| {
            let text = text(value)?;
            budget.spend(text.len())?;
            work(text)
        }
    };
    environment.add_filter("trim", text_filter(|text| Ok(text.trim().into())));
    environment.add_filter("upper", text_filter(|text| Ok(text.to_uppercase().into())));
    environment.add_filter("lower", text_filter(|text| Ok(text.to_lowercase().into())));
    environment.add_filter("urlencode", text_filter(|text| Ok(urlencode(text).into())));
    environment.add_filter("b64decode", text_filter(b64decode));
    environment.add_filter("split", split(budget));
    let spends = Arc::clone(budget);
    environment.add_filter("b64encode", move |value: &Value| {
        let bytes = value.as_str().map(str::as_bytes).or(value.as_bytes());
        let bytes = bytes.ok_or_else(|| refused(NOT_TEXT))?;
        spends.spend(bytes.len())?;
        Ok(Value::from(BASE64.encode(bytes)))
    });
    let spends = Arc::clone(budget);
    environment.add_filter("json", move |value: &Value| {
        let json = to_json(value)?;
        spends.spend(json.len())?;
        // As it is, quotes and all, also in a document of JSON.
        Ok::<_, Error>(Value::from_safe_string(json))
    });
    environment.add_filter("replace", replace(budget));
    environment.add_filter("join", join(budget));
    environment.add_filter("default", filters::default);
    environment.add_filter("items", filters::items);
    environment.add_filter("length", filters::length);
    let spends = Arc::clone(budget);
    environment.add_function(FUNCTION, move |user: &Value, password: &Value| {
        let (user, password) = (text(user)?, text(password)?);
        if user.contains(':') {
            return Err(refused(COLON));
        }
        spends.spend(user.len() + password.len())?;
        let joined = format!("{user}:{password}");
        Ok(Value::from(BASE64.encode(joined.as_bytes())))
    });
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
}

/// The text of a value: templates work on texts, and numbers are written as they are.
fn text(value: &Value) -> Result<&str, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    value.as_str().ok_or_else(|| refused(NOT_TEXT))
}

/// What a value is in JSON, within bounds.
pub(super) fn to_json(value: &Value) -> Result<String, Error> {
    struct Out(Vec<u8>);
    impl std::io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > LONGEST {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let mut out = Out(Vec::new());
    match serde_json::to_writer(&mut out, value) {
        Ok(()) => String::from_utf8(out.0).map_err(|_| refused(NOT_JSON)),
        Err(error) if error.is_io() => Err(refused(TOO_LONG)),
        Err(_) => Err(refused(NOT_JSON)),
    }
}

/// RFC 3986 section 2.3: everything but unreserved characters.
fn urlencode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(digit.into(), 16).unwrap_or('0');
                encoded.push(digit.to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// What a base64 text stands for, with or without line feeds: text, or bytes where it is none.
fn b64decode(text: &str) -> Result<Value, Error> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = BASE64
        .decode(packed.as_bytes())
        .map_err(|_| refused(NOT_BASE64))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(error) => Value::from_bytes(error.into_bytes()),
    })
}

fn split(budget: &Arc<Budget>) -> impl Fn(&Value, Option<&str>) -> Result<Value, Error> + use<> {
    // What a value in a list takes beside its text.
    const EACH: usize = 64;
    let budget = Arc::clone(budget);
    move |value, separator| {
        let text = text(value)?;
        budget.spend(text.len())?;
        let parts: Vec<&str> = match separator {
            None | Some("") => text.split_whitespace().collect(),
            Some(separator) => text.split(separator).collect(),
        };
        budget.spend(parts.len() * EACH)?;
        Ok(parts.into_iter().map(Value::from).collect())
    }
}

fn replace(budget: &Arc<Budget>) -> impl Fn(&Value, &str, &str) -> Result<Value, Error> + use<> {
    let budget = Arc::clone(budget);
    move |value, from, to| {
        let text = text(value)?;
        let times = text.matches(from).count();
        // Before it is made: it may be the square of what there is.
        budget.spend(text.len().saturating_add(times.saturating_mul(to.len())))?;
        Ok(Value::from(text.replace(from, to)))
    }
}

fn join(budget: &Arc<Budget>) -> impl Fn(&Value, Option<&str>) -> Result<Value, Error> + use<> {
    let budget = Arc::clone(budget);
    move |value, separator| {
        let separator = separator.unwrap_or_default();
        let items = value.try_iter().map_err(|_| refused(NOT_A_LIST))?;
        let mut joined = String::new();
        for (n, item) in items.enumerate() {
            if n > 0 {
                joined.push_str(separator);
            }
            let before = joined.len();
            joined.push_str(text(&item)?);
            budget.spend(separator.len() + joined.len() - before)?;
        }
        Ok(joined.into())
    }
}
