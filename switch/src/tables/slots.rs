//! Objects by their identifiers.

use core::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Objects by identifier; none where one is not in use.
///
/// Snapshots share them as a whole: a snapshot in which only a route differs is made without touching a
/// counter of references in each object, which workers would find taken out of their caches.
#[derive(Clone, Debug)]
pub struct Slots<T>(Arc<[Option<Arc<T>>]>);

impl<T> Slots<T> {
    /// Whether the two are one and the same, and so hold the same objects as long as both are there.
    #[inline(always)]
    pub fn is(&self, other: &Slots<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Adds one under the next identifier. Copies what there is.
    pub fn push(&mut self, item: Option<Arc<T>>) {
        self.0 = self.0.iter().cloned().chain([item]).collect();
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots(Arc::new([]))
    }
}

impl<T> FromIterator<Option<Arc<T>>> for Slots<T> {
    fn from_iter<I: IntoIterator<Item = Option<Arc<T>>>>(items: I) -> Slots<T> {
        Slots(items.into_iter().collect())
    }
}

impl<T> Deref for Slots<T> {
    type Target = [Option<Arc<T>>];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What other snapshots share is copied first.
impl<T> DerefMut for Slots<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}
