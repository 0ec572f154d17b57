//! Arguments as parts of a key: borrowed for the lookup, owned only when a value is loaded.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use crate::key::AsKey;

/// What an argument of a cached function must be able to do to be part of its key.
///
/// Implemented for everything that is `Hash + Eq` and can be owned: `str`, `[T]`, `Path`, and all `Clone` types without
/// borrows; the owned form is what the cache keeps.
#[diagnostic::on_unimplemented(
    message = "an argument of type `{Self}` cannot be part of the key of a cached function",
    label = "not `Hash + Eq`, or it cannot be owned (`Clone + Send + Sync + 'static`)",
    note = "derive `Hash`, `PartialEq`, `Eq` and `Clone` for it, leave it out with `skip(argument)`, or make the key \
            yourself with `key: Type = expression` (for a float: `key: u64 = x.to_bits()`)"
)]
pub trait KeyArgument: Hash + Eq + ToOwned<Owned: Hash + Eq + Clone + Send + Sync + 'static> {}

#[diagnostic::do_not_recommend]
impl<T> KeyArgument for T where T: Hash + Eq + ToOwned<Owned: Hash + Eq + Clone + Send + Sync + 'static> + ?Sized {}

/// Borrowed arguments, to find the tuple of their owned forms.
#[derive(Clone, Copy, Debug)]
pub struct Parts<T>(pub T);

macro_rules! parts {
    ($($part:ident $owned:ident $at:tt)+) => {
        impl<$($part: Hash + ?Sized),+> Hash for Parts<($(&$part,)+)> {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                $(self.0.$at.hash(state);)+
            }
        }

        impl<$($part, $owned),+> AsKey<($($owned,)+)> for Parts<($(&$part,)+)>
        where
            $($part: Hash + Eq + ToOwned<Owned = $owned> + ?Sized, $owned: Borrow<$part>,)+
        {
            #[inline]
            fn is(&self, key: &($($owned,)+)) -> bool {
                $(self.0.$at == key.$at.borrow())&&+
            }

            fn to_key(&self) -> ($($owned,)+) {
                ($(self.0.$at.to_owned(),)+)
            }
        }
    };
}

parts!(A KA 0 B KB 1);
parts!(A KA 0 B KB 1 C KC 2);
parts!(A KA 0 B KB 1 C KC 2 D KD 3);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6 I KI 7);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6 I KI 7 J KJ 8);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6 I KI 7 J KJ 8 L KL 9);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6 I KI 7 J KJ 8 L KL 9 M KM 10);
parts!(A KA 0 B KB 1 C KC 2 D KD 3 E KE 4 F KF 5 G KG 6 I KI 7 J KJ 8 L KL 9 M KM 10 N KN 11);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_parts_hash_and_compare_as_their_owned_key() {
        let hasher = ahash::RandomState::new();
        let key = ("AAPL".to_owned(), vec![1_u8, 2], 3_u32);
        let parts = Parts(("AAPL", &[1_u8, 2][..], &3_u32));
        assert_eq!(hasher.hash_one(&key), hasher.hash_one(parts));
        assert!(parts.is(&key));
        assert_eq!(parts.to_key(), key);
        assert!(!Parts(("AAPL", &[1_u8][..], &3_u32)).is(&key));
    }
}
