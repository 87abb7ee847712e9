//! What people see: calm on a terminal, plain elsewhere.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

/// How many steps there are before anything happens by itself.
const STEPS: usize = 5;

/// Where texts begin that belong to a step.
const INDENT: &str = "     ";

/// How a text looks on a terminal: the parameters of an escape sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Look {
    const fn code(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
        }
    }
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    colours: bool,
}

impl Output {
    /// With colours where there is somebody to see them who does not mind (<https://no-color.org>).
    pub(crate) fn new() -> Self {
        let is = |name: &str, refused: fn(&str) -> bool| {
            env::var(name).is_ok_and(|value| refused(&value))
        };
        let unwanted =
            is("NO_COLOR", |value| !value.is_empty()) || is("TERM", |value| value == "dumb");
        Self {
            colours: io::stdout().is_terminal() && !unwanted,
        }
    }

    /// A line. Nobody may be reading any more; the exit code still tells.
    #[expect(
        clippy::unused_self,
        reason = "whatever people see goes through an Output"
    )]
    pub(crate) fn say(self, line: &str) {
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// What this is.
    pub(crate) fn title(self, text: &str) {
        self.say(&format!("{}\n", self.paint(Look::Strong, text)));
    }

    /// The next step.
    pub(crate) fn step(self, number: usize, what: &str) {
        let number = self.paint(Look::Strong, &format!("{number}/{STEPS}"));
        self.say(&format!("{number}  {what}"));
    }

    /// Something that belongs to the step.
    pub(crate) fn detail(self, text: &str) {
        for line in text.trim_end().lines() {
            self.say(format!("{INDENT}{line}").trim_end());
        }
    }

    /// A command, and what it printed.
    pub(crate) fn command(self, command: &str, printed: &str) {
        self.detail(&self.paint(Look::Faint, &format!("$ {command}")));
        self.detail(printed);
    }

    /// Something that happened so many seconds after the start to something with this name.
    pub(crate) fn happened(self, seconds: f64, name: &str, look: Option<Look>, what: &str) {
        let time = self.paint(Look::Faint, &format!("{seconds:>6.1}s"));
        let what = look.map_or_else(|| what.to_owned(), |look| self.paint(look, what));
        self.say(&format!("{time}  {name:<8} {what}"));
    }

    /// What went wrong.
    #[expect(
        clippy::unused_self,
        reason = "whatever people see goes through an Output"
    )]
    pub(crate) fn error(self, text: &str) {
        let _ = writeln!(io::stderr(), "error: {text}");
    }

    /// A part of a line.
    pub(crate) fn paint(self, look: Look, text: &str) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", look.code())
        } else {
            text.to_owned()
        }
    }
}
