//! A bounded memory: what was used last stays.

/// Values by key, at most `capacity` of them.
pub struct Recent<K, V> {
    capacity: usize,
    /// The last used one is the last.
    entries: Vec<(K, V)>,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Empty.
    pub const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Vec::new(),
        }
    }

    /// The value of `key`, which is used now.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let at = self.entries.iter().position(|(known, _)| known == key)?;
        self.entries[at..].rotate_left(1);
        self.entries.last().map(|(_, value)| value.clone())
    }

    /// The value of `key`: the one that is there already, else `made`. The one that was used longest ago
    /// goes, where there are too many.
    pub fn get_or_keep(&mut self, key: K, made: V) -> V {
        if let Some(known) = self.get(&key) {
            return known;
        }
        if self.entries.len() >= self.capacity {
            self.entries.remove(0);
        }
        self.entries.push((key, made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut recent = Recent::new(3);
        for key in [1, 2, 3] {
            recent.get_or_keep(key, key * 10);
        }
        assert_eq!(recent.get(&1), Some(10));
        recent.get_or_keep(4, 40);
        assert_eq!(recent.get(&2), None);
        for key in [1, 3, 4] {
            assert_eq!(recent.get(&key), Some(key * 10));
        }
    }

    #[test]
    fn the_first_value_of_a_key_stays() {
        let mut recent = Recent::new(3);
        assert_eq!(recent.get_or_keep("a", 1), 1);
        assert_eq!(recent.get_or_keep("a", 2), 1);
        assert_eq!(recent.entries.len(), 1);
    }
}
