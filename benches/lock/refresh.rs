//! The writes of a refresh that nobody holds up.

use std::{collections::BTreeMap, time::Duration};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::{Fixture, within},
};

const REFRESHES: i64 = 5;

/// Asks for a refresh as a person does.
pub async fn request(fixture: &Fixture, name: &str, value: &str) {
    let request = json!({"metadata": {"annotations": {"tokenward.dev/refresh-requested": value}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(request));
    let patched = fixture.credentials().patch(name, &params, &patch).await;
    patched.unwrap();
}

pub async fn measure() -> Vec<Line> {
    let fixture = Fixture::new("refresh", Duration::from_secs(3600)).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    fixture.ready("alice").await;
    fixture.ready("ci").await;
    // Its first events may follow the status.
    fixture.told(3).await;
    vec![
        writes(&fixture, "alice", "RefreshToken", 5.0).await,
        writes(&fixture, "ci", "ClientCredentials", 4.0).await,
    ]
}

async fn writes(fixture: &Fixture, name: &str, grant: &str, at_most: f64) -> Line {
    let audit = fixture.audit();
    for refresh in 1..=REFRESHES {
        request(fixture, name, &refresh.to_string()).await;
        let done = refresh.to_string();
        within(Duration::from_secs(30), "a refresh", async || {
            let status = fixture.get(name).await.status?;
            (status.refresh?.last_handled_request? == done).then_some(())
        })
        .await;
    }
    let mut kinds = BTreeMap::<_, u32>::new();
    for write in audit.writes() {
        // The name says which Secret it is, and `verb resource` alone would not.
        *kinds.entry(write.replace(name, "NAME")).or_default() += 1;
    }
    let refreshes = f64::from(u32::try_from(REFRESHES).unwrap());
    let all = f64::from(kinds.values().sum::<u32>()) / refreshes;
    let kinds: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| format!("{} {kind}", f64::from(*count) / refreshes))
        .collect();
    eprintln!("a refresh, {grant}: {}", kinds.join(", "));
    let measure = format!("writes of a refresh, {grant}");
    Line::new(measure, Quantity::new(all, Unit::Writes)).target(Target::Ours(at_most))
}
