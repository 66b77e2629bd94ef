//! Identifiers of named objects, stable for as long as the object exists.

use std::collections::BTreeMap;

/// Gives names the smallest free identifiers.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    by_name: BTreeMap<String, u16>,
}

impl Ids {
    /// The identifier of `name`, a new one if it has none; none when all are taken.
    pub fn get_or_allocate(&mut self, name: &str) -> Option<u16> {
        if let Some(id) = self.get(name) {
            return Some(id);
        }
        let mut taken: Vec<u16> = self.by_name.values().copied().collect();
        taken.sort_unstable();
        let free = (0..u16::MAX).zip(taken.iter().map(Some).chain(std::iter::repeat(None)));
        let id = free.into_iter().find(|&(n, used)| used != Some(&n)).map(|(n, _)| n)?;
        self.by_name.insert(name.to_owned(), id);
        Some(id)
    }

    /// The identifier of `name`.
    pub fn get(&self, name: &str) -> Option<u16> {
        self.by_name.get(name).copied()
    }

    /// The name of an identifier.
    pub fn name(&self, id: u16) -> Option<&str> {
        self.by_name.iter().find(|&(_, &i)| i == id).map(|(name, _)| name.as_str())
    }

    /// Forgets a name; its identifier may be given to another.
    pub fn release(&mut self, name: &str) -> Option<u16> {
        self.by_name.remove(name)
    }

    /// Forgets every name that `keep` does not want; the identifiers that became free.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Vec<u16> {
        let gone: Vec<String> = self.by_name.keys().filter(|n| !keep(n)).cloned().collect();
        gone.iter().filter_map(|name| self.release(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_stable_and_reused() {
        let mut ids = Ids::default();
        assert_eq!(ids.get_or_allocate("a"), Some(0));
        assert_eq!(ids.get_or_allocate("b"), Some(1));
        assert_eq!(ids.get_or_allocate("c"), Some(2));
        assert_eq!(ids.get_or_allocate("b"), Some(1));
        ids.release("b");
        assert_eq!(ids.get("b"), None);
        assert_eq!(ids.get_or_allocate("d"), Some(1), "the smallest free one");
        assert_eq!(ids.name(1), Some("d"));
        assert_eq!(ids.retain(|n| n == "d"), vec![0, 2]);
    }
}
