//! The documented example.

use serde_json::json;

use super::HOUR;
use crate::support::{Deployed, Fixture, cluster, documents, dry_run};

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_restricted_pods_admits_the_example() {
    let fixture = Fixture::bare("mount-example", HOUR).await;
    let namespace = fixture.namespace.as_str();
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", namespace, restricted];
    let labelled = cluster().kubectl(&label).output().unwrap();
    assert!(labelled.status.success(), "{labelled:?}");
    let mut objects = documents("mount.yaml", &[("my-team", namespace)]);
    let all: Vec<_> = objects.iter().map(ToString::to_string).collect();
    let taken = dry_run(&fixture, all.join("\n---\n")).await;
    assert_eq!((taken.code, taken.err.as_str()), (0, ""));
    // Of a Deployment nobody looks at the pods.
    let deployment = objects.pop().unwrap();
    Deployed::objects(&fixture, objects).await;
    let template = &deployment["spec"]["template"];
    let pod = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "my-app", "namespace": namespace}, "spec": template["spec"],
        });
        change(&mut pod);
        pod.to_string()
    };
    let admitted = dry_run(&fixture, pod(&|_| {})).await;
    assert_eq!((admitted.code, admitted.err.as_str()), (0, ""));
    let loose = pod(&|pod| pod["spec"]["initContainers"][0]["securityContext"] = json!({}));
    let refused = dry_run(&fixture, loose).await;
    assert!(refused.err.contains("PodSecurity"), "{}", refused.err);
}
