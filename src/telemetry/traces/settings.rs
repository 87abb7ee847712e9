//! What is asked for: the arguments, and the variables that OpenTelemetry has for it
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use url::Url;

/// The argument with the collector's address.
const FLAG: &str = "--otlp-endpoint";

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOLS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const HEADERS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// Where traces go, and how many.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// The URL that spans are posted to.
    pub endpoint: String,
    /// The share of traces that are sent, 0 to 1; `None`: as the variables say, else all.
    pub sample_ratio: Option<f64>,
    /// The service's name, unless it is `tokenward`.
    pub service_name: Option<String>,
}

/// Why the settings are of no use. Values are not repeated where they may hold a secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No URL of a collector.
    #[error("{0} is no http or https URL such as http://collector.monitoring:4318")]
    Url(&'static str),
    /// A URL with a user or a password.
    #[error(
        "{0} has a user or a password in it; set a header for that, by OTEL_EXPORTER_OTLP_HEADERS"
    )]
    User(&'static str),
    /// Another protocol.
    #[error(
        "{variable} is {value:?}, and traces are sent by http/protobuf only, mostly to port 4318"
    )]
    Protocol {
        /// The variable.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// Headers that are none.
    #[error("{0} is not a list such as name=value,name=value")]
    Headers(&'static str),
    /// An unknown sampler.
    #[error(
        "OTEL_TRACES_SAMPLER is {0:?}; it must be always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio"
    )]
    Sampler(String),
    /// No share.
    #[error("OTEL_TRACES_SAMPLER_ARG is {0:?}; it must be from 0 to 1")]
    Ratio(String),
}

/// What the arguments and the environment ask for; `None`: no traces.
///
/// # Errors
/// Says what is wrong with which of them.
pub fn settings(
    endpoint: Option<&str>,
    sample_ratio: Option<f64>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Settings>, SettingsError> {
    // One that is empty counts as not set.
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let is =
        |name: &str, value: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    if is(DISABLED, "true") || is(EXPORTER, "none") {
        return Ok(None);
    }
    let endpoint = endpoint.filter(|url| !url.is_empty());
    let endpoint = if let Some(base) = endpoint {
        below(FLAG, base)?
    } else if let Some(whole) = variable(TRACES_ENDPOINT) {
        url(TRACES_ENDPOINT, &whole)?.into()
    } else if let Some(base) = variable(ENDPOINT) {
        below(ENDPOINT, &base)?
    } else {
        return Ok(None);
    };
    let set = |names: [&'static str; 2]| {
        let mut all = names.into_iter();
        all.find_map(|name| Some((name, variable(name)?)))
    };
    if let Some((variable, value)) = set(PROTOCOLS)
        && value != "http/protobuf"
    {
        return Err(SettingsError::Protocol { variable, value });
    }
    if let Some((name, value)) = set(HEADERS)
        && !value.split(',').all(is_header)
    {
        return Err(SettingsError::Headers(name));
    }
    if sample_ratio.is_none() {
        check_sampler(variable(SAMPLER), variable(SAMPLER_ARGUMENT))?;
    }
    Ok(Some(Settings {
        endpoint,
        sample_ratio,
        service_name: variable(SERVICE_NAME),
    }))
}

fn url(name: &'static str, text: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(text.trim()).map_err(|_| SettingsError::Url(name))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(SettingsError::Url(name));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsError::User(name));
    }
    Ok(url)
}

/// The path of traces below that of a collector.
fn below(name: &'static str, base: &str) -> Result<String, SettingsError> {
    let mut url = url(name, base)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SettingsError::Url(name));
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url.into())
}

fn is_header(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        reqwest::header::HeaderName::from_bytes(name.trim().as_bytes()).is_ok()
    })
}

/// The library takes another sampler where it does not understand this one.
fn check_sampler(sampler: Option<String>, argument: Option<String>) -> Result<(), SettingsError> {
    let takes_ratio = match sampler.as_deref() {
        None
        | Some("always_on" | "always_off" | "parentbased_always_on" | "parentbased_always_off") => {
            false
        }
        Some("traceidratio" | "parentbased_traceidratio") => true,
        Some(_) => return Err(SettingsError::Sampler(sampler.unwrap_or_default())),
    };
    match argument {
        Some(text) if takes_ratio && ratio(&text).is_err() => Err(SettingsError::Ratio(text)),
        _ => Ok(()),
    }
}

/// A share of all traces.
///
/// # Errors
/// When it is not from 0 to 1.
pub fn ratio(text: &str) -> Result<f64, String> {
    let parsed = text.trim().parse().ok();
    let parsed = parsed.filter(|ratio| (0.0..=1.0).contains(ratio));
    parsed.ok_or_else(|| "it must be from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        flag: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<Settings>, SettingsError> {
        settings(flag, None, |name| {
            let set = variables.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoint(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        read(flag, variables)
            .unwrap()
            .map(|settings| settings.endpoint)
    }

    #[test]
    fn without_an_endpoint_nothing_is_sent() {
        assert_eq!(read(None, &[]), Ok(None));
        assert_eq!(
            read(Some(""), &[(ENDPOINT, " "), (SAMPLER, "no")]),
            Ok(None)
        );
        let disabled = [(DISABLED, "TRUE"), (ENDPOINT, "no URL")];
        assert_eq!(read(None, &disabled), Ok(None));
        assert_eq!(read(Some("http://c:4318"), &[(EXPORTER, "none")]), Ok(None));
    }

    #[test]
    fn traces_go_below_a_collectors_address_and_to_their_own_as_it_is() {
        let general = (ENDPOINT, "https://c.example/otlp/");
        let own = (TRACES_ENDPOINT, "http://own:4318/here?key=1");
        let at = |flag, variables: &[_]| endpoint(flag, variables).unwrap();
        assert_eq!(at(None, &[general]), "https://c.example/otlp/v1/traces");
        assert_eq!(at(None, &[general, own]), "http://own:4318/here?key=1");
        assert_eq!(
            at(Some("http://c:4318"), &[general, own]),
            "http://c:4318/v1/traces"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named_and_secrets_are_not_repeated() {
        for url in [
            "collector:4318",
            "c",
            "grpc://c:4317",
            "http://",
            "http://c?x=y",
        ] {
            assert_eq!(read(Some(url), &[]), Err(SettingsError::Url(FLAG)), "{url}");
        }
        let user = read(None, &[(ENDPOINT, "https://me:secret@c")]).unwrap_err();
        assert_eq!(user, SettingsError::User(ENDPOINT));
        let flag = Some("http://c:4318");
        let grpc = read(flag, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(grpc.to_string().contains("http/protobuf only"), "{grpc}");
        let headers = |value| read(flag, &[("OTEL_EXPORTER_OTLP_HEADERS", value)]);
        assert!(headers("a=b, c=d%20e").is_ok());
        let error = headers("a=b,secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        for (sampler, ratio) in [
            ("sometimes", "1"),
            ("traceidratio", "2"),
            ("traceidratio", "x"),
        ] {
            let variables = [(SAMPLER, sampler), (SAMPLER_ARGUMENT, ratio)];
            assert!(read(flag, &variables).is_err(), "{sampler} {ratio}");
        }
        let fine = [
            (SAMPLER, "parentbased_traceidratio"),
            (SAMPLER_ARGUMENT, "0.1"),
        ];
        assert!(read(flag, &fine).is_ok());
    }
}
