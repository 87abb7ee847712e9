//! Runs the checker.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model, Property, UniformChooser};

use crate::{config::Config, model::Lock};

/// How far a run looks.
#[derive(Clone, Copy, Debug)]
pub enum Depth {
    /// Every state that can be reached.
    All,
    /// Every state that can be reached in so many steps, or fewer.
    Steps(usize),
}

/// Explores every state within `depth`. Nothing may be broken, and everything that is to be reached is.
pub fn holds(config: Config, depth: Depth) {
    let name = config.name;
    let has_readers = !config.readers.is_empty();
    let start = Instant::now();
    let mut checker = Lock { config }.checker().threads(2);
    if let Depth::Steps(steps) = depth {
        // The first state is at depth one, and what is at the deepest is not looked at. One thread: with two a
        // state may be come upon by a longer way first, and its successors be cut off too soon.
        checker = checker.threads(1).target_max_depth(steps + 2);
    }
    let checker = checker
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64()
    );
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        let Property { name, .. } = property;
        let is_invariant = name.len() == 2;
        match (discoveries.get(name), is_invariant) {
            (Some(path), true) => {
                let actions = path.clone().into_actions();
                for action in &actions {
                    eprintln!("  {action:?}");
                }
                panic!("{name} is broken, after {} steps", actions.len());
            }
            (None, false) if matches!(depth, Depth::All) && has_readers => {
                panic!("never reached: {name}")
            }
            _ => {}
        }
    }
}

/// Walks at random through orders of events, each to its end, for this long. Nothing may be broken.
pub fn walks(config: Config, time: Duration) {
    const SEED: u64 = 20_261_124;
    let name = config.name;
    let checker = Lock { config }
        .checker()
        .threads(2)
        .timeout(time)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_simulation(SEED, UniformChooser)
        .join();
    eprintln!(
        "{name}: {} steps of random walks, the longest of {}",
        checker.state_count(),
        checker.max_depth()
    );
    for (name, path) in checker.discoveries() {
        if name.len() == 2 {
            let actions = path.into_actions();
            for action in &actions {
                eprintln!("  {action:?}");
            }
            panic!("{name} is broken, after {} steps", actions.len());
        }
    }
}

/// Explores until something is broken: it must be `invariant`.
pub fn breaks(config: Config, invariant: &'static str) {
    const MOST: usize = 6_000_000;
    let name = format!("{:?}", config.mutant.expect("a mutant"));
    let start = Instant::now();
    let checker = Lock { config }
        .checker()
        .threads(2)
        .target_state_count(MOST)
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([invariant])))
        .spawn_bfs()
        .join();
    let discoveries = checker.discoveries();
    let mut broken: Vec<_> = discoveries.keys().filter(|name| name.len() == 2).collect();
    broken.sort();
    eprintln!(
        "without {name}: {broken:?} after {} states, {:.1} s",
        checker.unique_state_count(),
        start.elapsed().as_secs_f64()
    );
    assert!(
        discoveries.contains_key(invariant),
        "{name} does not break {invariant}, but {broken:?}"
    );
}
