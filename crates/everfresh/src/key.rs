//! How a key is looked up by a borrowed form of it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A borrowed form of a key: finds the entry of `K` without making a `K`.
///
/// Every key is one of itself. So are `str` for `String`, `Arc<str>`, `Box<str>` and `Cow<str>`, `[T]` for `Vec<T>`, `Arc<[T]>` and
/// `Box<[T]>`, `Path` for `PathBuf`, `Arc<Path>` and `Box<Path>`, and `OsStr` for `OsString`. Implement it for a struct of
/// borrowed parts when the key is a tuple or struct of owned ones, and for a borrowed form of your own; then a hit allocates
/// nothing.
///
/// `hash` must feed the hasher exactly as `K` does, and `is` must hold exactly for the keys that are equal: the same law
/// that [`Borrow`](std::borrow::Borrow) states.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no form of the key `{K}` of this cache",
    label = "not a form of the key `{K}`",
    note = "a key is looked up by a reference to itself, a `String` also by `&str`, a `Vec<T>` by `&[T]`; for borrowed parts of \
            another type implement `AsKey<{K}>`"
)]
pub trait AsKey<K>: Hash {
    /// Whether this is that key.
    fn is(&self, key: &K) -> bool;

    /// Makes the owned key; called only when a value is loaded or stored.
    fn to_key(&self) -> K;
}

// Not for whatever `K` borrows as: then the compiler could not tell `str` for `String` from `str` for `Arc<str>`.
impl<K: Hash + Eq + Clone> AsKey<K> for K {
    fn is(&self, key: &K) -> bool {
        self == key
    }

    fn to_key(&self) -> K {
        self.clone()
    }
}

/// The owned forms of a borrowed one, which hash as it does.
macro_rules! borrowed_form {
    ($borrowed:ty: $($owned:ty),+) => {$(
        impl AsKey<$owned> for $borrowed {
            fn is(&self, key: &$owned) -> bool {
                let borrowed: &$borrowed = key;
                self == borrowed
            }

            fn to_key(&self) -> $owned {
                self.into()
            }
        }
    )+};
}

borrowed_form!(str: String, Arc<str>, Box<str>);
borrowed_form!(Path: PathBuf, Arc<Path>, Box<Path>);
borrowed_form!(OsStr: OsString);

impl<'a> AsKey<Cow<'a, str>> for str {
    fn is(&self, key: &Cow<'a, str>) -> bool {
        self == key
    }

    fn to_key(&self) -> Cow<'a, str> {
        Cow::Owned(self.to_owned())
    }
}

/// As [`borrowed_form`], for slices.
macro_rules! slice_of {
    ($($owned:ty),+) => {$(
        impl<T: Hash + Eq + Clone> AsKey<$owned> for [T] {
            fn is(&self, key: &$owned) -> bool {
                *self == **key
            }

            fn to_key(&self) -> $owned {
                self.into()
            }
        }
    )+};
}

slice_of!(Vec<T>, Arc<[T]>, Box<[T]>);
