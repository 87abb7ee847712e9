//! Secrets of a known text go through everything that can go well or wrong, with every log line there is, and are
//! found nowhere but in their Secrets.

mod needles;

use std::{collections::BTreeSet, time::Duration};

use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenward::api::{IntegrationCredential, OAuthProvider};

use self::needles::Needles;
use crate::{
    oauth_server::{Answer, Client, CodeTerms, Fault, Outcome, challenge},
    support::{Collector, Fixture, Key, Operator, eventually, within},
};

/// A lifetime at which everything is refreshed several times in the test.
const LIFETIME: Duration = Duration::from_secs(6);

const CLIENT: &str = "canary+client/secret=with%odd&characters?";
const VERIFIER: &str = "canary-verifier-canary-verifier-canary-verifier-4711";
const OF_PLATFORM: &str = "canary-of-the-platform-in-the-environment";

/// What a provider may answer that has learned the token, or has one to give away.
fn answers(token: &str) -> Vec<Fault> {
    let page = format!("<html><p>token {token} is not good</p></html>");
    let html = |status: u16| Answer::new(status).body("text/html", &page);
    let stranger = format!("canary-new-token-beside-{token}");
    vec![
        Fault::json(400, &json!({"error": format!("bad token {token}")})),
        Fault::json(
            400,
            &json!({"error": "invalid_request", "error_description": token, "refresh_token": token}),
        ),
        Fault::json(
            403,
            &json!({"error": token, "error_uri": format!("https://x.example/?t={token}")}),
        ),
        Fault::json(500, &json!({"message": token, "token": token})),
        Fault::json(500, &json!({"access_token": stranger})),
        Fault::json(200, &json!({"access_token": {"inside": token}})),
        Fault::json(200, &json!({"token_type": token, "expires_in": token})),
        Fault::Answer(html(200)),
        Fault::Answer(html(502)),
        Fault::Answer(html(401).header("www-authenticate", &format!("Basic realm=\"{token}\""))),
        Fault::Answer(html(429).header("retry-after", token)),
        Fault::Answer(html(302).header("location", &format!("https://x.example/?t={token}"))),
        Fault::Answer(
            Answer::new(200).body("application/json", &format!("{{\"access_token\":\"{token}")),
        ),
        Fault::Answer(Answer::new(200).body("application/json", &token.repeat(3000))),
        Fault::Answer(Answer::new(200).body(
            "application/x-www-form-urlencoded",
            &format!("error={token}"),
        )),
        Fault::DropBeforeCommit,
        Fault::DropAfterCommit,
        Fault::CutAfterCommit,
    ]
}

/// The credential, once it has failed.
async fn failed(fixture: &Fixture, name: &str) {
    fixture
        .until(name, "a failure", |c: &IntegrationCredential| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.is_some_and(|r| r.last_error.is_some())
        })
        .await;
}

/// Credentials whose provider answers each of these.
async fn meet_each_answer(fixture: &Fixture, needles: &mut Needles) {
    let token = fixture.oauth.issue_refresh_token("read");
    for number in 0..answers(&token).len() {
        // Each has a client of its own: what goes wrong for one is no reason for another to wait.
        let name = format!("user{number}");
        fixture.oauth.set_client(Client::new(&name, &[CLIENT]));
        fixture
            .provider_named(&name, json!({"client": {"id": name}}))
            .await;
        let token = fixture.oauth.issue_refresh_token_to(&name, "read");
        needles.add(&token);
        needles.add(&format!("canary-new-token-beside-{token}"));
        fixture.reseed(&name, &token).await;
        fixture
            .oauth
            .fail_always(answers(&token).swap_remove(number));
        let by = json!({"oauth2": {"providerRef": {"name": name}}});
        fixture.user(&name, by).await;
        failed(fixture, &name).await;
    }
    let echo = format!("canary-echo-of-{CLIENT}");
    needles.add(&echo);
    let told =
        json!({"error": "invalid_client", "error_description": echo, "client_secret": CLIENT});
    fixture.oauth.fail_always(Fault::json(401, &told));
    fixture.machine("refused", json!({})).await;
    failed(fixture, "refused").await;
    fixture.oauth.clear_faults();
}

/// Seeds and client Secrets that hold something else than they should.
async fn misplace_secrets(fixture: &Fixture, needles: &mut Needles, key: &Key) {
    let pem = key.pem();
    let two_lines = "canary-line-one-of-two-lines\ncanary-line-two-of-two-lines";
    let broken = pem.replace("-----END", "");
    let account = json!({
        "type": "service_account", "client_email": "canary-robot@example", "token_uri": 7,
        "private_key": pem, "private_key_id": "k",
    });
    for line in two_lines.lines() {
        needles.add(line);
    }
    for (name, grant, data) in [
        ("lines", "RefreshToken", vec![("refresh_token", two_lines)]),
        ("pem", "RefreshToken", vec![("refresh_token", pem.as_str())]),
        (
            "torn",
            "JwtBearer",
            vec![("private_key", broken.as_str()), ("issuer", "i")],
        ),
        ("noissuer", "JwtBearer", vec![("private_key", pem.as_str())]),
        (
            "nokey",
            "JwtBearer",
            vec![("private_key", CLIENT), ("issuer", "i")],
        ),
        (
            "account",
            "JwtBearer",
            vec![("service_account.json", &account.to_string())],
        ),
    ] {
        fixture.secret(&format!("{name}-seed"), &data).await;
        let spec = json!({"oauth2": {"grantType": grant}});
        fixture.user(name, spec).await;
        failed(fixture, name).await;
    }
    // The client's secret where a key should be.
    fixture
        .provider_named("nosigner", json!({"clientAuth": "PrivateKeyJwt"}))
        .await;
    let reference = json!({"oauth2": {"providerRef": {"name": "nosigner"}}});
    fixture.machine("nosigner", reference).await;
    failed(fixture, "nosigner").await;
}

/// The grants that go well, each refreshed at least once.
async fn use_each_grant(fixture: &Fixture, needles: &mut Needles, key: &Key) {
    let signer = Client::signing("signer", &[key.public(None)]);
    fixture.oauth.set_client(signer);
    fixture.oauth.trust("robot@example", &[key.public(None)]);
    fixture.secret("keys", &[("key.pem", &key.pem())]).await;
    let client = json!({"id": "signer", "secretKeyRefs": [{"name": "keys", "key": "key.pem"}]});
    fixture
        .provider_named(
            "signing",
            json!({"clientAuth": "PrivateKeyJwt", "client": client}),
        )
        .await;
    let url = fixture.oauth.url() + "/app/installations/1/access_tokens";
    fixture
        .provider_named(
            "apps",
            json!({"preset": "github-app-installation", "tokenUrl": url, "client": client}),
        )
        .await;
    let code = fixture.oauth.issue_code(CodeTerms {
        scope: "read".to_owned(),
        redirect_uri: None,
        challenge: Some(challenge(VERIFIER)),
    });
    needles.add(&code);
    let seed = [
        ("authorization_code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    fixture.secret("code-seed", &seed).await;
    fixture.user("code", json!({})).await;
    let first = fixture.seed("plain").await;
    needles.add(&first);
    fixture.user("plain", json!({})).await;
    let pem = key.pem();
    let seed = [("private_key", pem.as_str()), ("issuer", "robot@example")];
    fixture.secret("robot-seed", &seed).await;
    fixture
        .user("robot", json!({"oauth2": {"grantType": "JwtBearer"}}))
        .await;
    let by = |provider: &str| json!({"oauth2": {"providerRef": {"name": provider}}});
    fixture.machine("machine", json!({})).await;
    fixture.machine("signed", by("signing")).await;
    let mut app = by("apps");
    app["oauth2"]["grantType"] = json!("GitHubAppInstallation");
    fixture.machine("app", app).await;
    for name in ["code", "plain", "robot", "machine", "signed", "app"] {
        fixture.generation(name, 2).await;
    }
    // People edit what is not theirs, and what is. A grant that is edited while a refresh is stored is replaced.
    for name in ["code", "plain"] {
        fixture.at_rest(name).await;
    }
    let params = PatchParams::default();
    let change = |value: Value| Patch::Merge(value);
    let note = json!({"spec": {"title": "edited"}});
    fixture
        .credentials()
        .patch("plain", &params, &change(note))
        .await
        .unwrap();
    let nonsense = json!({"stringData": {"token_generation": first, "access_token": CLIENT}});
    fixture
        .secrets()
        .patch("plain", &params, &change(nonsense.clone()))
        .await
        .unwrap();
    fixture
        .secrets()
        .patch("code.grant", &params, &change(nonsense))
        .await
        .unwrap();
    fixture
        .provider(json!({"headers": {"X-Edited": "1"}}))
        .await;
    let code_failed = fixture.tokenward(&["refresh", "code"]).end().await;
    assert_ne!(code_failed.code, 0);
    fixture.oauth.configure(|b| b.lifetime = LIFETIME);
    fixture.ask("plain", "1").await;
    fixture.generation("plain", 4).await;
    needles.check_text("the command line", &code_failed.err);
    needles.check_text("the command line", &code_failed.out);
}

/// Everything that anybody may see of this namespace and its operator.
async fn places(fixture: &Fixture, operator: &Operator) -> Vec<(String, String)> {
    let all = ListParams::default();
    let mut places = vec![("events".to_owned(), fixture.events().await.join("\n"))];
    let mut add = |place: &str, content: String| places.push((place.to_owned(), content));
    let credentials = fixture.credentials().list(&all).await.unwrap();
    add(
        "credentials",
        serde_json::to_string(&credentials.items).unwrap(),
    );
    let leases = fixture.leases().list(&all).await.unwrap();
    add("leases", serde_json::to_string(&leases.items).unwrap());
    let providers: Api<OAuthProvider> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    let providers = providers.list(&all).await.unwrap();
    add(
        "providers",
        serde_json::to_string(&providers.items).unwrap(),
    );
    for secret in fixture.secrets().list(&all).await.unwrap() {
        let metadata = serde_json::to_string(&secret.metadata).unwrap();
        add(
            &format!("the metadata of Secret {}", secret.name_any()),
            metadata,
        );
    }
    add("the log", operator.log());
    let health = operator.health().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/", "/livez", "/readyz", "/metrics", "/debug", "/config"] {
        let answer = http
            .get(format!("http://{health}{path}"))
            .send()
            .await
            .unwrap();
        let head = format!("{:?}", answer.headers());
        add(path, head + &answer.text().await.unwrap());
    }
    let command = std::fs::read(format!("/proc/{}/cmdline", operator.id()));
    if let Ok(command) = command {
        add(
            "its command line",
            String::from_utf8_lossy(&command).into_owned(),
        );
    }
    places
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere_but_in_their_secrets_whatever_happens() {
    let fixture = Fixture::bare("canary", LIFETIME).await;
    fixture.oauth.set_client(Client::new("demo", &[CLIENT]));
    fixture.secret("client", &[("client_secret", CLIENT)]).await;
    fixture.provider(json!({})).await;
    let key = Key::rsa();
    let mut needles = Needles::default();
    for secret in [CLIENT, VERIFIER, OF_PLATFORM] {
        needles.add(secret);
    }
    needles.add_key(&key.pem());
    needles.add_key(&key.pkcs1());
    let collector = Collector::start().await;
    let variables = [
        ("RUST_LOG", "trace"),
        ("TOKENWARD_CLIENT_SECRET", OF_PLATFORM),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let arguments = ["--log-level", "trace", "--otlp-endpoint", &collector.url];
    let operator = fixture.operator_in(&variables, &arguments);

    use_each_grant(&fixture, &mut needles, &key).await;
    meet_each_answer(&fixture, &mut needles).await;
    misplace_secrets(&fixture, &mut needles, &key).await;
    // Those that can go on have gone on.
    within(Duration::from_secs(60), "a few recoveries", async || {
        let all = fixture
            .credentials()
            .list(&ListParams::default())
            .await
            .unwrap();
        let ready = all.iter().filter(|c| crate::support::reason(c) == "Valid");
        (ready.count() >= 3).then_some(())
    })
    .await;

    let mut kinds = BTreeSet::new();
    for request in fixture.oauth.requests() {
        if let Outcome::Granted {
            access_token,
            refresh_token,
        } = &request.outcome
        {
            needles.add(access_token);
            if let Some(token) = refresh_token {
                needles.add(token);
            }
        }
        for name in ["assertion", "client_assertion", "refresh_token", "code"] {
            if let Some(value) = request.params.get(name) {
                kinds.insert(name);
                needles.add(value);
            }
        }
        let authorization = request.headers.get("authorization");
        if let Some(value) = authorization.and_then(|v| v.to_str().ok()) {
            let (scheme, value) = value.split_once(' ').unwrap();
            kinds.insert(if scheme == "Basic" { "Basic" } else { "Bearer" });
            needles.add(value);
        }
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    let log = operator.log();
    assert!(log.contains("\"TRACE\"") && log.contains("\"DEBUG\""));
    let traces = collector.text();
    assert!(traces.contains("RefreshOutcomeUnknown"));
    needles.check_text("the traces", &traces);
    for (place, content) in places(&fixture, &operator).await {
        needles.check_text(&place, &content);
    }
    // The search itself finds them where they are, which is in base64.
    let secrets = fixture
        .secrets()
        .list(&ListParams::default())
        .await
        .unwrap();
    let data: Vec<_> = secrets.iter().map(|s| json!(s.data).to_string()).collect();
    assert!(needles.found_in(&data.join("\n")) > 20);
    eventually("an operator that is well", async || {
        (!operator.log().contains("panicked")).then_some(())
    })
    .await;
}
