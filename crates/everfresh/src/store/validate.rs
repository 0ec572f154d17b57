//! A full check of the structure, for tests and fuzzing: panics with what is wrong.
#![cfg(any(test, everfresh_fuzz))]

use std::hash::{BuildHasher, Hash};

use crate::store::bound::Bound;
use crate::store::map::Store;
use crate::store::shard::Shard;
use crate::store::state::State;
use crate::store::tags::tag;
use crate::sync::Ordering;

impl<K: Hash + Eq, V, S: BuildHasher + 'static> Store<K, V, S> {
    /// Exact only while nobody else writes.
    pub(crate) fn validate(&self) {
        let (mut len, mut held) = (0, 0);
        for (index, shard) in self.shards.iter().enumerate() {
            let state = shard.lock();
            self.validate_shard(index, shard, &state);
            len += state.len;
            held += state.held;
        }
        assert_eq!(self.len(), len, "the length is the sum over the shards");
        match self.account.bound() {
            Bound::Entries(entries) => assert!(len <= entries, "{len} entries within a bound of {entries}"),
            Bound::Weight(weight) => assert!(held <= weight, "a weight of {held} within a bound of {weight}"),
            Bound::Unbounded => {}
        }
        if self.account.bound() != Bound::Unbounded {
            assert_eq!(self.account.taken(), held, "the account is the sum of all costs");
        }
    }

    fn validate_shard(&self, index: usize, shard: &Shard<K, V>, state: &State<K, V>) {
        assert_eq!(shard.len.load(Ordering::Relaxed), state.len, "both lengths of a shard agree");
        let Some(table) = shard.table(&state.reach) else {
            assert_eq!(state.len, 0, "a shard without a table is empty");
            return;
        };
        let mut held = 0;
        let mut passed_by = vec![0_usize; table.buckets()];
        for place in table.taken() {
            let entry = shard.entry(&state.reach, place).expect("a tag without an entry");
            let hash = self.hash(&entry.key);
            assert_eq!(self.index(hash), index, "an entry in the wrong shard");
            assert_eq!(table.head(place.bucket()).tags.seen().at(place.slot()), tag(hash), "a wrong tag");
            let home = table.home(hash);
            assert_eq!(table.is_foreign(place), home != place.bucket(), "who is foreign is marked, and nobody else");
            let mut bucket = home;
            while bucket != place.bucket() {
                passed_by[bucket] += 1;
                bucket = table.after(bucket);
            }
            let found = shard.locate(&state.reach, hash, |other| other.key == entry.key).map(|found| found.0);
            assert_eq!(found, Some(place), "a key is found, and in one place only");
            held += shard.cost_at(state, place);
        }
        for (bucket, &count) in passed_by.iter().enumerate() {
            let noted = usize::from(table.head(bucket).tags.seen().passed_by());
            assert!(noted == count || noted == 255, "bucket {bucket} was passed by {count} times, not {noted}");
            for slot in table.head(bucket).tags.seen().free() {
                let place = crate::store::table::Place::new(bucket, slot);
                assert!(table.node(place).is_none(), "an entry without a tag");
                assert!(!table.is_foreign(place), "a free slot is nobody's");
            }
        }
        assert_eq!(table.taken().count(), state.len, "the length is the number of entries");
        assert_eq!(held, state.held, "what a shard holds is the sum of its costs");
        state.lines.validate(table.buckets(), |place| table.node(place).is_some());
        state.policy.validate(table);
    }
}
