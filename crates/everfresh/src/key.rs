//! How a key is looked up by a borrowed form of it.

use std::borrow::Borrow;
use std::hash::Hash;

/// A borrowed form of a key: finds the entry of `K` without making a `K`.
///
/// Every type that `K` borrows as, and can be made from by [`ToOwned`], is one already: `str` for `String`, `[T]` for `Vec<T>`,
/// `K` for itself. (`str` for `Arc<str>` is not: look such keys up by the key itself.) Implement it
/// for a struct of borrowed parts when the key is a tuple or struct of owned ones; then a hit allocates nothing.
///
/// `hash` must feed the hasher exactly as `K` does, and `is` must hold exactly for the keys that are equal: the same law
/// that [`Borrow`] states.
pub trait AsKey<K>: Hash {
    /// Whether this is that key.
    fn is(&self, key: &K) -> bool;

    /// Makes the owned key; called only when a value is loaded or stored.
    fn to_key(&self) -> K;
}

impl<K, Q> AsKey<K> for Q
where
    K: Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    fn is(&self, key: &K) -> bool {
        self == key.borrow()
    }

    fn to_key(&self) -> K {
        self.to_owned()
    }
}
