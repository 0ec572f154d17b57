//! V: what a caller gets is its own, or shared on purpose; keys are compared in full. And user code in odd places (M5).

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use everfresh::{AsKey, Cache, Eviction, Outcome};

use crate::kit::within_a_minute;

#[test]
fn v1_each_caller_owns_what_it_gets() {
    let cache: Cache<u32, Vec<u8>> = Cache::builder().capacity(10).build().unwrap();
    let mut loaded = cache.get_or_load(&1, || vec![1, 2]).unwrap();
    loaded.push(3);
    let mut hit = cache.get(&1).unwrap();
    assert_eq!(hit, [1, 2], "what the first caller did to its own is its own affair");
    hit.clear();
    let mut answered = cache.lookup(&1).load(|| vec![9]).unwrap();
    assert_eq!(answered.value, [1, 2]);
    answered.value[0] = 7;
    let mut peeked = cache.peek(&1).unwrap();
    peeked.push(4);
    cache.entries()[0].1.push(5);
    cache.remove(&1).unwrap().push(6);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn v1_a_resource_is_one_shared_object() {
    struct Connection;
    let cache: Cache<u32, Arc<Connection>> = Cache::builder().capacity(10).build().unwrap();
    let first = cache.get_or_load(&1, || Arc::new(Connection)).unwrap();
    let same =
        [cache.get(&1).unwrap(), cache.peek(&1).unwrap(), cache.get_or_load(&1, || Arc::new(Connection)).unwrap()];
    assert!(same.iter().all(|other| Arc::ptr_eq(other, &first)));
    assert!(Arc::ptr_eq(&cache.remove(&1).unwrap(), &first));
}

#[test]
fn v1_a_value_that_left_is_dropped_once_and_at_once_if_wished() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let dropped = || drops.load(Ordering::SeqCst);
    let cache: Cache<u32, Arc<Counted>> =
        Cache::builder().capacity(2).eviction(Eviction::Lru).prompt_drop(true).build().unwrap();
    let value = || Arc::new(Counted(Arc::clone(&drops)));
    cache.insert(1, value());
    cache.insert(1, value());
    assert_eq!(dropped(), 1, "replaced");
    cache.invalidate(&1);
    assert_eq!(dropped(), 2, "invalidated");
    (2..5).for_each(|key| cache.insert(key, value()));
    assert_eq!(dropped(), 3, "evicted");
    let held = cache.get(&4).unwrap();
    drop(cache.remove(&4));
    assert_eq!(dropped(), 3, "somebody holds it");
    drop(held);
    assert_eq!(dropped(), 4);
    drop(cache);
    assert_eq!(dropped(), 5, "the last went with the cache");
}

/// Gives all keys the same hash.
#[derive(Clone, Default)]
struct Constant(u64);

impl BuildHasher for Constant {
    type Hasher = ConstantHasher;
    fn build_hasher(&self) -> ConstantHasher {
        ConstantHasher(self.0)
    }
}

struct ConstantHasher(u64);

impl Hasher for ConstantHasher {
    fn write(&mut self, _: &[u8]) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn v3_keys_are_compared_in_full_and_never_by_their_hash() {
    for hash in [0, 1, u64::MAX, 0x8000_0000_0000_0000] {
        for eviction in [Eviction::S3Fifo, Eviction::Lru] {
            for capacity in [2_usize, 64, 2_000] {
                let case = format!("hash {hash:x}, {eviction:?}, capacity {capacity}");
                let cache: Cache<u32, u32, Constant> =
                    Cache::builder().capacity(capacity).eviction(eviction).hasher(Constant(hash)).build().unwrap();
                for key in 0..200 {
                    cache.insert(key, key * 10);
                    assert_eq!(cache.get(&key), Some(key * 10), "{case}: just put");
                    assert!(cache.len() <= capacity, "{case}");
                }
                for key in 0..200 {
                    assert!(cache.get(&key).is_none_or(|value| value == key * 10), "{case}: another key's value");
                    assert_eq!(cache.get_or_load(&key, move || key * 10).unwrap(), key * 10, "{case}");
                }
                if capacity <= 1024 {
                    assert_eq!(cache.len(), capacity.min(200), "{case}: a small cache is exact");
                }
                cache.invalidate(&199);
                assert_eq!(cache.get(&199), None, "{case}");
                assert!(cache.peek(&198).is_none_or(|value| value == 1980), "{case}: its neighbour is untouched");
            }
        }
    }
}

#[test]
fn v3_an_unbounded_cache_keeps_all_even_if_their_hashes_are_one() {
    let cache: Cache<u32, u32, Constant> = Cache::builder().unbounded().hasher(Constant(7)).build().unwrap();
    (0..500).for_each(|key| cache.insert(key, key));
    assert_eq!((0..500).filter(|key| cache.get(key) == Some(*key)).count(), 500);
}

#[test]
fn v3_equal_is_what_the_key_says_is_equal() {
    #[derive(Clone)]
    struct Caseless(String);
    impl PartialEq for Caseless {
        fn eq(&self, other: &Caseless) -> bool {
            self.0.eq_ignore_ascii_case(&other.0)
        }
    }
    impl Eq for Caseless {}
    impl Hash for Caseless {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.to_ascii_lowercase().hash(state);
        }
    }
    let cache: Cache<Caseless, u32> = Cache::builder().capacity(10).build().unwrap();
    cache.insert(Caseless("Key".into()), 1);
    assert_eq!(cache.get(&Caseless("kEY".into())), Some(1));
    assert_eq!(cache.get(&Caseless("kEYs".into())), None);
    cache.insert(Caseless("KEY".into()), 2);
    assert_eq!((cache.len(), cache.get(&Caseless("key".into()))), (1, Some(2)));
}

#[test]
fn v3_a_struct_of_borrowed_parts_finds_the_struct_of_owned_ones() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Owned {
        user: String,
        page: u32,
    }
    #[derive(Hash)]
    struct Parts<'a> {
        user: &'a str,
        page: u32,
    }
    impl AsKey<Owned> for Parts<'_> {
        fn is(&self, key: &Owned) -> bool {
            self.user == key.user && self.page == key.page
        }
        fn to_key(&self) -> Owned {
            Owned { user: self.user.to_owned(), page: self.page }
        }
    }
    let cache: Cache<Owned, u32> = Cache::builder().capacity(10).build().unwrap();
    assert_eq!(cache.get_or_load(&Parts { user: "ann", page: 1 }, || 11_u32).unwrap(), 11);
    assert_eq!(cache.get(&Owned { user: "ann".into(), page: 1 }), Some(11));
    assert_eq!(cache.get(&Parts { user: "ann", page: 2 }), None);
    cache.invalidate(&Parts { user: "ann", page: 1 });
    assert!(cache.is_empty());
    let by_text: Cache<String, u32> = Cache::builder().capacity(10).build().unwrap();
    by_text.insert("a".into(), 1);
    assert_eq!((by_text.get("a"), by_text.get(&"a".to_owned())), (Some(1), Some(1)));
    assert!(!by_text.contains("b"));
}

#[test]
fn m5_a_clone_that_takes_out_the_very_value_being_read_gets_what_it_began_with() {
    struct Suicidal(Arc<OnceLock<Cache<u32, Suicidal>>>, u32);
    impl Clone for Suicidal {
        fn clone(&self) -> Suicidal {
            if let Some(cache) = self.0.get() {
                cache.invalidate(&1);
                (2..40).for_each(|key| cache.insert(key, Suicidal(Arc::default(), key)));
                cache.reclaim();
            }
            Suicidal(Arc::default(), self.1)
        }
    }
    within_a_minute(|| {
        let slot = Arc::new(OnceLock::new());
        let cache: Cache<u32, Suicidal> = Cache::builder().capacity(4).prompt_drop(true).build().unwrap();
        assert!(slot.set(cache.clone()).is_ok());
        cache.insert(1, Suicidal(slot, 77));
        let answer = cache.lookup(&1).load(|| Suicidal(Arc::default(), 0)).unwrap();
        assert_eq!((answer.value.1, answer.outcome), (77, Outcome::Hit));
        assert!(!cache.contains(&1));
    });
}

/// A key whose clone asks the cache that it is a key of.
#[derive(Default)]
struct Nosy(u32, Arc<OnceLock<Cache<Nosy, u32>>>);

impl Clone for Nosy {
    fn clone(&self) -> Nosy {
        if let Some(cache) = self.1.get() {
            cache.invalidate(&Nosy(self.0 + 100, Arc::default()));
            let _ = cache.len();
        }
        Nosy(self.0, Arc::clone(&self.1))
    }
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Nosy) -> bool {
        self.0 == other.0
    }
}

impl Eq for Nosy {}

impl Hash for Nosy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn m5_a_keys_clone_may_call_the_cache_also_when_an_error_or_an_absence_is_remembered() {
    within_a_minute(|| {
        // So many keys that among those a clone invalidates some would wait for the very lock that is held.
        let cache: Cache<Nosy, u32> =
            Cache::builder().capacity(10).negative_ttl(std::time::Duration::from_secs(60)).build().unwrap();
        let home = Arc::new(OnceLock::new());
        assert!(home.set(cache.clone()).is_ok());
        let key = |number| Nosy(number, Arc::clone(&home));
        for number in 0..100 {
            assert!(cache.get_or_load(&key(number), || Err::<u32, _>("bad")).is_err());
            assert!(cache.get_or_load(&key(1_000 + number), || None::<u32>).unwrap_err().is_absent());
            assert_eq!(cache.get_or_load(&key(2_000 + number), || 5_u32).unwrap(), 5);
        }
        home.get().unwrap().clear();
    });
}

#[test]
fn v3_every_key_is_found_by_itself_and_the_usual_ones_by_what_they_borrow_as() {
    fn found<K, Q>(key: K, borrowed: &Q, other: &Q)
    where
        K: Hash + Eq + Clone + Send + Sync + 'static + AsKey<K>,
        Q: AsKey<K> + ?Sized,
    {
        let cache: Cache<K, u32> = Cache::builder().capacity(10).build().unwrap();
        cache.insert(key.clone(), 1);
        assert_eq!((cache.get(&key), cache.get(borrowed), cache.get(other)), (Some(1), Some(1), None));
        assert_eq!(cache.get_or_load(other, || 2_u32).unwrap(), 2);
        cache.invalidate(borrowed);
        assert_eq!((cache.get(&key), cache.get(other)), (None, Some(2)));
    }
    found(String::from("a"), "a", "b");
    found(Arc::<str>::from("a"), "a", "b");
    found(Box::<str>::from("a"), "a", "b");
    found(Cow::from("a"), "a", "b");
    found("a", &"a", &"b");
    found(7_u64, &7, &8);
    found((1_u8, String::from("a")), &(1, String::from("a")), &(2, String::from("a")));
    found(vec![1_u8, 2], &[1_u8, 2][..], &[1, 2, 3][..]);
    found(Arc::<[u8]>::from([1, 2]), &[1_u8, 2][..], &[1, 2, 3][..]);
    found(Box::<[u8]>::from([1, 2]), &[1_u8, 2][..], &[1, 2, 3][..]);
    found(PathBuf::from("a/b"), Path::new("a/b"), Path::new("a"));
    found(Arc::<Path>::from(Path::new("a/b")), Path::new("a/b"), Path::new("a"));
    found(OsString::from("a"), OsStr::new("a"), OsStr::new("b"));
    found(Arc::new(7_u64), &Arc::new(7), &Arc::new(8));
}
