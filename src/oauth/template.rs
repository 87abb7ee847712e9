//! Templates of URLs and parameters: `{name}` stands for a variable of the provider's description.
//!
//! A value must not lead a request elsewhere than the template says: values are checked before they are put in,
//! and the URL after.

use std::collections::BTreeMap;

use regex_lite::Regex;
use url::Url;

use crate::api::Parameter;

/// The longest value of a variable.
const LONGEST: usize = 253;

/// Why a template cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace is not closed, or has no name.
    #[error("it has a brace that is not part of a {{name}}")]
    Brace,
    /// A variable has no value.
    #[error("the variable {0} has no value; set it in spec.variables")]
    Missing(String),
    /// A variable is given that the description does not define.
    #[error("there is no variable {0}: spec.parameters does not define it")]
    Undefined(String),
    /// A credential gives a variable that only the provider object may give.
    #[error(
        "the variable {0} is not for credentials to give: spec.credentialVariables does not list it"
    )]
    NotForCredentials(String),
    /// A value is not one of those that are allowed.
    #[error("the value of the variable {0} is not allowed: {1}")]
    Value(String, String),
    /// The pattern of a parameter is no regular expression.
    #[error("the pattern of the parameter {0} is no regular expression")]
    Pattern(String),
    /// The URL that comes of it is elsewhere than the template says.
    #[error("with its variables put in, it is another host, port or scheme than it says")]
    Elsewhere,
}

/// The values of all variables: those of the provider object, those that it lets the credential give, and
/// the defaults.
///
/// # Errors
/// Names the variable and what is wrong with it.
pub fn variables(
    parameters: &BTreeMap<String, Parameter>,
    of_provider: &BTreeMap<String, String>,
    of_credential: &BTreeMap<String, String>,
    for_credentials: &[String],
) -> Result<BTreeMap<String, String>, TemplateError> {
    let mut values = BTreeMap::new();
    for (name, parameter) in parameters {
        let value = of_provider.get(name).or(parameter.default_value.as_ref());
        values.extend(value.map(|value| (name.clone(), value.clone())));
    }
    for name in of_provider.keys().chain(of_credential.keys()) {
        if !parameters.contains_key(name) {
            return Err(TemplateError::Undefined(name.clone()));
        }
    }
    for (name, value) in of_credential {
        if !for_credentials.contains(name) {
            return Err(TemplateError::NotForCredentials(name.clone()));
        }
        values.insert(name.clone(), value.clone());
    }
    for (name, value) in &values {
        check(name, value, &parameters[name])?;
    }
    Ok(values)
}

fn check(name: &str, value: &str, parameter: &Parameter) -> Result<(), TemplateError> {
    let refuse = |why: &str| Err(TemplateError::Value(name.to_owned(), why.to_owned()));
    if value.is_empty() || value.len() > LONGEST {
        return refuse("it must have 1 to 253 characters");
    }
    // None of them can end a part of a URL, begin another, or be taken for one of the other characters.
    let is_plain = |c: char| c.is_ascii_graphic() && !r#"/\?#@%&=+"'<>{}|^`"#.contains(c);
    if !value.chars().all(is_plain) || value == "." || value == ".." {
        return refuse("it must have no space and no character that has a meaning in URLs");
    }
    if !parameter.allowed.is_empty() && !parameter.allowed.iter().any(|allowed| allowed == value) {
        return refuse(&format!(
            "it must be one of {}",
            parameter.allowed.join(", ")
        ));
    }
    if let Some(pattern) = &parameter.pattern {
        let whole = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|_| TemplateError::Pattern(name.to_owned()))?;
        if !whole.is_match(value) {
            return refuse(&format!("it must match {pattern}"));
        }
    }
    Ok(())
}

/// Puts the variables into a text.
///
/// # Errors
/// Where a variable has no value, or a brace is not closed.
pub fn fill(template: &str, values: &BTreeMap<String, String>) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(open);
        let (name, after) = from
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'))
            .ok_or(TemplateError::Brace)?;
        if name.is_empty() || name.contains('{') {
            return Err(TemplateError::Brace);
        }
        let value = values
            .get(name)
            .ok_or_else(|| TemplateError::Missing(name.to_owned()))?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Puts the variables into a URL, and makes sure that it is where the template says. `None`: the template is
/// no URL even so, which is told by whoever checks URLs.
///
/// # Errors
/// As [`fill`], and where the host, the port or the scheme would be another one.
pub fn fill_url(
    template: &str,
    values: &BTreeMap<String, String>,
) -> Result<String, TemplateError> {
    let filled = fill(template, values)?;
    if !template.contains('{') {
        return Ok(filled);
    }
    let (scheme, host, port) = authority(template).ok_or(TemplateError::Elsewhere)?;
    let url = Url::parse(&filled).map_err(|_| TemplateError::Elsewhere)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let (_, filled_host, filled_port) = authority(&filled).ok_or(TemplateError::Elsewhere)?;
    let same = plain
        && url.scheme() == scheme.to_ascii_lowercase()
        && filled_port == port
        && url
            .host_str()
            .is_some_and(|parsed| parsed == filled_host.to_ascii_lowercase())
        && is_host_of(host, filled_host);
    if same {
        Ok(filled)
    } else {
        Err(TemplateError::Elsewhere)
    }
}

/// The variables that decide whose host a URL is at: the whole host, or a part of its last two labels. Whoever gives
/// one of them says where requests go; the owner of `{tenant}.example.com` is always the same.
#[must_use]
pub fn deciding(template: &str) -> Vec<&str> {
    let Some((_, host, _)) = authority(template) else {
        return Vec::new();
    };
    let labels = host.trim_end_matches('.').rsplit('.').take(2);
    labels.flat_map(names).collect()
}

/// The variables in a template.
#[must_use]
pub fn names(template: &str) -> Vec<&str> {
    let after = template.split('{').skip(1);
    let named = after.filter_map(|part| part.split_once('}').map(|(name, _)| name));
    named.collect()
}

/// Whether variables have a part in the host.
#[must_use]
pub fn has_variable_host(template: &str) -> bool {
    authority(template).is_none_or(|(scheme, host, _)| scheme.contains('{') || host.contains('{'))
}

/// Scheme, host and port (with its colon) as written.
fn authority(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let port = authority
        .rfind(':')
        .filter(|at| !authority[*at..].contains(']'))
        .unwrap_or(authority.len());
    Some((scheme, &authority[..port], &authority[port..]))
}

/// Whether `host` is of the form that the template has: label for label, and each variable one label of it.
/// A template that is nothing but one variable takes any name.
fn is_host_of(template: &str, host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !template.contains('{') {
        return template.eq_ignore_ascii_case(host);
    }
    if template.starts_with('{') && template.find('}') == Some(template.len() - 1) {
        return host.split('.').all(is_label);
    }
    let (said, is): (Vec<_>, Vec<_>) = (template.split('.').collect(), host.split('.').collect());
    said.len() == is.len()
        && said.iter().zip(&is).all(|(said, is)| {
            if said.contains('{') {
                is_label(is)
            } else {
                said.eq_ignore_ascii_case(is)
            }
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parameters(names: &[&str]) -> BTreeMap<String, Parameter> {
        let all = names
            .iter()
            .map(|n| ((*n).to_owned(), Parameter::default()));
        all.collect()
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        all.collect()
    }

    fn filled(template: &str, value: &str) -> Result<String, TemplateError> {
        let given = values(&[("tenant", value)]);
        let values = variables(&parameters(&["tenant"]), &given, &BTreeMap::new(), &[])?;
        fill_url(template, &values)
    }

    #[test]
    fn variables_are_put_where_they_stand() {
        for (template, value, url) in [
            (
                "https://login.example.com/{tenant}/token",
                "contoso",
                "https://login.example.com/contoso/token",
            ),
            (
                "https://{tenant}.example.com/token",
                "shop-1",
                "https://shop-1.example.com/token",
            ),
            (
                "https://{tenant}/token",
                "id.corp.example.com",
                "https://id.corp.example.com/token",
            ),
            (
                "https://a.example.com:8443/{tenant}",
                "x",
                "https://a.example.com:8443/x",
            ),
            (
                "https://api-{tenant}.example.com/t?v={tenant}",
                "eu",
                "https://api-eu.example.com/t?v=eu",
            ),
        ] {
            assert_eq!(filled(template, value).as_deref(), Ok(url));
        }
    }

    #[test]
    fn no_value_leads_elsewhere() {
        for value in [
            "evil.example/#",
            "evil.example/",
            "evil.example?",
            "evil.example#",
            "u@evil.example",
            "evil.example\\",
            "evil.example:80",
            "a.b",
            "",
            " ",
            "x y",
            "%2e%2e",
            "..",
            ".",
            "a/../b",
            "é",
            "x\n",
            "-\u{0}",
            "{tenant}",
        ] {
            assert!(
                filled("https://{tenant}.example.com/t", value).is_err(),
                "{value:?}"
            );
        }
        for value in ["..", "a/b", "?x", "#x", "a%2fb", "a&b=c", "a\\b"] {
            assert!(
                filled("https://login.example.com/{tenant}/t", value).is_err(),
                "{value:?}"
            );
        }
        for value in ["evil.example/x", "u@h", "h:1", "[::1]", "a..b", ".a"] {
            assert!(filled("https://{tenant}/t", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn values_keep_to_what_the_parameter_allows() {
        let mut parameters = parameters(&["region"]);
        let given = |value: &str| values(&[("region", value)]);
        let none = BTreeMap::new();
        parameters.get_mut("region").unwrap().allowed = vec!["eu".to_owned(), "us".to_owned()];
        assert!(variables(&parameters, &given("eu"), &none, &[]).is_ok());
        let refused = variables(&parameters, &given("in"), &none, &[]).unwrap_err();
        assert!(refused.to_string().contains("one of eu, us"), "{refused}");
        parameters.insert(
            "region".to_owned(),
            Parameter {
                pattern: Some("[a-z]{2}".to_owned()),
                default_value: Some("us".to_owned()),
                ..Parameter::default()
            },
        );
        assert!(variables(&parameters, &given("xeu"), &none, &[]).is_err());
        assert_eq!(
            variables(&parameters, &none, &none, &[]).unwrap(),
            given("us")
        );
        parameters.get_mut("region").unwrap().pattern = Some("[".to_owned());
        assert_eq!(
            variables(&parameters, &given("eu"), &none, &[]),
            Err(TemplateError::Pattern("region".to_owned()))
        );
    }

    #[test]
    fn a_credential_gives_only_what_the_provider_object_lets_it() {
        let parameters = parameters(&["tenant"]);
        let none = BTreeMap::new();
        let given = values(&[("tenant", "b")]);
        assert_eq!(
            variables(&parameters, &values(&[("tenant", "a")]), &given, &[]),
            Err(TemplateError::NotForCredentials("tenant".to_owned()))
        );
        let listed = ["tenant".to_owned()];
        assert_eq!(
            variables(&parameters, &none, &given, &listed).unwrap(),
            given
        );
        assert_eq!(
            variables(&parameters, &values(&[("other", "a")]), &none, &[]),
            Err(TemplateError::Undefined("other".to_owned()))
        );
    }

    #[test]
    fn a_variable_that_says_whose_host_it_is_is_known() {
        let cases: [(&str, &[&str]); 9] = [
            ("https://{host}/token", &["host"]),
            ("https://{host}:8443/token", &["host"]),
            ("https://{tenant}.example.com/token", &[]),
            ("https://{tenant}.example.com./token", &[]),
            ("https://{a}.{b}/token", &["b", "a"]),
            ("https://{name}.com/token", &["name"]),
            ("https://x-{name}.com/{other}", &["name"]),
            ("https://accounts.example.{tld}/token", &["tld"]),
            ("https://a.example/{host}", &[]),
        ];
        for (template, names) in cases {
            assert_eq!(deciding(template), names, "{template}");
        }
    }

    #[test]
    fn a_host_with_variables_is_known() {
        assert!(has_variable_host("https://{tenant}.example.com/revoke"));
        assert!(has_variable_host("no url"));
        assert!(!has_variable_host("https://example.com/{tenant}/revoke"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let none = BTreeMap::new();
        for template in [
            "https://a.example/{",
            "https://a.example/}",
            "https://a.example/{}",
            "{a{b}}",
        ] {
            assert_eq!(
                fill(template, &none),
                Err(TemplateError::Brace),
                "{template}"
            );
        }
        assert_eq!(
            fill("{a}", &none),
            Err(TemplateError::Missing("a".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn whatever_the_value_the_host_ends_as_the_template_says(value in ".{0,40}") {
            if let Ok(filled) = filled("https://{tenant}.example.com:8443/t", &value) {
                let url = Url::parse(&filled).unwrap();
                prop_assert!(url.host_str().unwrap().ends_with(".example.com"));
                prop_assert_eq!(url.port(), Some(8443));
                prop_assert_eq!(url.path(), "/t");
            }
        }
    }
}
