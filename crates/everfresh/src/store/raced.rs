//! The store under the model checker: every interleaving of two threads around one entry.

use std::hash::{BuildHasherDefault, DefaultHasher};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::entry::Entry;
use crate::history::Began;
use crate::lifetime::Life;
use crate::moment::Moment;
use crate::store::bound::{Bound, Eviction, Settings};
use crate::store::map::Store;

/// A value whose destructor writes what readers read: the checker reports a drop under a reader.
struct Watched(UnsafeCell<u64>);

// SAFETY: the cell checks each access itself.
#[allow(unsafe_code)]
unsafe impl Send for Watched {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Watched {}

impl Watched {
    #[allow(unsafe_code)]
    fn read(&self) -> u64 {
        // SAFETY: what is being proved.
        self.0.with(|cell| unsafe { *cell })
    }
}

impl Drop for Watched {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: what is being proved.
        self.0.with_mut(|cell| unsafe { *cell = 0 });
    }
}

type Checked = Store<u64, Watched, BuildHasherDefault<DefaultHasher>>;

fn entry(key: u64, value: u64) -> Entry<u64, Watched> {
    let watched = Watched(UnsafeCell::new(value));
    Entry::plain(key, watched, Moment::from_nanos(0), (Life::FOREVER, 0), Began { epoch: 0, tag_point: 0 })
}

fn put(store: &Checked, key: u64, value: u64) {
    let insertion = store.insert(store.hash(&key), entry(key, value), (1, Moment::NEVER), Moment::from_nanos(0));
    drop(insertion);
}

fn model(check: impl Fn(Arc<Checked>) + Send + Sync + 'static, prompt_drop: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 100_000;
    model.check(move || {
        let settings =
            Settings { bound: Bound::Entries(2), eviction: Eviction::S3Fifo, prompt_drop, since: Moment::default() };
        let store = Arc::new(Store::new(settings, BuildHasherDefault::default()));
        put(&store, 1, 10);
        check(store);
    });
}

#[test]
fn a_value_is_not_dropped_while_it_is_read() {
    model(
        |store| {
            let theirs = store.clone();
            let reader = thread::spawn(move || {
                let found = theirs.find(theirs.hash(&1_u64), &1_u64).expect("replaced in place, so always there");
                assert!([10, 11].contains(&found.value.read()));
            });
            put(&store, 1, 11);
            reader.join().unwrap();
        },
        true,
    );
}

#[test]
fn who_reads_in_a_table_that_is_outgrown_finds_what_was_there() {
    model(
        |store| {
            let theirs = store.clone();
            let reader = thread::spawn(move || {
                let found = theirs.find(theirs.hash(&1_u64), &1_u64).expect("put in a new table, so always there");
                assert!([10, 11].contains(&found.value.read()));
            });
            let shard = &store.shards[0];
            let mut state = shard.lock();
            shard.grow(&mut state, 2, &|key| store.hash(key));
            drop(state);
            put(&store, 1, 11);
            reader.join().unwrap();
        },
        true,
    );
}

#[test]
fn a_removed_value_is_dropped_by_whoever_is_last() {
    model(
        |store| {
            let theirs = store.clone();
            let reader = thread::spawn(move || {
                if let Some(found) = theirs.find(theirs.hash(&1_u64), &1_u64) {
                    assert_eq!(found.value.read(), 10);
                }
            });
            drop(store.remove(store.hash(&1_u64), &1_u64));
            reader.join().unwrap();
            assert!(
                store.yards.all().iter().all(|yard| yard.stock.lock().garbage.len() == 0),
                "nobody reads, and it is still there"
            );
        },
        true,
    );
}
