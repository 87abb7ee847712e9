//! Token endpoints at addresses that no provider should have.

use serde_json::json;

use super::{HOUR, told::Told};
use crate::support::{Fixture, condition};

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_public_is_refused_until_the_operator_is_told_and_metadata_always() {
    let fixture = Fixture::new("addresses", HOUR).await;
    let mut operator = fixture.operator();
    let cases = [
        (
            "inside",
            // The flag for trying things out is for plain loopback addresses, and nobody is at this port.
            "https://[::ffff:127.0.0.1]:1/token",
            "a loopback address",
            "--allow-provider-network",
        ),
        (
            "metadata",
            "https://0xa9fea9fe/token",
            "a metadata service of a cloud",
            "Check the URL in its spec",
        ),
    ];
    let mut seeds = Vec::new();
    for (name, url, ..) in cases {
        fixture.provider_named(name, json!({"tokenUrl": url})).await;
        seeds.push(fixture.seed(name).await);
        let reference = json!({"kind": "OAuthProvider", "name": name});
        let change = json!({"oauth2": {"providerRef": reference}});
        fixture.user(name, change).await;
    }
    for (name, _, rule, remedy) in cases {
        Told {
            reason: "EndpointNotAllowed",
            words: &[&format!("OAuthProvider {name}"), rule, remedy],
            ..Told::STALLED
        }
        .of(&fixture, name)
        .await;
    }

    operator.kill();
    let networks = ["--allow-provider-network", "127.0.0.0/8,169.254.0.0/16"];
    let told = fixture.operator_with(&networks);
    let tried = |c: &_| condition(c, "Reconciling").is_some_and(|c| c.1 == "ProviderUnreachable");
    fixture.until("inside", "tried", tried).await;
    fixture.stalled("metadata", "EndpointNotAllowed").await;
    fixture.assert_nowhere(&seeds, &[&operator, &told]).await;
}
