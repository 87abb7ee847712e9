//! Tokens of installations of a GitHub App.

use serde_json::{Value, json};

use super::{HOUR, SHORT, claims, header, is_served, sent_header};
use crate::{
    bad_input::told::{Told, recovers_at_once},
    oauth_server::Client,
    support::{Fixture, Key, condition, text},
};

const APP: &str = "Iv1.0123456789abcdef";

/// The preset, with the test's server in the place of GitHub.
fn preset(fixture: &Fixture, more: &Value) -> Value {
    let url = fixture.oauth.url() + "/app/installations/{installation_id}/access_tokens";
    let mut spec = json!({
        "preset": "github-app-installation", "tokenUrl": url,
        "client": {"id": APP, "secretKeyRefs": [{"name": "client", "key": "app.pem"}]},
    });
    let more = more.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(more);
    spec
}

async fn installation(fixture: &Fixture, number: &str) {
    let oauth2 = json!({
        "grantType": "GitHubAppInstallation", "scopes": [],
        "variables": {"installation_id": number},
    });
    fixture.machine("app", json!({"oauth2": oauth2})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_a_token_for_the_installation_that_the_credential_names() {
    let fixture = Fixture::bare("app", SHORT).await;
    let key = Key::rsa();
    fixture
        .oauth
        .set_client(Client::signing(APP, &[key.public(None)]));
    let pkcs1 = key.pkcs1();
    fixture.secret("client", &[("app.pem", &pkcs1)]).await;
    let spec = preset(
        &fixture,
        &json!({"credentialVariables": ["installation_id"]}),
    );
    fixture.provider(spec).await;
    let operator = fixture.operator();
    installation(&fixture, "4711").await;
    let credential = fixture.generation("app", 3).await;

    let requests = fixture.oauth.requests();
    for request in &requests {
        assert_eq!(request.path, "/app/installations/4711/access_tokens");
        assert_eq!(request.params.len(), 0, "{:?}", request.params);
        assert_eq!(sent_header(request, "x-github-api-version"), "2022-11-28");
        let jwt = sent_header(request, "authorization").strip_prefix("Bearer ");
        let jwt = jwt.expect("a bearer token");
        assert_eq!(header(jwt), json!({"alg": "RS256", "typ": "JWT"}));
        let claims = claims(jwt);
        let at = request.at.as_second();
        let (iat, exp) = (claims["iat"].as_i64(), claims["exp"].as_i64());
        assert_eq!(claims["iss"], APP);
        assert!((60..=90).contains(&(at - iat.unwrap())), "{claims} at {at}");
        assert!(
            exp.unwrap() > at && exp.unwrap() - iat.unwrap() <= 600,
            "{claims}"
        );
    }
    assert!(requests.iter().all(is_served), "{requests:?}");
    // The answer was 201, with `token` and a time of expiry.
    let token = credential.status.unwrap().token.unwrap();
    let life = token.expiration_time.unwrap().0 - token.last_refresh_time.unwrap().0;
    assert!(life.get_seconds() <= 5, "{life}");
    fixture.at_rest("app").await;
    let target = fixture.find_secret("app").await.unwrap();
    assert!(fixture.oauth.is_live(&text(&target, "access_token")));
    let mut secrets = vec![pkcs1.lines().nth(3).unwrap().to_owned()];
    let jwts = requests
        .iter()
        .map(|r| sent_header(r, "authorization")[7..].to_owned());
    secrets.extend(jwts);
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_the_credentials_to_name_only_where_the_provider_says_so() {
    let fixture = Fixture::bare("install", HOUR).await;
    let key = Key::rsa();
    fixture
        .oauth
        .set_client(Client::signing(APP, &[key.public(None)]));
    fixture.secret("client", &[("app.pem", &key.pkcs1())]).await;
    let own = json!({"variables": {"installation_id": "1"}});
    fixture.provider(preset(&fixture, &own)).await;
    let _operator = fixture.operator();
    installation(&fixture, "4711").await;
    let refused = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[
            "OAuthProvider provider",
            "installation_id",
            "spec.credentialVariables",
        ],
        ..Told::STALLED
    }
    .of(&fixture, "app")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);
    let open = json!({"credentialVariables": ["installation_id"]});
    let mend = fixture.provider(preset(&fixture, &open));
    recovers_at_once(&fixture, &refused, mend).await;
    let request = &fixture.oauth.requests()[0];
    assert_eq!(request.path, "/app/installations/4711/access_tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_key_is_refused_is_told_and_a_second_key_takes_over() {
    let fixture = Fixture::bare("appkey", HOUR).await;
    let (old, new) = (Key::rsa(), Key::rsa());
    fixture
        .oauth
        .set_client(Client::signing(APP, &[new.public(None)]));
    fixture.secret("client", &[("app.pem", &old.pkcs1())]).await;
    let open = json!({"credentialVariables": ["installation_id"]});
    fixture.provider(preset(&fixture, &open)).await;
    let _operator = fixture.operator();
    installation(&fixture, "4711").await;
    let refused = Told {
        reason: "InvalidClient",
        code: Some("invalid_client"),
        words: &["OAuthProvider provider", "spec.client"],
        ..Told::STALLED
    }
    .of(&fixture, "app")
    .await;
    fixture.secret("new", &[("app.pem", &new.pkcs1())]).await;
    let mut both = preset(&fixture, &open);
    both["client"]["secretKeyRefs"] = json!([
        {"name": "client", "key": "app.pem"}, {"name": "new", "key": "app.pem"},
    ]);
    recovers_at_once(&fixture, &refused, fixture.provider(both)).await;

    // What is no key is told before anything is sent.
    let sent = fixture.oauth.request_count();
    fixture
        .secret("client", &[("app.pem", "demo-secret")])
        .await;
    fixture.machine("second", json!({"oauth2": {
        "grantType": "GitHubAppInstallation", "scopes": [], "variables": {"installation_id": "5"},
    }})).await;
    let failed = fixture.stalled("second", "ProviderNotConfigured").await;
    let (_, _, message) = condition(&failed, "Stalled").unwrap();
    assert!(message.contains("cannot sign"), "{message}");
    assert!(!message.contains("demo-secret"), "{message}");
    assert_eq!(fixture.oauth.request_count(), sent);
}
