//! Columns, as kubectl aligns them.

/// The rows as lines, each column as wide as its widest cell and three spaces apart.
pub(in crate::cli) fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate();
        let cells: Vec<_> = cells
            .map(|(n, cell)| format!("{cell:<0$}", width(n)))
            .collect();
        cells.join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A text in lines of at most `width` characters; longer words have a line of their own.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let rows = [["NAME", "TITLE"], ["a", ""], ["long-name", "Ünï"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            aligned(&rows),
            ["NAME        TITLE", "a", "long-name   Ünï"]
        );
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(
            wrapped("a bb  ccc dddd\neeeeeeee f", 5),
            ["a bb", "ccc", "dddd", "eeeeeeee", "f"]
        );
        assert!(wrapped("", 5).is_empty());
    }
}
