//! What a provider's description changes about a request.

use std::collections::BTreeMap;

use serde_json::json;

use super::{HOUR, SHORT, param, sent_header};
use crate::{
    bad_input::told::{Told, recovers_at_once},
    oauth_server::{Client, ClientAuth},
    support::Fixture,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_basic_credentials_as_they_are_gets_them_so() {
    let fixture = Fixture::bare("basicraw", HOUR).await;
    let secret = "s+c:r%t/ü=";
    fixture.oauth.set_client(Client::new("an id", &[secret]));
    fixture.oauth.configure(|b| b.basic_raw = true);
    fixture.secret("client", &[("client_secret", secret)]).await;
    let client = json!({"client": {"id": "an id"}});
    fixture.provider(client.clone()).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    let refused = fixture.stalled("ci", "InvalidClient").await;
    let mut raw = client;
    raw["clientAuth"] = json!("BasicRaw");
    recovers_at_once(&fixture, &refused, fixture.provider(raw)).await;
    let requests = fixture.oauth.requests();
    assert_eq!(requests.last().unwrap().client_auth, ClientAuth::Basic);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_headers_and_parameters_are_as_the_description_says() {
    let fixture = Fixture::new("shape", SHORT).await;
    fixture.oauth.configure(|b| b.accept_json = true);
    fixture
        .provider(json!({
            "bodyFormat": "Json", "clientAuth": "Body",
            "headers": {"Example-Version": "2022-06-28", "User-Agent": "an app by someone"},
            "parameters": {"tenant": {"pattern": "[a-z]+"}, "place": {"default": "eu"}},
            "variables": {"tenant": "contoso"},
            "params": {"audience": "urn:example:{tenant}:api", "region": "{place}"},
            "perGrant": {"RefreshToken": {
                "headers": {"Example-Refresh": "yes"}, "params": {"access_type": "offline"},
            }},
            "scope": {"separator": ",", "sendOnRefresh": true},
        }))
        .await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let oauth2 =
        json!({"scopes": ["read"], "resources": ["https://a.example/", "https://b.example/"]});
    fixture.user("alice", json!({"oauth2": oauth2})).await;
    fixture.machine("ci", json!({})).await;
    fixture.generation("alice", 2).await;
    fixture.ready("ci").await;

    for request in fixture.oauth.requests() {
        assert!(request.json);
        assert_eq!(request.client_auth, ClientAuth::Body);
        assert_eq!(sent_header(&request, "content-type"), "application/json");
        assert_eq!(sent_header(&request, "example-version"), "2022-06-28");
        assert_eq!(sent_header(&request, "user-agent"), "an app by someone");
        assert_eq!(request.headers.get_all("user-agent").iter().count(), 1);
        assert_eq!(param(&request, "audience"), "urn:example:contoso:api");
        assert_eq!(param(&request, "region"), "eu");
        let refresh = param(&request, "grant_type") == "refresh_token";
        assert_eq!(request.headers.contains_key("example-refresh"), refresh);
        assert_eq!(request.params.contains_key("access_type"), refresh);
        assert_eq!(request.params["scope"], "read");
        let resources: &[&str] = if refresh {
            &["https://a.example/", "https://b.example/"]
        } else {
            &[]
        };
        assert_eq!(request.resources, resources);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_named_one_by_one_in_a_form_too() {
    let fixture = Fixture::new("resources", HOUR).await;
    let _operator = fixture.operator();
    let resources = ["https://a.example/", "https://b.example/x?y=z"];
    fixture
        .machine("ci", json!({"oauth2": {"resources": resources}}))
        .await;
    fixture.ready("ci").await;
    assert_eq!(fixture.oauth.requests()[0].resources, resources);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_own_name_of_a_grant_is_used() {
    let fixture = Fixture::new("ownname", HOUR).await;
    let names = [("account_credentials", "client_credentials")];
    let names: BTreeMap<_, _> = names.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    fixture.oauth.configure(|b| b.grant_names = names);
    fixture
        .provider(json!({"perGrant": {"ClientCredentials": {"grantType": "account_credentials"}}}))
        .await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let request = &fixture.oauth.requests()[0];
    assert_eq!(param(request, "grant_type"), "account_credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_adds_only_the_parameters_that_its_provider_lists() {
    let fixture = Fixture::new("extra", HOUR).await;
    let _operator = fixture.operator();
    let extra = json!({"oauth2": {"extraParameters": {"account_id": "a&b=c", "audience": "x"}}});
    fixture.machine("ci", extra).await;
    let mut told = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[
            "OAuthProvider provider",
            "account_id",
            "spec.credentialParameters",
            "spec.oauth2.extraParameters",
        ],
        ..Told::STALLED
    };
    told.of(&fixture, "ci").await;
    // One of them is not enough.
    fixture
        .provider(json!({"credentialParameters": ["account_id"], "params": {"audience": "own"}}))
        .await;
    fixture
        .until("ci", "another message", |c| {
            let status = c.status.as_ref().unwrap();
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            ready.unwrap().message.contains("audience")
        })
        .await;
    told.event = None;
    told.words = &["parameter audience"];
    let failed = told.of(&fixture, "ci").await;
    assert_eq!(fixture.oauth.request_count(), 0);
    let mend = fixture.provider(json!({
        "credentialParameters": ["account_id", "audience"], "params": {"audience": "own"},
    }));
    recovers_at_once(&fixture, &failed, mend).await;
    let request = &fixture.oauth.requests()[0];
    assert_eq!(param(request, "account_id"), "a&b=c");
    assert_eq!(param(request, "audience"), "x");
}
