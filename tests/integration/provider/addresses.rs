//! Variables in addresses: what is wrong with one, and that none leads elsewhere.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::HOUR;
use crate::{
    bad_input::told::{Told, recovers_at_once},
    support::{Fixture, condition},
};

fn tenants(fixture: &Fixture, more: &Value) -> Value {
    let mut spec = json!({
        "tokenUrl": fixture.oauth.url() + "/{tenant}/token",
        "parameters": {"tenant": {"pattern": "[a-z]{3,9}"}, "place": {"enum": ["eu", "us"], "default": "eu"}},
    });
    let more = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(more);
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_variable_is_told_by_its_name() {
    let fixture = Fixture::new("variables", HOUR).await;
    fixture.provider(tenants(&fixture, &json!({}))).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[
            "OAuthProvider provider",
            "tenant",
            "has no value",
            "spec.variables",
        ],
        ..Told::STALLED
    }
    .of(&fixture, "ci")
    .await;
    let mut failed = None;
    for (variables, words) in [
        (
            json!({"tenant": "X"}),
            "tenant is not allowed: it must match [a-z]{3,9}",
        ),
        (
            json!({"tenant": "contoso", "place": "mars"}),
            "place is not allowed: it must be one of eu, us",
        ),
        (
            json!({"tenant": "contoso", "tenants": "x"}),
            "there is no variable tenants",
        ),
        (
            json!({"tenant": "../x"}),
            "tenant is not allowed: it must have no space",
        ),
    ] {
        // Applied: the variables of the call before are gone.
        let spec = tenants(&fixture, &json!({"variables": variables}));
        fixture.provider(spec).await;
        let told = fixture
            .until("ci", words, |c| {
                condition(c, "Stalled").is_some_and(|c| c.2.contains(words))
            })
            .await;
        assert_eq!(
            condition(&told, "Stalled").unwrap().1,
            "ProviderNotConfigured"
        );
        failed = Some(told);
    }
    assert_eq!(fixture.oauth.request_count(), 0);
    let spec = tenants(&fixture, &json!({"variables": {"tenant": "contoso"}}));
    recovers_at_once(&fixture, &failed.unwrap(), fixture.provider(spec)).await;
    assert_eq!(fixture.oauth.requests()[0].path, "/contoso/token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_leads_no_request_to_another_server() {
    let fixture = Fixture::new("smuggled", HOUR).await;
    // Where a smuggled host would lead, a server of the test listens.
    let elsewhere = fixture.oauth.url().replace("http://", "");
    let port = elsewhere.rsplit(':').next().unwrap().to_owned();
    let operator = fixture.operator();
    let url = format!("https://{{host}}:{port}/token");
    let spec = |value: &str| {
        json!({
            "tokenUrl": url, "parameters": {"host": {}, "tenant": {}},
            "credentialVariables": ["host"], "variables": {"host": value},
        })
    };
    for value in [
        "evil.example/#",
        "evil.example/",
        "user@evil.example",
        "evil.example?",
        "evil.example:81",
        "evil.example\\\\",
        "%2f",
        "127.0.0.1#",
    ] {
        fixture.provider(spec("127.0.0.1")).await;
        let given = json!({"oauth2": {"variables": {"host": value}}});
        fixture.machine("ci", given).await;
        let failed = fixture.stalled("ci", "ProviderNotConfigured").await;
        let (_, _, message) = condition(&failed, "Stalled").unwrap();
        assert!(message.contains("host"), "{value}: {message}");
        fixture
            .credentials()
            .delete("ci", &kube::api::DeleteParams::default())
            .await
            .unwrap();
        crate::support::eventually("its end", async || {
            let found = fixture.credentials().get_opt("ci").await.unwrap();
            found.is_none().then_some(())
        })
        .await;
    }
    assert_eq!(fixture.oauth.request_count(), 0, "{}", operator.log());
    // Not even where it is meant to lead may a credential say where the client's secret goes.
    let given = json!({"oauth2": {"variables": {"host": "127.0.0.1"}}});
    fixture.machine("told", given).await;
    let failed = fixture.stalled("told", "ProviderNotConfigured").await;
    let (_, _, message) = condition(&failed, "Stalled").unwrap();
    assert!(message.contains("host is a whole host"), "{message}");
    // The way that is meant is tried; the server of the test has no certificate.
    fixture.machine("ci", json!({})).await;
    fixture
        .until("ci", "an attempt", |c| {
            condition(c, "Reconciling").is_some_and(|c| c.1 == "ProviderUnreachable")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_the_protocol_is_refused_at_admission_wherever_it_stands() {
    let fixture = Fixture::new("protocol", HOUR).await;
    let refusal = async |kind: &str, name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        let object = Patch::Apply(object);
        let result = if kind == "OAuthProvider" {
            let api: kube::Api<tokenward::api::OAuthProvider> =
                kube::Api::namespaced(fixture.client.clone(), &fixture.namespace);
            api.patch(name, &params, &object).await.map(|_| ())
        } else {
            fixture
                .credentials()
                .patch(name, &params, &object)
                .await
                .map(|_| ())
        };
        result.expect_err("it was taken").to_string()
    };
    for name in tokenward::oauth::grant::PROTOCOL {
        let oauth2 = json!({
            "providerRef": {"name": "provider"}, "grantType": "ClientCredentials",
            "extraParameters": {name: "x"},
        });
        let told = refusal("IntegrationCredential", "ci", json!({"oauth2": oauth2})).await;
        assert!(
            told.contains("must not name a parameter of the protocol"),
            "{told}"
        );
        let url = fixture.oauth.token_url();
        for spec in [
            json!({"tokenUrl": url, "params": {name: "x"}}),
            json!({"tokenUrl": url, "credentialParameters": [name]}),
            json!({"tokenUrl": url, "perGrant": {"RefreshToken": {"params": {name: "x"}}}}),
        ] {
            let told = refusal("OAuthProvider", "other", spec).await;
            assert!(
                told.contains("must not name a parameter of the protocol"),
                "{told}"
            );
        }
    }
}
