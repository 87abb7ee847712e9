//! What an operator uses.

use std::time::{Duration, Instant};

use crate::{
    process,
    quantity::{Quantity, Unit},
    support::{Operator, cluster},
};

/// The memory that it keeps.
pub fn memory(operator: &Operator) -> Quantity {
    Quantity::new(process::memory(operator.id()), Unit::Mebibytes)
}

/// The most that it has kept so far.
pub fn peak(operator: &Operator) -> Quantity {
    Quantity::new(process::peak(operator.id()), Unit::Mebibytes)
}

/// The work of processors from one moment on, of the operator and of what it works with.
pub struct Work {
    since: Instant,
    operator: u32,
    before: [Duration; 3],
}

impl Work {
    pub fn of(operator: &Operator) -> Self {
        let operator = operator.id();
        Self {
            since: Instant::now(),
            operator,
            before: Self::read(operator),
        }
    }

    fn read(operator: u32) -> [Duration; 3] {
        let folder = cluster().audit_log.as_deref().and_then(|log| log.parent());
        let of = |name: &str| {
            let process = folder.and_then(|f| std::fs::read_to_string(f.join(name)).ok());
            process.map_or(Duration::ZERO, |id| {
                process::cpu(id.trim().parse().unwrap())
            })
        };
        [
            process::cpu(operator),
            of("kube-apiserver.pid"),
            of("etcd.pid"),
        ]
    }

    /// The time that passed.
    pub fn time(&self) -> Duration {
        self.since.elapsed()
    }

    /// What operator, API server and etcd have used since.
    pub fn used(&self) -> [Duration; 3] {
        let now = Self::read(self.operator);
        std::array::from_fn(|i| now[i].saturating_sub(self.before[i]))
    }
}

pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}
