//! The table, and the same as JSON.

use std::{
    fmt::Write as _,
    io::{Write as _, stdout},
    path::Path,
};

use serde_json::{Value, json};

use crate::quantity::Quantity;

/// What is to be reached.
#[derive(Clone, Copy)]
pub enum Target {
    /// By the figure itself, at most.
    Ours(f64),
    /// By its ratio to the reference, at most.
    Ratio(f64),
    /// By the figure itself, at least.
    AtLeast(f64),
}

/// One line of the table.
pub struct Line {
    pub measure: String,
    pub ours: Quantity,
    pub reference: Option<(&'static str, Quantity)>,
    pub target: Option<Target>,
}

impl Line {
    pub fn new(measure: impl Into<String>, ours: impl Into<Quantity>) -> Self {
        Self {
            measure: measure.into(),
            ours: ours.into(),
            reference: None,
            target: None,
        }
    }

    /// Beside this, from the same run.
    pub fn beside(self, what: &'static str, reference: impl Into<Quantity>) -> Self {
        Self {
            reference: Some((what, reference.into())),
            ..self
        }
    }

    pub fn target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }

    fn ratio(&self) -> Option<f64> {
        let (_, reference) = self.reference.as_ref()?;
        let is_known = reference.unit == self.ours.unit && reference.value > 0.0;
        is_known.then(|| self.ours.value / reference.value)
    }

    fn is_reached(&self) -> Option<bool> {
        match self.target? {
            Target::Ours(at_most) => Some(self.ours.value <= at_most),
            Target::Ratio(at_most) => Some(self.ratio()? <= at_most),
            Target::AtLeast(least) => Some(self.ours.value >= least),
        }
    }

    fn columns(&self) -> [String; 6] {
        let reference = self.reference.as_ref();
        let ratio = self.ratio();
        let target = self.target.map(|target| match target {
            Target::Ours(at_most) => format!("≤ {at_most} {}", self.ours.unit.name()),
            Target::Ratio(at_most) => format!("≤ {at_most} x"),
            Target::AtLeast(least) => format!("≥ {least} {}", self.ours.unit.name()),
        });
        let verdict = self.is_reached().map(|ok| if ok { "ok" } else { "missed" });
        [
            self.measure.clone(),
            self.ours.to_string(),
            reference.map_or_else(String::new, |(what, value)| format!("{value} ({what})")),
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x")),
            target.unwrap_or_default(),
            verdict.unwrap_or_default().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let quantity = |q: &Quantity| json!({"value": q.value, "unit": q.unit.name()});
        let reference = self.reference.as_ref();
        json!({
            "measure": self.measure,
            "ours": quantity(&self.ours),
            "reference": reference.map(|(_, value)| quantity(value)),
            "referenceIs": reference.map(|(what, _)| what),
            "ratio": self.ratio(),
            "ok": self.is_reached(),
        })
    }
}

/// All lines, and what the machine was like.
pub struct Report {
    load: String,
    lines: Vec<Line>,
}

const HEAD: [&str; 6] = [
    "measure",
    "ours",
    "reference of this run",
    "ratio",
    "target",
    "",
];

/// The processes that wanted a core in the last minute.
fn load() -> String {
    let all = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = all.split(' ').next().unwrap_or_default();
    minute.to_owned()
}

impl Report {
    pub fn start() -> Self {
        Self {
            load: load(),
            lines: Vec::new(),
        }
    }

    pub fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    /// Writes the table to standard output.
    pub fn print(&self) {
        let head = HEAD.map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head)
            .chain(self.lines.iter().map(Line::columns))
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or_default());
        let mut table = String::new();
        for row in &rows {
            let mut line = String::new();
            for (text, width) in row.iter().zip(widths) {
                let _ = write!(line, "{text:width$}  ");
            }
            let _ = writeln!(table, "{}", line.trim_end());
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (before, after) = (&self.load, load());
        let _ = writeln!(
            stdout(),
            "{table}{cores} cores; load before {before}, after {after}"
        );
    }

    /// Writes the same to a file.
    pub fn write(&self, file: &Path) {
        let lines: Vec<_> = self.lines.iter().map(Line::json).collect();
        let report = json!({"loadBefore": self.load, "loadAfter": load(), "lines": lines});
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{report:#}\n")).unwrap();
    }
}
