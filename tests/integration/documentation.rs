//! What the documents say, tried on a real API server.

use crate::support::{Fixture, dry_run};
use std::time::Duration;

/// The documents whose examples are objects to apply.
const DOCUMENTS: [(&str, &str); 4] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/guide.md", include_str!("../../docs/guide.md")),
    ("docs/install.md", include_str!("../../docs/install.md")),
    ("docs/providers.md", include_str!("../../docs/providers.md")),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_example_of_the_documents() {
    let fixture = Fixture::bare("documented", Duration::from_secs(3600)).await;
    for (name, document) in DOCUMENTS {
        let blocks = document.split("```yaml\n").skip(1);
        let examples: Vec<_> = blocks
            .map(|rest| rest.split_once("```").unwrap().0)
            .filter(|example| example.starts_with("apiVersion: "))
            .collect();
        assert!(!examples.is_empty(), "{name}");
        let objects = examples.join("---\n");
        let count = objects.matches("\napiVersion: ").count() + 1;
        let taken = dry_run(&fixture, objects).await;
        assert_eq!((taken.code, taken.err.as_str()), (0, ""), "{name}");
        assert_eq!(taken.out.lines().count(), count, "{name}: {}", taken.out);
    }
}
