//! Whether a credential may use a provider for the whole cluster.

use std::collections::BTreeMap;

use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};

use crate::{
    api::{ClusterOAuthProviderSpec, GrantType, IntegrationCredential},
    failure::{Failure, Reason},
};

/// Whether a cluster provider admits this credential.
///
/// # Errors
/// `ProviderNotAllowed`, with what the provider's owner would have to change.
pub fn admit(
    cluster: &ClusterOAuthProviderSpec,
    credential: &IntegrationCredential,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    let oauth2 = credential.oauth2();
    let refuse = |why: String| {
        let name = &oauth2.provider_ref.name;
        Err(Failure::new(
            Reason::ProviderNotAllowed,
            format!("ClusterOAuthProvider {name} {why}"),
        ))
    };
    let selector = cluster.allowed_namespaces.clone();
    let allowed = selector
        .and_then(|selector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(namespace_labels));
    if !allowed {
        return refuse(format!(
            "does not admit namespace {}: its spec.allowedNamespaces must select the namespace's labels",
            credential.namespace().unwrap_or_default()
        ));
    }
    let grant = oauth2.grant_type;
    if !cluster.allowed_grant_types.contains(&grant) {
        return refuse(format!(
            "does not admit grantType {}: add it to its spec.allowedGrantTypes",
            grant.as_str()
        ));
    }
    if grant.is_machine() {
        let asks_as_client = grant == GrantType::ClientCredentials;
        if asks_as_client && oauth2.scopes.is_empty() {
            return refuse(
                "needs scopes: with grantType ClientCredentials, name them in spec.oauth2.scopes"
                    .to_owned(),
            );
        }
        let is_bounded = asks_as_client || !cluster.allowed_scopes.is_empty();
        let refused = |scope: &&String| is_bounded && !cluster.allowed_scopes.contains(scope);
        if let Some(scope) = oauth2.scopes.iter().find(refused) {
            return refuse(format!(
                "does not admit scope {scope}: add it to its spec.allowedScopes"
            ));
        }
        // A resource says where the token is good for, which scopes alone do not.
        let refused = |resource: &&String| !cluster.allowed_resources.contains(resource);
        if let Some(resource) = oauth2.resources.iter().find(refused) {
            return refuse(format!(
                "does not admit resource {resource}: add it to its spec.allowedResources"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::IntegrationCredentialSpec;

    fn credential(grant: &str, scopes: &[&str]) -> IntegrationCredential {
        let spec: IntegrationCredentialSpec = serde_json::from_value(json!({"oauth2": {
            "providerRef": {"kind": "ClusterOAuthProvider", "name": "p"}, "grantType": grant, "scopes": scopes,
        }}))
        .unwrap();
        IntegrationCredential::new("c", spec)
    }

    fn cluster(extra: &Value) -> ClusterOAuthProviderSpec {
        let mut spec = json!({"tokenUrl": "https://x.example/t", "client": {"id": "c"}});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn refusal(spec: &Value, credential: &IntegrationCredential) -> Option<String> {
        let labels = [("team".to_owned(), "blue".to_owned())].into();
        admit(&cluster(spec), credential, &labels)
            .err()
            .map(|f| f.message)
    }

    #[test]
    fn a_cluster_provider_admits_nobody_by_default() {
        let user = credential("RefreshToken", &[]);
        assert!(
            refusal(&json!({}), &user)
                .unwrap()
                .contains("allowedNamespaces")
        );
        assert_eq!(refusal(&json!({"allowedNamespaces": {}}), &user), None);
        let blue = json!({"allowedNamespaces": {"matchLabels": {"team": "blue"}}});
        assert_eq!(refusal(&blue, &user), None);
        let red = json!({"allowedNamespaces": {"matchLabels": {"team": "red"}}});
        assert!(refusal(&red, &user).unwrap().contains("allowedNamespaces"));
    }

    #[test]
    fn where_scopes_are_named_no_grant_without_a_user_asks_for_others() {
        let granted = json!({"allowedNamespaces": {}, "allowedGrantTypes": ["JwtBearer", "RefreshToken"], "allowedScopes": ["a"]});
        let (own, wider) = (
            credential("JwtBearer", &["a"]),
            credential("JwtBearer", &["b"]),
        );
        assert_eq!(refusal(&granted, &own), None);
        assert!(refusal(&granted, &wider).unwrap().contains("scope b"));
        // What a user has authorized is the user's.
        assert_eq!(refusal(&granted, &credential("RefreshToken", &["b"])), None);
        let unbounded = json!({"allowedNamespaces": {}, "allowedGrantTypes": ["JwtBearer"]});
        assert_eq!(refusal(&unbounded, &wider), None);
    }

    #[test]
    fn acting_as_the_client_itself_needs_leave_for_the_grant_and_each_scope() {
        let all = json!({"allowedNamespaces": {}});
        let machine = credential("ClientCredentials", &["a"]);
        assert!(
            refusal(&all, &machine)
                .unwrap()
                .contains("allowedGrantTypes")
        );
        let granted = json!({"allowedNamespaces": {}, "allowedGrantTypes": ["ClientCredentials"], "allowedScopes": ["a"]});
        assert_eq!(refusal(&granted, &machine), None);
        let wider = credential("ClientCredentials", &["a", "b"]);
        assert!(refusal(&granted, &wider).unwrap().contains("scope b"));
        let mut elsewhere = credential("ClientCredentials", &["a"]);
        let oauth2 = elsewhere.spec.oauth2.as_mut().unwrap();
        oauth2.resources = vec!["https://admin.example".to_owned()];
        let refused = refusal(&granted, &elsewhere).unwrap();
        assert!(refused.contains("allowedResources"), "{refused}");
        let mut wide = granted.clone();
        wide["allowedResources"] = json!(["https://admin.example"]);
        assert_eq!(refusal(&wide, &elsewhere), None);
        let none = credential("ClientCredentials", &[]);
        assert!(refusal(&granted, &none).unwrap().contains("needs scopes"));
    }
}
