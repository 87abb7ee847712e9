//! Whether `docs/troubleshooting.md` has every reason that people may see: of conditions, of events, in the log. Read from
//! the source, so that none is forgotten.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its name says what it is about"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const DOCUMENT: &str = include_str!("../docs/troubleshooting.md");

/// What stands before a reason that is given to people.
const BEFORE: [&str; 2] = ["reason: \"", "reason = \""];

/// Where conditions and events are made: there every word of this form is a reason.
const MADE_HERE: [&str; 7] = [
    "src/failure.rs",
    "src/status",
    "src/pass",
    "src/refresh",
    "src/finalizer",
    "src/oauth/revocation.rs",
    "src/provider/controller",
];

/// Words of this form that are something else.
const OTHERS: [&str; 6] = [
    "IntegrationCredential",
    "OAuthProvider",
    "ClusterOAuthProvider",
    "RefreshToken",
    "OnDelete",
    "DPoP",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && name != "tests.rs"
            && name != "machine.rs"
        {
            found.push(path);
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphabetic())
}

/// Of several words written as one.
fn is_compound(text: &str) -> bool {
    let humps = text.chars().filter(char::is_ascii_uppercase).count();
    is_word(text) && humps > 1 && text.contains(|c: char| c.is_ascii_lowercase())
}

fn reasons() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(&root.join("src"), &mut all);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for before in BEFORE {
            let after = code.split(before).skip(1);
            let words = after.filter_map(|rest| rest.split_once('"').map(|(word, _)| word));
            found.extend(words.filter(|word| is_word(word)).map(str::to_owned));
        }
        let place = path.strip_prefix(root).unwrap().to_string_lossy();
        if MADE_HERE.iter().any(|made| place.starts_with(made)) {
            let literals = code.split('"').skip(1).step_by(2);
            found.extend(literals.filter(|l| is_compound(l)).map(str::to_owned));
        }
    }
    found.retain(|word| !OTHERS.contains(&word.as_str()));
    found
}

/// The words of the first cells of its tables.
fn documented() -> BTreeSet<String> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split_once(" |").map(|(cell, _)| cell));
    let words = cells.flat_map(|cell| cell.split(", ")).map(str::trim);
    words
        .filter(|word| is_word(word))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_reason_has_an_entry() {
    let reasons = reasons();
    for one_of_each in [
        "ForcedRefresh",
        "TemplateInvalid",
        "RevocationFailed",
        "LabelsLeftOut",
    ] {
        assert!(
            reasons.contains(one_of_each),
            "{one_of_each} in {reasons:?}"
        );
    }
    let missing: Vec<_> = reasons
        .iter()
        .filter(|reason| {
            !documented().contains(*reason) && !DOCUMENT.contains(&format!("reason {reason}"))
        })
        .filter(|reason| !states().contains(&reason.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md lacks {missing:?}"
    );
}

/// The reasons of conditions that are told of in their rows.
fn states() -> Vec<&'static str> {
    let rows = DOCUMENT
        .lines()
        .filter(|line| line.contains("| always |") || line.contains("| while true |"));
    rows.flat_map(|row| row.split(|c: char| !c.is_ascii_alphabetic()))
        .filter(|word| is_word(word))
        .collect()
}

/// What nobody is told any more is not explained any more.
#[test]
fn every_entry_is_a_reason() {
    let all = {
        let mut files_found = Vec::new();
        files(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut files_found,
        );
        let texts = files_found
            .iter()
            .map(|path| fs::read_to_string(path).unwrap());
        texts.collect::<String>()
    };
    let stale: Vec<_> = documented()
        .into_iter()
        .filter(|word| !all.contains(&format!("\"{word}\"")))
        .collect();
    assert!(stale.is_empty(), "nobody is told {stale:?}");
}
