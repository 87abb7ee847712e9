//! How far it is, on standard error: a line for each credential, and below them on a terminal a counter.

use std::io::{IsTerminal, Stderr, Write};

/// Errors of standard error are nobody's concern: there is nowhere to tell them.
pub(super) struct Progress {
    out: Stderr,
    total: usize,
    well: usize,
    ill: usize,
    counts: bool,
}

impl Progress {
    /// Nothing of `total` is done.
    pub(super) fn start(total: usize) -> Self {
        let out = std::io::stderr();
        let progress = Self {
            counts: total > 1 && out.is_terminal(),
            out,
            total,
            well: 0,
            ill: 0,
        };
        progress.count();
        progress
    }

    /// One is done.
    pub(super) fn well(&mut self, line: &str) {
        self.well += 1;
        self.line(line);
    }

    /// One failed.
    pub(super) fn ill(&mut self, line: &str) {
        self.ill += 1;
        self.line(&line.replace('\n', " "));
    }

    fn line(&self, line: &str) {
        self.clear();
        let _ = writeln!(&self.out, "{line}");
        self.count();
    }

    fn count(&self) {
        if self.counts {
            let done = self.well + self.ill;
            let _ = write!(&self.out, "{done} of {} …", self.total);
            let _ = (&self.out).flush();
        }
    }

    fn clear(&self) {
        if self.counts {
            // To the line's start, and clear it.
            let _ = write!(&self.out, "\r\x1b[K");
        }
    }

    /// All are done: how many, where that is not obvious.
    pub(super) fn end(self, done: &str) {
        self.clear();
        if self.total > 1 {
            let failed = match self.ill {
                0 => String::new(),
                ill => format!(", {ill} failed"),
            };
            let _ = writeln!(&self.out, "{} {done}{failed}", self.well);
        }
    }
}
