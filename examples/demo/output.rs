//! What people see: calm on a terminal, plain elsewhere.

use std::{
    env,
    io::{IsTerminal, Write},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

/// Standard output.
pub struct Output {
    colour: bool,
    steps: AtomicUsize,
}

impl Output {
    pub fn new() -> Self {
        Self {
            colour: std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none(),
            steps: AtomicUsize::new(0),
        }
    }

    /// A line. Nobody may be reading any more; the exit code still tells.
    #[expect(
        clippy::unused_self,
        reason = "all that people see goes through an Output"
    )]
    pub fn say(&self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// The next step.
    pub fn step(&self, what: &str) {
        let number = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        let number = self.paint("1", &format!("{number:>3}."));
        self.say(&format!("{number}  {what}"));
    }

    /// Something that happened to a credential.
    pub fn happened(&self, start: Instant, name: &str, what: &str) {
        let time = self.paint("2", &format!("{:>6.1} s", start.elapsed().as_secs_f64()));
        self.say(&format!("{time}  {name:8} {what}"));
    }

    pub fn good(&self, what: &str) {
        self.say(&self.paint("32", &format!("✓ {what}")));
    }

    pub fn failed(&self, what: &str) {
        let _ = writeln!(
            std::io::stderr(),
            "{}",
            self.paint("31", &format!("✗ {what}"))
        );
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The output of a command, set apart.
pub fn table(text: &str) -> String {
    let mut lines = vec![String::new()];
    lines.extend(text.lines().map(|line| format!("      {line}")));
    lines.push(String::new());
    lines.join("\n")
}
