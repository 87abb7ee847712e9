//! What the comments of an entry's file say: the documents that its facts are from, advice, and which facts
//! nobody has confirmed.

/// The comments of a file.
pub(super) struct Comments {
    /// The documents, as `[1] title address`.
    pub(super) sources: Vec<String>,
    /// Advice, one paragraph each.
    pub(super) notes: Vec<String>,
}

/// Reads the comments that stand on lines of their own: those before the entry, and those of its description.
pub(super) fn comments(source: &str) -> Comments {
    let (mut sources, mut notes) = (Vec::new(), Vec::new());
    let mut goes_on = false;
    for line in source.lines() {
        let head = line.strip_prefix("# ");
        // Deeper ones belong to the line that follows them.
        let Some(comment) = head.or_else(|| line.strip_prefix("  # ")) else {
            goes_on = false;
            continue;
        };
        let is_source = head.is_some_and(|text| text.starts_with('['));
        if is_source {
            sources.push(comment.to_owned());
        } else if head == Some("Facts from:") {
            // The heading of the sources.
        } else if let Some(note) = notes.last_mut().filter(|_| goes_on) {
            let note: &mut String = note;
            note.push(' ');
            note.push_str(comment);
        } else {
            notes.push(comment.to_owned());
            goes_on = true;
        }
    }
    Comments { sources, notes }
}

/// Whether the file says of a field that no document confirms it.
pub(super) fn is_unconfirmed(source: &str, field: &str) -> bool {
    let of_field = |line: &&str| {
        let rest = line.trim_start().strip_prefix(field);
        rest.is_some_and(|rest| rest.starts_with(':'))
    };
    let mut lines = source.lines().filter(of_field);
    lines.any(|line| line.contains("# unconfirmed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::catalog;

    const SOURCE: &str = "# Facts from:
# [1] A title https://a.example/
# Ask for x, or
# nothing happens [1].
title: A
description:
  # Say the issuer.
  rotation: Always  # [1]
  errorMap:
    # deeper
    a: Transient
  reuseDetection: RejectOnly   # unconfirmed: so it seems
";

    #[test]
    fn sources_and_advice_are_told_apart() {
        let read = comments(SOURCE);
        assert_eq!(read.sources, ["[1] A title https://a.example/"]);
        assert_eq!(
            read.notes,
            ["Ask for x, or nothing happens [1].", "Say the issuer."]
        );
        assert!(is_unconfirmed(SOURCE, "reuseDetection"));
        assert!(!is_unconfirmed(SOURCE, "rotation") && !is_unconfirmed(SOURCE, "reuse"));
    }

    #[test]
    fn every_entry_names_its_documents_where_they_are_looked_for() {
        for name in catalog::entries().keys() {
            let read = comments(catalog::source(name).unwrap());
            assert!(!read.sources.is_empty(), "{name}");
            for (n, document) in read.sources.iter().enumerate() {
                let number = format!("[{}] ", n + 1);
                assert!(document.starts_with(&number), "{name}: {document}");
                // A page, or a test of ours against the real server.
                let is_place = document.contains(" https://") || document.contains(" tests/");
                assert!(is_place, "{name}: {document}");
            }
        }
    }
}
