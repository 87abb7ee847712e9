//! `tokenward providers`: what people see of the catalogue, and that the API server takes what it prints.

use serde_json::Value;
use tokenward::{api::Parameter, oauth::catalog};

use super::HOUR;
use crate::support::{Ended, Fixture, TOKENWARD, call, dry_run};

/// Without a cluster.
async fn providers(arguments: &[&str]) -> Ended {
    let all: Vec<_> = ["providers"].iter().chain(arguments).copied().collect();
    let nowhere = call(TOKENWARD, &all).env("KUBECONFIG", "/none");
    nowhere.end().await
}

async fn out(arguments: &[&str]) -> String {
    let ended = providers(arguments).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments:?}");
    ended.out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_a_line_for_each_provider_with_what_one_must_give() {
    let list = out(&["list"]).await;
    let lines: Vec<Vec<&str>> = list
        .lines()
        .map(|line| {
            line.split("   ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "TITLE", "GRANTS", "ROTATION", "PARAMETERS"]
    );
    assert_eq!(lines.len(), catalog::entries().len() + 1);
    let line = |name: &str| lines.iter().find(|line| line[0] == name).unwrap().clone();
    let entra = [
        "microsoft-entra",
        "Microsoft Entra ID",
        "RefreshToken,ClientCredentials",
        "Always",
        "tenant=…",
    ];
    assert_eq!(line("microsoft-entra"), entra);
    assert_eq!(line("github-app-user")[4], "host=github.com");
    assert_eq!(line("google")[3..], ["Never", "<none>"]);
    // No refresh token, nothing to rotate.
    assert_eq!(line("google-service-account")[3], "<none>");
    assert_eq!(line("dex")[2], "<any>");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_a_word_and_in_each_form() {
    let names = out(&["list", "-o", "name", "GitHub"]).await;
    let wanted = "github-app-installation\ngithub-app-user\ngithub-oauth\n";
    assert_eq!(names, wanted);
    assert_eq!(
        out(&["list", "-o", "name", "app", "user"]).await,
        "github-app-user\n"
    );
    let json: Value = serde_json::from_str(&out(&["list", "github", "-o", "json"]).await).unwrap();
    let yaml: Value =
        serde_saphyr::from_str(&out(&["list", "github", "-o", "yaml"]).await).unwrap();
    assert_eq!(json, yaml);
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert_eq!(json[0]["name"], "github-app-installation");
    assert_eq!(json[0]["description"]["response"]["accessToken"], "/token");
    let wide = out(&["list", "-o", "wide", "google-"]).await;
    assert!(
        wide.contains("   https://oauth2.googleapis.com/token   https://"),
        "{wide}"
    );
    let none = providers(&["list", "kecloak"]).await;
    assert_eq!((none.code, none.out.as_str()), (66, ""));
    assert!(
        none.complaint().contains("did you mean keycloak"),
        "{}",
        none.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_shown_in_plain_words() {
    let shown = out(&["show", "microsoft-entra"]).await;
    for told in [
        "microsoft-entra: Microsoft Entra ID\n",
        "To register a client: https://learn.microsoft.com/",
        "  token           https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token\n",
        "- Grants: RefreshToken, ClientCredentials.\n",
        "- Client authentication: client_id and client_secret in the body.\n",
        "  tenant   Must be given. The tenant's identifier",
        "- Each refresh gives a new refresh token and ends the old one.\n",
        "- A spent refresh token may be presented again for 24 h",
        "- The old access token works on until its expiry",
        "- A refresh token that is not used for 90 days ends.\n",
        "  invalid_resource   the request is not as it wants it",
        "offline_access",
        "  [1] Refresh tokens in the Microsoft identity platform https://",
        "  kubectl create secret generic microsoft-entra-client --from-file=client_secret=",
        "      tenant: \"\"   # The tenant's identifier",
    ] {
        assert!(shown.contains(told), "{told:?} is not in\n{shown}");
    }
    // What nobody has confirmed is not told as a fact.
    let slack = out(&["show", "slack"]).await;
    let slack = slack.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        slack.contains("ends every token of the authorization (not confirmed"),
        "{slack}"
    );
    let app = out(&["show", "github-app-installation"]).await;
    assert!(app.contains("There is no refresh token"), "{app}");
    assert!(
        app.contains("Client authentication: what is signed"),
        "{app}"
    );
    assert!(app.contains("--from-file=private_key=key.pem"), "{app}");
    let robot = out(&["show", "google-service-account"]).await;
    assert!(
        robot.contains("--from-file=service_account.json=key.json"),
        "{robot}"
    );
    assert!(!robot.contains("-client"), "{robot}");
    for name in catalog::entries().keys() {
        let shown = out(&["show", name]).await;
        assert!(shown.lines().all(|line| line == line.trim_end()), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_file_is_printed_with_its_sources() {
    let file = out(&["show", "google", "-o", "yaml"]).await;
    assert_eq!(
        file.trim_end(),
        catalog::source("google").unwrap().trim_end()
    );
    let object: Value =
        serde_json::from_str(&out(&["show", "google", "-o", "json"]).await).unwrap();
    assert_eq!(object["name"], "google");
    assert_eq!(object["description"]["rotation"], "Never");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_provider_is_told_with_what_was_meant() {
    let unknown = providers(&["show", "gitlba"]).await;
    assert_eq!(unknown.code, 66);
    let told = unknown.complaint();
    // Others whose names are near may follow.
    let meant = "tokenward: there is no provider gitlba in the catalogue; did you mean gitlab";
    assert!(told.starts_with(meant), "{told}");
    assert!(told.ends_with("; see: tokenward providers list"), "{told}");
    assert_eq!(unknown.out, "");
    for arguments in [
        &["show", "google", "--variable", "tenant=a"][..],
        &["show", "microsoft-entra", "--variable", "tenant=a/b"],
        &["show", "google", "--object-name", "A"],
    ] {
        let usage = providers(arguments).await;
        assert_eq!(usage.code, 2, "{}", usage.err);
    }
}

/// A value that the parameter allows.
fn value(parameter: &Parameter) -> String {
    let fits = |value: &str| {
        let parameters = [("p".to_owned(), parameter.clone())].into();
        let given = [("p".to_owned(), value.to_owned())].into();
        let none = std::collections::BTreeMap::new();
        tokenward::oauth::template::variables(&parameters, &given, &none, &[]).is_ok()
    };
    let first = parameter
        .allowed
        .first()
        .or(parameter.default_value.as_ref());
    let tried = first.map(String::as_str).into_iter();
    let mut tried = tried.chain(["1", "us-east-1", "a.example.com", "example"]);
    tried.find(|value| fits(value)).unwrap().to_owned()
}

/// `tokenward providers show -o object` for every entry, with everything given.
async fn objects() -> Vec<String> {
    let mut objects = Vec::new();
    for (name, entry) in catalog::entries() {
        let mut arguments = vec!["show".to_owned(), (*name).to_owned()];
        let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        add("-o", "object".to_owned());
        add("--client-id", "my: client #1".to_owned());
        add("--issuer", "https://login.example.com/realm".to_owned());
        for (variable, parameter) in &entry.description.parameters {
            add("--variable", format!("{variable}={}", value(parameter)));
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        objects.push(out(&arguments).await);
    }
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_object_of_every_provider() {
    let fixture = Fixture::bare("presets", HOUR).await;
    let taken = dry_run(&fixture, objects().await.join("---\n")).await;
    assert_eq!((taken.code, taken.err.as_str()), (0, ""));
    let wanted: Vec<_> = catalog::entries()
        .keys()
        .map(|name| format!("oauthprovider.tokenward.dev/{name}"))
        .collect();
    assert_eq!(taken.out.lines().collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_filled_in_is_refused_with_the_name_of_the_field() {
    let fixture = Fixture::bare("presets-empty", HOUR).await;
    let object = providers(&["show", "keycloak", "-o", "object"]).await;
    assert_eq!(object.code, 0);
    let told = "tokenward: fill in, before it is applied: spec.variables.host, spec.variables.realm, spec.client.id";
    assert_eq!(object.complaint(), told);
    let refused = dry_run(&fixture, object.out).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.err.contains("spec.client.id"), "{}", refused.err);
}
