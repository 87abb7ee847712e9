//! Names whose addresses a test chooses.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Gives each look-up its own answer, and the last one from then on.
pub struct Names {
    answers: Vec<Vec<IpAddr>>,
    lookups: AtomicUsize,
}

impl Names {
    /// The answers, each with its addresses.
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |answer: &&[&str]| answer.iter().map(|a| a.parse().unwrap()).collect();
        Arc::new(Self {
            answers: answers.iter().map(addresses).collect(),
            lookups: AtomicUsize::new(0),
        })
    }

    /// Everything is at the loopback address, where the servers of the tests are.
    pub fn here() -> Arc<Self> {
        Self::new(&[&["127.0.0.1"]])
    }

    /// How many there were.
    pub fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let turn = self.lookups.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[turn.min(self.answers.len() - 1)].clone();
        let found: Addrs = Box::new(answer.into_iter().map(|ip| SocketAddr::new(ip, 0)));
        Box::pin(std::future::ready(Ok(found)))
    }
}
