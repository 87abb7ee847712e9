//! Which names somebody may have meant.

/// How many are told.
const AT_MOST: usize = 3;

/// "; did you mean a, b or c?" without the question mark: it goes into a sentence. Empty where none is close.
pub(super) fn sentence<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    match closest(wanted, names).as_slice() {
        [] => String::new(),
        [one] => format!("; did you mean {one}"),
        [several @ .., last] => format!("; did you mean {} or {last}", several.join(", ")),
    }
}

/// The closest names, the best first: those that contain the word or are a part of it, and those that are a few
/// letters away, or a part of which is.
fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted
        .to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let few = wanted.len() / 3;
    let mut close: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let contains = wanted.len() >= 2 && name.contains(&wanted)
                || wanted.split('-').any(|part| part == name);
            let parts = name.split('-').map(|part| distance(&wanted, part));
            // Behind those that are as close as a whole.
            let part = parts.min().filter(|letters| *letters <= few).map(|n| n + 1);
            let whole = Some(distance(&wanted, name)).filter(|letters| *letters <= few);
            let best = contains.then_some(1).into_iter().chain(whole).chain(part);
            Some((best.min()?, name))
        })
        .collect();
    close.sort_unstable();
    close.truncate(AT_MOST);
    close.into_iter().map(|(_, name)| name).collect()
}

/// How many letters must be added, removed, replaced, or exchanged with the one beside them.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut letters = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                letters = letters.min(before[j - 2] + 1);
            }
            row.push(letters);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::catalog;

    fn told(wanted: &str) -> String {
        sentence(wanted, catalog::entries().keys().copied())
    }

    #[test]
    fn what_was_meant_is_named() {
        for (wanted, meant) in [
            ("gitlub", "gitlab"),
            ("Google", "google"),
            ("entra", "microsoft-entra"),
            ("entar", "microsoft-entra"),
            (
                "github",
                "github-app-installation, github-app-user or github-oauth",
            ),
            ("keyclaok", "keycloak"),
            ("okta.com", "okta"),
            ("quickbooks", "intuit-quickbooks"),
        ] {
            let told = told(wanted);
            assert!(told.contains(meant), "{wanted}: {told}");
        }
    }

    #[test]
    fn nothing_is_guessed_where_nothing_is_close() {
        for wanted in ["", "example-company", "qqqqqq"] {
            assert_eq!(told(wanted), "", "{wanted}");
        }
    }

    #[test]
    fn letters_are_counted() {
        for (a, b, letters) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
            assert_eq!(distance(b, a), letters, "{b} {a}");
        }
    }
}
