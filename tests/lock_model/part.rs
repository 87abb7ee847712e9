//! Parts of a state that are shared with the states that have them in common: a step of the model changes
//! one or two of them, and only these are copied and hashed anew. There are far fewer parts than states, so
//! that equal ones are kept once; it is what lets millions of states wait for their turn in memory.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{Arc, LazyLock, Mutex},
};

/// A hasher that is fast: it multiplies what it has by what comes, twice as wide, and folds the halves.
struct Folding(u64);

impl Folding {
    fn take(&mut self, word: u64) {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        let product = (u128::from(self.0 ^ word) + 0x51_7cc1_b727).wrapping_mul(ODD);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let folded = (product >> 64) as u64 ^ product as u64;
        self.0 = folded.rotate_left(23);
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.take(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.take(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.take(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.take(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.take(n as u64);
    }
}

#[derive(Debug)]
pub struct Part<T> {
    value: Arc<T>,
    /// `None`: changed since it was sealed.
    hash: Option<u64>,
}

impl<T: Clone + Hash + Send + Sync + 'static> Part<T> {
    pub fn new(value: T) -> Self {
        let mut part = Self {
            value: Arc::new(value),
            hash: None,
        };
        part.seal();
        part
    }

    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        self.hash = None;
        change(Arc::make_mut(&mut self.value))
    }

    /// After the last change of a step.
    pub fn seal(&mut self) {
        if self.hash.is_none() {
            let hash = hash(&*self.value);
            self.hash = Some(hash);
            kept_once(hash, &mut self.value);
        }
    }
}

type Kept = HashMap<(TypeId, u64), Arc<dyn Any + Send + Sync>>;

/// Replaces a value by the one that is kept. When there are too many all are let go: that costs memory, and
/// changes nothing.
fn kept_once<T: Send + Sync + 'static>(hash: u64, value: &mut Arc<T>) {
    const SHARDS: usize = 64;
    const MOST: usize = 4096;
    static KEPT: LazyLock<Vec<Mutex<Kept>>> =
        LazyLock::new(|| (0..SHARDS).map(|_| Mutex::default()).collect());
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    let shard = &KEPT[hash as usize % SHARDS];
    let mut shard = shard.lock().expect("no panic while it is locked");
    if shard.len() >= MOST {
        shard.clear();
    }
    let kept = shard
        .entry((TypeId::of::<T>(), hash))
        .or_insert_with(|| Arc::clone(value) as Arc<_>);
    if let Ok(kept) = Arc::clone(kept).downcast() {
        *value = kept;
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = Folding(0x2545_f491_4f6c_dd1d);
    value.hash(&mut hasher);
    hasher.finish()
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            hash: self.hash,
        }
    }
}

impl<T> PartialEq for Part<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Hash for Part<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
